"""How many frames and samples there are if each counts once that was kept on two lanes. Pure.

A rule and the recorder may both keep a frame, on lanes of their own, and with stamps of other
precision: nothing in a bundle says which is the copy of which. So it is counted per id and second:
of the lanes, the one that has most. Stamps are cut to a part of a second, so a copy is in the same
second. Where one lane has a frame that another lacks and the other way round within one second,
this counts too few; across seconds it is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

from agent.evidence.opening import Opened

SECOND_NS: Final = 10**9
_SPAN, _NARROW = 0xFFFF, 1 << 48  # seconds, and keys, that fit into one number
_Keys = npt.NDArray[np.uint64]
_Ints = npt.NDArray[np.int64]


def frames_once(opened: Opened) -> int:
    """Return how many frames were opened, each counted once."""
    lanes: dict[int, list[npt.NDArray[np.void]]] = {}
    for span, batch in opened.frames:
        lanes.setdefault(span.lane, []).append(batch)
    return _once(lanes, _frame_keys)


def samples_once(opened: Opened) -> int:
    """Return how many samples were opened, each counted once."""
    found = 0
    for name in opened.dictionaries:
        lanes: dict[int, list[npt.NDArray[np.void]]] = {}
        for span, its, batch in opened.samples:
            if its == name:
                lanes.setdefault(span.lane, []).append(batch)
        found += _once(lanes, _sample_keys)
    return found


def _frame_keys(rows: npt.NDArray[np.void]) -> _Keys:
    ids, channels, flags = (
        rows[name].astype(np.uint64) for name in ("arbitration_id", "channel", "flags")
    )
    keys: _Keys = ids | channels << np.uint64(32) | flags << np.uint64(40)
    return keys


def _sample_keys(rows: npt.NDArray[np.void]) -> _Keys:
    signals, channels = (rows[name].astype(np.uint64) for name in ("signal", "channel"))
    keys: _Keys = signals | channels << np.uint64(16)
    return keys


def _once(
    lanes: Mapping[int, Iterable[npt.NDArray[np.void]]],
    keys_of: Callable[[npt.NDArray[np.void]], _Keys],
) -> int:
    """Return the rows, of each key and second those of the lane that has most."""
    if len(lanes) < 2:
        return sum(len(rows) for batches in lanes.values() for rows in batches)
    counted = [_counted(batches, keys_of) for batches in lanes.values()]
    places, counts = (np.concatenate(parts) for parts in zip(*counted, strict=True))
    _, group = np.unique(places, return_inverse=True)
    most = np.zeros(int(group.max()) + 1, np.int64)
    np.maximum.at(most, group, counts)
    return int(most.sum())


def _counted(
    batches: Iterable[npt.NDArray[np.void]], keys_of: Callable[[npt.NDArray[np.void]], _Keys]
) -> tuple[npt.NDArray[np.void], _Ints]:
    """Return (key, second) and how many rows of it there are."""
    places, counts = [], []
    for rows in batches:
        keys, seconds = keys_of(rows), rows["timestamp_ns"] // SECOND_NS
        place = np.empty(len(rows), [("key", np.uint64), ("second", np.int64)])
        place["key"], place["second"] = keys, seconds
        least = seconds.min()
        if seconds.max() - least <= _SPAN and keys.max() < _NARROW:
            # The same in one number: sorted in a tenth of the time.
            words = keys << np.uint64(16) | (seconds - least).astype(np.uint64)
            _, at, count = np.unique(words, return_index=True, return_counts=True)
            found = place[at]
        else:
            found, count = np.unique(place, return_counts=True)
        places.append(found)
        counts.append(count)
    whole, group = np.unique(np.concatenate(places), return_inverse=True)
    return whole, np.bincount(group, np.concatenate(counts)).astype(np.int64)
