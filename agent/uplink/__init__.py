"""From the hatch to the pinned broker of the region. Never imports can, numpy, zstandard or the vault."""
