"""Conditions, evaluated while samples arrive: the meaning of `expression.py`'s language.

- A condition has a truth at its *instants*: the frames that hold a sample of a signal it names, in
  arrival order. Samples of one frame share stamp, channel and arbitration id, and their watch
  points rise; all of them count before the truth is found.
- t is the instant's stamp. One that is up to 1 s below the highest so far counts as the highest. A
  step further back, or more than 1 h ahead, forgets all that the condition remembers.
- A signal has the value of its last sample; unknown before the first and once it is older than
  120 s. Values are physical, float64. x / 0, NaN and infinity are unknown.
- What rests on something unknown is unknown, unless the rest decides it (Kleene's logic). A
  condition counts as true only if it is definitely true.
- `rate(x, W)`: (last value - value held at t - W) per second between their stamps; unknown without
  a sample at or before t - W, or if both have one stamp.
- `min`, `max`, `mean(x, W)`: of the samples with stamps in (t - W, t] and the value held at t - W;
  unknown without one at or before t - W, or if one of them is. `mean` is the arithmetic mean of the
  samples; of whole numbers up to 32 bits it is exact before it is scaled.
- `changed(x)`: the raw value differs from that of the sample before, however old that is. False at
  instants without a sample of x, unknown at its first.
- `C for D`: C is true, and was at every instant since one at or before t - D. See `windows.Run`.
- A label is the value, or any of the values, that the signal has under it.

How the stream is cut into batches of whole frames makes no difference. Conditions on the same
signals share their samples. A condition without new samples costs nothing.

Pure but for what it remembers. One thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import numpy as np

from agent.frames import SignalBatch
from agent.policy.clauses import Condition, SignalSelector
from agent.policy.expression import parse
from agent.policy.instants import NOTHING, Instants, samples_of
from agent.policy.meaning import Finding, for_all, meaning
from agent.policy.model import Policy, watch_points
from agent.policy.nodes import Window, walk
from agent.policy.physical import Ints
from agent.policy.truths import NO, YES, Bools, Run, Truths
from agent.policy.watching import Latest, Watched, Watching
from agent.policy.windows import Track

__all__ = ["Conditions", "Latest", "Truth"]

BACK_NS: Final = 10**9  # a step back up to this is out of order, beyond it a new clock
AHEAD_NS: Final = 3600 * 10**9


class Truth:
    """A condition at its instants in a batch.

    Args:
        instants: None: there are none.
        true: whether the condition is definitely true at each, or at all of them.
    """

    __slots__ = ("_instants", "_true")

    def __init__(self, instants: Instants | None = None, true: Bools | bool = False) -> None:
        self._instants, self._true = instants, true

    @property
    def never(self) -> bool:
        """Whether it is plain that the condition is true at none of them."""
        return self._true is False

    @property
    def always(self) -> bool:
        """Whether it is plain that the condition is true at all of them."""
        return self._true is True

    @property
    def at_last(self) -> bool:
        """Whether it is true at the last one, of which there is one."""
        return self._true if isinstance(self._true, bool) else bool(self._true[-1])

    @property
    def at_ns(self) -> Ints:
        """Stamp of each instant's frame, as it came."""
        return NOTHING if self._instants is None else self._instants.t

    @property
    def true(self) -> Bools:
        """Whether the condition is definitely true."""
        if isinstance(self._true, bool):
            return np.full(len(self.at_ns), self._true)
        return self._true

    @property
    def row(self) -> Ints:
        """Row of the batch: the last sample of the frame."""
        return NOTHING if self._instants is None else self._instants.rows


_NOTHING: Final = Truth()


class Conditions:
    """Some conditions of a policy.

    Args:
        conditions: each passed `check_condition`; its terms are watch points of the policy.
        policy: numbers the watch points.
    """

    def __init__(self, conditions: Sequence[Condition], policy: Policy) -> None:
        self._watching = Watching(policy)
        self._now = [False] * len(conditions)
        numbers = {selector: number for number, selector in enumerate(watch_points(policy))}
        named: dict[tuple[int, ...], list[tuple[int, Condition]]] = {}
        for at, condition in enumerate(conditions):
            points = {numbers[selector] for _, selector in condition.terms}
            named.setdefault(tuple(sorted(points)), []).append((at, condition))
        self._streams = [
            _Stream(points, some, numbers, policy) for points, some in named.items()
        ]  # fmt: skip

    def now(self, number: int) -> bool:
        """Return the last truth of a condition, by its place; false before its first instant."""
        return self._now[number]

    def update(self, watched: SignalBatch | Watched) -> list[Truth]:
        """Return the truth of each condition at its instants.

        Args:
            watched: samples of watch points, whole frames, in arrival order; put in order already
                if others look at them too.
        """
        truths = [_NOTHING] * len(self._now)
        if not len(watched):
            return truths
        with np.errstate(all="ignore"):  # what overflows or divides by zero is unknown
            batch = watched if isinstance(watched, Watched) else self._watching.batch(watched)
            for stream in self._streams:
                for number, truth in stream.update(batch):
                    truths[number] = truth
                    self._now[number] = truth.at_last
        return truths


