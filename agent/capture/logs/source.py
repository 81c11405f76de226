"""Bytes of a log, plain or compressed (gzip, bzip2, zstd by content), in blocks of whole lines."""

from __future__ import annotations

import bz2
import gzip
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, cast

import zstandard

from agent.errors import LogError
from agent.files import open_plain

BLOCK_BYTES: Final = 1 << 19  # more gains little
MAX_LINE: Final = 1 << 16  # longer than any line of any format we read
HEAD_BYTES: Final = 1 << 16

# What the decompressors raise for a damaged or cut-off file.
DAMAGED: Final = (OSError, EOFError, ValueError, zstandard.ZstdError)

Broken = Callable[[str, str], None]


@dataclass(slots=True)
class Reporter:
    """Names what cannot be read: to `on_broken`, or as LogError if strict.

    Attributes:
        path: the log.
        strict: raise at the first broken line or record.
        on_broken: called with (where, why).
    """

    path: Path
    strict: bool
    on_broken: Broken

    def broken(self, line: int, why: str) -> None:
        """Name a line, counted from 1.

        Raises:
            LogError: if strict.
        """
        self.at(f"{self.path}:{line}", why)

    def at(self, where: str, why: str) -> None:
        """Name any place of the log.

        Raises:
            LogError: if strict.
        """
        if self.strict:
            raise LogError(why, where=where)
        self.on_broken(where, why)


class _Counted(io.RawIOBase):
    """A raw file that tells how far it was read, for a progress bar."""

    def __init__(self, raw: BinaryIO, progress: Callable[[int], None]) -> None:
        self._raw, self._progress = raw, progress

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        data = self._raw.read(len(memoryview(cast("bytearray", buffer))))
        memoryview(cast("bytearray", buffer))[: len(data)] = data
        self._progress(len(data))
        return len(data)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Gzip(gzip.GzipFile):
    """Closes the file below it too."""

    def __init__(self, raw: BinaryIO) -> None:
        super().__init__(fileobj=raw)
        self._below = raw

    def close(self) -> None:
        super().close()
        self._below.close()


class _Bzip2(bz2.BZ2File):
    """Closes the file below it too."""

    def __init__(self, raw: BinaryIO) -> None:
        super().__init__(raw)
        self._below = raw

    def close(self) -> None:
        super().close()
        self._below.close()


def open_stream(path: Path, progress: Callable[[int], None] | None = None) -> BinaryIO:
    """Open a log for reading, decompressed.

    Args:
        path: the log.
        progress: called with the number of file bytes read, as they are.

    Raises:
        LogError: there is no such file, or it may not be read.
    """
    try:
        raw: BinaryIO = open_plain(path)
        magic = raw.read(4)
        raw.seek(0)
    except OSError as error:
        raise LogError(f"cannot open: {error.strerror}", where=str(path)) from error
    if progress is not None:
        raw = cast("BinaryIO", io.BufferedReader(_Counted(raw, progress), BLOCK_BYTES))
    if magic[:2] == b"\x1f\x8b":
        return cast("BinaryIO", _Gzip(raw))
    if magic[:3] == b"BZh":
        return cast("BinaryIO", _Bzip2(raw))
    if magic == b"\x28\xb5\x2f\xfd":
        reader = zstandard.ZstdDecompressor().stream_reader(
            raw, read_across_frames=True, closefd=True
        )
        return cast("BinaryIO", io.BufferedReader(reader))
    return raw


def is_compressed(path: Path) -> bool:
    """Return whether `open_stream` decompresses this file."""
    with open_plain(path) as raw:
        magic = raw.read(4)
    return magic[:2] == b"\x1f\x8b" or magic[:3] == b"BZh" or magic == b"\x28\xb5\x2f\xfd"


def head(stream: BinaryIO, size: int = HEAD_BYTES) -> bytes:
    """Return the first bytes of a log: what can be read of them if it is damaged.

    Raises:
        EOFError: not one byte can be read. Or another of DAMAGED.
    """
    return next(_pieces(stream, size), b"")


def _pieces(stream: BinaryIO, size: int) -> Iterator[bytes]:
    """Yield pieces of `size` bytes; of a damaged file first all that comes before the damage."""
    one_read = cast("io.BufferedReader", stream).read1  # every stream of open_stream has it
    gathered = bytearray()
    while True:
        try:
            piece = one_read(size - len(gathered))
        except DAMAGED:
            if gathered:
                yield bytes(gathered)
            raise
        gathered += piece
        if not piece or len(gathered) >= size:
            if gathered:
                yield bytes(gathered)
            gathered.clear()
        if not piece:
            return


def blocks(
    stream: BinaryIO, reporter: Reporter, separator: bytes = b"\n"
) -> Iterator[tuple[bytes, int]]:
    """Yield (whole lines, number of the first). The last block may lack its separator.

    A damaged compressed file gives what could be read and is then named; so is an overlong line.
    """
    carry, line = b"", 1
    pieces = _pieces(stream, BLOCK_BYTES)
    while True:
        try:
            piece = next(pieces, b"")
        except DAMAGED as error:
            if carry:
                yield carry, line
            reporter.broken(
                line + carry.count(separator) + bool(carry),
                f"the file ends early or is damaged: {error}",
            )
            return
        if not piece:
            break
        text = carry + piece
        end = text.rfind(separator) + 1
        if end:
            yield text[:end], line
            line += text.count(separator, 0, end)
        carry = text[end:]
        if len(carry) > MAX_LINE:
            reporter.broken(line, f"a line of more than {MAX_LINE} bytes")
            return
    if carry:
        yield carry, line
