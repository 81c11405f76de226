"""SLCAN (LAWICEL) text to frames. Pure: bytes in, frames and a count of broken lines out.

    tIIIL..    TIIIIIIIIL..    data frame, 11- or 29-bit id, length 0-8 (`x` is CANDapter's T)
    rIIIL      RIIIIIIIIL      remote frame
    dIIIL..    DIIIIIIIIL..    CAN FD frame, length code 0-F
    bIIIL..    BIIIIIIIIL..    CAN FD frame with bit rate switch

- A line ends with CR, or with BEL, which is the adapter's "no". Four hex digits after the frame
  are the adapter's own milliseconds (0-59999); they are checked and left out, since they wrap.
- Answers of an adapter (`z`, `V1013`, `F00` ...) are no frames and no errors.
- A line that begins like a frame and is none, or like nothing known, is broken: counted.
- The part after the last terminator belongs to the next read; what is longer than any line is
  dropped as broken, so that noise without terminators cannot grow without bound.

`parse_lines` works by columns: lines of one shape (kind, length code, line length) are one matrix.
`parse_few` goes line by line: the columns are tested against it, and for few lines it is faster.

Source: LAWICEL CANUSB manual; CANable 2.0 firmware for FD.
"""

from __future__ import annotations

import functools
import struct
from binascii import a2b_hex
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from agent.capture.columns import (
    HEX_DIGITS,
    NIBBLES,
    hex_bytes,
    hex_number,
    matrix,
    narrow,
    rows_below,
)
from agent.frames import BRS, EXTENDED, FD, FRAME, FRAME_FD, REMOTE, FrameBatch

MAX_LINE: Final = 1 + 8 + 1 + 128 + 4
FD_LENGTHS: Final = (0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 20, 24, 32, 48, 64)
_FEW: Final = 150  # lines; below it the simple parser is faster than the columns

_CR, _BEL = 0x0D, 0x07
_STATUS: Final = ord("F")
_ANSWERS: Final = b"zZVvN"  # sent, version, serial number; a status is F and two digits
_FLAGS: Final = {
    ord("t"): 0,
    ord("T"): EXTENDED,
    ord("x"): EXTENDED,
    ord("r"): REMOTE,
    ord("R"): REMOTE | EXTENDED,
    ord("d"): FD,
    ord("D"): FD | EXTENDED,
    ord("b"): FD | BRS,
    ord("B"): FD | BRS | EXTENDED,
}


_DIGITS: Final = {digit: int(chr(digit), 16) for digit in HEX_DIGITS}
_CODE_AT: Final = {kind: 9 if flags & EXTENDED else 4 for kind, flags in _FLAGS.items()}


@dataclass(frozen=True, slots=True)
class Parsed:
    """What one piece of the stream held.

    Attributes:
        frames: in order; their stamps are 0.
        broken: lines that are no frames.
        rest: the unfinished line, for the next piece.
    """

    frames: FrameBatch
    broken: int
    rest: bytes


@dataclass(frozen=True, slots=True)
class _Shape:
    """Where things stand in a line of one kind, length code and length."""

    flags: int
    id_digits: int
    length: int
    data_at: int


@functools.cache  # at most 9 kinds x 256 codes x MAX_LINE lengths, in fact a handful
def _shape(kind: int, code: int, line_length: int) -> _Shape | None:
    """Return the shape of a line, or None if no frame has it."""
    flags = _FLAGS[kind]
    id_digits = 8 if flags & EXTENDED else 3
    if code > 15 or (code > 8 and not flags & FD):
        return None
    length = FD_LENGTHS[code]
    data_at = 1 + id_digits + 1
    data_digits = 0 if flags & REMOTE else 2 * length
    if line_length - data_at - data_digits not in (0, 4):
        return None
    return _Shape(flags, id_digits, length, data_at)


def _read(line: bytes) -> tuple[int, int, bytes, int] | None:
    """Return (flags, id, data, length) of a frame line, or None if it is broken."""
    kind = line[0]
    code_at = _CODE_AT.get(kind, MAX_LINE)
    if not code_at < len(line) <= MAX_LINE:
        return None
    shape = _shape(kind, _DIGITS.get(line[code_at], 255), len(line))
    if shape is None:
        return None
    end = shape.data_at if shape.flags & REMOTE else shape.data_at + 2 * shape.length
    try:  # a2b_hex takes hex digits and nothing else, unlike int() and fromhex()
        arbitration_id = int.from_bytes(a2b_hex(line[1:code_at].rjust(8, b"0")), "big")
        data = a2b_hex(line[shape.data_at : end])
        if end < len(line):
            a2b_hex(line[end:])
    except ValueError:
        return None
    if arbitration_id > (0x1FFFFFFF if shape.flags & EXTENDED else 0x7FF):
        return None
    return shape.flags, arbitration_id, data, shape.length


