"""candump -L lines, written for tests by a second hand: slowly, from the format's description.

Source: can-utils, lib.h: `(sec.usec) channel id#data`, FD `id##<flags>data`, remote `id#R<len>`.
"""

from __future__ import annotations

from agent.frames import BRS, ERROR, ESI, EXTENDED, FD, REMOTE, FrameBatch


def lines(batch: FrameBatch, channels: tuple[str, ...]) -> list[str]:
    """One line a frame, in the order of the batch."""
    return [line(row, channels) for row in batch]


def line(row: FrameBatch, channels: tuple[str, ...]) -> str:
    """One frame."""
    micros = int(row["timestamp_ns"]) // 1000
    sign = "-" if micros < 0 else ""
    seconds, rest = divmod(abs(micros), 10**6)
    flags, identifier, length = int(row["flags"]), int(row["arbitration_id"]), int(row["length"])
    if flags & ERROR:
        shown = f"{identifier | 0x20000000:08X}"
    else:
        shown = (
            f"{identifier:08X}" if flags & EXTENDED or identifier > 0x7FF else f"{identifier:03X}"
        )
    data = row["data"][:length].tobytes().hex().upper()
    if flags & REMOTE:  # first: an ASC log may call a remote frame CAN FD, which has no such text
        text = f"{shown}#R{f'{length:X}' if length else ''}"
    elif flags & FD:
        nibble = (1 if flags & BRS else 0) | (2 if flags & ESI else 0)
        text = f"{shown}##{nibble}{data}"
    else:
        text = f"{shown}#{data}"
    return f"({sign}{seconds:010d}.{rest:06d}) {channels[int(row['channel'])]} {text}"
