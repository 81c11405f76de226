"""The owner of a car: what they hold, and what they make of what their car kept."""
