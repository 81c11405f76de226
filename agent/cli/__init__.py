"""The commands: one file each, lazily imported. The only place that prints."""