def parse_few(text: bytes, channel: int = 0) -> tuple[FrameBatch, int]:
    """Read finished lines one by one; the same answer as `parse_lines`."""
    is_wide = False
    broken = 0
    rows = []
    for line in text.replace(b"\x07", b"\r").split(b"\r"):
        if not line or line[0] in _ANSWERS or (line[0] == _STATUS and len(line) == 3):
            continue
        row = _read(line)
        if row is None:
            broken += 1
            continue
        is_wide = is_wide or row[3] > 8
        rows.append(row)
    layout = "<qIBBBx64s" if is_wide else "<qIBBBx8s"
    packed = b"".join(
        struct.pack(layout, 0, arbitration_id, channel, flags, length, data)
        for flags, arbitration_id, data, length in rows
    )
    return np.frombuffer(packed, FRAME_FD if is_wide else FRAME).copy(), broken


def parse_lines(text: bytes, channel: int = 0) -> tuple[FrameBatch, int]:
    """Read finished lines by columns: (frames in order with stamp 0, broken lines)."""
    stream = np.frombuffer(text, np.uint8)
    ends = np.flatnonzero((stream == _CR) | (stream == _BEL))
    starts = np.concatenate((np.zeros(1, np.int64), ends[:-1] + 1)) if len(ends) else ends
    lengths = ends - starts
    kept = lengths > 0
    starts, lengths = starts[kept], lengths[kept]
    kinds = stream[starts]
    is_answer = _ANSWER_KIND[kinds] | ((kinds == _STATUS) & (lengths == 3))
    starts, lengths, kinds = starts[~is_answer], lengths[~is_answer], kinds[~is_answer]
    code_at = np.where(_EXTENDED_KIND[kinds], 9, 4)
    known = _KNOWN_KIND[kinds] & (lengths > code_at) & (lengths <= MAX_LINE)
    broken = int((~known).sum())
    starts, lengths, kinds, code_at = starts[known], lengths[known], kinds[known], code_at[known]
    codes = NIBBLES[stream[starts + code_at]]
    keys = (kinds.astype(np.int64) << 16) | (codes.astype(np.int64) << 8) | lengths
    return _by_shape(stream, starts, keys, channel, broken)


def _by_shape(
    stream: npt.NDArray[np.uint8],
    starts: npt.NDArray[np.int64],
    keys: npt.NDArray[np.int64],
    channel: int,
    broken: int,
) -> tuple[FrameBatch, int]:
    shapes = {int(key): _key_shape(int(key)) for key in np.unique(keys)}
    is_wide = any(shape is not None and shape.length > 8 for shape in shapes.values())
    batch = np.zeros(len(starts), FRAME_FD if is_wide else FRAME)
    good = np.zeros(len(starts), np.bool_)
    for key, shape in shapes.items():
        if shape is None:
            continue
        rows = np.flatnonzero(keys == key)
        nibbles = NIBBLES[matrix(stream, starts[rows], key & 0xFF)[:, 1:]]
        ids = hex_number(nibbles[:, : shape.id_digits])
        is_good = rows_below(nibbles, 16)
        is_good &= ids <= (0x1FFFFFFF if shape.flags & EXTENDED else 0x7FF)
        batch["arbitration_id"][rows] = ids
        batch["flags"][rows] = shape.flags
        batch["length"][rows] = shape.length
        if shape.length and not shape.flags & REMOTE:
            digits = nibbles[:, shape.data_at - 1 : shape.data_at - 1 + 2 * shape.length]
            batch["data"][rows, : shape.length] = hex_bytes(digits)
        good[rows] = is_good
    batch["channel"] = channel
    if good.all():
        return batch, broken
    return narrow(batch[good]), broken + int((~good).sum())


def _key_shape(key: int) -> _Shape | None:
    return _shape(key >> 16, key >> 8 & 0xFF, key & 0xFF)


_ANSWER_KIND: Final = np.isin(np.arange(256), list(_ANSWERS))
_KNOWN_KIND: Final = np.isin(np.arange(256), list(_FLAGS))
_EXTENDED_KIND: Final = np.isin(
    np.arange(256), [kind for kind, flags in _FLAGS.items() if flags & EXTENDED]
)


def parse(piece: bytes, rest: bytes = b"", channel: int = 0) -> Parsed:
    """Read a piece of the stream.

    Args:
        piece: bytes as they came.
        rest: the unfinished line of the piece before.
        channel: number of the bus.
    """
    text = rest + piece
    end = max(text.rfind(b"\r"), text.rfind(b"\x07")) + 1
    finished, rest = text[:end], text[end:]
    if len(rest) > MAX_LINE:
        rest = b"?"  # no line begins so: one broken line when its terminator comes
    few = finished.count(b"\r") + finished.count(b"\x07") < _FEW
    frames, broken = (parse_few if few else parse_lines)(finished, channel)
    return Parsed(frames, broken, rest)
