"""FrameBatch and SignalBatch to the bytes in a segment, and back: small, exact, cheap.

- Frames are grouped by (channel, id, flags, length), samples by (channel, signal). What is constant
  in a group is stored once; what changes slowly is stored as its change, in byte planes.
- Everything comes back: all flags, lengths 0..64, remote and error frames, any stamp, any order.
  Only stamps are floored to the grid of `resolution_ns`; where that is coarser than 1 µs, the rows
  come back in the order of their stamps unless the rule asks to keep the order of arrival.
- Frames come back 8 bytes wide if every length is at most 8, else 64 bytes wide.
- Channels are renumbered to the names that occur, in the order of their numbers.
- Decoding trusts nothing: malformed bytes of any kind raise SealError, within bounded memory.

Pure: values in, values out. Source: proto/FORMAT.md, "Columns"; why so: agent/DECISIONS.md, 32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from agent.frames import FRAME, FRAME_FD, REMOTE, SIGNAL, FrameBatch, SignalBatch
from agent.pb.segment_pb2 import FrameColumns, SignalColumns
from agent.vault import packing
from agent.vault import planes as p

EXACT_NS: Final = 1000  # up to this resolution the arrival order is always kept
MAX_LENGTH: Final = 64

# A group's key is one number: channel, id, flags, length from its highest bits to its lowest.
FRAME_KEY_BITS: Final = 8 + 29 + 6 + 7
SIGNAL_KEY_BITS: Final = 8 + 16
_CHANNEL, _ID, _FLAGS, _SIGNAL_CHANNEL = (np.uint64(shift) for shift in (42, 13, 7, 16))
# Where the same stand in the second 8 bytes of a row of a FrameBatch.
_META_CHANNEL, _META_FLAGS, _META_LENGTH = (np.uint64(shift) for shift in (32, 40, 48))
_ID_BITS, _BYTE = np.uint64((1 << 29) - 1), np.uint64(0xFF)
_FRAME_PLANES: Final = frozenset({11, 12, 13})  # numbers of the fields stamps, data, order
_SIGNAL_PLANES: Final = frozenset({9, 11, 12})  # stamps, values, order

Columns = list[tuple[bytes, list[int]]]  # each column of planes, and the bytes of its planes
_Bytes = npt.NDArray[np.uint8]


def encode_frames(
    batch: FrameBatch,
    channels: tuple[str, ...],
    *,
    resolution_ns: int = 1000,
    keep_order: bool = False,
) -> bytes:
    """Return the batch as one zstd frame of FrameColumns.

    Args:
        batch: rows in arrival order, 8 or 64 data bytes wide, at most 262,144.
        channels: names of the channel numbers in the batch.
        resolution_ns: stamps are floored to whole multiples of this; 1: exact.
        keep_order: keep the arrival order where coarse stamps lose it.

    Raises:
        ValueError: rows that are no frames, a channel without a name, too many rows.
    """
    return packing.compress(*frame_columns(batch, channels, resolution_ns, keep_order=keep_order))


def encode_signals(
    batch: SignalBatch,
    channels: tuple[str, ...],
    *,
    resolution_ns: int = 1000,
    keep_order: bool = False,
) -> bytes:
    """Return the samples as one zstd frame of SignalColumns.

    Args:
        batch: rows in arrival order, at most 262,144.
        channels: as for `encode_frames`.
        resolution_ns: as for `encode_frames`.
        keep_order: as for `encode_frames`.

    Raises:
        ValueError: a channel without a name, too many rows.
    """
    return packing.compress(*signal_columns(batch, channels, resolution_ns, keep_order=keep_order))


def frame_columns(
    batch: FrameBatch, channels: tuple[str, ...], resolution_ns: int, *, keep_order: bool
) -> tuple[bytes, Columns]:
    """Return FrameColumns before compression, and its planes: the same bytes with any zstd.

    Args:
        batch: as for `encode_frames`.
        channels: as for `encode_frames`.
        resolution_ns: as for `encode_frames`.
        keep_order: as for `encode_frames`.

    Raises:
        ValueError: as for `encode_frames`.
    """
    _check_sizes(len(batch), resolution_ns)
    if batch.dtype not in (FRAME, FRAME_FD):
        raise ValueError(f"no FrameBatch: {batch.dtype}")
    batch = np.ascontiguousarray(batch)
    words = batch.view("<u8").reshape(len(batch), batch.dtype.itemsize // 8)
    keys = _frame_keys(batch, np.ascontiguousarray(words[:, 1]))
    arrived = p.sorting(keys, FRAME_KEY_BITS)
    groups = p.Groups.of_keys(keys[arrived])
    heads = batch[arrived[groups.starts]]
    names, channel = _renumber(heads["channel"], channels)
    timing = _timing(batch["timestamp_ns"], arrived, groups, resolution_ns, keep_order)
    data, sizes = _code_data(
        words[:, 2:], arrived, groups, _stored(heads["flags"], heads["length"])
    )
    message = FrameColumns(
        origin_ns=timing.stamps.origin,
        resolution_ns=timing.stamps.resolution_ns,
        channels=names,
        channel=channel,
        id=heads["arbitration_id"].tolist(),
        flags=heads["flags"].tolist(),
        length=heads["length"].tolist(),
        rows=groups.rows.tolist(),
        period=timing.stamps.period.tolist(),
        stamp_width=timing.stamps.width,
        stamps=timing.stamps.planes,
        data=data,
        order=timing.order,
    )
    columns = [*_planes(len(batch), timing.stamps.planes), (data, sizes)]
    columns += _planes(len(batch), timing.order)
    return message.SerializeToString(deterministic=True), columns


def signal_columns(
    batch: SignalBatch, channels: tuple[str, ...], resolution_ns: int, *, keep_order: bool
) -> tuple[bytes, Columns]:
    """Return SignalColumns before compression, and its planes: the same bytes with any zstd.

    Args:
        batch: as for `encode_signals`.
        channels: as for `encode_frames`.
        resolution_ns: as for `encode_frames`.
        keep_order: as for `encode_frames`.

    Raises:
        ValueError: as for `encode_signals`.
    """
    _check_sizes(len(batch), resolution_ns)
    keys = (batch["channel"].astype(np.uint64) << _SIGNAL_CHANNEL) | batch["signal"]
    arrived = p.sorting(keys, SIGNAL_KEY_BITS)
    groups = p.Groups.of_keys(keys[arrived])
    heads = batch[arrived[groups.starts]]
    names, channel = _renumber(heads["channel"], channels)
    timing = _timing(batch["timestamp_ns"], arrived, groups, resolution_ns, keep_order)
    raw = batch["raw"][arrived].view(np.uint64)
    width, values = p.split(p.zigzag(p.differences(raw, groups)))
    message = SignalColumns(
        origin_ns=timing.stamps.origin,
        resolution_ns=timing.stamps.resolution_ns,
        channels=names,
        channel=channel,
        signal=heads["signal"].tolist(),
        rows=groups.rows.tolist(),
        period=timing.stamps.period.tolist(),
        stamp_width=timing.stamps.width,
        stamps=timing.stamps.planes,
        value_width=width,
        values=values,
        order=timing.order,
    )
    columns = _planes(len(batch), timing.stamps.planes, values, timing.order)
    return message.SerializeToString(deterministic=True), columns


def decode_frames(data: bytes) -> tuple[FrameBatch, tuple[str, ...]]:
    """Return the frames in arrival order and the channel names by number.

    Args:
        data: what `encode_frames` returned.

    Raises:
        SealError: anything else, or more than 262,144 rows or 32 MiB.
    """
    message = FrameColumns()
    groups = packing.parse(message, data, _FRAME_PLANES)
    count = len(groups.rows)
    channel = p.numbers(message.channel, count, len(message.channels), "channel")
    ids = p.numbers(message.id, count, 1 << 29, "id")
    flags = p.numbers(message.flags, count, 1 << 6, "flags")
    length = p.numbers(message.length, count, MAX_LENGTH + 1, "length")
    _check_ascending((channel << _CHANNEL) | (ids << _ID) | (flags << _FLAGS) | length)
    grid = _decode_grid(message, groups)
    dtype = FRAME_FD if count and int(length.max()) > FRAME["data"].shape[0] else FRAME
    stored = _stored(flags.astype(np.uint8), length.astype(np.uint8))
    cells = _decode_data(message.data, groups, stored, dtype["data"].shape[0])
    kept = p.decode_order(message.order, grid)
    words = np.empty((len(grid), dtype.itemsize // 8), "<u8")
    words[:, 0] = grid.view(np.uint64)[kept]
    heads = np.zeros(count, FRAME)
    for name, column in zip(
        ("channel", "arbitration_id", "flags", "length"), (channel, ids, flags, length), strict=True
    ):
        heads[name] = column
    words[:, 1] = np.repeat(heads.view("<u8").reshape(count, 3)[:, 1], groups.rows)[kept]
    words[:, 2:] = cells.view("<u8")[kept]
    return words.reshape(-1).view(dtype), tuple(message.channels)


def decode_signals(data: bytes) -> tuple[SignalBatch, tuple[str, ...]]:
    """Return the samples in arrival order and the channel names by number.

    Args:
        data: what `encode_signals` returned.

    Raises:
        SealError: anything else, or more than 262,144 rows or 32 MiB.
    """
    message = SignalColumns()
    groups = packing.parse(message, data, _SIGNAL_PLANES)
    count = len(groups.rows)
    channel = p.numbers(message.channel, count, len(message.channels), "channel")
    signal = p.numbers(message.signal, count, 1 << 16, "signal")
    _check_ascending((channel << _SIGNAL_CHANNEL) | signal)
    grid = _decode_grid(message, groups)
    coded = p.join(message.values, message.value_width, groups.total, "values")
    raw = p.sums(p.unzigzag(coded), groups).view(np.int64)
    kept = p.decode_order(message.order, grid)
    batch = np.zeros(len(grid), SIGNAL)
    batch["timestamp_ns"] = grid[kept]
    batch["raw"] = raw[kept]
    batch["channel"] = np.repeat(channel, groups.rows)[kept]
    batch["signal"] = np.repeat(signal, groups.rows)[kept]
    return batch, tuple(message.channels)


@dataclass(frozen=True, slots=True)
class _Timing:
    stamps: p.Stamps
    order: bytes


def _timing(
    timestamp_ns: p.Index, arrived: p.Index, groups: p.Groups, resolution_ns: int, keep: bool
) -> _Timing:
    grid = p.Grid.of(np.ascontiguousarray(timestamp_ns), resolution_ns)
    order = p.code_order(grid, arrived) if keep or resolution_ns <= EXACT_NS else b""
    return _Timing(p.code_stamps(grid, arrived, groups), order)


def _decode_grid(message: FrameColumns | SignalColumns, groups: p.Groups) -> p.Index:
    period = p.numbers(message.period, len(groups.rows), 1 << 64, "period")
    stamps = p.Stamps(
        message.origin_ns, message.resolution_ns, period, message.stamp_width, message.stamps
    )
    return p.decode_stamps(stamps, groups)


def _code_data(
    cells: p.U64, arrived: p.Index, groups: p.Groups, stored: _Bytes
) -> tuple[bytes, list[int]]:
    """Return the data planes of grouped rows, and the bytes of each plane."""
    longest = int(stored.max()) if len(stored) else 0
    data = np.take(cells, arrived, axis=0).view(np.uint8)
    grown = data.copy()
    grown[1:] -= data[:-1]
    grown[groups.starts] = data[groups.starts]
    planes = np.ascontiguousarray(grown[:, :longest].T)
    if bool(np.all(stored == longest)):
        return planes.tobytes(), [len(arrived)] * longest
    lengths = np.repeat(stored, groups.rows)
    parts = [plane[lengths > place].tobytes() for place, plane in enumerate(planes)]
    return b"".join(parts), [len(part) for part in parts]


def _decode_data(planes: bytes, groups: p.Groups, stored: _Bytes, width: int) -> _Bytes:
    """Return the data of grouped rows, (rows, width), zero beyond their length."""
    if len(planes) != int(stored.astype(np.int64) @ groups.rows):
        raise p.damaged(f"{len(planes)} bytes of data do not fit the lengths")
    longest = int(stored.max()) if len(stored) else 0
    grown = np.zeros((longest, groups.total), np.uint8)
    source, used = np.frombuffer(planes, np.uint8), 0
    for place, plane in enumerate(grown):
        held = stored > place
        size = int(groups.rows[held].sum())
        where = slice(None) if held.all() else np.repeat(held, groups.rows)
        plane[where] = source[used : used + size]
        used += size
    firsts = grown[:, groups.starts]
    np.cumsum(grown, axis=1, dtype=np.uint8, out=grown)  # in place: it may be 64 MiB
    grown -= np.repeat(grown[:, groups.starts] - firsts, groups.rows, axis=1)
    cells = np.zeros((groups.total, width), np.uint8)
    cells[:, :longest] = grown.T
    return cells


def _stored(flags: _Bytes, length: _Bytes) -> _Bytes:
    """Return the data bytes that frames have: a remote frame's length is what it asks for."""
    return np.where(flags & np.uint8(REMOTE), np.uint8(0), length)


