"""`inland owner export`: the owner's copy of what the car has kept, for a stick or a folder."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.cli.common import config_option, json_option, moments_of, print_json
from agent.errors import ConfigError

if TYPE_CHECKING:
    from agent.owner.export import Exported, Progress

MAX_LINES = 5


@click.command()
@click.option("--from", "start", metavar="TIME", help="ISO 8601 (UTC) or Unix seconds.")
@click.option("--to", "end", metavar="TIME", help="Inclusive; without it: to the newest entry.")
@click.option(
    "--category", "categories", multiple=True, metavar="NAME",
    help="Leave out what can only be of other categories. May be given several times.",
)  # fmt: skip
@click.option(
    "-o", "--out", type=click.Path(path_type=Path, file_okay=False, exists=True), default=".",
    help="The folder, or stick, in which the bundle is made.  [default: here]",
)  # fmt: skip
@config_option
@json_option
def export(
    *, start: str | None, end: str | None, categories: tuple[str, ...], out: Path,
    config_path: Path, as_json: bool,
) -> None:  # fmt: skip
    """Write a bundle of what the car has kept in a time, with the proof that nobody changed it.

    The agent may run meanwhile. Nothing in the bundle can be read without the owner's key (`inland
    owner open`, at home), and anybody can check it (`inland verify`). It is whole, or not there.

    \b
    Examples:
      inland owner export -o /media/stick
      inland owner export --from 2026-11-22T08:00:00 --to 2026-11-22T08:30:00 -o /media/stick
      inland owner export --category powertrain --json
    """
    import datetime as dt
    import time
    from functools import partial
    from threading import Event

    from agent.config import load_config
    from agent.evidence.bundle import Asked
    from agent.owner.export import Order
    from agent.owner.export import export as write
    from agent.owner.witness import ask_for_witness
    from agent.region import load_region_card
    from agent.service.acting import acting_as

    config = load_config(config_path)
    asked = Asked(*moments_of(start, end), categories)
    made = dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    card = load_region_card(config.region_card)
    order = Order(config.state, out, card, config.vehicle.id, asked, made)
    witness = partial(ask_for_witness, config.hatch, clock=time.monotonic, pause=Event().wait)
    with _Bars() as bars:
        done = write(
            order, ask_witness=witness, acting=partial(acting_as, _owner(config.state)),
            progress=bars.progress,
        )  # fmt: skip
    _report(done, as_json=as_json)


def _owner(state: Path) -> Any:
    import os

    from agent.service.acting import other_owner

    owner = other_owner(state)
    if owner is None and state.exists() and not os.access(state, os.R_OK | os.X_OK):
        raise ConfigError("belongs to another user", where=str(state), todo="say sudo")
    return owner


class _Bars:
    """A bar on a terminal for reading, another for writing."""

    def __init__(self) -> None:
        from agent.owner.export import Progress

        self._bar: Any = None
        self._left = 0
        self.progress: Progress = Progress(
            lambda count: self._begin("reading", count), self._go_on,
            lambda count: self._begin("writing", count), self._go_on,
        )  # fmt: skip

    def _begin(self, label: str, count: int) -> None:
        self._end()
        self._left = count
        self._bar = click.progressbar(
            length=count, label=label, file=sys.stderr, hidden=not sys.stderr.isatty()
        )
        self._bar.__enter__()

    def _go_on(self, count: int) -> None:
        self._left -= count
        self._bar.update(count)

    def _end(self) -> None:
        if self._bar is not None:
            self._bar.update(max(0, self._left))  # what had no need of it
            self._bar.__exit__(None, None, None)
            self._bar = None

    def __enter__(self) -> _Bars:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()


def _report(done: Exported, *, as_json: bool) -> None:
    result = done.result
    if as_json:
        print_json({
            "bundle": str(done.folder), "verdict": result["verdict"],
            "altered": result["altered"], "missing": result["missing"],
            "presence": result["presence"], "logs": result["logs"],
            "cosigned": done.witness.cosigned, "why_not": done.witness.why,
            "unread_logs": done.unread,
        })  # fmt: skip
        return
    click.echo(str(done.folder))
    for name, states in result["presence"].items():
        click.echo(f"  {name}: " + ", ".join(f"{count:,} {one}" for one, count in states.items()))
    if not result["presence"]:
        click.echo("  nothing was kept in that time: entries and proofs alone are in it")
    if done.unread:
        click.echo(f"  {done.unread} damaged logs in quarantine could not be read", err=True)
    lines = result["altered"] + result["missing"]
    for line in lines[:MAX_LINES]:
        click.echo(f"  {line}", err=True)
    if len(lines) > MAX_LINES:
        click.echo(f"  and {len(lines) - MAX_LINES} more: `inland verify` lists them", err=True)
    if done.witness.why and result["verdict"]:
        click.echo(
            f"  {done.witness.why}: `inland verify` cannot decide on entries that the region has"
            " not seen; export again when it has", err=True,
        )  # fmt: skip
