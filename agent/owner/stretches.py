"""Stretches of time: (begin, end) in ns since the Unix epoch, end exclusive. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Stretch(NamedTuple):
    """From `begin_ns` until just before `end_ns`."""

    begin_ns: int
    end_ns: int


Stretches = tuple[Stretch, ...]  # in order, apart from each other, none empty


def joined(some: Iterable[tuple[int, int]]) -> Stretches:
    """Return the time that is in any of some stretches, which may overlap and be empty."""
    found: list[Stretch] = []
    for begin, end in sorted(some):
        if begin >= end:
            continue
        if found and begin <= found[-1].end_ns:
            found[-1] = Stretch(found[-1].begin_ns, max(found[-1].end_ns, end))
        else:
            found.append(Stretch(begin, end))
    return tuple(found)


def common(one: Stretches, other: Stretches) -> Stretches:
    """Return the time that is in both."""
    return joined(
        (max(a.begin_ns, b.begin_ns), min(a.end_ns, b.end_ns)) for a in one for b in other
    )


def without(one: Stretches, other: Stretches) -> Stretches:
    """Return the time that is in the first and not in the other."""
    left = list(one)
    for cut in other:
        left = [
            piece
            for begin, end in left
            for piece in (
                Stretch(begin, min(end, cut.begin_ns)), Stretch(max(begin, cut.end_ns), end)
            )
            if piece.begin_ns < piece.end_ns
        ]  # fmt: skip
    return tuple(left)


def total_ns(some: Stretches) -> int:
    """Return how long they are together."""
    return sum(end - begin for begin, end in some)
