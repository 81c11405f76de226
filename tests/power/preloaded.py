"""The recorder, from inside a process that has it preloaded."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Any

_RECORDER = ctypes.CDLL(None)


def begin(folder: Path, log: Path) -> None:
    """Record from here on, and all processes that are started from here on."""
    os.environ |= {"POWER_FOLDER": str(folder), "POWER_LOG": str(log)}
    _RECORDER.power_begin()


def say(word: str, *values: Any) -> None:
    """Put a note into the log: at this place among the operations it was said."""
    text = repr((word, *values)).encode()
    _RECORDER.power_say(text, ctypes.c_size_t(len(text)))


def die_after(operations: int) -> None:
    """End this process, as kill -9 does, once it has done so many operations more."""
    _RECORDER.power_die_after(ctypes.c_long(operations))
