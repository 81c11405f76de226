"""From the hatch to the region's pinned broker. No can, no numpy, no zstandard, no vault."""
