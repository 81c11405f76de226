"""One CAN frame as the simulator sees it, and its two plain forms: candump text and wire time.

The simulator keeps its own frame type and shares no code with the agent: a common codec would
hide an error that is the same on both sides. They meet on the wire only.
Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

STANDARD_LIMIT: Final = 0x7FF
EXTENDED_LIMIT: Final = 0x1FFFFFFF
FD_LENGTHS: Final = (0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 20, 24, 32, 48, 64)  # ISO 11898-1, by DLC
FD_CODES: Final = {length: code for code, length in enumerate(FD_LENGTHS)}


class Frame(NamedTuple):
    """A frame at one moment.

    Attributes:
        timestamp_ns: start of the frame, ns since the Unix epoch.
        arbitration_id: 11 or 29 bits.
        data: 0..8 bytes, FD 0..64 (one of FD_LENGTHS); empty for a remote frame.
        extended: 29-bit id.
        remote: a remote frame.
        fd, brs: CAN FD, with bit rate switch.
        requested: data bytes that a remote frame asks for, else 0.
    """

    timestamp_ns: int
    arbitration_id: int
    data: bytes
    extended: bool = False
    remote: bool = False
    fd: bool = False
    brs: bool = False
    requested: int = 0

    @property
    def length(self) -> int:
        """Bytes of data, or the bytes that a remote frame asks for."""
        return self.requested if self.remote else len(self.data)


def candump_line(frame: Frame, channel: str) -> str:
    """Return the frame as a line of `candump -L`, newline included.

    Source: can-utils lib.c, snprintf_canframe; microseconds, as candump prints them.
    """
    stamp, name = frame.timestamp_ns // 1000, id_text(frame)
    head = f"({stamp // 1_000_000:010d}.{stamp % 1_000_000:06d}) {channel} {name}#"
    if frame.remote:
        return f"{head}R{frame.requested or ''}\n"
    if frame.fd:
        return f"{head}#{int(frame.brs)}{frame.data.hex().upper()}\n"
    return f"{head}{frame.data.hex().upper()}\n"


def candump_text(frames: Iterable[Frame], channel: str) -> str:
    """Return a line of `candump -L` for each frame."""
    return "".join([candump_line(frame, channel) for frame in frames])


def id_text(frame: Frame) -> str:
    """Return the id in hex as candump prints it: 3 digits, or 8 for a 29-bit id."""
    return f"{frame.arbitration_id:08X}" if frame.extended else f"{frame.arbitration_id:03X}"


def wire_ns(*, length: int, extended: bool, fd: bool, bitrate: int, data_bitrate: int) -> int:
    """Return how long a data frame occupies the bus, in ns, with an average share of stuff bits.

    Args:
        length: data bytes.
        extended: 29-bit id.
        fd: CAN FD with bit rate switch.
        bitrate: bit/s of the arbitration phase.
        data_bitrate: bit/s of the data phase of FD frames.

    Source: ISO 11898-1 frame formats, interframe space included. The worst case stuffs one bit in
    four; half of it is assumed: an 8-byte frame is 123 bits, 4,065 of them fill 500 kbit/s.
    """
    header = 54 if extended else 34
    if not fd:
        bits = header + 13 + 8 * length + (header + 8 * length) // 8
        return bits * 1_000_000_000 // bitrate
    slow = (49 if extended else 29) + 4
    fast = 8 * length + 8 + (21 if length > 16 else 17) + (8 * length) // 8
    return slow * 1_000_000_000 // bitrate + fast * 1_000_000_000 // data_bitrate
