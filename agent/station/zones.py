"""Protected zones, from the GeoJSON that an authority hands over to the sealed file for policies.

- Taken: a FeatureCollection of Polygons and MultiPolygons (RFC 7946), longitude first, WGS 84, each
  feature with a text property "class": a-z, 0-9, '-', '_', at most 32, e.g. "military".
- Each objection names the feature and the vertex, counted from 0 as they stand in the file.
- Holes are closed: a place inside a hole counts as inside, and how many there were is returned.
- Refused: a ring that is not closed or crosses itself, a vertex beyond 85 degrees of latitude, a
  polygon across the antimeridian (RFC 7946 3.1.9: cut it there), another reference system. A list
  in GCJ-02 cannot be told from one in WGS 84; it would be some 500 m off.
- Vertices are rounded to 1e-6 degrees, 0.11 m.

Pure but for `load_source`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np

from agent.errors import ConfigError
from agent.files import read_plain
from agent.policy.zones import (
    MAX_CLASS,
    MAX_CLASSES,
    MAX_LATITUDE,
    MAX_POLYGONS,
    MAX_RING,
    MAX_VERTICES,
    UNITS,
    Zone,
    Zones,
    metres_between,
)

MAX_SOURCE_BYTES: Final = 32 << 20
CLASS: Final = re.compile(rf"[a-z0-9][a-z0-9_-]{{0,{MAX_CLASS - 1}}}")
WGS84: Final = re.compile(r".*(CRS84|EPSG:+4326)", re.IGNORECASE)

Ring = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Source:
    """What a GeoJSON file holds.

    Attributes:
        zones: one for each polygon, in the order of the file.
        holes: how many inner rings were closed.
    """

    zones: tuple[Zone, ...]
    holes: int


@dataclass(frozen=True, slots=True)
class Extent:
    """What may be said of the zones of one class without saying where they are.

    Attributes:
        zone_class: the class.
        polygons: how many.
        vertices: of all of them.
        smallest_m: diagonal of the smallest bounding box, m.
        largest_m: of the largest.
    """

    zone_class: str
    polygons: int
    vertices: int
    smallest_m: float
    largest_m: float


def load_source(path: Path) -> Source:
    """Read a GeoJSON file.

    Raises:
        ConfigError: it cannot be read, or see `read_source`.
    """
    try:
        data = read_plain(path, MAX_SOURCE_BYTES)
    except OSError as error:
        raise ConfigError(f"cannot read the zones: {error.strerror}", where=str(path)) from None
    return read_source(data, where=str(path))


def read_source(data: bytes, *, where: str) -> Source:
    """Return the zones of a GeoJSON text.

    Args:
        data: the text.
        where: name of the file, for messages.

    Raises:
        ConfigError: not such a file; names feature and vertex.
    """
    if len(data) > MAX_SOURCE_BYTES:
        raise ConfigError(f"more than {MAX_SOURCE_BYTES >> 20} MiB of zones", where=where)
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"not JSON: {error}", where=where) from None
    return _Reader(where).read(document)


def extents(zones: Zones) -> list[Extent]:
    """Return what may be shown of each class, in the order of their names."""
    found: dict[str, list[Zone]] = {}
    for zone in zones.zones:
        found.setdefault(zone.zone_class, []).append(zone)
    return [
        Extent(
            name, len(some), sum(len(zone.ring) for zone in some),
            min(map(_diagonal_m, some)), max(map(_diagonal_m, some)),
        )
        for name, some in sorted(found.items())
    ]  # fmt: skip


def bounds(zones: Zones) -> tuple[float, float, float, float]:
    """Return south, west, north, east of all zones in degrees; these are places."""
    corners = np.array([vertex for zone in zones.zones for vertex in zone.ring]) / UNITS
    south, west = corners.min(axis=0).tolist()
    north, east = corners.max(axis=0).tolist()
    return south, west, north, east


class _Reader:
    """Reads one document, and knows where it is in it."""

    def __init__(self, where: str) -> None:
        self._file = where
        self._at = ""
        self._holes = 0

    def read(self, document: Any) -> Source:
        if not isinstance(document, dict) or document.get("type") != "FeatureCollection":
            raise self._error("not a GeoJSON FeatureCollection")
        self._check_reference(document.get("crs"))
        features = document.get("features")
        if not isinstance(features, list) or not features:
            raise self._error("'features' is not a list of at least one feature")
        zones = [zone for number, one in enumerate(features) for zone in self._feature(number, one)]
        self._at = ""
        vertices = sum(len(zone.ring) for zone in zones)
        if len(zones) > MAX_POLYGONS or vertices > MAX_VERTICES:
            raise self._error(
                f"{len(zones)} polygons and {vertices} vertices",
                f"at most {MAX_POLYGONS} and {MAX_VERTICES}",
            )
        if len({zone.zone_class for zone in zones}) > MAX_CLASSES:
            raise self._error(f"more than {MAX_CLASSES} classes")
        return Source(tuple(zones), self._holes)

    def _check_reference(self, system: Any) -> None:
        if system is None:
            return
        properties = system.get("properties") if isinstance(system, dict) else None
        name = properties.get("name") if isinstance(properties, dict) else None
        if not isinstance(name, str) or not WGS84.match(name):
            raise self._error("'crs' is another reference system", "convert it to WGS 84")

    def _feature(self, number: int, feature: Any) -> Iterator[Zone]:
        self._at = f"feature {number}"
        if not isinstance(feature, dict) or feature.get("type") != "Feature":
            raise self._error("not a Feature")
        properties, geometry = feature.get("properties"), feature.get("geometry")
        name = properties.get("class") if isinstance(properties, dict) else None
        if not isinstance(name, str) or not CLASS.fullmatch(name):
            raise self._error(
                "property 'class' is missing or malformed",
                f"write a-z, 0-9, '-', '_', at most {MAX_CLASS}, as \"military\"",
            )
        geometry = geometry if isinstance(geometry, dict) else {}
        kind = geometry.get("type")
        if kind not in ("Polygon", "MultiPolygon"):
            raise self._error(f"geometry {kind!r:.40}", "write a Polygon or a MultiPolygon")
        listed = geometry.get("coordinates")
        polygons = [listed] if kind == "Polygon" else self._list(listed, "MultiPolygon")
        for at, polygon in enumerate(polygons):
            self._at = f"feature {number}" + (f", polygon {at}" if kind == "MultiPolygon" else "")
            rings = self._list(polygon, "Polygon")
            self._holes += len(rings) - 1
            yield Zone(name, self._ring(rings[0]))

    def _ring(self, positions: Any) -> Ring:
        listed = self._list(positions, "ring")
        vertices = [self._vertex(at, position) for at, position in enumerate(listed)]
        if len(vertices) < 4 or vertices[0] != vertices[-1]:
            raise self._error(
                "the ring is not closed", "write at least 4 vertices, the last like the first"
            )
        # Neighbours that are one after rounding, and the repeated first.
        ring = [one for one, following in pairwise(vertices) if one != following]
        if len(set(ring)) < 3 or len(ring) > MAX_RING:
            raise self._error(f"{len(set(vertices))} different vertices", f"write 3 to {MAX_RING}")
        longitudes = [longitude for _, longitude in ring]
        if max(longitudes) - min(longitudes) > 180 * UNITS:
            raise self._error("reaches across the antimeridian", "cut it at 180 degrees")
        crossing = _crossing(ring)
        if crossing is not None:
            raise self._error(
                f"the ring crosses itself: the sides from vertex {crossing[0]} and from vertex "
                f"{crossing[1]}, repeated vertices not counted"
            )
        return tuple(ring)

    def _vertex(self, number: int, position: Any) -> tuple[int, int]:
        is_pair = isinstance(position, list) and 2 <= len(position) <= 3
        if not is_pair or not all(_is_number(one) for one in position):
            raise self._error(f"vertex {number} is not [longitude, latitude]")
        longitude, latitude = position[:2]
        if abs(latitude) > 90 or abs(longitude) > 180:
            raise self._error(
                f"vertex {number}: longitude {longitude}, latitude {latitude} is out of range",
                "GeoJSON writes longitude first",
            )
        if abs(latitude) * UNITS > MAX_LATITUDE:
            raise self._error(f"vertex {number}: latitude {latitude} is too near to a pole")
        return round(latitude * UNITS), round(longitude * UNITS)

    def _list(self, value: Any, what: str) -> list[Any]:
        if not isinstance(value, list) or not value:
            raise self._error(f"the coordinates are not those of a {what}")
        return value

    def _error(self, what: str, todo: str = "") -> ConfigError:
        place = f"{self._file}: {self._at}" if self._at else self._file
        return ConfigError(what, where=place, todo=todo)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _crossing(ring: list[tuple[int, int]]) -> tuple[int, int] | None:
    """Return the first two sides of a ring that cross, by their first vertices."""
    corners = np.array(ring, np.int64)  # products stay below 2^57: the signs are exact
    ends = np.roll(corners, -1, axis=0)
    for side in range(len(ring) - 2):
        others = np.arange(side + 2, len(ring) - (side == 0))
        one, end = corners[side], ends[side]
        # Each strictly on both sides of the other; sides that only touch do not cross.
        apart = _side(one, end, corners[others]) * _side(one, end, ends[others]) < 0
        apart &= (
            _side(corners[others], ends[others], one) * (_side(corners[others], ends[others], end))
            < 0
        )
        if apart.any():
            return side, int(others[np.argmax(apart)])
    return None


def _side(one: Any, end: Any, point: Any) -> Any:
    """Return on which side of lines points lie: -1, 0, 1."""
    return np.sign(
        (end[..., 0] - one[..., 0]) * (point[..., 1] - one[..., 1])
        - (end[..., 1] - one[..., 1]) * (point[..., 0] - one[..., 0])
    )


def _diagonal_m(zone: Zone) -> float:
    latitudes, longitudes = zip(*zone.ring, strict=True)
    return metres_between(
        (min(latitudes) / UNITS, min(longitudes) / UNITS),
        (max(latitudes) / UNITS, max(longitudes) / UNITS),
    )
