"""`inland`: a group of commands, each imported only when it is used.

How a command ends, `ending.py` says.
"""

from __future__ import annotations

import importlib
import socket
import sys
from typing import Final

import click

from agent.cli.ending import code_of

COMMANDS: Final = {
    "demo": "See the whole thing run: a car, its agent, a broker, its region.",
    "run": "Start capture and uplink together, for development.",
    "capture": "The half with CAN and the vault, and no network.",
    "uplink": "The half with the network, and neither CAN nor keys.",
    "status": "What the running agent is doing.",
    "doctor": "Check configuration, keys, disk, buses and the way to the region.",
    "replay": "Play a recorded CAN log onto a bus.",
    "policy": "Check, compare, try, build, install and explain policies.",
    "consent": "Give, refuse, withdraw and list consents.",
    "ledger": "What was kept, sent and dropped, when and why.",
    "station": "The region's end: make a region, enroll cars, receive, open.",
}


class _Commands(click.Group):
    """The commands by name; a module of agent.cli for each."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:  # noqa: ARG002
        if name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"agent.cli.{name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="inland", message="inland %(version)s")
def inland() -> None:
    """Keep the car's data in the country where the car was sold, and show it to its owner.

    \b
    See it run, no configuration, no root:
      inland demo
    """


def main(sockets: dict[str, socket.socket] | None = None) -> None:
    """Run the command line and exit.

    Args:
        sockets: of `inland capture`, bound already, by the name of their bus.
    """
    sys.exit(code_of(lambda: _run(sockets)))


def _run(sockets: dict[str, socket.socket] | None) -> object:
    try:
        return inland.main(standalone_mode=False, obj=sockets)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        raise KeyboardInterrupt from None
