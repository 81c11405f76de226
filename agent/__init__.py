"""inland: the agent that keeps a car's data in the country where the car was sold."""

__version__ = "0.1.0"
