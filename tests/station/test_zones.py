"""Zones at the station: what of GeoJSON is taken, what is refused, and who gets the key."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from agent.cli.station_zones import zones as command
from agent.config import load_config
from agent.errors import ConfigError
from agent.policy.zone_file import open_zones
from agent.station import zones
from agent.station.zones import read_source
from tests.station.conftest import Place, enroll, make_region

SQUARE = [[116.0, 40.0], [116.01, 40.0], [116.01, 40.01], [116.0, 40.01], [116.0, 40.0]]
HOLE = [[116.004, 40.004], [116.006, 40.004], [116.006, 40.006], [116.004, 40.004]]


def feature(
    coordinates: Any, kind: str = "Polygon", zone_class: Any = "military"
) -> dict[str, Any]:
    return {
        "type": "Feature",
        "properties": {"class": zone_class},
        "geometry": {"type": kind, "coordinates": coordinates},
    }


def collection(*features: Any, **more: Any) -> bytes:
    return json.dumps({"type": "FeatureCollection", "features": features, **more}).encode()


def read(*features: Any, **more: Any) -> zones.Source:
    return read_source(collection(*features, **more), where="zones.geojson")


def test_polygons_become_zones_and_holes_are_closed() -> None:
    source = read(
        feature([SQUARE, HOLE]),
        feature([[SQUARE], [[[x + 1, y, 12.5] for x, y in SQUARE]]], "MultiPolygon", "port"),
    )
    assert [zone.zone_class for zone in source.zones] == ["military", "port", "port"]
    assert source.zones[0].ring == (
        (40_000_000, 116_000_000), (40_000_000, 116_010_000),
        (40_010_000, 116_010_000), (40_010_000, 116_000_000),
    )  # fmt: skip
    assert source.holes == 1


def test_a_reference_system_that_is_wgs_84_may_be_named() -> None:
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:OGC:1.3:CRS84"}}
    assert len(read(feature([SQUARE]), crs=crs).zones) == 1


def moved(ring: list[list[float]], east: float, north: float = 0.0) -> list[list[float]]:
    return [[x + east, y + north] for x, y in ring]


def at(number: int, vertex: Any) -> list[list[Any]]:
    ring: list[Any] = [*SQUARE]
    ring[number] = vertex
    return ring


BOW = [[0.0, 1.0], [0.1, 1.1], [0.1, 1.0], [0.0, 1.1], [0.0, 1.0]]


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (feature([at(2, [40.01, 116.01])]), "feature 1: vertex 2: longitude 40.01, latitude"),
        (feature([at(2, [116.01, None])]), "feature 1: vertex 2 is not"),
        (feature([at(2, [116.01, True])]), "feature 1: vertex 2 is not"),
        (feature([at(2, [116.01])]), "feature 1: vertex 2 is not"),
        (feature([at(2, [116.01, float("nan")])]), "feature 1: vertex 2 is not"),
        (feature([at(2, [116.01, 85.1])]), "feature 1: vertex 2: latitude 85.1 is too near"),
        (feature([SQUARE[:-1]]), "feature 1: the ring is not closed"),
        (feature([[[0, 1]] * 5]), "feature 1: 1 different vertices"),
        (feature([BOW]), "feature 1: the ring crosses itself: the sides from vertex 0"),
        (feature([[[-179, 0], [179, 0], [179, 1], [-179, 0]]]), "across the antimeridian"),
        (feature([[SQUARE], [at(1, 7)]], "MultiPolygon"), "feature 1, polygon 1: vertex 1"),
        (feature([]), "feature 1: the coordinates"),
        (feature(None), "feature 1: the coordinates"),
        (feature([7]), "feature 1: the coordinates"),
        (feature([SQUARE], "LineString"), "feature 1: geometry 'LineString'"),
        (feature([SQUARE], zone_class="Military"), "feature 1: property 'class'"),
        (feature([SQUARE], zone_class=None), "feature 1: property 'class'"),
        ({"type": "Feature", "properties": {"class": "port"}, "geometry": None}, "geometry None"),
        (7, "feature 1: not a Feature"),
    ],
)
def test_an_objection_names_the_feature_and_the_vertex(bad: Any, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(feature([SQUARE]), bad)
    assert says in str(caught.value)
    assert str(caught.value).startswith("zones.geojson: ")


@pytest.mark.parametrize(
    "data",
    [
        b"", b"[]", b"{", b"\xff", b"[" * 100_000, b'{"type": "Feature"}', collection(),
        collection(feature([SQUARE]), crs={"properties": {"name": "EPSG:4490"}}),
    ],
)  # fmt: skip
def test_what_is_no_collection_of_zones_is_refused(data: bytes) -> None:
    with pytest.raises(ConfigError):
        read_source(data, where="zones.geojson")


def test_more_than_the_limits_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zones, "MAX_POLYGONS", 2)
    monkeypatch.setattr(zones, "MAX_CLASSES", 1)
    with pytest.raises(ConfigError, match="3 polygons"):
        read(*[feature([SQUARE])] * 3)
    with pytest.raises(ConfigError, match="classes"):
        read(feature([SQUARE]), feature([SQUARE], zone_class="port"))


def test_a_region_has_a_key_and_its_cars_have_it_too(place: Place) -> None:
    key = place.region.zones_key()
    assert len(key) == 32
    config = load_config(place.bundle / "agent.toml")
    assert config.vehicle.zones_key is not None
    assert config.vehicle.zones_key.file().read_bytes() == key
    assert stat.S_IMODE(config.vehicle.zones_key.file().stat().st_mode) == 0o600


def test_a_region_from_before_gets_its_key_when_it_is_needed(tmp_path: Path) -> None:
    region = make_region(tmp_path / "cn")
    (region.path / "zones.key").unlink()
    enroll(region, tmp_path / "car")
    assert (tmp_path / "car" / "zones.key").read_bytes() == region.zones_key()
    assert stat.S_IMODE((region.path / "zones.key").stat().st_mode) == 0o600


@pytest.mark.parametrize("damage", ["short", "open"])
def test_a_key_that_is_none_is_refused(tmp_path: Path, damage: str) -> None:
    region = make_region(tmp_path / "cn")
    path = region.path / "zones.key"
    if damage == "short":
        path.write_bytes(b"short")
    else:
        path.chmod(0o644)
    with pytest.raises(ConfigError, match=r"zones\.key"):
        region.zones_key()


def test_seal_and_show_say_how_much_and_not_where(place: Place, tmp_path: Path) -> None:
    source, sealed = tmp_path / "zones.geojson", tmp_path / "zones.sealed"
    source.write_bytes(collection(feature([SQUARE, HOLE]), feature([moved(SQUARE, 3)])))
    folder, runner = str(place.region.path), CliRunner()
    made = runner.invoke(command, ["seal", str(source), "--region", folder, "-o", str(sealed)])
    assert made.exit_code == 0, made.output
    assert "2 polygons" in made.output
    assert "1 hole was closed" in made.output
    opened = open_zones(sealed.read_bytes(), place.region.zones_key(), place.region.card.region)
    assert len(opened) == 2
    shown = runner.invoke(command, ["show", str(sealed), "--region", folder])
    assert "military: 2 polygons, 8 vertices, 1393 to 1393 m across" in shown.output
    blind = runner.invoke(command, ["show", str(sealed), "--json"])
    assert json.loads(blind.output) == {"sealed_bytes": len(sealed.read_bytes())}
    for result in (made, shown, blind):
        assert "116" not in result.output
        assert "40.0" not in result.output
    where = runner.invoke(command, ["show", str(sealed), "--region", folder, "--bounds", "--json"])
    assert json.loads(where.output)["bounds"] == [40.0, 116.0, 40.01, 119.01]


def test_the_key_of_another_region_shows_nothing(place: Place, tmp_path: Path) -> None:
    source, sealed = tmp_path / "zones.geojson", tmp_path / "zones.sealed"
    source.write_bytes(collection(feature([SQUARE])))
    other = make_region(tmp_path / "eu", region_id="eu")
    runner = CliRunner()
    runner.invoke(
        command, ["seal", str(source), "--region", str(place.region.path), "-o", str(sealed)]
    )
    result = runner.invoke(command, ["show", str(sealed), "--region", str(other.path)])
    assert result.exit_code == 1
    assert "altered, or for another region" in str(result.exception)


@pytest.mark.parametrize(
    "arguments",
    [
        ["show", "missing"],
        ["show", "plain"],
        ["show", "plain", "--bounds"],
        ["seal", "missing", "--region", "{region}", "-o", "out"],
        ["seal", "plain", "--region", "nowhere", "-o", "out"],
        ["seal", "good", "--region", "{region}", "-o", "no/such/folder"],
    ],
)
def test_wrong_use_is_one_line(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plain").write_text("no zones")
    (tmp_path / "good").write_bytes(collection(feature([SQUARE])))
    words = [one.format(region=os.fspath(place.region.path)) for one in arguments]
    result = CliRunner().invoke(command, words)
    assert isinstance(result.exception, ConfigError)
    assert "\n" not in str(result.exception)
