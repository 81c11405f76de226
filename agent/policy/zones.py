"""Protected zones, and how far a place is from the nearest: polygons on WGS 84.

- A zone is an outer ring of 3 or more vertices, joined by lines that are straight in degrees (as
  GeoJSON has it, RFC 7946 3.1.1), and a class. Holes are not known: what they would leave out is
  inside. A ring that winds around a place more than once holds it (non-zero rule).
- Distances are taken in the plane around the place, with the smallest radius of curvature that the
  earth has (6,335 km): within 10 km they are up to 1 % too short and at most 0.2 % too long.
- A zone may touch the antimeridian and is found from beyond it; it may not cross it, and no zone
  reaches within 5 degrees of a pole: a file with such a zone is refused where it is sealed.
- No message of this file names a place: what it refuses comes from a sealed file.

Pure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from google.protobuf.message import DecodeError

from agent.errors import PolicyError
from agent.pb import zones_pb2
from agent.policy.signals import Ints, spread

Floats = npt.NDArray[np.float64]

LEAST_RADIUS_M: Final = 6_335_000.0  # of WGS 84: along the meridian, at the equator
METRES_PER_DEGREE: Final = math.radians(1) * LEAST_RADIUS_M
UNITS: Final = 1_000_000  # vertices are whole numbers of 1e-6 degrees, 0.11 m
MAX_LATITUDE: Final = 85 * UNITS
MAX_LONGITUDE: Final = 180 * UNITS
MAX_POLYGONS: Final = 8192
MAX_VERTICES: Final = 100_000  # of all polygons together
MAX_RING: Final = 4096  # vertices of one polygon
MAX_CLASSES: Final = 64
MAX_CLASS: Final = 32  # characters


@dataclass(frozen=True, slots=True)
class Zone:
    """One polygon.

    Attributes:
        zone_class: e.g. "military".
        ring: (latitude, longitude) of each vertex in 1e-6 degrees; the first is not repeated.
    """

    zone_class: str
    ring: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Nearest:
    """The nearest zone of a place: 0 m if the place is inside; inf and "" if there is none."""

    distance_m: float
    zone_class: str


NOWHERE: Final = Nearest(math.inf, "")


def metres_between(one: tuple[float, float], other: tuple[float, float]) -> float:
    """Return the distance of two places that are near to each other; by the rule of the zones.

    Args:
        one: latitude, longitude in degrees.
        other: likewise.
    """
    east = (other[1] - one[1] + 540) % 360 - 180
    east *= math.cos(math.radians((one[0] + other[0]) / 2))
    return METRES_PER_DEGREE * math.hypot(other[0] - one[0], east)


class Zones:
    """All zones of a policy, laid out for quick questions.

    Args:
        zones: in any order; of several that hold a place, the first names the class.
    """

    def __init__(self, zones: Sequence[Zone]) -> None:
        self.zones = tuple(zones)
        counts = np.array([len(zone.ring) for zone in zones], np.int64)
        self._counts: Ints = counts
        self._starts: Ints = np.cumsum(counts) - counts
        flat = [vertex for zone in zones for vertex in zone.ring]
        corners: Floats = np.array(flat, np.float64).reshape(-1, 2) / UNITS
        following = np.arange(len(corners)) + 1
        following[self._starts + counts - 1] = self._starts  # rings close
        self._from: Floats = corners
        self._to: Floats = corners[following]
        self._boxes = _boxes(corners, self._starts)

    def __len__(self) -> int:
        return len(self.zones)

    def distance_m(self, latitude: float, longitude: float) -> float:
        """Return how far a place is from the nearest zone, in metres; 0 inside, inf: no zones."""
        return self.nearest(latitude, longitude).distance_m

    def nearest(self, latitude: float, longitude: float) -> Nearest:
        """Return the nearest zone of a place.

        Args:
            latitude: degrees, -90 to 90.
            longitude: degrees, -180 to 180.
        """
        if not self.zones:
            return NOWHERE
        south, north, west, east = self._boxes
        # Each polygon is moved by whole turns to where it is nearest: 179.9 and -179.9 are near.
        turn = 360.0 * np.rint((longitude - (west + east) / 2) / 360.0)
        scale = METRES_PER_DEGREE * math.cos(math.radians(latitude))
        x = longitude - turn
        x -= np.minimum(np.maximum(x, west), east)
        y = latitude - np.minimum(np.maximum(latitude, south), north)
        squares = np.square(x * scale) + np.square(y * METRES_PER_DEGREE)
        # No zone is nearer than its box, so boxes beyond the distance of one zone are out.
        likely = int(np.argmin(squares))
        place = (latitude, longitude, scale)
        best = float(self._exact(np.array([likely]), turn, place)[0])
        rest = np.flatnonzero(squares <= (best + 1e-3) ** 2)
        if len(rest) > 1:
            found = self._exact(rest, turn, place)
            likely, best = int(rest[np.argmin(found)]), float(found.min())
        return Nearest(best, self.zones[likely].zone_class)

    def _exact(self, which: Ints, turn: Floats, place: tuple[float, float, float]) -> Floats:
        """Return the distance of each of some polygons in metres, 0 inside."""
        latitude, longitude, scale = place
        counts = self._counts[which]
        run, edge = spread(counts, self._starts[which])
        shift = turn[which][run] - longitude
        # The place is the origin; x east and y north, in metres.
        x1 = (self._from[edge, 1] + shift) * scale
        x2 = (self._to[edge, 1] + shift) * scale
        y1 = (self._from[edge, 0] - latitude) * METRES_PER_DEGREE
        y2 = (self._to[edge, 0] - latitude) * METRES_PER_DEGREE
        dx, dy = x2 - x1, y2 - y1
        length = np.maximum(dx * dx + dy * dy, np.finfo(np.float64).tiny)
        along = np.clip(-(x1 * dx + y1 * dy) / length, 0, 1)
        starts = np.cumsum(counts) - counts
        distance: Floats = np.minimum.reduceat(np.hypot(x1 + along * dx, y1 + along * dy), starts)
        # Winding number: edges that cross the ray to the east, upwards less downwards.
        left = x1 * y2 - x2 * y1
        winds = ((y1 <= 0) & (y2 > 0) & (left > 0)).astype(np.int64)
        winds -= (y1 > 0) & (y2 <= 0) & (left < 0)
        distance[np.add.reduceat(winds, starts) != 0] = 0.0
        return distance


def _boxes(corners: Floats, starts: Ints) -> tuple[Floats, Floats, Floats, Floats]:
    """Return south, north, west and east of each polygon in degrees."""
    if not len(starts):
        return (np.zeros(0),) * 4
    low, high = (pick.reduceat(corners, starts, axis=0) for pick in (np.minimum, np.maximum))
    south, west = np.ascontiguousarray(low.T)
    north, east = np.ascontiguousarray(high.T)
    return south, north, west, east


def pack_zones(zones: Sequence[Zone]) -> bytes:
    """Return the bytes of some zones, as `parse_zones` takes them."""
    table = zones_pb2.ZoneTable(zone_class=sorted({zone.zone_class for zone in zones}))
    numbers = {name: number for number, name in enumerate(table.zone_class)}
    table.of.extend(numbers[zone.zone_class] for zone in zones)
    table.vertices.extend(len(zone.ring) for zone in zones)
    before = (0, 0)
    for vertex in (vertex for zone in zones for vertex in zone.ring):
        table.latitude.append(vertex[0] - before[0])
        table.longitude.append(vertex[1] - before[1])
        before = vertex
    return table.SerializeToString(deterministic=True)


def parse_zones(data: bytes) -> Zones:
    """Return the zones that the bytes hold.

    Raises:
        PolicyError: they hold none, or more than the limits allow, or values out of range.
    """
    table = zones_pb2.ZoneTable()
    try:
        table.ParseFromString(data)
    except DecodeError:
        raise _refusal("are damaged") from None
    names = tuple(table.zone_class)
    if not 1 <= len(table.of) <= MAX_POLYGONS or len(names) > MAX_CLASSES:
        raise _refusal(f"hold {len(table.of)} polygons of {len(names)} classes")
    if not all(
        1 <= len(name) <= MAX_CLASS and name.isascii() and name.isprintable() for name in names
    ):
        raise _refusal("name a class that is none")
    counts = np.array(table.vertices, np.int64)
    which = np.array(table.of, np.int64)
    steps = (np.array(table.latitude, np.int64), np.array(table.longitude, np.int64))
    total = int(counts.sum())
    if total > MAX_VERTICES or len(counts) != len(which):
        raise _refusal(f"hold {total} vertices of {len(counts)} polygons")
    if {len(steps[0]), len(steps[1])} != {total} or (which >= len(names)).any():
        raise _refusal("do not fit together")
    latitude, longitude = (np.cumsum(step) for step in steps)
    ends = np.cumsum(counts)
    if counts.min() < 3 or counts.max() > MAX_RING:
        raise _refusal("hold a polygon of too few or too many vertices")
    if np.abs(latitude).max() > MAX_LATITUDE or np.abs(longitude).max() > MAX_LONGITUDE:
        raise _refusal("hold a vertex out of range")
    vertices = list(zip(latitude.tolist(), longitude.tolist(), strict=True))
    return Zones(
        [
            Zone(names[of], tuple(vertices[end - count : end]))
            for of, count, end in zip(which.tolist(), counts.tolist(), ends.tolist(), strict=True)
        ]
    )


def _refusal(what: str) -> PolicyError:
    return PolicyError(what, where="zones", todo="seal them again")
