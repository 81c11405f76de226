"""`inland station zones`: seal the list of protected places for policies, and look at one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from agent.cli.common import counted, json_option, print_json
from agent.errors import ConfigError
from agent.files import cannot_write, read_plain

if TYPE_CHECKING:
    from agent.policy.zones import Zones
    from agent.station.authority import RegionFolder

FILE = click.Path(dir_okay=False, path_type=Path)
REGION = click.Path(file_okay=False, path_type=Path)


@click.group(name="zones")
def zones() -> None:
    """Protected zones: cameras are closed in and around them.

    The list is important data itself: it is sealed with the region's zones.key, travels in the
    policy, and is opened in the memory of the region's cars alone.

    \b
    Example:
      inland station zones seal zones.geojson --region cn -o zones.sealed
      inland station zones show zones.sealed --region cn
    """


@zones.command()
@click.argument("source", metavar="GEOJSON", type=FILE)
@click.option("--region", "folder", type=REGION, required=True, help="The region's folder.")
@click.option("-o", "--output", type=FILE, required=True, help="The sealed file.")
@json_option
def seal(source: Path, folder: Path, output: Path, as_json: bool) -> None:
    """Check the zones of GEOJSON and seal them for a policy's `zones_file`.

    GEOJSON is a FeatureCollection of Polygons and MultiPolygons in WGS 84; each feature has a
    property "class". Holes count as inside.

    \b
    Example:
      inland station zones seal zones.geojson --region cn -o zones.sealed
    """
    import os

    from agent.files import write_output
    from agent.policy.zone_file import NONCE_BYTES, seal_zones
    from agent.policy.zones import Zones, pack_zones
    from agent.station.authority import load_region
    from agent.station.zones import load_source

    region = load_region(folder)
    read = load_source(source)
    sealed = seal_zones(
        pack_zones(read.zones), region.zones_key(), os.urandom(NONCE_BYTES), region.card.region
    )
    try:
        write_output(output, [sealed], mode=0o644)  # sealed: who may read it learns nothing
    except OSError as error:
        raise cannot_write(error, output, todo="name another file") from None
    _report(Zones(read.zones), len(sealed), as_json=as_json, holes=read.holes)


@zones.command()
@click.argument("sealed", metavar="SEALED", type=FILE)
@click.option("--region", "folder", type=REGION, help="The region's folder, which has the key.")
@click.option("--bounds", is_flag=True, help="Also say which part of the earth they lie in.")
@json_option
def show(sealed: Path, folder: Path | None, bounds: bool, as_json: bool) -> None:
    """Say how many zones of which classes and sizes a sealed file holds, not where they are.

    Without --region, and so without the key, only its size can be said.

    \b
    Example:
      inland station zones show zones.sealed --region cn
    """
    from agent.policy.clauses import MAX_ZONES_BYTES
    from agent.policy.zone_file import is_sealed, open_zones

    try:
        data = read_plain(sealed, MAX_ZONES_BYTES)
    except OSError as error:
        raise ConfigError(f"cannot read: {error.strerror}", where=str(sealed)) from None
    if not is_sealed(data):
        raise ConfigError(
            "not sealed zones", where=str(sealed), todo="make some with `inland station zones seal`"
        )
    if folder is None:
        if bounds:
            raise ConfigError("needs the key", where="--bounds", todo="name --region as well")
        if as_json:
            print_json({"sealed_bytes": len(data)})
            return
        click.echo(f"{len(data)} bytes of sealed zones; name --region to look inside")
        return
    region = _region(folder)
    _report(
        open_zones(data, region.zones_key(), region.card.region), len(data),
        as_json=as_json, bounded=bounds,
    )  # fmt: skip


def _region(folder: Path) -> RegionFolder:
    from agent.station.authority import load_region

    return load_region(folder)


def _report(
    found: Zones, size: int, *, as_json: bool, holes: int = 0, bounded: bool = False
) -> None:
    """Print what may be said of zones; where they are only if that was asked for."""
    from dataclasses import asdict

    from agent.station.zones import bounds, extents

    listed = extents(found)
    if as_json:
        values = {"sealed_bytes": size, "classes": [asdict(one) for one in listed]}
        values |= {"holes_closed": holes} if holes else {}
        values |= {"bounds": bounds(found)} if bounded else {}
        print_json(values)
        return
    click.echo(f"{counted(len(found), 'polygon')}, {size} bytes sealed")
    for one in listed:
        click.echo(
            f"  {one.zone_class}: {counted(one.polygons, 'polygon')}, {one.vertices} vertices, "
            f"{one.smallest_m:.0f} to {one.largest_m:.0f} m across"
        )
    if holes:
        click.echo(f"{counted(holes, 'hole was', 'holes were')} closed: inside counts as inside")
    if bounded:
        south, west, north, east = bounds(found)
        click.echo(f"between {south:.2f} and {north:.2f} north, {west:.2f} and {east:.2f} east")
