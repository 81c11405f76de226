"""Where every frame of a car has gone: into segments of the region, and into those it did not get.

One bus and one rule set: a segment's frames follow each other as they did on the bus, and so do
the segments in the ledger. So what is missing lies between two segments that came, and nothing but
a segment between those two explains it, however long the machine took to seal it.

Moments are compared by the car's own clocks. The time of an entry is the one that the car trusts,
the region's: the clock that stamps frames may be some ten milliseconds off.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

from agent.evidence.opening import Opened, open_segments
from agent.evidence.selection import Request, find
from agent.pb import ledger_pb2
from agent.pb.sealed_pb2 import ROUTINE
from agent.station.source import StoreSource
from agent.station.store import Store
from agent.vault import intact, keys
from tests.vehicle.car import Car
from tests.vehicle.disk import Seen
from tests.vehicle.power import stamp

RANDOM = 64  # bytes of a frame that nothing makes smaller: those of `inside/flood.py`


@dataclass(frozen=True, slots=True)
class Sealed:
    """A routine segment of the ledger.

    Attributes:
        at_s: when its entry was written, in seconds since the boot.
        size: bytes of its body.
        lines: its frames as lines of `candump -L`; None: the region did not get its body.
    """

    at_s: float
    size: int
    lines: tuple[str, ...] | None


def sealed(car: Car) -> list[Sealed]:
    """Return the routine segments of a car in the order of its ledgers, each opened by itself.

    Every body that the region has is the one that its entry names, and every entry its leaf.
    """
    folder = car.region.region
    private = (folder / "recipient.key").read_bytes()
    privates = {keys.kid(keys.public_of(private)): private}
    request, segments = Request(car.region.vehicle, lanes=(ROUTINE,)), []
    with closing(Store(folder / "station.db")) as store:
        source = StoreSource(store, car.region.vehicle)
        for found in find(source, request):
            stored = source.stored(found.log, found.index)
            assert intact.is_leaf(stored.entry, stored.leaf)
            entry = ledger_pb2.Entry.FromString(stored.entry)
            lines = None
            if stored.body is not None:
                assert intact.is_intact(stored.entry, stored.body), f"entry {found.index}"
                lines = _lines(open_segments(source, [found], request, privates))
            segments.append(Sealed(entry.at.boottime_ns / 1e9, entry.segment.bytes, lines))
    return segments


def hollow(car: Car) -> int:
    """Count the routine segments whose body the region did not get."""
    return sum(segment.lines is None for segment in sealed(car))


def _lines(opened: Opened) -> tuple[str, ...]:
    assert opened.problems == []
    return tuple(b"".join(opened.candump()).decode("ascii").splitlines())


def unexplained(seen: Seen, segments: Sequence[Sealed]) -> int:
    """Count the frames of the bus that are in no segment; what came in one was on the bus.

    Args:
        seen: all frames.
        segments: as `sealed` returns them.
    """
    lines = seen.lines
    places = {line: at for at, line in enumerate(lines)}
    assert len(places) == len(lines)
    count, at, dropped = 0, 0, list[Sealed]()
    for segment in segments:
        if segment.lines is None:
            dropped.append(segment)
            continue
        for line in segment.lines:
            assert places.get(line, -1) >= at, f"the bus has not seen, or not then: {line}"
            count += _untold(lines[at : places[line]], dropped, seen.booted_s)
            at, dropped = places[line] + 1, []
    return count + _untold(lines[at:], dropped, seen.booted_s)


def _untold(lacking: Sequence[str], dropped: Sequence[Sealed], booted_s: float) -> int:
    """Count the frames of a stretch that cannot have been in the segments that were dropped there.

    Not what came after the last of them was sealed; and not more than their bytes could hold.
    """
    end_s = booted_s + dropped[-1].at_s if dropped else 0.0
    inside = [line for line in lacking if stamp(line) <= end_s]
    random = sum(len(line.partition("##")[2]) == 1 + 2 * RANDOM for line in inside)
    held = sum(one.size for one in dropped) // RANDOM
    return len(lacking) - len(inside) + max(0, random - held)
