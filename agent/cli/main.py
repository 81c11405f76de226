"""`inland`: a group of commands, each imported only when it is used.

Every failure that a user can act on is an InlandError: one line on standard error, and the exit
code that its class carries. Anything else is our own mistake and is said to be one.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from typing import TYPE_CHECKING, Final

import click

from agent.errors import InlandError

if TYPE_CHECKING:
    from agent.capture.early import Socket

COMMANDS: Final = {
    "demo": "See the whole thing run: a car, its agent, a broker, its region.",
    "run": "Start capture and uplink together, for development.",
    "capture": "The half with CAN and the vault, and no network.",
    "uplink": "The half with the network, and neither CAN nor keys.",
    "status": "What the running agent is doing.",
    "doctor": "Check configuration, keys, disk, buses and the way to the region.",
    "service": "Start at every boot, as services of systemd.",
    "replay": "Play a recorded CAN log onto a bus.",
    "policy": "Check, compare, try, build, install and explain policies.",
    "owner": "Keys of owner and drivers, who is enrolled, who drives.",
    "transfer": "The car is sold: forget the owner before, and begin anew.",
    "consent": "Give, refuse, withdraw and list consents.",
    "ledger": "What was kept, sent and dropped, when and why.",
    "verify": "Check a bundle of evidence, without a key and without trusting anybody.",
    "station": "The region's end: make a region, enroll cars, receive, open.",
}
INTERRUPTED: Final = 130  # 128 + SIGINT, as shells report it


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


def main(sockets: dict[str, Socket] | None = None) -> None:
    """Run the command line and exit.

    Args:
        sockets: of `inland capture`, bound already, by the name of their bus.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # see __main__.py
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # A worker thread a core for matrix products is memory that nothing here ever uses.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        code = inland.main(standalone_mode=False, obj=sockets)
    except InlandError as error:
        click.echo(f"error: {error}", err=True)
        code = error.exit_code
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        code = INTERRUPTED
    except BrokenPipeError:  # the reader of our output has gone, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except OSError as error:  # the machine said no: the name of the file is in the message
        click.echo(f"error: {error}", err=True)
        code = 75
    sys.exit(code if isinstance(code, int) else 0)
