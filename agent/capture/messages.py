"""python-can Messages into rows of a FrameBatch, and back. Pure.

A row is packed with struct into one growing buffer: no object a frame is kept.
"""

from __future__ import annotations

import struct
from typing import Final

import can
import numpy as np

from agent.frames import (
    BRS,
    ERROR,
    ESI,
    EXTENDED,
    FD,
    FRAME,
    FRAME_FD,
    REMOTE,
    FrameBatch,
    widen,
)

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


def stamp_ns(timestamp_s: float) -> int:
    """Return a stamp of python-can in ns; a double holds today's time to 0.2 µs, so whole µs."""
    return round(timestamp_s * 1e6) * 1000


def add_message(rows: Rows, message: can.Message, channel: int, timestamp_ns: int) -> None:
    """Append a python-can Message as a row."""
    flags = (
        EXTENDED * bool(message.is_extended_id)
        | REMOTE * bool(message.is_remote_frame)
        | ERROR * bool(message.is_error_frame)
        | FD * bool(message.is_fd)
        | BRS * bool(message.bitrate_switch)
        | ESI * bool(message.error_state_indicator)
    )
    if flags & ERROR:
        flags &= ~EXTENDED  # an error frame's id is a set of classes, it has no width
    data = b"" if flags & REMOTE else bytes(message.data or b"")
    length = message.dlc if flags & REMOTE else len(data)
    rows.add(timestamp_ns, message.arbitration_id & 0x1FFFFFFF, channel, flags, length, data)


def to_message(row: np.void, channel: str | None = None) -> can.Message:
    """Return a row as a python-can Message, to be sent.

    Args:
        row: one row of a FrameBatch.
        channel: name of the channel, if the message is to carry one.
    """
    flags, length = int(row["flags"]), int(row["length"])
    is_remote = bool(flags & REMOTE)
    return can.Message(
        timestamp=int(row["timestamp_ns"]) / 1e9,
        arbitration_id=int(row["arbitration_id"]),
        is_extended_id=bool(flags & EXTENDED),
        is_remote_frame=is_remote,
        is_error_frame=bool(flags & ERROR),
        is_fd=bool(flags & FD),
        bitrate_switch=bool(flags & BRS),
        error_state_indicator=bool(flags & ESI),
        channel=channel,
        dlc=length,
        data=None if is_remote else row["data"][:length].tobytes(),
    )
