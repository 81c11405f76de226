"""Frames as Vector's BLF, 48 bytes a frame, without an object per frame.

A file header, then containers of compressed objects; an object may go on in the next container, as
with python-can's writer. What is written of each kind of frame is what that writer writes, and its
reader is the witness (tests/owner/test_frame_files.py).

- All that a frame has is in it: 29-bit ids, remote and error frames, CAN FD with BRS and ESI. Its
  stamp is in ns after the beginning, which is the earliest stamp, cut to ms.
- A beginning before 1990 has no place in the header: such a file counts from its first frame.

Source: python-can can/io/blf.py.
"""

from __future__ import annotations

import datetime as dt
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Final

import numpy as np
import numpy.typing as npt

from agent.frames import BRS, ERROR, ESI, EXTENDED, FD, REMOTE, FrameBatch

CHUNK_ROWS: Final = 65_536
CONTAINER_BYTES: Final = 128 * 1024  # of objects, before they are compressed
LEVEL: Final = 1  # of zlib: a third of the time of the default, a tenth more bytes
HEADER_BYTES: Final = 144
FIRST_YEAR_S: Final = 631_152_000  # 1990
# The file's size, that of its objects, how many; when it begins and ends.
_HEADER: Final = struct.Struct("<4sL8BQQLL8H8H")
_CONTAINER: Final = struct.Struct("<4sHHLLH6xL4x")  # base header, method, size before
_CONTAINER_TYPE: Final = 10
_DEFLATE: Final = 2
_WIDE: Final = 0x8000_0000  # of an id: it has 29 bits
_HEAD: Final = [
    ("magic", "S4"), ("head", "<u2"), ("version", "<u2"), ("size", "<u4"), ("type", "<u4"),
    ("unit", "<u4"), ("client", "<u2"), ("object", "<u2"), ("at", "<u8"),
]  # fmt: skip
_NANOSECONDS: Final = 2
_CLASSIC: Final = np.dtype([
    *_HEAD, ("channel", "<u2"), ("flags", "u1"), ("dlc", "u1"), ("id", "<u4"), ("data", "u1", 8),
])  # fmt: skip
_FD: Final = np.dtype([
    *_HEAD, ("channel", "<u2"), ("flags", "u1"), ("dlc", "u1"), ("id", "<u4"), ("length", "<u4"),
    ("bits", "u1"), ("fd", "u1"), ("valid", "u1"), ("pad", "u1", 5), ("data", "u1", 64),
])  # fmt: skip
_ERROR: Final = np.dtype([
    *_HEAD, ("channel", "<u2"), ("length", "<u2"), ("flags", "<u4"), ("ecc", "u1"),
    ("position", "u1"), ("dlc", "u1"), ("pad", "u1"), ("frame", "<u4"), ("id", "<u4"),
    ("more", "<u2"), ("pad2", "u1", 2), ("data", "u1", 8),
])  # fmt: skip
_TYPES: Final = {_CLASSIC: 1, _ERROR: 73, _FD: 100}
_REMOTE: Final = 0x80
_EDL, _BRS, _ESI = 1, 2, 4
# The code of each length of CAN FD: the smallest that holds it.
_LENGTHS: Final = (0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 20, 24, 32, 48, 64)
_DLC: Final = np.searchsorted(np.array(_LENGTHS), np.arange(65)).astype(np.uint8)

_Bytes = npt.NDArray[np.uint8]


def write_blf(
    path: Path,
    frames: FrameBatch,
    numbers: tuple[int, ...],
    progress: Callable[[int], None] = lambda _: None,
) -> None:
    """Write frames as a BLF file.

    Args:
        path: of the file; it is written over.
        frames: in the order they are to be written.
        numbers: of the buses, by channel number; the file counts them from one.
        progress: called with the number of frames that were written since the last call.

    Raises:
        OSError: it cannot be written.
    """
    stamps = frames["timestamp_ns"]
    begin_ms, end_ms = 0, 0
    if len(frames):
        begin_ms, end_ms = int(stamps.min()) // 10**6, int(stamps.max()) // 10**6
    with path.open("wb") as file:
        out = _Containers(file)
        for start in range(0, len(frames), CHUNK_ROWS):
            part = frames[start : start + CHUNK_ROWS]
            out.put(objects(part, numbers, begin_ms * 10**6))
            progress(len(part))
        out.end(len(frames), begin_ms, end_ms)


