"""Truths at the instants of a condition, and since when something was true.

A truth is two arrays: where something is surely true, and where it may be (Kleene: it is unknown in
between). If nothing is unknown they are the same array, and then everything is done once.

Pure but for what a `Run` remembers.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from agent.policy.physical import Ints

Bools = npt.NDArray[np.bool_]
Truths = tuple[Bools, Bools]  # surely true, maybe true


def _always(truth: bool) -> Truths:
    one = np.array(truth)
    one.setflags(write=False)
    return one, one


# The truth of all instants at once; compared by identity.
NO: Final = _always(False)
YES: Final = _always(True)


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

    def end(self) -> Truths:
        """Return the answer to a stretch in which it is false."""
        self._true_since, self._maybe_since, self._fell = None, None, True
        return NO

    def goes_on(self, first_ns: int) -> bool:
        """Return whether the answer is yes throughout a stretch in which it is true."""
        return self._true_since is not None and first_ns - self._true_since >= self._for_ns

    def take(self, t: Ints, truth: Truths) -> Truths:
        """Return the answer at each instant of a stretch.

        Args:
            t: stamps of the instants, not below those of the stretch before.
            truth: of what is to be held.
        """
        sure, maybe = truth
        if not maybe.any():
            return self.end()
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
