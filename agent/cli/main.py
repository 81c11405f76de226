"""`inland`: a group of commands, each imported only when it is used.

Every failure that a user can act on is an InlandError: one line on standard error, and the exit
code that its class carries. Anything else is our own mistake and is said to be one.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import click

from agent.cli.common import say_error
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
    "owner": "Keys, who is enrolled and drives, the owner's copy of the data.",
    "transfer": "The car is sold: forget the owner before, and begin anew.",
    "consent": "Give, refuse, withdraw and list consents.",
    "ledger": "What was kept, sent and dropped, when and why.",
    "verify": "Check a bundle of evidence, without a key and without trusting anybody.",
    "order": "Sign, as an authority, what a region has to open.",
    "unseal": "Open what a region has sealed to whoever ordered it.",
    "station": "The region's end: make a region, enroll cars, receive, open.",
}
INTERRUPTED: Final = 130  # 128 + SIGINT, as shells report it


class _ReaderGoneError(Exception):
    """Nobody reads our output any more; click would end with 1, which means "no" here."""


@contextlib.contextmanager
def _reader_gone() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise _ReaderGoneError from None


class _Commands(click.Group):
    """The commands by name; a module of agent.cli for each."""

    def make_context(self, *arguments: Any, **more: Any) -> click.Context:
        with _reader_gone():  # --help and --version print here
            return super().make_context(*arguments, **more)

    def invoke(self, ctx: click.Context) -> Any:
        with _reader_gone():
            return super().invoke(ctx)

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
        say_error(error)
        code = error.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        code = error.exit_code
    except click.ClickException as error:
        say_error(_words(error))
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        code = INTERRUPTED
        # Python forgets here that an interrupt went through an exec(), as in a dataclass that was
        # being made; else `python -m` would end by SIGINT after all.
        exec("")  # noqa: S102 - nothing is run
    except _ReaderGoneError:  # as `| head` does
        _say_no_more()
        code = 0
    except OSError as error:  # the machine said no
        _say_no_more()
        name = f"{error.filename}: " if error.filename else ""
        say_error(f"{name}{error.strerror or error}")
        code = 75
    sys.exit(code if isinstance(code, int) else 0)


def _say_no_more() -> None:
    """What is left of our output goes nowhere: Python would try it once more at the very end."""
    with contextlib.suppress(AttributeError, OSError, ValueError):  # it may be closed
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _words(error: click.ClickException) -> str:
    """Return a wrong use in one line: what, and where it is explained."""
    what = " ".join(error.format_message().split()).rstrip(".")
    context = error.ctx if isinstance(error, click.UsageError) else None
    command = context.command_path if context else "inland"
    return f"{command}: {what}; see `{command} --help`"
