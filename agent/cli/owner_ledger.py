"""`inland owner ledger`: who got what of the car, as the region's bundle says."""

from __future__ import annotations

from pathlib import Path

import click

from agent.cli.common import counted, json_option, print_json, printable
from agent.errors import UndecidedError


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path, exists=True, file_okay=False))
@json_option
def ledger(*, bundle: Path, as_json: bool) -> None:
    """Say who opened or was given something of the car, from a BUNDLE that the region answered.

    It is the region's word: its ledger of openings, signed by itself. What an order bars it from
    telling is not in it before that date. Nothing here needs a key. The car itself does not know:
    ask the region for a bundle, and read this from it.

    \b
    Example:
      inland owner request --region cn --vehicle v-1f0c --purpose 'who got what' -o ask.json
      inland station request cn ask.json        (at the region, which sends the bundle back)
      inland owner ledger v-1f0c-20261122T080000Z.inland
    """
    from agent.cli.station_view import told
    from agent.evidence.disclosures import disclosures_of

    found = disclosures_of(bundle)
    if found is None:
        raise UndecidedError(
            "it does not say who got what", where=str(bundle),
            todo="a bundle from the region does: `inland owner request`",
        )  # fmt: skip
    if as_json:
        print_json({"vehicle": found.vehicle, "origin": found.origin,
                    "openings": list(found.openings), "checkpoint": found.checkpoint})  # fmt: skip
        return
    for one in found.openings:
        for line in told(one):
            click.echo(printable(line))
    click.echo(
        f"{counted(len(found.openings), 'opening')} of {found.vehicle}, by the region's word"
    )
