"""When to try again. Pure.

Decorrelated jitter: uniform between the least wait and three times the last wait, capped. A fleet
that lost its broker at one moment must not come back at one moment: in a model of 100,000 cars the
doubling back-off without jitter peaks at 50,000 connections a second, this one at under twice what
the broker admits. Only a receipt of the region resets it. A CONNACK does not: a broker that accepts
and then drops everybody would be stormed.

Source: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015; tests/uplink/test_storm.py.
"""

from __future__ import annotations

from collections.abc import Callable

from agent.uplink.timing import HANG_UPS_WITHIN_S, MAX_HANG_UPS


def next_wait_s(
    previous_s: float, *, low_s: float, cap_s: float, rng: Callable[[], float]
) -> float:
    """Return the wait before the next attempt, seconds.

    Args:
        previous_s: the last wait; 0 after a receipt and at the start.
        low_s: least wait.
        cap_s: longest wait.
        rng: uniform in [0, 1).
    """
    high_s = min(cap_s, 3 * max(low_s, previous_s))
    return low_s + (high_s - low_s) * rng()


class HangUps:
    """Working links that the broker closed without a word, one after the other.

    So many in so short a time, and another client seems to have our id: each would throw the other
    off for ever.
    """

    def __init__(self) -> None:
        self._at_s: list[float] = []

    def is_one_too_many(self, now_s: float) -> bool:
        """Note one, at a monotonic time in seconds; return whether a long wait is due."""
        recent = [at_s for at_s in self._at_s if at_s > now_s - HANG_UPS_WITHIN_S]
        self._at_s = [*recent, now_s]
        if len(self._at_s) < MAX_HANG_UPS:
            return False
        self._at_s.clear()
        return True
