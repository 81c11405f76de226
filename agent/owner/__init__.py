"""The owner: keys, who is enrolled in a car, and what only the owner's key opens."""
