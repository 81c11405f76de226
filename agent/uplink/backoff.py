"""When to try again. Pure: times are arguments, seconds that count through suspend.

| what happened | the next attempt comes |
|---|---|
| the car's own network was the cause | after `next_wait_s`: 2 to 6 s, and it grows |
| the region ended a link, or refused one | likewise, or within what it said last (regroup_s) |
| silence: a link, or an attempt, of which nothing is heard | likewise, or within 1.5 times that |
| that failed, too | not before 1.5 times that are over, within 1.8 times or as the wait grows |
| a receipt of the region | the wait begins at its least again |
| a refusal that a person has to mend, or a fight | after 600 to 1,200 s, whatever else happens |
| the computer, the agent or its network was away, and is back | at once, but at most every 30 s |
| that attempt met silence | as if the car's own network was the cause: it wakes late |
| it was away for a minute and more | at once, and the wait begins at its least, as at a start |

Decorrelated jitter: uniform between the least wait and three times the last wait, capped. A fleet
that lost its broker at one moment must not come back at one moment: in a model of 100,000 cars the
doubling back-off without jitter peaks at 50,000 connections a second, this one at under twice what
the broker admits. Only a receipt of the region resets it. A CONNACK does not: a broker that accepts
and then drops everybody would be stormed.

What the other end does (a reset, an end of the connection, a refusal) it does to all cars at once:
a broker that is restarted in three seconds would meet 25,000 of 100,000 in the next one. So that
wait is spread over what it takes to admit them all. How long that is, only the region knows: each
receipt says it, 333 s for 100,000 cars, nothing for a small fleet. A car that has no receipt yet
has only just started, and is spread as starts are.

Silence may be a tunnel or the region: nobody can tell, so it is taken for the region's, however
short it is. A car that comes out of a tunnel does not need the attempt: its link was kept
(`pause.py`) and lives again with the kernel's next packet. The spread is half as wide again: in a
silent region each attempt knocks three times, and all that are under way arrive in the first
second. Who has tried in vain waits until all others have had their turn: else the tries of those
who waited little and of those who waited long add up, after five minutes, to nearly three times as
many.

Why cars may come at once after a sleep: they wake when somebody opens a door, so a fleet's wakes
are spread like its starts, over hours; what wakes beside an outage is what starts beside it. A
fleet that is woken at one moment by a timer is not: whoever sets such a timer has to spread it. The
same holds for a mobile network that takes all cars off and on: it lets them in by and by.

Source: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015; tests/uplink/test_storm.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from agent.uplink.timing import (
    HANG_UPS_WITHIN_S,
    LONG_WAIT_S,
    MAX_HANG_UPS,
    MAX_REGROUP_S,
    Timing,
)

SILENT_WIDER: Final = 1.5
AGAIN_WIDER: Final = 1.8  # between both: what keeps a fleet as spread as it was
START_S: Final = 60.0  # a sleep so long is like a start


def next_wait_s(
    previous_s: float, *, low_s: float, cap_s: float, rng: Callable[[], float], wide_s: float = 0.0
) -> float:
    """Return the wait before the next attempt, seconds.

    Args:
        previous_s: the last wait; 0 after a receipt and at the start.
        low_s: least wait.
        cap_s: longest wait.
        rng: uniform in [0, 1).
        wide_s: the wait may be so long at least, whatever the last one was and the longest is.
    """
    high_s = max(wide_s, min(cap_s, 3 * max(low_s, previous_s)))
    return low_s + (high_s - low_s) * rng()


class Backoff:
    """See the table.

    Args:
        timing: intervals.
        rng: uniform in [0, 1).

    Attributes:
        is_long: the wait that was returned last is for a person to mend something.
        in_crowd: the next attempt may be one of a large fleet's.
    """

    __slots__ = (
        "_hang_ups", "_regroup_s", "_rng", "_roused", "_timing", "_wait_s", "_woke_s", "in_crowd",
        "is_long",
    )  # fmt: skip

    def __init__(self, timing: Timing, rng: Callable[[], float]) -> None:
        self._timing, self._rng = timing, rng
        self._wait_s = self._regroup_s = 0.0
        self._woke_s = float("-inf")
        self._roused = False  # the attempt that is under way, or comes, comes at once
        self.is_long = self.in_crowd = False
        self._hang_ups = HangUps()

    def confirmed(self, regroup_s: float) -> None:
        """Note a valid receipt, and over how long it says that the fleet has to come back."""
        self._wait_s, self.in_crowd, self._roused = 0.0, False, False
        self._regroup_s = min(regroup_s, MAX_REGROUP_S)

    def slept(self, slept_s: float, now_s: float) -> bool:
        """Note a sleep that ended now, or an absence of the car's own network.

        Returns:
            Whether the next attempt may come at once.
        """
        if slept_s >= START_S:
            self._wait_s, self.in_crowd = 0.0, False
        if now_s - self._woke_s < self._timing.wake_every_s:
            return False
        self._woke_s, self._roused = now_s, True
        return True

    def failed(
        self, now_s: float, *, by_peer: bool = False, by_car: bool = False, by_hand: bool = False,
        hung_up: bool = False, at_once: bool = False,
    ) -> float:  # fmt: skip
        """Return the wait after an attempt that failed or a link that ended, seconds.

        Args:
            now_s: the time.
            by_peer: the other end has ended or refused it.
            by_car: the car's own network was the cause.
            by_hand: a person has to mend it.
            hung_up: the broker closed a link that worked and gave no reason: if that happens again
                and again, another client seems to have our id.
            at_once: `slept` allowed it since the attempt began.
        """
        self.is_long = by_hand or (hung_up and self._hang_ups.is_one_too_many(now_s))
        if at_once and not self.is_long:
            self.in_crowd = False
            return 0.0
        by_car = by_car or (self._roused and not by_peer)
        self._roused = False
        again, self.in_crowd = self.in_crowd, self._regroup_s > 0 and not by_car
        low_s, wide_s = self._timing.backoff_low_s, 0.0
        if self.in_crowd:
            wide_s = self._regroup_s * (AGAIN_WIDER if again else 1.0 if by_peer else SILENT_WIDER)
            low_s = max(low_s, self._regroup_s * SILENT_WIDER) if again else low_s
        self._wait_s = next_wait_s(
            self._wait_s, low_s=low_s, cap_s=self._timing.backoff_cap_s, rng=self._rng,
            wide_s=wide_s,
        )  # fmt: skip
        return LONG_WAIT_S * (1 + self._rng()) if self.is_long else self._wait_s


class HangUps:
    """Working links that the broker closed without a word, one after the other.

    So many in so short a time, and another client seems to have our id: each would throw the other
    off for ever.
    """

    def __init__(self) -> None:
        self._at_s: list[float] = []

    def is_one_too_many(self, now_s: float) -> bool:
        """Note one, at a time in seconds; return whether a long wait is due."""
        recent = [at_s for at_s in self._at_s if at_s > now_s - HANG_UPS_WITHIN_S]
        self._at_s = [*recent, now_s]
        if len(self._at_s) < MAX_HANG_UPS:
            return False
        self._at_s.clear()
        return True
