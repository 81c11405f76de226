"""Byte planes and differences inside groups: what the columns of frames and of signals share.

- Rows are sorted into groups; inside a group they keep their arrival order.
- A number is coded as its zigzag, then cut into byte planes, least significant byte first: the high
  bytes of small numbers are all alike and cost next to nothing.
- Stamps: the place on a grid of `resolution_ns`, counted from the origin. Inside a group, the first
  as is, then the growth since the row before, less the group's mean growth (its `period`).
- Order: a stable sort of the grouped rows by stamp is the expected arrival order. What differs from
  it is coded as how far each row stands from its expected place, which is mostly 0.
- All arithmetic is modulo 2^64, so no stamp and no value is too large.

Does not know what a frame or a signal is. Pure. Source: proto/FORMAT.md, "Columns".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from agent.errors import SealError

U64 = npt.NDArray[np.uint64]
Index = npt.NDArray[np.int64]

MAX_ROWS: Final = 1 << 18  # 16 times the largest segment
MAX_RESOLUTION_NS: Final = (1 << 32) - 1  # of the field; 4.29 s

_ONE: Final = np.uint64(1)
_LOWEST: Final = -(1 << 63)
_SAMPLE: Final = 64  # stamps that show almost always that 1 is the only common divisor
_MODULUS: Final = 1 << 64


@dataclass(frozen=True, slots=True)
class Groups:
    """How rows fall into groups.

    Attributes:
        starts: row at which each group begins, ascending from 0.
        rows: number of rows of each group, >= 1.
    """

    starts: Index
    rows: Index

    @property
    def total(self) -> int:
        """Number of rows of all groups."""
        return int(self.rows.sum())

    @classmethod
    def of_keys(cls, keys: U64) -> Groups:
        """Return the runs of equal values in sorted keys."""
        fresh = np.ones(len(keys) + 1, np.bool_)  # the end counts as one more begin
        np.not_equal(keys[1:], keys[:-1], out=fresh[1:-1])
        bounds = np.flatnonzero(fresh) if len(keys) else np.zeros(1, np.int64)
        return cls(bounds[:-1], bounds[1:] - bounds[:-1])

    @classmethod
    def of_rows(cls, rows: Index) -> Groups:
        """Return the groups with these numbers of rows."""
        return cls(np.cumsum(rows) - rows, rows)


def sorting(keys: U64, key_bits: int) -> Index:
    """Return the stable sorting permutation of the keys.

    Sorting (key, row) as one number takes half the time of a stable argsort; it needs the bits.

    Args:
        keys: one a row.
        key_bits: no key is 2^key_bits or more.
    """
    row_bits = max(len(keys) - 1, 0).bit_length()
    if key_bits + row_bits > 64:
        return np.argsort(keys, kind="stable")
    packed = (keys << np.uint64(row_bits)) | np.arange(len(keys), dtype=np.uint64)
    packed.sort()
    return (packed & np.uint64((1 << row_bits) - 1)).view(np.int64)


def zigzag(values: U64) -> U64:
    """Return 0, 1, 2, 3, ... for 0, -1, 1, -2, ... in two's complement."""
    return (values << _ONE) ^ (values.view(np.int64) >> 63).view(np.uint64)


def unzigzag(values: U64) -> U64:
    """Return what `zigzag` made these from."""
    return (values >> _ONE) ^ -(values & _ONE)


