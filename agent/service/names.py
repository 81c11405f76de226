"""What the boot service is called: its units, users and group, and where its own files stand."""

from __future__ import annotations

from typing import Final

CAPTURE: Final = "inland-capture"  # unit and user
UPLINK: Final = "inland-uplink"  # unit and user
GROUP: Final = "inland"  # of both; its members may ask for the status
CAPTURE_UNIT: Final = f"{CAPTURE}.service"
UPLINK_UNIT: Final = f"{UPLINK}.service"
TARGET_UNIT: Final = "inland.target"
