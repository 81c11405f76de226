"""Drives, as data: what the driver wants, piece by piece. A new scenario is a new entry.

A leg asks for a speed, and the simulated driver works the pedals; or it prescribes the brake
pedal. The car follows by its own physics, so speeds are wishes and decelerations are results.
Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, repeat
from typing import Final

KMH: Final = 1 / 3.6  # m/s


@dataclass(frozen=True, slots=True)
class Leg:
    """A piece of a drive.

    Attributes:
        seconds: how long it lasts.
        speed_kmh: wanted speed.
        steering_deg: wanted steering wheel angle, left positive.
        brake_percent: brake pedal to press in any case, 0..100; 0 leaves it to the driver.
        indicator: 0 off, 1 left, 2 right.
        fix: satellites are in view; False in a tunnel.
    """

    seconds: float
    speed_kmh: float
    steering_deg: float = 0.0
    brake_percent: float = 0.0
    indicator: int = 0
    fix: bool = True


@dataclass(frozen=True, slots=True)
class Scenario:
    """A drive.

    Attributes:
        summary: one line for --help.
        start_kmh: speed in the first moment.
        latitude, longitude, heading_deg: where the drive begins, WGS 84, north 0, east 90.
        soc_percent: charge in the first moment.
        clip_s: the front camera begins a new dash-cam clip this often.
        legs: in order, then from the beginning again.
        braking: legs that interrupt the others at the brake time; empty if there is none.
    """

    summary: str
    start_kmh: float
    latitude: float
    longitude: float
    heading_deg: float
    soc_percent: float
    clip_s: float
    legs: tuple[Leg, ...]
    braking: tuple[Leg, ...] = ()


SCENARIOS: Final[dict[str, Scenario]] = {
    "commute": Scenario(
        summary="town, a motorway with a tunnel, town again; gentle driving",
        start_kmh=0,
        latitude=48.137154,
        longitude=11.576124,
        heading_deg=40,
        soc_percent=78,
        clip_s=30,
        legs=(
            Leg(2, 0),
            Leg(12, 50),
            Leg(7, 28, indicator=1),
            Leg(4, 28, steering_deg=100, indicator=1),
            Leg(10, 52, steering_deg=-3),
            Leg(8, 0),
            Leg(3, 0),
            Leg(15, 50, steering_deg=2),
            Leg(8, 25, indicator=2),
            Leg(4, 25, steering_deg=-130, indicator=2),
            Leg(25, 110, steering_deg=1),
            Leg(12, 100, fix=False),
            Leg(20, 115, steering_deg=-2),
            Leg(10, 60, steering_deg=5, indicator=2),
            Leg(14, 45, steering_deg=-6),
            Leg(9, 0),
            Leg(4, 0),
        ),
    ),
    "hard-brake": Scenario(
        summary="a country road; the brake is stamped on at --brake-at, to a standstill",
        start_kmh=80,
        latitude=48.402211,
        longitude=11.744837,
        heading_deg=15,
        soc_percent=64,
        clip_s=10,
        legs=(
            Leg(5, 82, steering_deg=2),
            Leg(4, 85, steering_deg=-4),
            Leg(6, 80, steering_deg=3),
            Leg(5, 88),
        ),
        braking=(Leg(4, 0, brake_percent=100), Leg(2, 0)),
    ),
}


def legs_of(scenario: Scenario, *, brake_at_s: float) -> Iterator[Leg]:
    """Return the legs of a drive without end, the braking put in at its time.

    Args:
        scenario: what to drive.
        brake_at_s: when the braking begins, seconds from the start; without meaning if the
            scenario has no braking.
    """
    round_trip: Iterable[Leg] = chain.from_iterable(repeat(scenario.legs))
    if not scenario.braking:
        yield from round_trip
        return
    left = brake_at_s
    for leg in round_trip:
        if left <= leg.seconds:
            yield replace(leg, seconds=left)
            break
        left -= leg.seconds
        yield leg
    yield from scenario.braking
    yield from chain.from_iterable(repeat(scenario.legs))