class _Containers:
    """Compresses objects into containers, and writes the file's header when all are there."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._rest = b""
        self._objects_bytes = HEADER_BYTES
        file.write(bytes(HEADER_BYTES))

    def put(self, data: bytes) -> None:
        """Write what fills containers, keep the rest."""
        data = self._rest + data
        whole = len(data) // CONTAINER_BYTES * CONTAINER_BYTES
        for at in range(0, whole, CONTAINER_BYTES):
            self._write(data[at : at + CONTAINER_BYTES])
        self._rest = data[whole:]

    def _write(self, data: bytes) -> None:
        packed = zlib.compress(data, LEVEL)
        size = _CONTAINER.size + len(packed)
        head = _CONTAINER.pack(b"LOBJ", 16, 1, size, _CONTAINER_TYPE, _DEFLATE, len(data))
        self._file.write(head + packed + bytes(size % 4))
        self._objects_bytes += _CONTAINER.size + len(data)

    def end(self, count: int, begin_ms: int, end_ms: int) -> None:
        if self._rest:
            self._write(self._rest)
        size = self._file.tell()
        self._file.seek(0)
        application, version = (5, 0, 0, 0), (2, 6, 8, 1)
        self._file.write(
            _HEADER.pack(
                b"LOGG", HEADER_BYTES, *application, *version, size, self._objects_bytes, count, 0,
                *_moment(begin_ms), *_moment(end_ms),
            )
        )  # fmt: skip


def _moment(unix_ms: int) -> tuple[int, ...]:
    """Return a moment as Windows' SYSTEMTIME; none if it is before 1990."""
    seconds, ms = divmod(unix_ms, 1000)
    if seconds < FIRST_YEAR_S:
        return (0,) * 8
    at = dt.datetime.fromtimestamp(seconds, dt.UTC)
    return at.year, at.month, at.isoweekday() % 7, at.day, at.hour, at.minute, at.second, ms


def objects(frames: FrameBatch, numbers: tuple[int, ...], begin_ns: int) -> bytes:
    """Return frames as the objects of a BLF file."""
    flags = frames["flags"]
    is_error = (flags & ERROR) != 0
    is_fd = ~is_error & ((flags & FD) != 0)
    kinds = ((~is_error & ~is_fd, _CLASSIC), (is_error, _ERROR), (is_fd, _FD))
    sizes = np.select([which for which, _ in kinds], [dtype.itemsize for _, dtype in kinds])
    ends = np.cumsum(sizes)
    out = np.empty(int(ends[-1]), np.uint8)
    for which, dtype in kinds:
        rows = np.flatnonzero(which)
        if not len(rows):
            continue
        made = _made(frames[rows], dtype, np.array(numbers), begin_ns)
        if len(rows) == len(frames):
            return made.tobytes()
        size = dtype.itemsize
        out[(ends[rows] - size)[:, None] + np.arange(size)] = made.view(np.uint8).reshape(-1, size)
    return out.tobytes()


def _made(
    frames: FrameBatch, dtype: np.dtype[np.void], numbers: npt.NDArray[np.int_], begin_ns: int
) -> npt.NDArray[np.void]:
    """Return frames of one kind as objects."""
    flags, lengths = frames["flags"], frames["length"]
    made = np.zeros(len(frames), dtype)
    made["magic"], made["head"], made["version"] = b"LOBJ", 32, 1
    made["size"], made["type"], made["unit"] = dtype.itemsize, _TYPES[dtype], _NANOSECONDS
    made["at"] = frames["timestamp_ns"] - begin_ns
    made["channel"] = numbers[frames["channel"]] + 1
    made["id"] = frames["arbitration_id"] | np.where(flags & EXTENDED, _WIDE, 0).astype(np.uint32)
    made["dlc"] = lengths if dtype == _CLASSIC else _DLC[lengths]
    if dtype != _ERROR:
        made["flags"] = np.where(flags & REMOTE, _REMOTE, 0)
    if dtype == _FD:
        made["fd"] = _EDL | np.where(flags & BRS, _BRS, 0) | np.where(flags & ESI, _ESI, 0)
        made["valid"] = np.where(flags & REMOTE, 0, lengths)
    width = min(made["data"].shape[1], frames["data"].shape[1])
    there = np.where(flags & REMOTE, 0, lengths)
    data: _Bytes = frames["data"][:, :width]
    made["data"][:, :width] = np.where(np.arange(width) < there[:, None], data, 0)
    return made
