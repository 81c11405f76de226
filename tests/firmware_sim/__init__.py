"""Tests of what is around the agent."""
