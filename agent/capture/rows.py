"""A FrameBatch built row by row, where frames come one by one. Pure.

A row is packed with struct into one growing buffer: no object a frame is kept.
"""

from __future__ import annotations

import struct
from typing import Final

import numpy as np

from agent.frames import FRAME, FRAME_FD, FrameBatch, widen

_NARROW: Final = struct.Struct("<qIBBBx8s")
_WIDE: Final = struct.Struct("<qIBBBx64s")


class Rows:
    """A FrameBatch that grows by rows; 64 bytes wide from the first row that needs it."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._layout = _NARROW

    def __len__(self) -> int:
        return len(self._buffer) // self._layout.size

    def add(  # noqa: PLR0917 - the columns in their order; keywords would cost each frame
        self,
        timestamp_ns: int,
        arbitration_id: int,
        channel: int,
        flags: int,
        length: int,
        data: bytes | bytearray,
    ) -> None:
        """Append one row; columns as in `agent.frames`."""
        if length > 8 and self._layout is _NARROW:
            self._buffer = bytearray(widen(self._batch()).tobytes())
            self._layout = _WIDE
        self._buffer += self._layout.pack(
            timestamp_ns, arbitration_id, channel, flags, length, data
        )

    def _batch(self) -> FrameBatch:
        layout = FRAME if self._layout is _NARROW else FRAME_FD
        return np.frombuffer(bytes(self._buffer), layout).copy()

    def take(self) -> FrameBatch:
        """Return the rows as a batch and begin anew."""
        batch = self._batch()
        self._buffer, self._layout = bytearray(), _NARROW
        return batch
