"""Between two attempts: how the wait is spent, and what ends it early.

| what happens meanwhile | then |
|---|---|
| the computer or the agent slept | the next attempt comes at once, if `backoff.py` allows it |
| the car's own network was away, and is back | likewise |
| the link that is kept lives again | no attempt is needed |
| it ends | nothing: the wait was long enough for that, too |
| it ends for a reason that a person has to mend | the wait is as long as for those |

A link that fell silent is kept, and only listened to: the kernel repeats what was not acknowledged,
and the first packet that comes through shows that all was a tunnel, or that the region is back.
That costs the region neither a handshake nor a place in a queue. It is closed when another link is
made, or when the broker has waited long enough (`Timing.given_up_s`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from threading import Event
from typing import Final

from agent.errors import LinkError
from agent.uplink.backoff import Backoff
from agent.uplink.delivery import Delivery
from agent.uplink.link import MENDED_BY_HAND, Link
from agent.uplink.teller import Teller
from agent.uplink.timing import Timing

log: Final = logging.getLogger(__name__)

ROUTE_TURN_S: Final = 0.2  # between two looks whether the network is there


class Pause:
    """See the module's contract.

    Args:
        backoff: how long to wait.
        teller: what capture is told meanwhile.
        delivery: what is under way on the kept link.
        timing: intervals.
        clock: seconds of CLOCK_BOOTTIME.
        has_way: whether the car's own network leads to the region.
        beat: called at each turn.

    Attributes:
        kept: the link that fell silent, and may live again.
    """

    def __init__(
        self, backoff: Backoff, teller: Teller, delivery: Delivery, *, timing: Timing,
        clock: Callable[[], float], has_way: Callable[[], bool], beat: Callable[[], None],
    ) -> None:  # fmt: skip
        self.kept: Link | None = None
        self._backoff, self._teller, self._delivery = backoff, teller, delivery
        self._timing, self._clock, self._has_way, self._beat = timing, clock, has_way, beat
        self._looked_s = clock()  # before the present wait, or turn of it
        self._until_s = 0.0  # the end of that wait
        self._route_s = -1e9  # until then a network that wakes late is waited for
        self._away_s: float | None = None  # since when the car's own network is away

    def begin(self, *, by_car: bool) -> float:
        """Note that a wait begins, and whether the car's own network is why; return the time."""
        self._looked_s = now_s = self._clock()
        self._away_s = now_s if by_car else None
        return now_s

    def spend(self, stop: Event, wait_s: float, *, may_be_short: bool = True) -> None:
        """Wait, report, and listen to the kept link, until the time is over or as the table says.

        Args:
            stop: ends it at once.
            wait_s: how long.
            may_be_short: the return of the network ends it.
        """
        now_s, turn_s = self._clock(), 0.0
        self._until_s = now_s + wait_s
        self._teller.at_once()
        while not stop.is_set() and now_s < self._until_s:
            slept_s, self._looked_s = now_s - self._looked_s - turn_s, now_s
            if not self._backoff.is_long and (
                self.slept(slept_s) or (may_be_short and self._is_back(now_s))
            ):
                return
            self._beat()
            self._teller.try_to_tell(now_s)
            turn_s = min(self._until_s - now_s, self._timing.report_s)
            if self.kept is None:
                stop.wait(turn_s)
            elif self._hears(self.kept, turn_s := min(turn_s, self._timing.idle_s)):
                return
            now_s = self._clock()

    def slept(self, slept_s: float) -> bool:
        """Note a sleep, if it was one; return whether the next attempt may come at once."""
        if slept_s <= self._timing.gap_s:
            return False
        log.info("asleep for %.0f s", slept_s)
        now_s = self._clock()
        self._route_s = now_s + self._timing.route_s
        return self._backoff.slept(slept_s, now_s)

    def await_route(self, stop: Event) -> None:
        """Wait for the network to wake as well, but not for long. It costs the region nothing."""
        while self._clock() < self._route_s and not self._has_way():
            self._teller.try_to_tell(self._clock())
            if stop.wait(ROUTE_TURN_S):
                return

    def end(self, link: Link) -> None:
        """Close a link, and forget what was under way on it."""
        if self.kept is link:
            self.kept = None
        link.close()
        self._delivery.disconnected(self._clock())

    def _is_back(self, now_s: float) -> bool:
        if not self._has_way():
            self._away_s = now_s if self._away_s is None else self._away_s
        elif self._away_s is not None:
            away_s, self._away_s = now_s - self._away_s, None
            return self._backoff.slept(away_s, now_s)
        return False

    def _hears(self, kept: Link, turn_s: float) -> bool:
        try:
            return kept.listen(turn_s)
        except LinkError as error:
            self._teller.note(error)
        self.end(kept)
        if kept.ended_by in MENDED_BY_HAND:
            now_s = self._clock()
            self._until_s = now_s + self._backoff.failed(now_s, by_hand=True)
        return False
