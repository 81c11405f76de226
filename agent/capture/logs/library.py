"""Formats that python-can reads: ASC, BLF, TRC, MF4 (with asammdf), its own CSV and SQLite.

- Stamps are as python-can gives them with its defaults; ints for a channel are "can<n>".
- A reader that fails at a line of a text goes on behind that line: a new reader gets the header
  again and then the rest. One that fails inside a binary file cannot go on: what was readable has
  been delivered, then the place is named.
"""

from __future__ import annotations

import importlib.util
import io
import re
import shutil
import sqlite3
import struct
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, Final

import can
from can.io.blf import BLFParseError

from agent.capture.logs.source import DAMAGED, Reporter, is_compressed
from agent.capture.messages import add_message, stamp_ns
from agent.capture.rows import Rows
from agent.errors import LogError
from agent.frames import ChannelTable, FrameBatch

_ASC_EVENT: Final = re.compile(r"\s*\d+\.\d+\s")
_BLF_OBJECT_HEADER: Final = 16  # bytes; python-can reads one at a time
_BATCH_ROWS: Final = 4096
_HEADER_LINES: Final = 200
_MAX_RESTARTS: Final = 10_000

# What python-can's readers let through for input that is not as they expect.
_UNREADABLE: Final = (
    *DAMAGED,
    can.CanError,
    BLFParseError,
    struct.error,
    zlib.error,
    sqlite3.Error,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    NotImplementedError,
)
BINARY: Final = ("blf", "mf4", "sqlite")
_TEXT: Final[dict[str, Callable[..., Any]]] = {
    "asc": can.ASCReader,
    "trc": can.TRCReader,
    "python_can_csv": can.CSVReader,
}


class _Whole:
    """A binary file that notices if it ends inside a record; python-can's BLF reader does not."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.is_cut = False

    def read(self, size: int = -1, /) -> bytes:
        data = self._stream.read(size)
        at_end = not data and size == _BLF_OBJECT_HEADER
        if len(data) < size and size > 3 and not at_end:  # up to 3: padding, often left out
            self.is_cut = True
        return data

    def close(self) -> None:
        self._stream.close()


class _Lines:
    """The lines of a text for a reader: the header first (again), then on from where it was.

    It has what python-can's text readers use of a file: iteration, readline, close.
    """

    def __init__(self, text: io.TextIOWrapper, *, is_asc: bool) -> None:
        self._text, self._is_asc = text, is_asc
        self._ended_header = not is_asc
        self._again: list[str] = []
        self.header: list[str] = []
        self.in_header = True
        self.number = 0

    def restart(self) -> None:
        self._again = list(self.header)
        self.in_header, self._ended_header = False, not self._is_asc

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self.readline()
        if not line:
            raise StopIteration
        return line

    def readline(self) -> str:
        if self._again:
            return self._end_header(self._again.pop(0))
        line = self._text.readline()
        self.number += bool(line)
        if self.in_header and len(self.header) < _HEADER_LINES:
            self.header.append(line)
        return self._end_header(line)

    def _end_header(self, line: str) -> str:
        """Say that the header is over before the first event of an ASC that does not say it.

        python-can's reader takes the line after such a header for its end, and loses that frame.
        """
        if self._ended_header or not _ASC_EVENT.match(line):
            return line
        self._ended_header = True
        self._again.insert(0, line)
        return "no internal events logged\n"

    def read(self, size: int = -1) -> str:
        return self._text.read(size)

    def close(self) -> None:
        """Stay open: the reader that comes after a broken line reads on."""


def read_text(
    kind: str,
    stream: BinaryIO,
    channels: ChannelTable,
    reporter: Reporter,
    *,
    first_channel: int = 0,
) -> Iterator[FrameBatch]:
    """Yield the frames of an ASC, TRC or python-can CSV log in order.

    Args:
        kind: "asc", "trc" or "python_can_csv".
        stream: the log.
        channels: numbers its channels.
        reporter: names what is broken.
        first_channel: python-can's number of what is to be "can0".
    """
    with io.TextIOWrapper(stream, encoding="utf-8", errors="surrogateescape") as text:
        lines = _Lines(text, is_asc=kind == "asc")
        rows = Rows()
        for _ in range(_MAX_RESTARTS):
            try:
                for message in _TEXT[kind](lines):
                    if lines.in_header:
                        lines.header, lines.in_header = lines.header[:-1], False
                    _add(rows, message, channels, first_channel)
                    if len(rows) >= _BATCH_ROWS:
                        yield rows.take()
                break
            except _UNREADABLE as error:
                if len(rows):
                    yield rows.take()
                if lines.in_header:
                    lines.header = lines.header[:-1]
                reporter.broken(lines.number, _say(error))
                lines.restart()
        if len(rows):
            yield rows.take()


def read_binary(
    kind: str, path: Path, stream: BinaryIO, channels: ChannelTable, reporter: Reporter
) -> Iterator[FrameBatch]:
    """Yield the frames of a BLF, MF4 or SQLite log in order."""
    if kind == "mf4" and importlib.util.find_spec("asammdf") is None:
        raise LogError("MF4 logs need asammdf", where=str(path), todo="pip install 'inland[mf4]'")
    rows, count, whole = Rows(), 0, _Whole(stream)
    errors: tuple[type[BaseException], ...] = (*_UNREADABLE, *_mf4_errors(kind))
    with ExitStack() as stack:
        stack.enter_context(stream)
        try:
            for message in _binary_reader(kind, path, whole, stack):
                _add(rows, message, channels)
                count += 1
                if len(rows) >= _BATCH_ROWS:
                    yield rows.take()
            if whole.is_cut:
                raise EOFError("the file ends inside a record")
        except errors as error:
            if len(rows):
                yield rows.take()
            reporter.at(f"{path}: after frame {count}", _say(error))
        if len(rows):
            yield rows.take()


def _mf4_errors(kind: str) -> tuple[type[Exception], ...]:
    if kind != "mf4":
        return ()
    from asammdf.blocks.utils import MdfException  # noqa: PLC0415 - only for these logs: it is slow

    return (MdfException,)


def _binary_reader(kind: str, path: Path, whole: _Whole, stack: ExitStack) -> Any:
    if kind == "blf":
        return can.BLFReader(whole)  # type: ignore[arg-type]  # it only reads and closes
    if is_compressed(path):  # these readers need a file that they can seek in
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="inland-log-"))
        path = Path(folder) / f"log.{kind}"
        with path.open("wb") as spare:
            shutil.copyfileobj(whole, spare)
    reader: Any = can.MF4Reader(path) if kind == "mf4" else can.SqliteReader(path)
    stack.callback(reader.stop)
    return reader


def _add(rows: Rows, message: can.Message, channels: ChannelTable, first: int = 0) -> None:
    channel = message.channel if message.channel is not None else first
    name = f"can{channel - first}" if isinstance(channel, int) else str(channel)
    add_message(rows, message, channels.number(name), stamp_ns(message.timestamp))


def _say(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return f"cannot be read: {text}"
