"""What was sealed, proved, opened and written in open formats: for the station and the owner."""
