"""Programs that run in the guest, by the agent's own Python."""