def split(values: U64) -> tuple[int, bytes]:
    """Return (bytes a value, byte planes), with as few bytes as hold the largest value."""
    largest = int(values.max()) if len(values) else 0
    width = max(1, (largest.bit_length() + 7) // 8)
    table = values.astype("<u8", copy=False).view(np.uint8).reshape(-1, 8)
    return width, table[:, :width].T.tobytes()


def join(planes: bytes, width: int, rows: int, what: str) -> U64:
    """Return the values behind byte planes.

    Raises:
        SealError: the width is impossible or does not fit the number of planes.
    """
    if not 1 <= width <= 8 or len(planes) != width * rows:
        raise damaged(f"{len(planes)} bytes of {what}, {width} wide, for {rows} rows")
    table = np.zeros((rows, 8), np.uint8)
    table[:, :width] = np.frombuffer(planes, np.uint8).reshape(width, rows).T
    return table.view("<u8").reshape(rows).astype(np.uint64, copy=False)


def differences(values: U64, groups: Groups) -> U64:
    """Return each value less the one before it in its group; the first of a group as it is."""
    grown = values.copy()
    grown[1:] -= values[:-1]
    grown[groups.starts] = values[groups.starts]
    return grown


def sums(grown: U64, groups: Groups) -> U64:
    """Return the values behind `differences`."""
    total = np.cumsum(grown, dtype=np.uint64)
    before = total[groups.starts] - grown[groups.starts]
    return total - np.repeat(before, groups.rows)


@dataclass(frozen=True, slots=True)
class Grid:
    """Stamps as places on a grid.

    Attributes:
        base_ns: where place 0 is; a multiple of the resolution.
        resolution_ns: from one place to the next.
        places: of each row; a stamp is rounded down to its place.
    """

    base_ns: int
    resolution_ns: int
    places: U64

    @classmethod
    def of(cls, timestamp_ns: Index, resolution_ns: int) -> Grid:
        """Put stamps on the grid; what is below its lowest place in 64 bits is put there.

        Where all of them allow a coarser grid, as those of many interfaces and recorded logs do, it
        is taken: nothing is lost, and the places have fewer bits.
        """
        lowest = -(-_LOWEST // resolution_ns) * resolution_ns
        earliest = int(timestamp_ns.min()) if len(timestamp_ns) else 0
        if earliest < lowest:
            timestamp_ns = np.maximum(timestamp_ns, lowest)
        base = max(earliest // resolution_ns * resolution_ns, lowest)
        away = timestamp_ns.view(np.uint64) - np.uint64(base % _MODULUS)
        places = away // np.uint64(resolution_ns)  # the earliest is 0
        common = int(np.gcd.reduce(places[:_SAMPLE]))
        if common != 1:
            common = int(np.gcd.reduce(places))
        if 1 < common <= MAX_RESOLUTION_NS // resolution_ns:
            return cls(base, resolution_ns * common, places // np.uint64(common))
        return cls(base, resolution_ns, places)


@dataclass(frozen=True, slots=True)
class Stamps:
    """Coded time stamps of grouped rows: the fields of the same names in segment.proto."""

    origin: int
    resolution_ns: int
    period: U64
    width: int
    planes: bytes


def code_stamps(grid: Grid, arrived: Index, groups: Groups) -> Stamps:
    """Code stamps, counted from that of the row which arrived first.

    Args:
        grid: the stamps in arrival order.
        arrived: for each grouped row, its place in arrival order.
        groups: of the rows.
    """
    first = grid.places[0] if len(grid.places) else np.uint64(0)
    places = grid.places[arrived] - first
    ends = groups.starts + groups.rows - 1
    firsts = places[groups.starts]
    span = (places[ends] - firsts).view(np.int64)
    period = np.maximum(span // np.maximum(groups.rows - 1, 1), 0).view(np.uint64)
    grown = differences(places, groups) - np.repeat(period, groups.rows)
    grown[groups.starts] = firsts
    width, planes = split(zigzag(grown))
    origin = (grid.base_ns + int(first) * grid.resolution_ns) % _MODULUS
    return Stamps(origin, grid.resolution_ns, period, width, planes)


def decode_stamps(stamps: Stamps, groups: Groups) -> Index:
    """Return the stamps of the grouped rows, ns since the Unix epoch.

    Raises:
        SealError: malformed planes or an impossible resolution.
    """
    if stamps.resolution_ns < 1:
        raise damaged("a resolution of 0 ns")
    grown = unzigzag(join(stamps.planes, stamps.width, groups.total, "stamps"))
    firsts = grown[groups.starts]
    grown += np.repeat(stamps.period, groups.rows)
    grown[groups.starts] = firsts
    places = sums(grown, groups)
    return (places * np.uint64(stamps.resolution_ns) + np.uint64(stamps.origin)).view(np.int64)


def code_order(grid: Grid, arrived: Index) -> bytes:
    """Return the order column; empty if a stable sort by stamp gives the arrival order.

    Args:
        grid: the stamps in arrival order.
        arrived: for each grouped row, its place in arrival order.
    """
    rows = np.arange(len(arrived))
    grouped = np.empty_like(arrived)
    grouped[arrived] = rows
    stamp = grid.places
    in_order = stamp[1:] > stamp[:-1]
    if not in_order.all():
        in_order |= (stamp[1:] == stamp[:-1]) & (grouped[1:] > grouped[:-1])
    if in_order.all():
        return b""
    expected = np.empty_like(arrived)
    expected[arrived[np.argsort(stamp[arrived], kind="stable")]] = rows
    return split(zigzag((expected - rows).view(np.uint64)))[1]


def decode_order(order: bytes, grid_ns: Index) -> Index:
    """Return, for each place in arrival order, the grouped row that stands there.

    Raises:
        SealError: the column is no permutation of the rows.
    """
    by_stamp = np.argsort(grid_ns, kind="stable")
    rows = len(grid_ns)
    if not order:
        return by_stamp
    if not rows or len(order) % rows or len(order) // rows > 4:
        raise damaged(f"an order of {len(order)} bytes for {rows} rows")
    away = unzigzag(join(order, len(order) // rows, rows, "order")).view(np.int64)
    place = away + np.arange(rows)
    if place.min() < 0 or place.max() >= rows or np.bincount(place, minlength=rows).max() > 1:
        raise damaged("an order that names a row twice")
    arrived: Index = by_stamp[place]
    return arrived


def numbers(values: Any, count: int, below: int, what: str) -> U64:
    """Return a repeated field of a message as an array.

    Args:
        values: the repeated field; Any, because its generated type is generic over the wire types.
        count: how many there must be.
        below: each is less than this.
        what: name of the field for the error.

    Raises:
        SealError: another number of them, or one too large.
    """
    if len(values) != count:
        raise damaged(f"{len(values)} values of {what} for {count} groups")
    array = np.fromiter(values, np.uint64, count)
    if count and int(array.max()) >= below:
        raise damaged(f"{what} {int(array.max())} out of range")
    return array


def damaged(why: str) -> SealError:
    """Return the error for columns that cannot be decoded."""
    return SealError(
        f"the columns of a segment are malformed: {why}",
        todo="keep the entry and check it with `inland verify`",
    )
