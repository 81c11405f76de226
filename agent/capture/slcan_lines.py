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

`parse_lines` works by columns: all `t` lines are one matrix; of the others, lines of one shape
(kind, length code, line length) are one.
`parse_few` goes line by line: the columns are tested against it, and for few lines it is faster.

Source: LAWICEL CANUSB manual; CANable 2.0 firmware for FD.
"""

from __future__ import annotations

import functools
import struct
from binascii import a2b_hex
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from agent.capture.columns import (
    HEX_DIGITS,
    NIBBLES,
    Characters,
    Offsets,
    hex_bytes,
    hex_number,
    matrix,
    narrow,
    rows_below,
)
from agent.frames import BRS, EXTENDED, FD, FRAME, FRAME_FD, REMOTE, FrameBatch

MAX_LINE: Final = 1 + 8 + 1 + 128 + 4
FD_LENGTHS: Final = (0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 20, 24, 32, 48, 64)
_FEW: Final = 50  # lines; below it the simple parser is faster than the columns

_FEW_OTHERS: Final = 30  # lines that are no plain data frames; below it they are read one by one

_CR, _BEL = 0x0D, 0x07
_PLAIN: Final = ord("t")  # data frames with 11-bit ids: nearly all of most buses
_PLAIN_WIDTH: Final = 1 + 3 + 1 + 16 + 4
_PAD: Final = bytes(_PLAIN_WIDTH)
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


Words = npt.NDArray[np.uint64]

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
    padded = text + _PAD  # the last line is looked at as if it were a long one
    stream = np.frombuffer(padded, np.uint8)
    ends = (stream == _CR).nonzero()[0] if b"\x07" not in text else _IS_END[stream].nonzero()[0]
    starts = np.zeros_like(ends)
    starts[1:] = ends[:-1] + 1
    lengths = ends - starts
    kinds = stream[starts]
    nibbles = np.frombuffer(padded.translate(_NIBBLE_OF), np.uint8)
    odd = nibbles > 15
    odd[starts] = odd[ends] = odd[len(text) :] = False
    lines = _Lines(nibbles, starts, lengths, kinds, all_hex=not odd.any())
    broken = 0
    is_frame = _KNOWN_KIND[kinds]
    if not is_frame.all():
        no_frame = ~is_frame & (lengths > 0)
        no_frame &= ~(_ANSWER_KIND[kinds] | ((kinds == _STATUS) & (lengths == 3)))
        broken, lines = int(no_frame.sum()), lines.of(is_frame)
    known = (lines.lengths > _CODE_AT_KIND[lines.kinds]) & (lines.lengths <= MAX_LINE)
    if not known.all():
        broken, lines = broken + int((~known).sum()), lines.of(known)
    batch, good = _frames(text, lines)
    batch["channel"] = channel
    if good.all():
        return batch, broken
    return narrow(batch[good]), broken + int((~good).sum())


@dataclass(frozen=True, slots=True)
class _Lines:
    """Lines that begin like frames.

    Attributes:
        nibbles: value of each character of the text as a hex digit, 255 for others.
        starts: of the lines.
        lengths: of the lines.
        kinds: their first characters.
        all_hex: no line has anything but hex digits behind its kind.
    """

    nibbles: Characters
    starts: Offsets
    lengths: Offsets
    kinds: Characters
    all_hex: bool

    def of(self, rows: npt.NDArray[Any]) -> _Lines:
        """Return some of them."""
        return _Lines(
            self.nibbles, self.starts[rows], self.lengths[rows], self.kinds[rows], self.all_hex
        )

    def codes(self) -> Characters:
        """Return their length codes."""
        codes: Characters = self.nibbles[self.starts + _CODE_AT_KIND[self.kinds]]
        return codes


def _frames(text: bytes, lines: _Lines) -> tuple[FrameBatch, npt.NDArray[np.bool_]]:
    """Return a row for each line, and which of them are good."""
    count = len(lines.starts)
    plain = lines.kinds == _PLAIN
    if plain.all():
        batch, good = np.zeros(count, FRAME), np.zeros(count, np.bool_)
    else:
        batch, good = _others(text, lines, (~plain).nonzero()[0])
    rows = plain.nonzero()[0]
    if len(rows):
        words = batch.view(np.uint64).reshape(count, batch.itemsize // 8)
        words[rows, 1], words[rows, 2], good[rows] = _plain_frames(lines.of(rows))
    return batch, good


def _plain_frames(lines: _Lines) -> tuple[Words, Words, npt.NDArray[np.bool_]]:
    """Return the second and third word of the rows of `t` lines, and which are good."""
    nibbles = matrix(lines.nibbles, lines.starts, _PLAIN_WIDTH)
    length = nibbles[:, 4].astype(np.int64)
    stamp_digits = lines.lengths - 5 - 2 * length
    good = (length <= 8) & ((stamp_digits == 0) | (stamp_digits == 4))
    if not lines.all_hex:
        inside = lines.lengths[:, np.newaxis] > _PLACES
        inside[:, 0] = False
        good &= ~((nibbles > 15) & inside).any(axis=1)
    ids = hex_number(nibbles[:, 1:4])
    good &= ids <= 0x7FF
    data = np.ascontiguousarray(hex_bytes(nibbles[:, 5:21])).view(np.uint64)[:, 0]
    data &= _DATA_BITS[np.minimum(length, 8)]  # behind them stand a stamp and the next line
    return ids | length.astype(np.uint64) << np.uint64(48), data, good


def _others(text: bytes, lines: _Lines, rows: Offsets) -> tuple[FrameBatch, npt.NDArray[np.bool_]]:
    """Return a row for each line, those of some lines filled, and which of these are good."""
    count = len(lines.starts)
    if len(rows) >= _FEW_OTHERS:
        return _by_shape(lines.of(rows), rows, count)
    good = np.zeros(count, np.bool_)
    found = []
    for row, start, length in zip(
        rows.tolist(), lines.starts[rows].tolist(), lines.lengths[rows].tolist(), strict=True
    ):
        if (frame := _read(text[start : start + length])) is not None:
            found.append((row, frame))
            good[row] = True
    is_wide = any(frame[3] > 8 for _, frame in found)
    batch = np.zeros(count, FRAME_FD if is_wide else FRAME)
    for row, (flags, arbitration_id, data, length) in found:
        width = batch.dtype["data"].shape[0]
        batch[row] = (
            0,
            arbitration_id,
            0,
            flags,
            length,
            0,
            np.frombuffer(data.ljust(width, b"\0"), np.uint8),
        )
    return batch, good


def _by_shape(lines: _Lines, rows: Offsets, count: int) -> tuple[FrameBatch, npt.NDArray[np.bool_]]:
    """Return `count` rows, of which those of the lines are filled, and which of these are good."""
    keys = lines.kinds.astype(np.int64) << 16 | lines.codes().astype(np.int64) << 8 | lines.lengths
    shapes = {int(key): _key_shape(int(key)) for key in np.unique(keys)}
    is_wide = any(shape is not None and shape.length > 8 for shape in shapes.values())
    batch = np.zeros(count, FRAME_FD if is_wide else FRAME)
    good = np.zeros(count, np.bool_)
    for key, shape in shapes.items():
        if shape is None:
            continue
        some = np.flatnonzero(keys == key)
        nibbles = matrix(lines.nibbles, lines.starts[some], key & 0xFF)[:, 1:]
        ids = hex_number(nibbles[:, : shape.id_digits])
        is_good = rows_below(nibbles, 16)
        is_good &= ids <= (0x1FFFFFFF if shape.flags & EXTENDED else 0x7FF)
        here = rows[some]
        batch["arbitration_id"][here] = ids
        batch["flags"][here] = shape.flags
        batch["length"][here] = shape.length
        if shape.length and not shape.flags & REMOTE:
            digits = nibbles[:, shape.data_at - 1 : shape.data_at - 1 + 2 * shape.length]
            batch["data"][here, : shape.length] = hex_bytes(digits)
        good[here] = is_good
    return batch, good


def _key_shape(key: int) -> _Shape | None:
    return _shape(key >> 16, key >> 8 & 0xFF, key & 0xFF)


_ANSWER_KIND: Final = np.isin(np.arange(256), list(_ANSWERS))
_KNOWN_KIND: Final = np.isin(np.arange(256), list(_FLAGS))
_IS_END: Final = np.isin(np.arange(256), [_CR, _BEL])
_CODE_AT_KIND: Final = np.array([_CODE_AT.get(kind, 4) for kind in range(256)])
_NIBBLE_OF: Final = NIBBLES.tobytes()
_PLACES: Final = np.arange(_PLAIN_WIDTH)
_DATA_BITS: Final = np.array([(1 << 8 * length) - 1 for length in range(9)], np.uint64)


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
