"""`inland owner`: keys, enrollment, and what only the owner's key opens.

Each subcommand is imported when it is used: most of them never run in a car.
"""

from __future__ import annotations

import importlib
from typing import Final

import click

# Name: module of agent.cli, whose attribute of that name it is; what it does.
COMMANDS: Final = {
    "keygen": ("owner_key", "Make a key, and a recovery sheet to print."),
    "recover": ("owner_key", "Make the key again from the recovery sheet."),
    "enroll": ("owner_enroll", "Enroll an owner or driver in the car, with a code that it shows."),
    "export": ("owner_export", "Write a bundle of what the car has kept, for a stick."),
    "live": ("owner_live", "Show what the car keeps for you, as it keeps it."),
    "open": ("owner_bundle", "Open a bundle with the owner's key."),
    "report": ("owner_bundle", "Make one HTML page of a bundle."),
    "request": ("owner_request", "Sign a request for what the region has of the car."),
    "ledger": ("owner_ledger", "Say who got what of the car, by the region's word."),
    "people": ("owner_people", "List who is enrolled, and who drives."),
    "drive": ("owner_people", "Say who drives."),
    "remove": ("owner_people", "Take somebody out."),
}


class _Commands(click.Group):
    """The subcommands by name."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:  # noqa: ARG002
        if name not in COMMANDS:
            return None
        module = importlib.import_module(f"agent.cli.{COMMANDS[name][0]}")
        command: click.Command = getattr(module, "open_" if name == "open" else name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, told) for name, (_, told) in COMMANDS.items()])


@click.command(cls=_Commands)
def command() -> None:
    """Keys, who is enrolled and who drives, and the owner's own copy of the data.

    \b
    Examples, at home and in the car:
      inland owner keygen ~/inland
      inland owner enroll ~/inland/owner.pub
      inland owner live --socket ./car.sock --key ~/inland/owner.key
      inland owner export -o /media/stick
      inland owner open /media/stick/BUNDLE.inland --key ~/inland/owner.key
      inland owner report /media/stick/BUNDLE.inland --key ~/inland/owner.key
    """
