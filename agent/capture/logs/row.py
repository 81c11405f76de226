"""One frame as a line of a log tells it, on its way into a batch. Pure."""

from __future__ import annotations

from typing import Final, NamedTuple

from agent.frames import EXTENDED, FD, REMOTE

FD_LENGTHS: Final = (0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 20, 24, 32, 48, 64)
MAX_STAMP_NS: Final = 2**63 - 1


class Row(NamedTuple):
    """The columns of one frame; the channel by name."""

    timestamp_ns: int
    channel: str
    arbitration_id: int
    flags: int
    length: int
    data: bytes


def decimal_ns(seconds: str, fraction: str) -> int:
    """Return seconds and a decimal fraction of at most 9 digits as ns, exactly.

    Raises:
        ValueError: no such stamp fits 64 bits.
    """
    stamp = int(seconds) * 1_000_000_000 + int(fraction.ljust(9, "0")[:9] or "0")
    if not 0 <= stamp <= MAX_STAMP_NS:
        raise ValueError(f"{seconds} s is no time")
    return stamp


def make_row(
    timestamp_ns: int,
    channel: str,
    arbitration_id: int,
    data: bytes,
    *,
    extended: bool,
    remote: int | None = None,
) -> Row:
    """Return a checked row.

    Args:
        timestamp_ns: stamp.
        channel: name.
        arbitration_id: without flag bits.
        data: payload; more than 8 bytes make it a CAN FD frame.
        extended: 29-bit id.
        remote: for a remote frame, the length that it asks for.

    Raises:
        ValueError: no such frame can be.
    """
    if not 0 <= arbitration_id <= (0x1FFFFFFF if extended else 0x7FF):
        raise ValueError(f"{arbitration_id:X} is no {29 if extended else 11}-bit id")
    if not -MAX_STAMP_NS <= timestamp_ns <= MAX_STAMP_NS:
        raise ValueError("the stamp does not fit 64 bits")
    flags = EXTENDED if extended else 0
    if remote is not None:
        if not 0 <= remote <= 8:
            raise ValueError(f"no remote frame asks for {remote} bytes")
        return Row(timestamp_ns, channel, arbitration_id, flags | REMOTE, remote, b"")
    if len(data) not in FD_LENGTHS:
        raise ValueError(f"no frame has {len(data)} bytes of data")
    flags |= FD if len(data) > 8 else 0
    return Row(timestamp_ns, channel, arbitration_id, flags, len(data), data)
