"""python-can Messages into rows of a FrameBatch, and back: values of python-can, and no bus."""

from __future__ import annotations

import can
import numpy as np

from agent.capture.rows import Rows
from agent.frames import BRS, ERROR, ESI, EXTENDED, FD, REMOTE


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
