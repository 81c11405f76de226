"""Which signals there are in opened rows, and how often: samples, and fields of raw frames. Pure.

A signal is in a raw frame if its place is: the frame is long enough, and the multiplexers have its
value. So what is counted is what a decoder finds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from agent.frames import ERROR, EXTENDED, FRAME, REMOTE, FrameBatch, SignalBatch
from agent.policy.model import SignalLayout, last_bit
from agent.policy.wants import ALWAYS, NOBODY, Sampler, Want

CHUNK_ROWS: Final = 1 << 19
_WIDE: Final = np.uint32(1 << 31)  # beside a 29-bit id

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Seen:
    """How often a signal was there.

    Attributes:
        count: samples.
        first_ns, last_ns: stamps of the earliest and the latest.
        gap_ns: longest time from one to the next.
    """

    count: int
    first_ns: int
    last_ns: int
    gap_ns: int

    @property
    def rate_hz(self) -> float:
        """Samples a second between the first and the last; 0 if they tell no rate."""
        span_ns = self.last_ns - self.first_ns
        return (self.count - 1) * 1e9 / span_ns if span_ns > 0 else 0.0


def seen(*sources: Iterable[Ints]) -> Seen | None:
    """Return how often something was there; None: never.

    Args:
        sources: stamps in any order, by where they were found. One value can stand in several: in a
            raw frame, as a sample of it, in a record. So the source with the most counts.
    """
    pieces = [[one for one in source if len(one)] for source in sources]
    everything = [one for some in pieces for one in some]
    if not everything:
        return None
    stamps = np.sort(np.concatenate(everything))
    gap = int(np.diff(stamps).max()) if len(stamps) > 1 else 0
    count = max(sum(map(len, some)) for some in pieces)
    return Seen(count, int(stamps[0]), int(stamps[-1]), gap)


def by_signal(batches: Sequence[SignalBatch]) -> dict[int, list[Ints]]:
    """Return the stamps of samples by the number of their signal."""
    found: dict[int, list[Ints]] = {}
    for batch in batches:
        for number in np.unique(batch["signal"]).tolist():
            found.setdefault(number, []).append(batch["timestamp_ns"][batch["signal"] == number])
    return found


class Carriers:
    """Raw frames, to be asked which signals they carry.

    Args:
        lanes: the frames of each lane, in any order. What a rule and the recorder both keep is on
            two, and may have stamps of other precision there.
    """

    def __init__(self, *lanes: FrameBatch) -> None:
        self._lanes = [_Lane(frames) for frames in lanes]

    def stamps(self, layout: SignalLayout) -> list[list[Ints]]:
        """Return the stamps of the frames that carry a signal, by lane."""
        return [lane.stamps(layout) for lane in self._lanes]

    def samples(self, layouts: Mapping[int, SignalLayout]) -> SignalBatch:
        """Return the samples of some signals of all lanes, numbered as they are given."""
        found = [lane.samples(layouts) for lane in self._lanes]
        return np.concatenate(found) if found else decode(np.zeros(0, FRAME), layouts)


class _Lane:
    """The frames of one lane, sorted by their ids.

    Args:
        frames: in any order.
    """

    def __init__(self, frames: FrameBatch) -> None:
        flags = frames["flags"]
        frames = frames[(flags & (ERROR | REMOTE)) == 0] if flags.any() else frames
        ids = frames["arbitration_id"] | np.where(frames["flags"] & EXTENDED, _WIDE, np.uint32(0))
        order = np.argsort(ids, kind="stable")
        self._frames, self._order = frames, order
        self._ids, starts = np.unique(ids[order], return_index=True)
        self._bounds: list[int] = [*starts.tolist(), len(frames)]
        self._least = (
            np.minimum.reduceat(frames["length"][order], starts) if len(starts) else np.zeros(0)
        )

    def stamps(self, layout: SignalLayout) -> list[Ints]:
        """Return the stamps of the frames that carry a signal."""
        found = []
        for at in self._places(layout):
            rows = self._order[self._bounds[at] : self._bounds[at + 1]]
            need = last_bit(layout.start, layout.bits, big_endian=layout.big_endian)
            if not layout.mux and int(self._least[at]) * 8 >= need:
                found.append(self._frames["timestamp_ns"][rows])
            else:
                samples = decode(self._frames[rows], {0: layout})
                found.append(samples["timestamp_ns"])
        return found

    def samples(self, layouts: Mapping[int, SignalLayout]) -> SignalBatch:
        """Return the samples of some signals, numbered as they are given, in order of arrival."""
        places = {at for layout in layouts.values() for at in self._places(layout)}
        rows = [self._order[self._bounds[at] : self._bounds[at + 1]] for at in places]
        if not rows:
            return decode(self._frames[:0], layouts)
        return decode(self._frames[np.sort(np.concatenate(rows))], layouts)

    def _places(self, layout: SignalLayout) -> list[int]:
        mask = np.uint32(~layout.free_bits & 0xFFFF_FFFF)
        wide = _WIDE if layout.extended else np.uint32(0)
        wanted = np.uint32(layout.arbitration_id) | wide
        if not layout.free_bits:
            at = int(np.searchsorted(self._ids, wanted))
            return [at] if at < len(self._ids) and self._ids[at] == wanted else []
        hits: list[int] = np.flatnonzero((self._ids & mask) == wanted).tolist()
        return hits


def decode(frames: FrameBatch, layouts: Mapping[int, SignalLayout]) -> SignalBatch:
    """Return every sample of some signals that is in frames, in the order of the frames.

    Args:
        frames: of any buses.
        layouts: by the number that the samples are to have, below 65,536.
    """
    numbers = list(layouts)
    wants = [Want(0, NOBODY, at, number, "*", ALWAYS) for at, number in enumerate(numbers)]
    sampler = Sampler([layouts[number] for number in numbers], wants, 1)
    sampler.prepare((), 256)
    pieces = [
        sampler.take(frames[start : start + CHUNK_ROWS])[0]
        for start in range(0, max(1, len(frames)), CHUNK_ROWS)
    ]
    return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
