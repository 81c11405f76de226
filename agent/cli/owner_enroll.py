"""`inland owner enroll`: the running agent shows a code in the car, and a person types it here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from agent.cli.common import config_option, json_option, print_json
from agent.errors import OwnerError

if TYPE_CHECKING:
    from agent.hatch import HatchClient
    from agent.pb.hatch_pb2 import Present


@click.command()
@click.argument("public", type=click.Path(path_type=Path), metavar="OWNER.PUB")
@click.option("--driver", is_flag=True, help="A driver beside the owner.")
@config_option
@json_option
def enroll(public: Path, *, driver: bool, config_path: Path, as_json: bool) -> None:
    """Enroll the holder of OWNER.PUB, with a code that the car shows.

    What is for the owner, or for whoever drives, is kept from then on and opens with that key. A
    bench without a display has the code in presence.json, in the run folder that agent.toml names.

    \b
    Examples:
      inland owner enroll owner.pub
      inland owner enroll li-wei.pub --driver
    """
    from agent.config import load_config
    from agent.hatch import HatchClient
    from agent.owner.public import read_public
    from agent.owner.register import DRIVER, OWNER
    from agent.pb.hatch_pb2 import Enroll, Presence

    key = read_public(public)
    config = load_config(config_path)
    hatch = HatchClient(config.hatch)
    try:
        asked = Enroll(recipient=key.recipient, sign=key.sign, name=key.name,
                       role=DRIVER if driver else OWNER)  # fmt: skip
        shown = _sure(hatch.presence(Presence(enroll=asked)))
        click.echo(f"the car shows a code of six digits, for {shown.seconds} s", err=as_json)
        id_ = _typed(hatch, err=as_json)
    finally:
        hatch.close()
    if as_json:
        print_json({"id": id_, "role": asked.role, "name": key.name})
    else:
        click.echo(f"enrolled: {asked.role} {id_}")


def _typed(hatch: HatchClient, *, err: bool) -> str:
    """Ask for the code until it is right or the car ends it; return the new id."""
    from agent.owner.presence import DIGITS
    from agent.pb.hatch_pb2 import Presence

    while True:
        code = "".join(click.prompt("code", default="", show_default=False, err=err).split())
        if not (len(code) == DIGITS and code.isascii() and code.isdigit()):
            click.echo("a code has six digits", err=True)  # no try is spent on it
            continue
        answer = hatch.presence(Presence(code=code))
        if not (answer.refused and answer.seconds):
            return _sure(answer).id
        click.echo(f"{answer.refused}; it is shown for {answer.seconds} s more", err=True)


def _sure(answer: Present) -> Present:
    if answer.refused:
        raise OwnerError(answer.refused)
    return answer
