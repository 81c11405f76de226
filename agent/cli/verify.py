"""`inland verify`: whether a bundle is intact. It needs no key, and trusts nobody."""

from __future__ import annotations

from pathlib import Path

import click

from agent.cli.common import json_option, print_json
from agent.errors import ConfigError


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "--card", type=click.Path(path_type=Path, dir_okay=False),
    help="The region's card: believe its keys, not those that stand in the bundle.",
)  # fmt: skip
@json_option
def command(*, bundle: Path, card: Path | None, as_json: bool) -> int:
    """Say whether a bundle is what the car recorded, and who vouches for it.

    Exit code 0: intact. 1: altered, log and entry are named. 3: it cannot be decided, what is
    missing is named. The same check is in every bundle as verify.py, which needs Python alone.

    \b
    Examples:
      inland verify v-1f0c-20261122T080000Z.inland
      inland verify v-1f0c-20261122T080000Z.inland --card region.toml --json
    """
    from agent.evidence import verifier
    from agent.region import load_region_card

    text = ""
    if card is not None:
        text = "\n".join(load_region_card(card).cosign_keys)
        if not text:
            raise ConfigError("the card names no key for co-signing", where=str(card))
    result = verifier.verify(bundle, text)
    if as_json:
        print_json(result)
    else:
        click.echo("\n".join(verifier.lines(result)))
    return int(result["verdict"])
