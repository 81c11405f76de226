"""What `inland station serve` does once an hour beside receiving: renew, and warn in time.

It renews what it signs itself. What people have to renew (certificates, the signatures of the
policy repository) it says once, in the log.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Callable

from agent.errors import InlandError
from agent.station.authority import RegionFolder, ending_soon
from agent.station.publish import expiring, refresh_when_due

log = logging.getLogger(__name__)


class Chores:
    """Those of one region.

    Args:
        region: whose.
        now: the region's clock.
    """

    def __init__(self, region: RegionFolder, now: Callable[[], dt.datetime]) -> None:
        self._region, self._now = region, now
        self._told: set[str] = set()

    def __call__(self) -> None:
        """Do what is due."""
        now = self._now()
        try:
            self._warn(ending_soon(self._region, now))
            refresh_when_due(self._region, now)
            self._warn(expiring(self._region, now))
        except InlandError as error:  # what is on offer and in use stays as it is
            log.warning("not renewed: %s", error)

    def _warn(self, warnings: list[str]) -> None:
        for warning in warnings:
            if warning not in self._told:
                self._told.add(warning)
                log.warning("%s", warning)
