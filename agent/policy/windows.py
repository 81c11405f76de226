"""What a condition remembers: the recent samples of a signal, and since when something was true.

Everything is seen from *instants*: a stretch of them has stamps t[n] that never fall, and a sample
belongs to one of them. Numbers that are unknown are NaN. A truth is two arrays: where it is surely
true, and where it may be (Kleene: it is unknown in between). If nothing is unknown they are the
same array, and then everything is done once.

Conditions are asked ten times a second about few samples, so the number of numpy calls is what
counts, not what each of them does. Memory is bounded by what lies within the longest window.

Pure but for it.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from agent.policy.model import SIGNED, UNSIGNED, SignalInfo
from agent.policy.physical import Floats, Ints

Bools = npt.NDArray[np.bool_]
Truths = tuple[Bools, Bools]  # surely true, maybe true

FRESH_NS: Final = 120 * 10**9  # older samples say nothing about now
EXACT_BITS: Final = 32  # sums of so wide whole numbers are exact, however many

_NO_INTS: Final = np.zeros(0, np.int64)
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
        self._at: Ints | None
        self._stamp, self._value, self._raw = _NO_INTS, _NO_FLOATS, _NO_INTS  # before the stretch
        self._new_value, self._new_raw = _NO_FLOATS, _NO_INTS
        self._t, self._at = _NO_INTS, None
        self._columns: dict[str, npt.NDArray[Any]] = {}

    def take(self, t: Ints, at: Ints | None, raw: Ints, value: Floats) -> None:
        """Go on by a stretch of instants; what is asked from now on is asked of it.

        Args:
            t: stamps of the instants, n > 0, not below those of the stretch before.
            at: instants at which the signal has a sample, rising; None: all.
            raw: of these samples.
            value: of these samples, physical, NaN if unknown.
        """
        if self._keep_ns:
            self._keep(int(t[0]) - self._keep_ns)
        elif len(self._new_raw):
            last = -1 if self._at is None else self._at[-1]
            self._stamp, self._value = self._t[last:][:1], self._new_value[-1:]
            self._raw = self._new_raw[-1:]
        self._t, self._at = t, at
        self._new_value, self._new_raw = value, raw
        self._answers: dict[tuple[str, int], Floats] = {}
        self._columns = {}

    def _keep(self, from_ns: int) -> None:
        """Put the new samples to the old ones, and let go what no window reaches any more."""
        if len(self._new_raw):
            self._stamp, self._value = self._joined("stamp"), self._joined("value")
            self._raw = self._joined("raw")
        if len(self._stamp):
            cut = int(self._stamp.searchsorted(from_ns, side="right")) - 1
            if cut > 0:
                self._stamp, self._value = self._stamp[cut:], self._value[cut:]
                self._raw = self._raw[cut:]

    def value(self) -> Floats:
        """Return the signal's value at each instant; one for all if it has no sample there."""
        if self._at is None:
            return self._new_value
        if len(self._stamp) and int(self._t[-1]) - int(self._stamp[-1]) <= FRESH_NS:
            if not len(self._at):
                return self._value[-1]  # type: ignore[no-any-return]
            return self._joined("value")[self._now()]  # the oldest is fresh at the end: all are
        return self._once("value", 0)

    def over(self, function: str, span_ns: int) -> Floats:
        """Return "rate", "min", "max" or "mean" over a window at each instant."""
        return self._once(function, span_ns)

    def changed(self) -> Truths:
        """Return whether the raw value differs from the one before, at each instant."""
        new = self._new_raw
        differs = np.ones(len(new), np.bool_)
        differs[1:] = new[1:] != new[:-1]
        maybe = differs
        if len(self._raw):
            differs[:1] = new[:1] != self._raw[-1]
        elif len(new):
            differs = differs.copy()
            differs[0] = False
        if self._at is None:
            return differs, maybe
        found = np.zeros((2, len(self._t)), np.bool_)
        found[0, self._at], found[1, self._at] = differs, maybe
        return found[0], found[1]

    def _once(self, function: str, span_ns: int) -> Floats:
        """Return an answer, found once a stretch."""
        found = self._answers.get((function, span_ns))
        if found is None:
            if not len(self._stamp) + len(self._new_raw):
                found = np.full(len(self._t), np.nan)
            elif function == "value":
                now = self._now()
                found = self._if_fresh(self._joined("value")[now], now)
            else:
                found = self._over(function, span_ns)
            self._answers[function, span_ns] = found
        return found

    def _joined(self, column: str) -> npt.NDArray[Any]:
        """Return the "stamp", "value" or "raw" of the samples before and in the stretch."""
        found = self._columns.get(column)
        if found is None:
            pair: tuple[npt.NDArray[Any], npt.NDArray[Any]]
            if column == "stamp":
                pair = self._stamp, self._t if self._at is None else self._t[self._at]
            elif column == "value":
                pair = self._value, self._new_value
            else:
                pair = self._raw, self._new_raw
            self._columns[column] = found = np.concatenate(pair)
        return found

    def _now(self) -> Ints:
        """Return the place of the last sample at each instant, -1 before the first."""
        first, count = len(self._stamp), len(self._t)
        if self._at is None:
            return np.arange(first, first + count)
        before = self._at.searchsorted(np.arange(count), side="right")
        return before if first == 1 else before + (first - 1)

    def _over(self, function: str, span_ns: int) -> Floats:
        stamps, now = self._joined("stamp"), self._now()
        then = stamps.searchsorted(self._t - span_ns, side="right") - 1
        if function == "rate":
            values = self._joined("value")
            rise = values[now] - values[then]
            return self._if_fresh(known(rise / ((stamps[now] - stamps[then]) / 1e9)), then)
        # Pairs of (held at the window's begin, behind the last): reduceat skips between them.
        spans = np.empty(2 * len(then), np.int64)
        spans[::2], spans[1::2] = np.maximum(then, 0), now + 1
        found = self._mean(spans) if function == "mean" else self._extreme(function, spans)
        return self._if_fresh(found, then)

    def _extreme(self, function: str, spans: Ints) -> Floats:
        over = np.minimum if function == "min" else np.maximum
        return _each(over, self._joined("value"), spans)

    def _mean(self, spans: Ints) -> Floats:
        count = spans[1::2] - spans[::2]
        if self._exact:
            total = _each(np.add, self._joined("raw"), spans)
            return known(total / count * self._info.factor + self._info.offset)
        # A mean lies between the extremes; the rounding of a long sum does not know that.
        least, most = self._extreme("min", spans), self._extreme("max", spans)
        return known(np.clip(_each(np.add, self._joined("value"), spans) / count, least, most))

    def _if_fresh(self, numbers: Floats, sample: Ints) -> Floats:
        """Return numbers, unknown where they rest on no sample (-1) or one that is too old."""
        stamps = self._joined("stamp")
        first = int(sample[0])
        if first >= 0 and int(self._t[-1]) - int(stamps[first]) <= FRESH_NS:
            return numbers  # the oldest is fresh at the end: all are
        fresh = (sample >= 0) & (self._t - stamps[sample] <= FRESH_NS)
        found: Floats = np.where(fresh, numbers, np.nan)
        return found


