"""`inland station search`: which entries the region holds. Nothing is opened."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.cli.common import (
    LANES,
    json_option,
    lane_numbers,
    print_json,
    printable,
    span_of,
    span_options,
)

if TYPE_CHECKING:
    from agent.station.search import Hit


@click.command(name="search")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--vehicle", default="", help="Pseudonym, as `ls` shows it; all if left out.")
@click.option("--log", "log_id", default="", help="Beginning of a log id; all logs if left out.")
@span_options
@click.option(
    "--kind", "kinds", multiple=True, metavar="KIND",
    help="Of entry: segment, incident, loss, drop, consent, ... Repeat for more.",
)  # fmt: skip
@click.option(
    "--lane", "lanes", multiple=True, type=click.Choice(LANES),
    help="Segments on it. Repeat for more.",
)  # fmt: skip
@click.option(
    "--limit", type=click.IntRange(1, 1_000_000), default=1000, show_default=True,
    help="So many entries at most, the oldest.",
)  # fmt: skip
@json_option
def search(**options: Any) -> None:
    """Find entries by car, moment, kind and lane. Nothing is opened.

    Moments are those of the car's ledger. Exit code 1: nothing was found.

    \b
    Examples:
      inland station search cn --kind incident --from 2026-11-22
      inland station search cn --vehicle v-1f0c --kind loss --kind drop --json
    """
    from agent.errors import StationError
    from agent.station.authority import load_region
    from agent.station.search import Search, search
    from agent.station.store import Store

    limit = options["limit"]
    asked = Search(
        options["vehicle"], options["log_id"],
        *span_of(options["start"], options["end"]),
        options["kinds"], lane_numbers(options["lanes"]), limit + 1,
    )  # fmt: skip
    found = 0
    region = load_region(options["folder"])
    with contextlib.closing(Store(region.path / "station.db")) as store:
        for found, hit in enumerate(search(store, asked), start=1):
            if found > limit:
                click.echo(f"and more: narrow it, or raise --limit {limit}", err=True)
                break
            _say(hit, as_json=options["as_json"])
    if not found:
        raise StationError(
            "nothing was found", where=str(region.path / "station.db"),
            todo="`inland station ls` says what is there",
        )  # fmt: skip


def _say(hit: Hit, *, as_json: bool) -> None:
    from agent.cli.ledger_view import line, said

    if as_json:
        print_json(
            {
                "vehicle": hit.vehicle, "log": hit.log.hex(), **said(hit.entry),
                "body_bytes": hit.body, "dropped": hit.dropped,
            }
        )  # fmt: skip
        return
    gone = f"; the car let it go ({hit.dropped})" if hit.dropped and hit.body is None else ""
    click.echo(printable(f"{hit.vehicle}  {hit.log.hex()[:8]}{line(hit.entry)}{gone}"))
