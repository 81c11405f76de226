"""Opened frames as the CSV of SavvyCAN and GVRET adapters; for Vector's BLF see blf.py.

- GVRET CSV has no place for remote frames, error frames and the flags of CAN FD. Remote and error
  frames are left out, and counted; of a CAN FD frame all bytes are written, as SavvyCAN reads them.
- Both know buses by number. "can3" is 3; a bus with another name gets the lowest number that is
  free, so that no two buses become one.

Source: SavvyCAN framefileio.cpp (loadNativeCSVFile, saveNativeCSVFile).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, cast

import numpy as np
import numpy.typing as npt

from agent.frames import ERROR, EXTENDED, REMOTE, FrameBatch

CHUNK_ROWS: Final = 65_536
GVRET_HEADER: Final = b"Time Stamp,ID,Extended,Dir,Bus,LEN,D1,D2,D3,D4,D5,D6,D7,D8\n"
GVRET_BYTES: Final = 8  # data columns that every row has

_HEX: Final = np.frombuffer(b"0123456789ABCDEF", np.uint8)
_NUMBERED: Final = re.compile(r"can(\d{1,3})")
_POWERS: Final = 10 ** np.arange(1, 19, dtype=np.int64)

_Bytes = npt.NDArray[np.uint8]


def bus_numbers(channels: tuple[str, ...]) -> tuple[int, ...]:
    """Return the number of each bus, in the order of their names."""
    found = [_NUMBERED.fullmatch(name) for name in channels]
    numbers = [int(match[1]) if match else -1 for match in found]
    free = (number for number in range(2 * len(channels) + 1) if number not in numbers)
    return tuple(number if number >= 0 else next(free) for number in numbers)


def has_gvret_place(frames: FrameBatch) -> npt.NDArray[np.bool_]:
    """Return which frames a GVRET CSV can hold: neither remote nor error frames."""
    return cast("npt.NDArray[np.bool_]", (frames["flags"] & (REMOTE | ERROR)) == 0)


def gvret(frames: FrameBatch, channels: tuple[str, ...]) -> Iterator[bytes]:
    """Yield a GVRET CSV, header first, of the frames that have a place in it.

    Args:
        frames: in the order they are to be written.
        channels: names by channel number.
    """
    yield GVRET_HEADER
    numbers = bus_numbers(channels)
    for start in range(0, len(frames), CHUNK_ROWS):
        part = frames[start : start + CHUNK_ROWS]
        part = part[has_gvret_place(part)]
        if len(part):
            yield _gvret(part, numbers)


def _gvret(frames: FrameBatch, numbers: tuple[int, ...]) -> bytes:
    micros = frames["timestamp_ns"] // 1000
    negative = micros < 0
    micros = np.abs(micros)
    digits = np.searchsorted(_POWERS, micros, side="right") + 1
    wide = ((frames["flags"] & EXTENDED) != 0) | (frames["arbitration_id"] > 0x7FF)
    # All rows of one shape have one length and are written as one matrix.
    shape = (frames["channel"].astype(np.int64) * 128 + frames["length"]) * 64
    shape += digits * 2 + negative
    shape = shape * 2 + wide
    shapes, group = np.unique(shape, return_inverse=True)
    parts: list[tuple[npt.NDArray[np.intp], _Bytes]] = []
    sizes = np.zeros(len(frames), np.int64)
    for number, value in enumerate(shapes.tolist()):
        rows = np.flatnonzero(group == number)
        bus = numbers[value >> 14]
        text = _rows(
            frames[rows], micros[rows], value >> 2 & 31,
            head=b"-" if value & 2 else b"",
            middle=b",%s,Rx,%d," % (b"true" if value & 1 else b"false", bus),
        )  # fmt: skip
        parts.append((rows, text))
        sizes[rows] = text.shape[1]
    ends = np.cumsum(sizes)
    out = np.empty(int(ends[-1]), np.uint8)
    for rows, text in parts:
        out[(ends[rows] - text.shape[1])[:, None] + np.arange(text.shape[1])] = text
    return out.tobytes()


def _rows(
    frames: FrameBatch, micros: npt.NDArray[np.int64], digits: int, *, head: bytes, middle: bytes
) -> _Bytes:
    """Return the rows of frames that share all but stamp, id and data."""
    count, length = len(frames), int(frames["length"][0])
    powers = 10 ** np.arange(digits - 1, -1, -1, dtype=np.int64)
    stamp = (micros[:, None] // powers % 10 + ord("0")).astype(np.uint8)
    shifts = np.arange(28, -1, -4, dtype=np.uint32)
    data = np.full((count, length, 3), ord(","), np.uint8)
    data[:, :, 0] = _HEX[frames["data"][:, :length] >> 4]
    data[:, :, 1] = _HEX[frames["data"][:, :length] & 15]
    tail = b"," * max(0, GVRET_BYTES - length) + b"\n"
    return np.concatenate(
        [
            _constant(count, head), stamp, _constant(count, b","),
            _HEX[(frames["arbitration_id"][:, None] >> shifts) & 15],
            _constant(count, middle + b"%d," % length), data.reshape(count, 3 * length),
            _constant(count, tail),
        ],
        axis=1,
    )  # fmt: skip


def _constant(rows: int, text: bytes) -> _Bytes:
    return np.broadcast_to(np.frombuffer(text, np.uint8), (rows, len(text)))