def _each(over: np.ufunc, numbers: npt.NDArray[Any], spans: Ints) -> npt.NDArray[Any]:
    """Return a reduction of numbers[begin:end], for begins and ends that take turns."""
    padded = np.concatenate((numbers, numbers[:1]))  # an end may be the end
    found: npt.NDArray[Any] = over.reduceat(padded, spans)[::2]
    return found


class Run:
    """`for`: whether something was true at every instant since one at or before t - for_ns.

    False if it was false at one of them. Unknown otherwise: also while nothing is known of a time
    so long ago.
    """

    def __init__(self, for_ns: int) -> None:
        self._for_ns = for_ns
        self.forget()

    def forget(self) -> None:
        """Forget what was."""
        self._true_since: int | None = None
        self._maybe_since: int | None = None
        self._fell = False  # it was false once

    def take(self, t: Ints, truth: Truths) -> Truths:
        """Return the answer at each instant of a stretch.

        Args:
            t: stamps of the instants, not below those of the stretch before.
            truth: of what is to be held.
        """
        sure, maybe = truth
        if not maybe.any():
            self._true_since, self._maybe_since, self._fell = None, None, True
            return truth
        since, self._true_since, _ = _since(t, sure, self._true_since)
        long = sure & (t - since >= self._for_ns)
        since, self._maybe_since, inside = _since(t, maybe, self._maybe_since)
        short = t - since < self._for_ns
        if not self._fell:
            short &= inside
            self._fell = not maybe.all()
        return long, maybe & ~short


def _since(t: Ints, yes: Bools, before: int | None) -> tuple[Ints, int | None, Bools]:
    """Return since when each run of yes goes on.

    Args:
        t: stamps of the instants.
        yes: at each of them; elsewhere the results say nothing.
        before: since when the run goes on that reaches to this stretch, if one does.

    Returns:
        Stamp of the first instant of each one's run; that of the run that reaches the end, if one
        does; whether the run was begun by a no of this stretch.
    """
    start = np.maximum.accumulate(np.where(yes, 0, np.arange(1, len(t) + 1)))
    inside = start > 0
    since = t[np.minimum(start, len(t) - 1)]
    if before is not None:
        since = np.where(inside, since, before)
    return since, int(since[-1]) if yes[-1] else None, inside
