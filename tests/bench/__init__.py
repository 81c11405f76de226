"""Measurements behind the bars of the design: sizes and speed, side by side in one run."""
