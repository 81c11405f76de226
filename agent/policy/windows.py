"""What a condition remembers: the recent samples of a signal, and (`truths.py`) what was true.

Everything is seen from *instants*: a stretch of them has stamps t[n] that never fall, and a sample
belongs to one of them. Numbers that are unknown are NaN.

Conditions are asked some times a second about few samples, so the number of numpy calls is what
counts, not what each of them does. Most conditions are far from true: so a track also tells the
*bounds* of its answers in a stretch, which decide most comparisons without looking at the answers.
Memory is bounded by what lies within the longest window.

Pure but for it.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from agent.policy.instants import (
    NO_SAMPLES,
    NOTHING,
    RAW,
    STAMP,
    VALUE,
    Instants,
    Samples,
    extremes,
)
from agent.policy.model import SIGNED, UNSIGNED, SignalInfo
from agent.policy.physical import Floats, Ints
from agent.policy.truths import Run, Truths

__all__ = ["FRESH_NS", "OPEN", "Bounds", "Run", "Track", "known"]

Bounds = tuple[float, float]  # least and most; NaN if something may be unknown

FRESH_NS: Final = 120 * 10**9  # older samples say nothing about now
EXACT_BITS: Final = 32  # sums of so wide whole numbers are exact, however many

PIECES: Final = 16  # of a track's past at most, before they become one
OPEN: Final[Bounds] = (math.nan, math.nan)
_NO_FLOATS: Final = np.zeros(0, np.float64)


def known(numbers: Floats) -> Floats:
    """Return numbers with infinity as NaN: neither says anything."""
    if math.isfinite(numbers.dot(numbers) if numbers.ndim else numbers):
        return numbers  # a sum of squares forgets neither, and is the cheapest look at all of them
    found: Floats = np.where(np.isfinite(numbers), numbers, np.nan)
    return found


class Track:
    """The samples of one signal.

    Args:
        info: the signal.
        bits: its width in the frame.
        keep_ns: longest window over it; 0: its last sample is enough.
    """

    def __init__(self, info: SignalInfo, bits: int, keep_ns: int) -> None:
        self._info, self._keep_ns = info, keep_ns
        self._exact = info.kind in (UNSIGNED, SIGNED) and bits <= EXACT_BITS
        self.forget()

    def forget(self) -> None:
        """Forget all samples."""
        self._stamp, self._value, self._raw = NOTHING, _NO_FLOATS, NOTHING  # the oldest
        self._oldest = OPEN
        self._later: list[Samples] = []  # after those, before the stretch
        self._before = self._new = NO_SAMPLES  # the last ones before the stretch, and those in it
        self._begin()

    def take(self, instants: Instants, number: int) -> None:
        """Go on by a stretch of instants; what is asked from now on is asked of it.

        Args:
            instants: their stamps are not below those of the stretch before.
            number: of the signal among their samples.
        """
        if self._new is not NO_SAMPLES:
            self._before = self._new
            if self._keep_ns:
                if self._columns or len(self._later) >= PIECES:
                    self._join(instants.first_ns - self._keep_ns)
                else:
                    self._later.append(self._new)
        self._instants, self._number, self._new = instants, number, instants.samples[number]
        self._begin()

    def _begin(self) -> None:
        """Forget what was found of the last stretch."""
        self._columns: dict[int, npt.NDArray[Any]] = {}
        self._answers: dict[tuple[str, int], Floats] = {}
        self._bounds: dict[tuple[str, int], Bounds] = {}

    def _join(self, from_ns: int) -> None:
        """Make one piece of all so far, and let go what no window reaches any more."""
        self._stamp, self._raw, self._value = map(self._joined, (STAMP, RAW, VALUE))
        cut = int(self._stamp.searchsorted(from_ns, side="right")) - 1
        if cut > 0:
            self._stamp, self._value = self._stamp[cut:], self._value[cut:]
            self._raw = self._raw[cut:]
        self._oldest = extremes(self._value)
        self._later = []

    def _past(self, column: int) -> list[npt.NDArray[Any]]:
        """Return the pieces of a column before the stretch."""
        if self._keep_ns:
            oldest = (self._stamp, self._raw, self._value)[column]
            return [oldest, *(one.column(column) for one in self._later)]
        return [self._before.column(column)[-1:]]

    def _at(self) -> Ints | None:
        """Return the instants at which it has samples, None: all."""
        return self._instants.at(self._number)

    def _is_held(self) -> bool:
        """Return whether the last sample before the stretch is fresh at its end: so are all."""
        before = self._before
        return before is not NO_SAMPLES and self._instants.last_ns - before.last_ns <= FRESH_NS

    def value(self) -> Floats:
        """Return the signal's value at each instant; one for all if it has no sample there."""
        if self._new is NO_SAMPLES and self._is_held():
            return self._before.value[-1]  # type: ignore[no-any-return]
        return self._new.value if self._at() is None else self._once("value", 0)

    def over(self, function: str, span_ns: int) -> Floats:
        """Return "rate", "min", "max" or "mean" over a window at each instant."""
        return self._once(function, span_ns)

    def bounds(self, function: str, span_ns: int) -> Bounds:
        """Return what all numbers of `value` (span 0) or `over` lie between in this stretch.

        They are what a look at pieces of the samples shows, and open where one may be unknown.
        """
        found = self._bounds.get((function, span_ns))
        if found is None:
            if function == "value":
                found = self._bounds_now()
            elif function == "rate":
                found = self._bounds_of_rate(span_ns)
            else:  # each of them lies between the samples that it is made of
                found = self._bounds_since(span_ns)
            self._bounds[function, span_ns] = found
        return found

    def _bounds_now(self) -> Bounds:
        new = self._new
        if self._instants.alone == self._number:
            return new.least, new.most
        if not self._is_held():
            return OPEN
        held = float(self._before.value[-1])
        if new is NO_SAMPLES:
            return held, held
        if math.isnan(held + new.least):
            return OPEN
        return min(held, new.least), max(held, new.most)

    def _bounds_since(self, span_ns: int) -> Bounds:
        """Return the bounds of all samples that windows of the stretch reach, or of more."""
        new, instants = self._new, self._instants
        from_ns = instants.first_ns - span_ns
        pieces = [] if new is NO_SAMPLES else [(new.least, new.most)]
        first_ns = instants.last_ns
        for one in reversed(self._later):
            pieces.append((one.least, one.most))
            first_ns = one.first_ns
            if first_ns <= from_ns:
                break
        if first_ns > from_ns and len(self._stamp):
            pieces.append(self._oldest)
            first_ns = int(self._stamp[0])
        if first_ns > from_ns or instants.last_ns - first_ns > FRESH_NS:
            return OPEN  # a window may rest on no sample, or on one that is too old
        if math.isnan(sum(least for least, _ in pieces)):
            return OPEN
        return min(least for least, _ in pieces), max(most for _, most in pieces)

    def _bounds_of_rate(self, span_ns: int) -> Bounds:
        if self._instants.alone != self._number:
            return OPEN
        least, most = self.bounds("max", span_ns)
        # Each instant has a sample, so the two of a rate are a window apart at least.
        steepest = (most - least) / (span_ns / 1e9)
        return (-steepest, steepest) if math.isfinite(steepest) else OPEN

    def is_steady(self) -> bool:
        """Return whether `changed` is false throughout."""
        new, before = self._new, self._before
        if new is NO_SAMPLES:
            return True
        return before is not NO_SAMPLES and bool((new.raw == before.raw[-1]).all())

    def changed(self) -> Truths:
        """Return whether the raw value differs from the one before, at each instant."""
        new = self._new.raw
        differs = np.ones(len(new), np.bool_)
        differs[1:] = new[1:] != new[:-1]
        maybe = differs
        if self._before is not NO_SAMPLES:
            differs[:1] = new[:1] != self._before.raw[-1]
        elif len(new):
            differs = differs.copy()
            differs[0] = False
        at = self._at()
        if at is None:
            return differs, maybe
        found = np.zeros((2, len(self._instants.t)), np.bool_)
        found[0, at], found[1, at] = differs, maybe
        return found[0], found[1]

    def _once(self, function: str, span_ns: int) -> Floats:
        """Return an answer, found once a stretch."""
        found = self._answers.get((function, span_ns))
        if found is None:
            if self._before is NO_SAMPLES and self._new is NO_SAMPLES:
                found = np.full(len(self._instants.t), np.nan)
            elif function == "value":
                now = self._now()
                found = self._if_fresh(self._joined(VALUE)[now], now)
            else:
                found = self._over(function, span_ns)
            self._answers[function, span_ns] = found
        return found

    def _joined(self, column: int) -> npt.NDArray[Any]:
        """Return a column of the samples before and in the stretch."""
        found = self._columns.get(column)
        if found is None:
            found = np.concatenate([*self._past(column), self._new.column(column)])
            self._columns[column] = found
        return found

    def _now(self) -> Ints:
        """Return the place of the last sample at each instant, -1 before the first."""
        first = len(self._joined(STAMP)) - len(self._new.raw)
        count, at = len(self._instants.t), self._at()
        if at is None:
            return np.arange(first, first + count)
        before = at.searchsorted(np.arange(count), side="right")
        return before if first == 1 else before + (first - 1)

    def _over(self, function: str, span_ns: int) -> Floats:
        stamps, now = self._joined(STAMP), self._now()
        then = stamps.searchsorted(self._instants.t - span_ns, side="right") - 1
        if function == "rate":
            values = self._joined(VALUE)
            rise = values[now] - values[then]
            return self._if_fresh(known(rise / ((stamps[now] - stamps[then]) / 1e9)), then)
        # Pairs of (held at the window's begin, behind the last): reduceat skips between them.
        spans = np.empty(2 * len(then), np.int64)
        spans[::2], spans[1::2] = np.maximum(then, 0), now + 1
        found = self._mean(spans) if function == "mean" else self._extreme(function, spans)
        return self._if_fresh(found, then)

    def _extreme(self, function: str, spans: Ints) -> Floats:
        over = np.minimum if function == "min" else np.maximum
        return _each(over, self._joined(VALUE), spans)

    def _mean(self, spans: Ints) -> Floats:
        count = spans[1::2] - spans[::2]
        if self._exact:
            total = _each(np.add, self._joined(RAW), spans)
            return known(total / count * self._info.factor + self._info.offset)
        # A mean lies between the extremes; the rounding of a long sum does not know that.
        least, most = self._extreme("min", spans), self._extreme("max", spans)
        return known(np.clip(_each(np.add, self._joined(VALUE), spans) / count, least, most))

    def _if_fresh(self, numbers: Floats, sample: Ints) -> Floats:
        """Return numbers, unknown where they rest on no sample (-1) or one that is too old."""
        stamps = self._joined(STAMP)
        first = int(sample[0])
        if first >= 0 and self._instants.last_ns - int(stamps[first]) <= FRESH_NS:
            return numbers  # the oldest is fresh at the end: all are
        fresh = (sample >= 0) & (self._instants.t - stamps[sample] <= FRESH_NS)
        found: Floats = np.where(fresh, numbers, np.nan)
        return found


def _each(over: np.ufunc, numbers: npt.NDArray[Any], spans: Ints) -> npt.NDArray[Any]:
    """Return a reduction of numbers[begin:end], for begins and ends that take turns."""
    padded = np.concatenate((numbers, numbers[:1]))  # an end may be the end
    found: npt.NDArray[Any] = over.reduceat(padded, spans)[::2]
    return found
