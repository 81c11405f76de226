"""Drives, as data: what the driver wants, piece by piece. A new scenario is a new entry.

A leg asks for a speed, and the simulated driver works the pedals; or it prescribes the brake
pedal. The car follows by its own physics, so speeds are wishes and decelerations are results.
Places are fictitious: a zone lies where nobody lives.

Pure.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, repeat
from typing import Final

KMH: Final = 1 / 3.6  # m/s
EARTH_RADIUS: Final = 6_371_000.0  # m
OFF, ACCESSORY, ON = 0, 1, 2  # ignition


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
        ignition: OFF, ACCESSORY or ON; without it the car stands, and nobody works the pedals.
        parked: the car is put into park as soon as it stands; else it waits in drive.
        belt: the driver's belt is closed.
        door: the driver's door is open.
        motion: something moves beside the car, which a parked car's cameras notice.
    """

    seconds: float
    speed_kmh: float
    steering_deg: float = 0.0
    brake_percent: float = 0.0
    indicator: int = 0
    fix: bool = True
    ignition: int = ON
    parked: bool = False
    belt: bool = True
    door: bool = False
    motion: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """A square on the ground, its sides to the north, east, south and west.

    Attributes:
        latitude, longitude: of its centre, WGS 84.
        half_m: from the centre to a side.
    """

    latitude: float
    longitude: float
    half_m: float

    @property
    def corners(self) -> tuple[tuple[float, float], ...]:
        """(latitude, longitude) of the corners: south-west, south-east, north-east, north-west."""
        north = math.degrees(self.half_m / EARTH_RADIUS)
        east = north / math.cos(math.radians(self.latitude))
        return tuple(
            (self.latitude + y * north, self.longitude + x * east)
            for y, x in ((-1, -1), (-1, 1), (1, 1), (1, -1))
        )


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
        place: that the road leads through, for those who test what a protected zone does.
        flood: the bus is full, whatever the load, of ids that no DBC file has.
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
    place: Place | None = None
    flood: bool = False


# The road of military-zone leads due east through the middle of it: its near side is 2,000 m from
# the start (60 s at 120 km/h), its far side 3,000 m.
ZONE: Final = Place(latitude=39.2, longitude=83.029013, half_m=500.0)
_PARKED: Final = Leg(0, 0, ignition=OFF, parked=True, belt=False)

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
            Leg(2, 0, parked=True),
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
            Leg(4, 0, parked=True),
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
    "parked-watch": Scenario(
        summary="a parked car, ignition off; people pass, and its cameras announce it",
        start_kmh=0,
        latitude=48.150871,
        longitude=11.580213,
        heading_deg=260,
        soc_percent=71,
        clip_s=30,
        legs=(
            replace(_PARKED, seconds=4),
            replace(_PARKED, seconds=2, motion=True),
            replace(_PARKED, seconds=18),
            replace(_PARKED, seconds=5, motion=True),
            replace(_PARKED, seconds=31),
        ),
    ),
    "military-zone": Scenario(
        summary="a straight road at 120 km/h, through a protected place after a minute",
        start_kmh=120,
        latitude=39.2,
        longitude=83.0,
        heading_deg=90,
        soc_percent=83,
        clip_s=30,
        legs=(Leg(600, 120),),
        place=ZONE,
    ),
    "no-fix": Scenario(
        summary="a country road with a tunnel of 30 s, in which there are no satellites",
        start_kmh=80,
        latitude=47.571208,
        longitude=11.123744,
        heading_deg=190,
        soc_percent=58,
        clip_s=30,
        legs=(Leg(15, 80), Leg(30, 80, fix=False), Leg(45, 80)),
    ),
    "flood": Scenario(
        summary="a commute on a bus that somebody fills to the last bit with unknown ids",
        start_kmh=0,
        latitude=48.137154,
        longitude=11.576124,
        heading_deg=40,
        soc_percent=78,
        clip_s=30,
        legs=(Leg(2, 0, parked=True), Leg(12, 50), Leg(15, 60), Leg(20, 30), Leg(9, 0)),
        flood=True,
    ),
    "sold": Scenario(
        summary="a drive, the car is left and handed over, and somebody else drives it away",
        start_kmh=0,
        latitude=48.118341,
        longitude=11.544902,
        heading_deg=120,
        soc_percent=66,
        clip_s=30,
        legs=(
            Leg(2, 0, parked=True),
            Leg(12, 48),
            Leg(6, 30, steering_deg=60, indicator=1),
            Leg(10, 0),
            Leg(3, 0, parked=True, belt=False),
            replace(_PARKED, seconds=2),
            replace(_PARKED, seconds=3, door=True),
            replace(_PARKED, seconds=10),
            replace(_PARKED, seconds=3, door=True),
            Leg(3, 0, ignition=ACCESSORY, parked=True, belt=False),
            Leg(2, 0, parked=True),
            Leg(9, 70, steering_deg=-4),
            Leg(8, 92, steering_deg=3),
            Leg(14, 0),
            Leg(3, 0, parked=True, belt=False),
            replace(_PARKED, seconds=10),
        ),
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
