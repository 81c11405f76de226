"""Programs that tests carry into the guest and run there with the payload's Python."""
