"""Recorded CAN logs of any usual format, as FrameBatches.

- The format is found from the content first, the extension second. Compressed logs are read as
  they are.
- Rows are in the order of the file, with the stamps that it records, out of order or not.
- Channels are named as in the log; a bus with a number n is "can<n>".
- A line or record that cannot be read is named (file:line) and left out, or ends the reading if
  strict. A file that is cut off gives what is there, then the cut is named.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Final

from agent.capture.logs import candump
from agent.capture.logs.detect import KNOWN, detect, first_channel
from agent.capture.logs.dialects import DIALECTS
from agent.capture.logs.source import (
    DAMAGED,
    Broken,
    Reporter,
    blocks,
    head,
    open_stream,
)
from agent.capture.rows import Rows
from agent.errors import LogError
from agent.frames import ChannelTable, FrameBatch

__all__ = ["find_format", "read_log"]

_BATCH_ROWS: Final = 4096


def find_format(path: Path) -> str:
    """Return the name of a log's format, e.g. "candump".

    Raises:
        LogError: there is no such file, or it has no format that we know.
    """
    kind = detect(_head(path), path.name)
    if kind is None:
        raise LogError("this is no CAN log that we know", where=str(path), todo=f"expected {KNOWN}")
    return kind


def _head(path: Path) -> bytes:
    with open_stream(path) as stream:
        try:
            return head(stream)
        except DAMAGED as error:
            raise LogError(f"cannot decompress: {error}", where=str(path)) from error


def read_log(
    path: Path,
    channels: ChannelTable,
    *,
    strict: bool = False,
    on_broken: Broken,
    progress: Callable[[int], None] | None = None,
) -> Iterator[FrameBatch]:
    """Read a log.

    Args:
        path: the log.
        channels: numbers the channels that occur.
        strict: a broken line is an error.
        on_broken: called with (where, why) for each broken line or record.
        progress: called with the number of file bytes read (not for MF4 and SQLite).

    Yields:
        Batches of some thousand rows.

    Raises:
        LogError: the file cannot be opened or has no known format, or is broken and strict.
    """
    kind = find_format(path)
    reporter = Reporter(path, strict, on_broken)
    stream = open_stream(path, progress)
    if kind == "candump":
        return _closing(stream, candump.read(stream, channels, reporter), path)
    if kind in DIALECTS:
        return _closing(stream, _read_lines(kind, stream, channels, reporter), path)
    # Imported where needed: most logs do without python-can.
    from agent.capture.logs import library  # noqa: PLC0415

    if kind in library.BINARY:
        batches = library.read_binary(kind, path, stream, channels, reporter)
    else:
        batches = library.read_text(
            kind, stream, channels, reporter, first_channel=first_channel(kind, _head(path))
        )
    return _closing(stream, batches, path)


def _closing(stream: BinaryIO, batches: Iterator[FrameBatch], path: Path) -> Iterator[FrameBatch]:
    with stream:
        try:
            yield from batches
        except ValueError as error:  # from the channel table: lines that are wrong were named
            raise LogError(str(error), where=str(path)) from error


def _read_lines(
    kind: str, stream: BinaryIO, channels: ChannelTable, reporter: Reporter
) -> Iterator[FrameBatch]:
    parse = DIALECTS[kind]()
    separator = b"\r" if kind == "carbus" else b"\n"
    rows = Rows()
    for text, first_line in blocks(stream, reporter, separator):
        lines = text.removesuffix(separator).split(separator)
        for number, line in enumerate(lines, first_line):
            try:
                row = parse(line.decode("utf-8", "replace").strip("\r\n\ufeff"))
            except ValueError as error:
                reporter.broken(number, str(error))
                continue
            if row is None:
                continue
            stamp, channel, arbitration_id, flags, length, data = row
            rows.add(stamp, arbitration_id, channels.number(channel), flags, length, data)
            if len(rows) >= _BATCH_ROWS:
                yield rows.take()
    if len(rows):
        yield rows.take()
