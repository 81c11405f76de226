"""`inland ledger`: what the car's ledger says. It needs no key and shows no contents."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agent.cli.common import config_option, json_option, print_json

if TYPE_CHECKING:
    from agent.pb.ledger_pb2 import Entry
    from agent.vault.yearly import LedgerReader

MANY = 100_000  # entries that take about a second


@click.command()
@click.option("--year", type=click.IntRange(1970, 2500), help="The report of a year, UTC.")
@click.option(
    "--last", type=click.IntRange(1, 100_000), default=20, show_default=True,
    help="So many entries, the newest at the end.",
)  # fmt: skip
@click.option(
    "--state", type=click.Path(path_type=Path), help="State folder, in place of the configured one."
)
@config_option
@json_option
def command(
    *, year: int | None, last: int, state: Path | None, config_path: Path, as_json: bool
) -> None:
    """Say what the agent has done: the last entries of its ledger, or the counts of a year.

    It can be asked at any time, also while the agent runs.

    \b
    Examples:
      inland ledger --last 50
      inland ledger --year 2026 --json
    """
    from agent.config import load_config
    from agent.service.acting import act_as_owner_of
    from agent.vault.yearly import LedgerReader

    folder = state if state is not None else load_config(config_path).state
    act_as_owner_of(folder)
    with LedgerReader(folder) as reader:
        if year is None:
            _show_last(reader, last, as_json=as_json)
        else:
            _show_year(reader, year, as_json=as_json)


def _show_last(reader: LedgerReader, count: int, *, as_json: bool) -> None:
    from agent.cli.ledger_view import line, said

    for entry in reader.entries(max(0, reader.size() - count)):
        if as_json:
            print_json(said(entry))
        else:
            click.echo(line(entry))


def _show_year(reader: LedgerReader, year: int, *, as_json: bool) -> None:
    from agent.cli.ledger_view import year_lines
    from agent.service.ledger import Yearly, report

    yearly = Yearly(year, reader.policy)
    with _progress(reader) as entries:
        for entry in entries:
            yearly.add(entry)
    tally = yearly.finish(reader.present_month())
    waiting = reader.waiting(tally.first, tally.last) if tally.entries else 0
    told = report(tally, waiting)
    if as_json:
        print_json(told)
    else:
        click.echo("\n".join(year_lines(told)))


@contextmanager
def _progress(reader: LedgerReader) -> Iterator[Iterable[Entry]]:
    """Show a bar on a terminal if it takes longer than a second."""
    size = reader.size()
    if size < MANY or not sys.stderr.isatty():
        yield reader.entries()
        return
    with click.progressbar(
        reader.entries(), length=size, label="reading", file=sys.stderr, update_min_steps=10_000
    ) as bar:
        yield bar
