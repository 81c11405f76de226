"""What a sealer needs around it, in a folder of a test."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from agent.capture.force import Surroundings
from agent.capture.gate import GateFile
from agent.capture.limits import Limits


def surroundings(folder: Path, **more: Any) -> Surroundings:
    """A gate file and consents in a folder; no zones key."""
    boot_id = more.get("boot_id", bytes(16))
    values: dict[str, Any] = {
        "limits": Limits(folder / "events.json", boot_id),
        "gate": GateFile(folder / "camera-gate.json"), "consents": folder / "consent.json",
        "zones": lambda sealed: None, "rng": os.urandom, "boot_id": boot_id, "version": "0",
    }  # fmt: skip
    return Surroundings(**(values | more))
