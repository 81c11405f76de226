"""The order in which rows of many segments arrived in the car. Pure.

- Inside a segment rows are in arrival order already, and stay so.
- A segment that was opened when another had been closed holds what came later: its rows come later,
  whatever their stamps say. So a log with stamps out of order comes back as it was played, and a
  clock that was set back reorders nothing.
- Segments that were open side by side (of rule sets that flush apart) are merged by stamp.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Hashable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class Span(NamedTuple):
    """When a segment was open.

    Attributes:
        stream: spans are comparable within one stream: one log, lane and boot of the computer.
        opened_ns: CLOCK_BOOTTIME when its first row came in.
        closed_ns: CLOCK_BOOTTIME when it was closed.
        lane: sealed_pb2.Lane.
    """

    stream: Hashable
    opened_ns: int
    closed_ns: int
    lane: int = 0


def arrival_order(
    segments: list[tuple[Span, npt.NDArray[np.int64]]],
) -> npt.NDArray[np.intp]:
    """Return the order of arrival of all rows, by stamp where nothing else tells it.

    Args:
        segments: span and timestamp_ns of the rows of each, not empty; in ledger order, which is
            that of their closing.

    Returns:
        Indices into the concatenation of all rows.
    """
    if not segments:
        return np.zeros(0, np.intp)
    closed: dict[Hashable, list[int]] = {}
    highest: dict[Hashable, list[int]] = {}  # place of any row so far, beside each of `closed`
    places: list[npt.NDArray[np.int64]] = []
    for span, stamps in segments:
        ends = closed.setdefault(span.stream, [])
        tops = highest.setdefault(span.stream, [])
        place = np.maximum.accumulate(stamps)
        before = bisect_right(ends, span.opened_ns)
        if before:
            place = np.maximum(place, tops[before - 1])
        places.append(place)
        top = int(place[-1])
        ends.append(max(span.closed_ns, ends[-1]) if ends else span.closed_ns)
        tops.append(max(top, tops[-1]) if tops else top)
    return np.argsort(np.concatenate(places), kind="stable")
