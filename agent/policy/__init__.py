"""What may be kept: vocabulary, load checks, building against DBC files, the engine."""
