"""candump logs (`candump -l`, `candump -L`): by columns, a million frames a second and core.

    (1436509052.249713) vcan0 044#2A366C2BBA            11-bit id: 3 digits
    (1436509052.449847) vcan0 18FEF100#00FF             29-bit id: 8 digits
    (1436509052.650000) vcan0 123##1112233              CAN FD: a flags digit, then the data
    (1436509052.650000) vcan0 123#R8                    remote frame and the length it asks for
    (1436509052.650000) vcan0 123#1122334455667788_B    length code above 8, left out
    (1436509052.650000) vcan0 20000080#0000000000000000 error frame: its classes as the id
    (1436509052.650000) vcan0 123#11 R                  a direction behind it (R, T)
    1 (1436509052.650000) vcan0 123#11                  a line number before it
    (-0000000001.500000) vcan0 123#11                   a stamp before 1970, as `open` writes it

Lines of one shape (length and places of its marks) are one matrix of characters; what has no usual
shape goes through `parse_line`, which takes the whole grammar and says what is wrong with a line.
Both give the same rows.

Source: can-utils lib.c (parse_canframe, snprintf_canframe), log2asc.c.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO, Final

import numpy as np
import numpy.typing as npt

from agent.capture.columns import (
    NIBBLES,
    Characters,
    Offsets,
    decimal_number,
    hex_bytes,
    hex_number,
    matrix,
    narrow,
    rows_below,
)
from agent.capture.logs.row import FD_LENGTHS, MAX_STAMP_NS, Row, decimal_ns
from agent.capture.logs.source import Reporter, blocks
from agent.frames import BRS, ERROR, ESI, EXTENDED, FD, FRAME_FD, REMOTE, ChannelTable, FrameBatch

_ERR: Final = 0x20000000
_NEWLINE, _CR, _SPACE, _HASH, _OPEN, _CLOSE, _DOT = 10, 13, 32, 35, 40, 41, 46
_USUAL_LINE: Final = 220  # longer ones go line by line

_LINE: Final = re.compile(
    rb"(?:\d+[ \t]+)?\((-?)(\d+)\.(\d{1,9})\)[ \t]+(\S+)[ \t]+([0-9A-Fa-f]+)#(\S*)"
    rb"(?:[ \t]+(.*))?",
    re.DOTALL,
)
_DATA: Final = re.compile(rb"((?:[0-9A-Fa-f]{2}\.?)*)(?:_([9A-Fa-f]))?")
_REMOTE: Final = re.compile(rb"[Rr]([0-8]?)(?:_([9A-Fa-f]))?")


def parse_line(line: bytes) -> Row | None:
    """Read one line.

    Args:
        line: without its line feed.

    Returns:
        The row, or None for a blank line or a comment.

    Raises:
        ValueError: it is no frame; says why.
    """
    line = line.strip()
    if not line or line.startswith(b"#"):
        return None
    match = _LINE.fullmatch(line)
    if match is None:
        raise ValueError("expected (seconds.fraction) interface id#data")
    sign, seconds, fraction, name, digits, payload, _ = match.groups()
    stamp = decimal_ns(seconds.decode(), fraction.decode())
    if sign:
        stamp = -stamp
    flags, arbitration_id = _read_id(digits)
    more, length, data = _read_payload(payload)
    if flags & ERROR and more & (REMOTE | FD):
        raise ValueError("an error frame is neither remote nor FD")
    return Row(stamp, name.decode("utf-8", "replace"), arbitration_id, flags | more, length, data)


def _read_id(digits: bytes) -> tuple[int, int]:
    number = int(digits, 16)
    if len(digits) <= 3:
        if number > 0x7FF:
            raise ValueError(f"{digits.decode()} is above the highest 11-bit id")
        return 0, number
    if len(digits) > 8 or number > 0x3FFFFFFF:
        raise ValueError(f"{digits.decode()} is no 29-bit id")
    if number & _ERR:
        return ERROR, number & ~_ERR
    return EXTENDED, number


def _read_payload(payload: bytes) -> tuple[int, int, bytes]:
    flags = 0
    if payload[:1] == b"#":
        if not payload[1:2].strip(b" \t") or NIBBLES[payload[1]] > 15:
            raise ValueError("a CAN FD frame needs a flags digit after ##")
        bits = int(payload[1:2], 16)
        flags = FD | (BRS if bits & 1 else 0) | (ESI if bits & 2 else 0)
        payload = payload[2:]
    elif remote := _REMOTE.fullmatch(payload):
        return REMOTE, int(remote[1] or b"0"), b""
    match = _DATA.fullmatch(payload)
    if match is None:
        raise ValueError("the data are no pairs of hex digits")
    data = bytes.fromhex(match[1].replace(b".", b"").decode())
    if len(data) not in FD_LENGTHS or (len(data) > 8 and not flags):
        raise ValueError(f"no frame has {len(data)} bytes of data")
    return flags, len(data), data


def read(stream: BinaryIO, channels: ChannelTable, reporter: Reporter) -> Iterator[FrameBatch]:
    """Yield the frames of a candump log in order, a batch a block."""
    for text, first_line in blocks(stream, reporter):
        batch = parse_block(text, first_line, channels, reporter)
        if len(batch):
            yield batch


def parse_block(
    text: bytes, first_line: int, channels: ChannelTable, reporter: Reporter
) -> FrameBatch:
    """Return the frames of a block of lines; the line numbers count from first_line."""
    characters = np.frombuffer(text, np.uint8)
    starts, lengths = _lines(characters)
    batch = np.zeros(len(starts), FRAME_FD)
    done = _by_shape(characters, starts, lengths, batch, channels)
    kept = done.copy()
    for index in np.flatnonzero(~done):
        start = int(starts[index])
        try:
            row = parse_line(text[start : start + int(lengths[index])])
        except ValueError as error:
            reporter.broken(first_line + int(index), str(error))
            continue
        if row is not None:
            _set(batch, int(index), row, channels)
            kept[index] = True
    return narrow(batch if kept.all() else batch[kept])


def _set(batch: FrameBatch, index: int, row: Row, channels: ChannelTable) -> None:
    batch["timestamp_ns"][index] = row.timestamp_ns
    batch["arbitration_id"][index] = row.arbitration_id
    batch["channel"][index] = channels.number(row.channel)
    batch["flags"][index], batch["length"][index] = row.flags, row.length
    batch["data"][index, : len(row.data)] = np.frombuffer(row.data, np.uint8)


def _lines(characters: Characters) -> tuple[Offsets, Offsets]:
    """Return start and length of each line, without line feed and carriage return."""
    ends = np.flatnonzero(characters == _NEWLINE)
    if len(characters) and characters[-1] != _NEWLINE:
        ends = np.append(ends, len(characters))
    starts = np.concatenate((np.zeros(1, np.int64), ends[:-1] + 1)) if len(ends) else ends
    lengths = ends - starts
    has_cr = (lengths > 0) & (characters[np.maximum(ends - 1, 0)] == _CR)
    return starts, lengths - has_cr


def _first(places: Offsets, after: Offsets) -> Offsets:
    """Return the first of the sorted places at or after each offset; a huge number if none."""
    found = np.append(places, np.iinfo(np.int64).max // 2)
    return found[np.searchsorted(places, after)]


def _by_shape(
    characters: Characters,
    starts: Offsets,
    lengths: Offsets,
    batch: FrameBatch,
    channels: ChannelTable,
) -> npt.NDArray[np.bool_]:
    """Fill the rows of all lines of a usual shape; return which they were."""
    done = np.zeros(len(starts), np.bool_)
    ends = starts + lengths
    spaces = np.flatnonzero(characters == _SPACE)
    close = _first(np.flatnonzero(characters == _CLOSE), starts)
    gap = _first(spaces, close + 2)
    mark = _first(np.flatnonzero(characters == _HASH), gap)
    stop = np.minimum(_first(spaces, mark), ends)
    usual = (mark < ends) & (lengths <= _USUAL_LINE) & (lengths > 0)
    usual &= stop >= ends - 2  # at most a direction behind the data
    rows = np.flatnonzero(usual)
    keys = lengths[rows]
    for offsets in (close, gap, mark, stop):
        keys = keys << 8 | (offsets[rows] - starts[rows])
    order = np.argsort(keys, kind="stable")
    keys, rows = keys[order], rows[order]
    cuts = np.flatnonzero(np.diff(keys)) + 1
    for group in np.split(rows, cuts) if len(rows) else []:
        one = group[0]
        shape = [int(x[one] - starts[one]) for x in (close, gap, mark, stop)]
        table = matrix(characters, starts[group], int(lengths[one]))
        good = _fill(table, shape, batch, group, channels)
        done[group[good]] = True
    return done


def _fill(
    table: Characters,
    shape: list[int],
    batch: FrameBatch,
    rows: Offsets,
    channels: ChannelTable,
) -> npt.NDArray[np.bool_]:
    """Fill rows from lines of one shape; return which were good. The others stay as they were."""
    close, gap, mark, stop = shape
    good = np.zeros(len(table), np.bool_)
    fraction = 6 if close > 7 and bool((table[:, close - 7] == _DOT).all()) else 9
    dot = close - 1 - fraction
    id_digits = mark - gap - 1
    is_fd = mark + 1 < stop and bool((table[:, mark + 1] == _HASH).all())
    data_at = mark + 3 if is_fd else mark + 1
    length, odd = divmod(stop - data_at, 2)
    possible = 1 < dot <= 11 and id_digits in (3, 8) and not odd and gap > close + 2
    if not possible or length not in FD_LENGTHS or (length > 8 and not is_fd):
        return good
    good = np.ones(len(table), np.bool_)
    good &= (table[:, 0] == _OPEN) & (table[:, dot] == _DOT) & (table[:, close] == _CLOSE)
    good &= table[:, close + 1] == _SPACE
    # A control character below the blank would be white space to the long way: let it decide.
    good &= rows_below(np.uint8(255) - table[:, close + 2 : gap], 255 - _SPACE)
    if stop < table.shape[1]:
        good &= np.isin(table[:, -1], (ord("R"), ord("T"), _SPACE))
    digits = np.delete(table[:, 1:close], dot - 1, axis=1) - np.uint8(ord("0"))
    good &= rows_below(digits, 10)
    ids = NIBBLES[table[:, gap + 1 : mark]]
    good &= rows_below(ids, 16)
    numbers = hex_number(ids)
    nibbles = NIBBLES[table[:, data_at:stop]]
    good &= rows_below(nibbles, 16)
    if digits.shape[1] > 18:
        good &= digits[:, 0] < 9  # 9.2e18 ns is the end of time
    units = 10 ** (9 - fraction)
    stamps = decimal_number(digits)
    good &= stamps <= MAX_STAMP_NS // units
    stamps *= units
    # An odd id (error frame, out of range) takes the long way, which knows what to say of it.
    good &= numbers <= (0x1FFFFFFF if id_digits == 8 else 0x7FF)
    flags = np.full(len(table), EXTENDED if id_digits == 8 else 0, np.uint8)
    if is_fd:
        bits = NIBBLES[table[:, mark + 2]]
        good &= bits < 16
        flags |= FD | ((bits & 1) * np.uint8(BRS)) | ((bits >> 1 & 1) * np.uint8(ESI))
    take = rows[good]
    batch["timestamp_ns"][take] = stamps[good]
    batch["arbitration_id"][take] = numbers[good]
    batch["flags"][take], batch["length"][take] = flags[good], length
    if length:
        batch["data"][take, :length] = hex_bytes(nibbles)[good]
    batch["channel"][take] = _channel_numbers(table[good, close + 2 : gap], channels)
    return good


def _channel_numbers(names: Characters, channels: ChannelTable) -> npt.NDArray[np.uint8]:
    """Return the channel number of each name, all of one width."""
    numbers = np.zeros(len(names), np.uint8)
    todo = np.ones(len(names), np.bool_)
    while todo.any():  # once per name: a log has few
        name = names[int(np.argmax(todo))]
        same = (names == name).all(axis=1)
        numbers[same] = channels.number(name.tobytes().decode("utf-8", "replace"))
        todo &= ~same
    return numbers
