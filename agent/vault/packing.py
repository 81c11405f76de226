"""The zstd frame around a columns message: small when written, bounded when read.

- Written: each byte plane begins a block of its own if it is large enough to deserve its own
  Huffman table. Bytes of one plane are alike, those of the next are not: it saves a tenth at 4,096
  rows, and any zstd reader can read it.
- Read: the frame must declare its size. The size, and what a protobuf parser would make of the
  message, are checked before memory is taken for them.

Pure. Each call makes its own compressor: one is not safe across threads, and costs little.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import zstandard
from google.protobuf.message import DecodeError

from agent.frames import MAX_CHANNELS
from agent.pb.segment_pb2 import FrameColumns, SignalColumns
from agent.vault.planes import MAX_ROWS, Groups, damaged, numbers

MAX_BYTES: Final = 32 << 20  # of a message before compression
MAX_HEAD_BYTES: Final = 8 << 20  # of it outside the planes: every row a group of its own
MAX_FIELDS: Final = 1024  # on the wire: 255 channel names and a dozen columns, with room
ZSTD_RATIO: Final = 32_768  # a block of 4 bytes yields at most 128 KiB (RFC 8878, 3.1.1.2)
LEVEL: Final = 1  # level 9 saves 2 % and costs four times the time
CUT_BYTES: Final = 3072  # least size of a block: below, its own Huffman table costs more


def compress(message: bytes, columns: Sequence[tuple[bytes, Sequence[int]]]) -> bytes:
    """Return the message as one zstd frame that declares its size.

    Args:
        message: ends with the columns, each behind its tag and length.
        columns: (bytes of a column, bytes of each of its planes), in the order of the message.
    """
    pack = zstandard.ZstdCompressor(level=LEVEL).compressobj(size=len(message))
    view, done, parts = memoryview(message), 0, []
    for cut in cuts(len(message), columns):
        parts += [pack.compress(view[done:cut]), pack.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)]
        done = cut
    return b"".join([*parts, pack.compress(view[done:]), pack.flush()])


def cuts(size: int, columns: Sequence[tuple[bytes, Sequence[int]]]) -> list[int]:
    """Return where blocks end inside a message: at the begin of planes, not closer than CUT_BYTES.

    Args:
        size: bytes of the message.
        columns: as for `compress`.
    """
    starts: list[int] = []
    end = size
    for column, planes in reversed(columns):
        place = end - len(column)
        tag_and_length = 1 + (max(len(column).bit_length(), 1) + 6) // 7 if column else 0
        starts[:0] = [place := place + plane for plane in (0, *planes[:-1])] if column else []
        end -= len(column) + tag_and_length
    chosen: list[int] = []
    for start in starts:
        if start - (chosen[-1] if chosen else 0) >= CUT_BYTES <= size - start:
            chosen.append(start)
    return chosen


def decompress(data: bytes, planes: frozenset[int]) -> bytes:
    """Return the message in a zstd frame.

    Args:
        data: exactly one zstd frame that declares its size.
        planes: numbers of the fields that hold byte planes.

    Raises:
        SealError: not such a frame, larger than any segment, or no protobuf message.
    """
    try:
        size = zstandard.get_frame_parameters(data).content_size
        if size > min(MAX_BYTES, len(data) * ZSTD_RATIO):  # an undeclared size is 2^64 - 1
            raise damaged("a zstd frame of an impossible size")
        unpack = zstandard.ZstdDecompressor()
        message = unpack.decompress(data, max_output_size=max(size, 1), allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise damaged(f"no zstd frame ({error})") from error
    _check_wire(message, planes)
    return message


def parse(message: FrameColumns | SignalColumns, data: bytes, planes: frozenset[int]) -> Groups:
    """Fill a message from its zstd frame and return its groups; its other fields are not checked.

    Args:
        message: an empty one.
        data: as for `decompress`.
        planes: as for `decompress`.

    Raises:
        SealError: as for `decompress`, or more rows or channels than any segment has.
    """
    try:
        message.ParseFromString(decompress(data, planes))
    except DecodeError as error:
        raise damaged(f"no protobuf message ({error})") from error
    if len(message.channels) > MAX_CHANNELS or len(set(message.channels)) < len(message.channels):
        raise damaged(f"{len(message.channels)} channels, or one named twice")
    if len(message.rows) > MAX_ROWS:
        raise damaged(f"{len(message.rows)} groups")
    rows = numbers(message.rows, len(message.rows), MAX_ROWS + 1, "rows").astype(np.int64)
    if int(rows.sum()) > MAX_ROWS or not rows.all():
        raise damaged(f"{int(rows.sum())} rows in {len(rows)} groups")
    return Groups.of_rows(rows)


def _check_wire(message: bytes, planes: frozenset[int]) -> None:
    """Bound what a protobuf parser would take: it unpacks a byte of a column into up to eight."""
    at = fields = head = 0
    while at < len(message):
        tag, at = _varint(message, at)
        kind, start = tag & 7, at
        if kind == 0:
            _, at = _varint(message, at)
        elif kind == 2:
            size, at = _varint(message, at)
            at += size
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        else:
            raise damaged("an unknown wire type")
        fields += 1
        head += 0 if tag >> 3 in planes else at - start
        if at > len(message) or fields > MAX_FIELDS or head > MAX_HEAD_BYTES:
            raise damaged("a truncated or overfull message")


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(message) and shift < 70:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise damaged("a truncated number")
