"""Where the car is, as far as it matters: in the open, near a protected zone, or nobody knows.

| state | when |
|---|---|
| protected | a zone is nearer than margin + speed x 2 s, or was within the last `exit` |
| unknown | not protected, and there is no position to be trusted, or trust was lost |
| open | neither |

- A position is one that the policy's `fix` condition vouches for, in range, and not 0/0. Without
  one for `no_fix` the place is unknown; until then the car is taken to drive straight at the zone.
- Trust is lost by a jump (further than 70 m/s and 100 m allow) and by a value that stands still for
  10 s while the car does not. It comes back with 10 s of positions without either, no two of them
  more than 2 s apart. A protected place is left by driving, never by a jump: after one, positions
  are trusted again only if the car can have driven there from where it last was in a zone.
- A speed that is not known is 70 m/s.
- Zones that cannot be opened: every place is protected. No zones: no place is. At the beginning
  the place is unknown.
- Time is one clock that never falls; an earlier moment counts as the last one.

Source: C35, C36 (margin 500 m, exit 60 s, no fix 10 s); what is beyond them is our own choice.
Pure but for what it remembers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from agent.policy.clauses import Camera
from agent.policy.zones import NOWHERE, Nearest, Zones, metres_between

OPEN: Final = "open"
PROTECTED: Final = "protected"
UNKNOWN: Final = "unknown"

FASTEST: Final = 70.0  # m/s, 252 km/h: no car of the fleet is faster for long
SLACK_M: Final = 100.0  # two honest positions may be so far off
LOOK_AHEAD_S: Final = 2.0  # until a camera has stopped
CONSISTENT_NS: Final = 10 * 10**9
FROZEN_NS: Final = 10 * 10**9
STEADY_NS: Final = 2 * 10**9  # positions further apart prove nothing of each other
STANDING: Final = 5 / 3.6  # m/s; slower, and a position may rightly stay the same
REUSED_M: Final = 2000.0  # an answer of the zones is good for a bound so far around
NULL_DEGREES: Final = 1e-4  # 0/0 is what a receiver says that knows nothing


@dataclass(frozen=True, slots=True)
class Place:
    """What a place is.

    Attributes:
        state: OPEN, PROTECTED or UNKNOWN.
        zone_class: of the zone that makes it protected; "" if there is none or it cannot be known.
    """

    state: str
    zone_class: str = ""


@dataclass(frozen=True, slots=True)
class _Fix:
    at_ns: int
    place: tuple[float, float]  # latitude, longitude in degrees


class PlaceGuard:
    """Follows one car.

    Args:
        camera: margin, exit delay, and how long a position is good for.
        zones: None: there are none, or, if the policy has some, they cannot be opened.
    """

    def __init__(self, camera: Camera, zones: Zones | None) -> None:
        self._camera = camera
        self._closed = zones is None and bool(camera.zones)
        self._zones = zones if zones is not None else Zones(())
        self._now_ns: int | None = None
        self._last: _Fix | None = None  # trusted or not
        self._changed_ns = 0  # when the position last moved, or the car stood
        self._steady_ns = 0  # since when positions have agreed with each other
        self._doubted = False
        self._good_ns: int | None = None  # of the last trusted position
        self._nearest: Nearest = NOWHERE  # of it
        self._measured: tuple[_Fix, Nearest] | None = None  # the last answer of the zones
        self._driven_m = 0.0  # since it, at most
        self._protected: _Fix | None = None  # the last trusted position near a zone
        self._until_ns = 0  # protected until then
        self._class = ""

    def position(self, at_ns: int, latitude: float, longitude: float, speed: float | None) -> None:
        """Take a position that the policy's condition vouches for.

        Args:
            at_ns: when it came, on the guard's clock.
            latitude: degrees; anything, also NaN.
            longitude: degrees.
            speed: of the car in m/s, None if not known.
        """
        at_ns = self._advance(at_ns, speed)
        if not _is_place(latitude, longitude):
            return
        fix = _Fix(at_ns, (latitude, longitude))
        if self._breaks(fix, speed):
            self._doubted, self._steady_ns = True, at_ns
        elif self._last is None or at_ns - self._last.at_ns > STEADY_NS:
            self._steady_ns = at_ns
        self._last = fix
        if self._doubted and not self._convinces(fix):
            return
        self._doubted = False
        self._good_ns, self._driven_m = at_ns, 0.0
        self._measure(fix, speed)
        if self._is_near(speed):
            self._protected = fix

    def look(self, now_ns: int, speed: float | None) -> Place:
        """Return what the place is now.

        Args:
            now_ns: on the guard's clock.
            speed: as for `position`.
        """
        now_ns = self._advance(now_ns, speed)
        known = (
            not self._doubted
            and self._good_ns is not None
            and now_ns - self._good_ns < self._camera.no_fix_ns
        )
        if self._closed:
            return Place(PROTECTED)
        if known and self._is_near(speed):
            self._until_ns = now_ns + self._camera.exit_ns
            self._class = self._nearest.zone_class
        if now_ns < self._until_ns:
            return Place(PROTECTED, self._class)
        if not known:
            return Place(UNKNOWN)
        self._protected = None
        return Place(OPEN)

    def _advance(self, at_ns: int, speed: float | None) -> int:
        """Move the clock, and count how far the car can have come meanwhile."""
        if self._now_ns is not None:
            at_ns = max(at_ns, self._now_ns)
            self._driven_m += _speed(speed) * (at_ns - self._now_ns) / 1e9
        self._now_ns = at_ns
        return at_ns

    def _breaks(self, fix: _Fix, speed: float | None) -> bool:
        """Return whether a position jumps, or stands still while the car does not."""
        last = self._last
        if last is None or last.place != fix.place or _speed(speed) <= STANDING:
            self._changed_ns = fix.at_ns
        frozen = fix.at_ns - self._changed_ns >= FROZEN_NS
        return frozen or (last is not None and not _can_reach(last, fix))

    def _convinces(self, fix: _Fix) -> bool:
        """Return whether trust that was lost comes back with this position."""
        if fix.at_ns - self._steady_ns < CONSISTENT_NS:
            return False
        return self._protected is None or _can_reach(self._protected, fix)

    def _measure(self, fix: _Fix, speed: float | None) -> None:
        """Set the nearest zone; far from all of them a lower bound does, and costs nothing."""
        if self._measured is not None:
            before, nearest = self._measured
            moved = metres_between(before.place, fix.place)
            bound = nearest.distance_m - moved
            if moved <= REUSED_M and bound > 2 * self._reach_m(speed) + SLACK_M:
                self._nearest = Nearest(bound, nearest.zone_class)
                return
        self._nearest = self._zones.nearest(*fix.place)
        self._measured = (fix, self._nearest)

    def _is_near(self, speed: float | None) -> bool:
        return self._nearest.distance_m - self._driven_m <= self._reach_m(speed)

    def _reach_m(self, speed: float | None) -> float:
        return self._camera.margin_m + _speed(speed) * LOOK_AHEAD_S


def _speed(speed: float | None) -> float:
    return FASTEST if speed is None or not math.isfinite(speed) else abs(speed)


def _can_reach(before: _Fix, after: _Fix) -> bool:
    """Return whether a car can have driven from one position to the other."""
    elapsed_s = (after.at_ns - before.at_ns) / 1e9
    return metres_between(before.place, after.place) <= FASTEST * elapsed_s + SLACK_M


def _is_place(latitude: float, longitude: float) -> bool:
    """Return whether two numbers are a place; NaN is none."""
    if not (abs(latitude) <= 90 and abs(longitude) <= 180):
        return False
    return abs(latitude) >= NULL_DEGREES or abs(longitude) >= NULL_DEGREES
