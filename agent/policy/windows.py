"""What a condition remembers: the recent samples of a signal, and since when something was true.

Everything is seen from *instants*: a stretch of them has stamps t[n] that never fall, and a sample
belongs to one of them. Numbers that are unknown are NaN; truths are 0 false, 1 unknown, 2 true
(Kleene: `and` is the least, `or` the greatest, `not` is 2 - x).

Memory is bounded by what lies within the longest window. Pure but for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt

from agent.policy.model import SIGNED, UNSIGNED, SignalInfo
from agent.policy.physical import Floats, Ints

Truths = npt.NDArray[np.int8]
Bools = npt.NDArray[np.bool_]

FRESH_NS: Final = 120 * 10**9  # older samples say nothing about now
EXACT_BITS: Final = 32  # sums of so wide whole numbers are exact, however many
FALSE, UNKNOWN, TRUE = np.int8(0), np.int8(1), np.int8(2)


def known(numbers: Floats) -> Floats:
    """Return numbers with infinity as NaN: neither says anything."""
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
        self._stamp: Ints = np.zeros(0, np.int64)
        self._value: Floats = np.zeros(0, np.float64)
        self._raw: Ints = np.zeros(0, np.int64)

    def take(self, t: Ints, at: Ints, raw: Ints, value: Floats) -> None:
        """Go on by a stretch of instants; what is asked from now on is asked of it.

        Args:
            t: stamps of the instants, n > 0, not below those of the stretch before.
            at: instants at which the signal has a sample, rising.
            raw: of these samples.
            value: of these samples, physical.
        """
        cut = self._unneeded(int(t[0]))
        self._first = len(self._stamp) - cut
        if len(at):
            self._stamp = np.concatenate((self._stamp[cut:], t[at]))
            self._value = np.concatenate((self._value[cut:], known(value)))
            self._raw = np.concatenate((self._raw[cut:], raw))
        elif cut:
            self._stamp, self._value = self._stamp[cut:], self._value[cut:]
            self._raw = self._raw[cut:]
        self._t, self._at = t, at
        self._now: Ints = self._first + (
            np.arange(len(t))
            if len(at) == len(t)
            else np.searchsorted(at, np.arange(len(t)), side="right") - 1
        )
        self._answers: dict[tuple[str, int], Floats] = {}

    def _unneeded(self, now_ns: int) -> int:
        """Return how many samples nobody can ask for any more. The last one always stays."""
        if not self._keep_ns or len(self._stamp) < 2:
            return max(0, len(self._stamp) - 1)
        return max(0, int(np.searchsorted(self._stamp, now_ns - self._keep_ns, side="right")) - 1)

    def value(self) -> Floats:
        """Return the signal's value at each instant."""
        return self._once("value", 0, self._value_now)

    def over(self, function: str, span_ns: int) -> Floats:
        """Return "rate", "min", "max" or "mean" over a window at each instant."""
        return self._once(function, span_ns, lambda: self._over(function, span_ns))

    def changed(self) -> Truths:
        """Return whether the raw value differs from the one before, at each instant."""
        found = np.zeros(len(self._t), np.int8)
        if len(self._at):
            first = self._first
            before = self._raw[first - 1 : -1] if first else self._raw[:-1]
            new = self._raw[first or 1 :]
            found[self._at[len(self._at) - len(new) :]] = (new != before) * TRUE
            if not first:
                found[self._at[0]] = UNKNOWN
        return found

    def _once(self, function: str, span_ns: int, find: Callable[[], Floats]) -> Floats:
        key = function, span_ns
        if key not in self._answers:
            self._answers[key] = find() if len(self._stamp) else np.full(len(self._t), np.nan)
        return self._answers[key]

    def _value_now(self) -> Floats:
        return self._if_fresh(self._value[self._now], self._now)

    def _over(self, function: str, span_ns: int) -> Floats:
        then = np.searchsorted(self._stamp, self._t - span_ns, side="right") - 1
        if function == "rate":
            found = self._rate(then)
        else:
            # Pairs of (held at the window's begin, behind the last): reduceat skips between them.
            spans = np.empty(2 * len(then), np.int64)
            spans[::2], spans[1::2] = np.maximum(then, 0), self._now + 1
            found = self._mean(spans) if function == "mean" else self._extreme(function, spans)
        return self._if_fresh(found, then)

    def _rate(self, then: Ints) -> Floats:
        rise = self._value[self._now] - self._value[then]
        return known(rise / ((self._stamp[self._now] - self._stamp[then]) / 1e9))

    def _extreme(self, function: str, spans: Ints) -> Floats:
        over = np.minimum if function == "min" else np.maximum
        found: Floats = over.reduceat(np.append(self._value, 0.0), spans)[::2]
        return found

    def _mean(self, spans: Ints) -> Floats:
        count = spans[1::2] - spans[::2]
        if self._exact:
            whole = np.add.reduceat(np.append(self._raw, 0), spans)[::2]
            return known(whole / count * self._info.factor + self._info.offset)
        total = np.add.reduceat(np.append(self._value, 0.0), spans)[::2]
        # A mean lies between the extremes; the rounding of a long sum does not know that.
        least, most = self._extreme("min", spans), self._extreme("max", spans)
        return known(np.clip(total / count, least, most))

    def _if_fresh(self, numbers: Floats, sample: Ints) -> Floats:
        """Return numbers, unknown where they rest on no sample (-1) or one that is too old."""
        if sample[0] >= 0 and self._t[-1] - self._stamp[sample[0]] <= FRESH_NS:
            return numbers  # the oldest is fresh at the end: all are
        fresh = (sample >= 0) & (self._t - self._stamp[sample] <= FRESH_NS)
        found: Floats = np.where(fresh, numbers, np.nan)
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
        self._not_false_since: int | None = None
        self._fell = False  # it was false once

    def take(self, t: Ints, truth: Truths) -> Truths:
        """Return the answer at each instant of a stretch.

        Args:
            t: stamps of the instants, not below those of the stretch before.
            truth: of what is to be held.
        """
        is_true, not_false = truth == TRUE, truth != FALSE
        if not not_false.any():
            self._true_since, self._not_false_since, self._fell = None, None, True
            return truth
        since, self._true_since, _ = _since(t, is_true, self._true_since)
        long = is_true & (t - since >= self._for_ns)
        since, self._not_false_since, inside = _since(t, not_false, self._not_false_since)
        fell = inside | self._fell
        self._fell = self._fell or not not_false.all()
        no = ~not_false | (fell & (t - since < self._for_ns))
        return np.where(long, TRUE, np.where(no, FALSE, UNKNOWN))


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
