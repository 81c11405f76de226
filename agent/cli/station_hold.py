"""`inland station hold`: the region tells a car that what it has is not to be erased at a sale."""

from __future__ import annotations

import time
from pathlib import Path

import click

from agent.cli.common import (
    json_option,
    moment_of,
    output_option,
    print_json,
    save_new,
)
from agent.errors import ConfigError

MONTHS_S = 90 * 86_400  # how long it holds if nothing else is said


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.argument("vehicle")
@click.option("--reference", required=True, help="Of the authority's file; the car shows it.")
@click.option(
    "--until", metavar="TIME",
    help="ISO 8601 (UTC) or Unix seconds, 180 days at most.  [default: 90 days]",
)  # fmt: skip
@output_option
@json_option
def hold(
    *, folder: Path, vehicle: str, reference: str, until: str | None, output: Path, as_json: bool
) -> None:
    """Sign an order that keeps a car from being erased at a sale.

    `inland transfer` then refuses, and with --even-held asks a second time.
    Somebody brings the file to the car: `inland transfer --hold FILE`. It is not sent to the car,
    and it keeps nothing from the retention times and the room that the car has.

    \b
    Example:
      inland station hold cn v-1f0c --reference '3 Js 17/26' --until 2027-02-01 -o hold.json
    """
    import contextlib

    from agent.evidence.signed import words
    from agent.owner.hold import MAX_S, sign
    from agent.station.authority import load_region
    from agent.station.store import Store

    region, now_s = load_region(folder), int(time.time())
    with contextlib.closing(Store(region.path / "station.db")) as store:
        store.enrolled(vehicle, str(folder))
    until_ns = moment_of(until, "--until", None)
    until_s = now_s + MONTHS_S if until_ns is None else until_ns // 10**9
    if not now_s < until_s <= now_s + MAX_S:
        raise ConfigError(f"it is over, or holds for more than {MAX_S // 86_400} days",
                          where="--until", todo="sign another one when it ends")  # fmt: skip
    try:
        said = words(reference, "--reference")
    except ValueError as error:
        raise ConfigError(str(error), where="inland station hold") from None
    save_new(output, sign(vehicle, said, until_s, region.signing_key("receipt")).encode())
    if as_json:
        print_json({"hold": str(output.absolute()), "vehicle": vehicle, "until_s": until_s})
        return
    click.echo(f"{output}: for the car; there: inland transfer --hold {output.name}")
