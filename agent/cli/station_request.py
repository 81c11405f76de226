"""`inland station request`: an owner's signed request, answered with a bundle."""

from __future__ import annotations

from pathlib import Path

import click

from agent.cli.common import json_option, print_json
from agent.errors import ConfigError

FOLDER = click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
FILE = click.argument("file", type=click.Path(dir_okay=False, path_type=Path))


def read_signed(path: Path) -> bytes:
    """Return a signed file as it is.

    Raises:
        ConfigError: it cannot be read.
    """
    from agent.evidence.signed import MAX_BYTES
    from agent.files import read_plain

    try:
        return read_plain(path, MAX_BYTES)
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", where=str(path)) from None


@click.command()
@FOLDER
@FILE
@click.option(
    "-o", "--out", type=click.Path(path_type=Path, file_okay=False, exists=True), default=".",
    help="The folder in which the bundle is made.  [default: here]",
)  # fmt: skip
@json_option
def request(*, folder: Path, file: Path, out: Path, as_json: bool) -> None:
    """Answer the request in FILE with a bundle. Nothing is opened; it is recorded first.

    The signer has to be, or to have been at the time asked for, a person that the car enrolled. A
    request is served once, until it expires; the answer has what is sealed to that person.

    \b
    Example:
      inland station request cn ask.json -o answers
    """
    import contextlib
    import datetime as dt

    from agent.cli.station_view import counted
    from agent.station.answer import answer
    from agent.station.authority import load_region
    from agent.station.disclose import os_user
    from agent.station.store import Store

    region, data = load_region(folder), read_signed(file)
    with contextlib.closing(Store(region.path / "station.db")) as store:
        done = answer(region, store, data, out, who=os_user(), now=dt.datetime.now(dt.UTC))
    if as_json:
        print_json({
            "bundle": str(done.folder), "vehicle": done.request.vehicle, "kid": done.request.kid,
            "role": done.role, "bodies": done.bodies, "opening": done.opening,
            "verdict": done.result["verdict"],
        })  # fmt: skip
        return
    click.echo(str(done.folder))
    click.echo(f"for the {done.role} {done.request.kid}: {counted(done.bodies, 'sealed part')}")
    for line in done.result["altered"] + done.result["missing"]:
        click.echo(f"  {line}", err=True)