def _renumber(used: _Bytes, channels: tuple[str, ...]) -> tuple[list[str], list[int]]:
    """Return the names of the channels that occur, and each group's place among them."""
    occurs = np.zeros(256, np.bool_)
    occurs[used] = True
    numbers: list[int] = np.flatnonzero(occurs).tolist()
    if numbers and numbers[-1] >= len(channels):
        raise ValueError(f"channel {numbers[-1]} has no name")
    names = [channels[number] for number in numbers]
    if len(set(names)) < len(names):
        raise ValueError(f"a channel named twice: {names}")
    places = np.cumsum(occurs)[used] - 1
    return names, places.tolist()


def _planes(rows: int, *columns: bytes) -> Columns:
    return [(column, [rows] * (len(column) // max(rows, 1))) for column in columns]


def _check_sizes(rows: int, resolution_ns: int) -> None:
    if rows > p.MAX_ROWS:
        raise ValueError(f"{rows} rows: a segment holds at most {p.MAX_ROWS}")
    if not 1 <= resolution_ns <= p.MAX_RESOLUTION_NS:
        raise ValueError(f"a resolution of {resolution_ns} ns: 1 to {p.MAX_RESOLUTION_NS}")


def _frame_keys(batch: FrameBatch, meta: p.U64) -> p.U64:
    """Return the key of each row, from the second 8 bytes of its row: id, channel, flags, length.

    Raises:
        ValueError: a field with more bits than the key has for it.
    """
    if len(meta):
        most = int(np.bitwise_or.reduce(meta))
        if most & 0x1FFF_FFFF != most & 0xFFFF_FFFF or (most >> 40) & 0xC0:
            raise ValueError("a frame with more than 29 bits of id or 6 of flags")
        if int(batch["length"].max()) > batch.dtype["data"].shape[0]:
            raise ValueError("a frame longer than its batch is wide")
    keys: p.U64 = (meta & _ID_BITS) << _ID
    keys |= (meta >> _META_CHANNEL & _BYTE) << _CHANNEL
    keys |= (meta >> _META_FLAGS & _BYTE) << _FLAGS
    keys |= meta >> _META_LENGTH & _BYTE
    return keys


def _check_ascending(keys: p.U64) -> None:
    if not bool(np.all(keys[1:] > keys[:-1])):
        raise p.damaged("groups that do not ascend")