class _Stream:
    """Conditions on the same signals: they have the same instants and forget at the same ones."""

    def __init__(
        self,
        points: tuple[int, ...],
        conditions: list[tuple[int, Condition]],
        numbers: dict[SignalSelector, int],
        policy: Policy,
    ) -> None:
        self._points = points
        self._last_ns: int | None = None
        selectors = watch_points(policy)
        nodes = [parse(condition.text) for _, condition in conditions]
        keep = dict.fromkeys(points, 0)
        for node, (_, condition) in zip(nodes, conditions, strict=True):
            terms = dict(condition.terms)
            for one in walk(node):
                if isinstance(one, Window):
                    point = numbers[terms[one.of.name]]
                    keep[point] = max(keep[point], one.over_ns)
        self._tracks: list[Track] = []
        for point in points:
            signal = selectors[point].signal
            bits = policy.layouts[signal].bits
            self._tracks.append(Track(policy.signals[signal], bits, keep[point]))
        self._runs: list[Run] = []
        self._find: list[tuple[int, Finding]] = []
        for node, (number, condition) in zip(nodes, conditions, strict=True):
            named = {
                name: (
                    self._tracks[points.index(numbers[selector])],
                    policy.signals[selector.signal],
                )
                for name, selector in condition.terms
            }
            self._find.append((number, meaning(node, named, self._runs)))

    def update(self, batch: Watched) -> list[tuple[int, Truth]]:
        """Return (number, truth) of the conditions; nothing without new samples."""
        instants = batch.instants(self._points)
        if instants is None:
            return []
        true = self._stretch(instants) if self._goes_on(instants, batch) else self._cut(instants)
        quiet = Truth(instants)  # one for all that are never true: the usual case
        return [
            (number, quiet if one is False else Truth(instants, one))
            for one, (number, _) in zip(true, self._find, strict=True)
        ]

    def _goes_on(self, instants: Instants, batch: Watched) -> bool:
        """Return whether the instants are in order, and nothing is to be forgotten."""
        first, last = instants.first_ns, instants.last_ns
        before = first if self._last_ns is None else self._last_ns
        if not batch.in_order or first < before or last - before > AHEAD_NS:
            return False
        self._last_ns = last
        return True

    def _stretch(self, instants: Instants) -> list[Bools | bool]:
        """Return where each condition is true; the stamps of the instants never fall."""
        for number, track in enumerate(self._tracks):
            track.take(instants, number)
        return [_sure(instants, finding.ask(instants)) for _, finding in self._find]

    def _cut(self, instants: Instants) -> list[Bools]:
        """Return the same for instants with any stamps: from clock to clock, each forgets."""
        t, resets = self._clock(instants.t.tolist())
        pieces = []
        for begin, end in pairwise(sorted({0, len(t)} | resets)):
            if begin in resets:
                self._forget()
            stretch = self._stretch(_piece(instants, t, begin, end))
            pieces.append([np.broadcast_to(one, end - begin) for one in stretch])
        return [np.concatenate(one) for one in zip(*pieces, strict=True)]

    def _clock(self, stamps: list[int]) -> tuple[Ints, set[int]]:
        """Return t of each instant, and the instants before which all is forgotten."""
        highest = stamps[0] if self._last_ns is None else self._last_ns
        t, resets = [], set()
        for at, stamp in enumerate(stamps):
            if not highest - BACK_NS <= stamp <= highest + AHEAD_NS:
                highest = stamp
                resets.add(at)
            highest = max(highest, stamp)
            t.append(highest)
        self._last_ns = highest
        return np.array(t, np.int64), resets

    def _forget(self) -> None:
        for track in self._tracks:
            track.forget()
        for run in self._runs:
            run.forget()


def _sure(instants: Instants, truth: Truths) -> Bools | bool:
    if truth is NO or truth is YES:
        return truth is YES
    return for_all(instants.t, *truth)[0]


def _piece(instants: Instants, t: Ints, begin: int, end: int) -> Instants:
    """Return some of the instants, by their new stamps."""
    stamps, samples, places = t[begin:end], [], []
    for number, one in enumerate(instants.samples):
        at = instants.at(number)
        first, last = (begin, end) if at is None else at.searchsorted((begin, end))
        here = np.arange(end - begin) if at is None else at[first:last] - begin
        samples.append(samples_of(stamps[here], one.raw[first:last], one.value[first:last]))
        places.append(here)
    return Instants(samples, lambda: (stamps, NOTHING, places))
