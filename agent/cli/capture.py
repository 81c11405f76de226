"""`inland capture`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.cli.common import config_option, log_to_stderr, verbose_option, wall_option
from agent.config import load_config

if TYPE_CHECKING:
    from agent.capture.early import Socket


@click.command()
@config_option
@click.option("--once", is_flag=True, help="End when every log has ended and all is receipted.")
@wall_option
@verbose_option
@click.pass_obj
def command(
    sockets: dict[str, Socket] | None, config_path: Path, *,
    once: bool, wall: bool, verbose: bool,
) -> None:  # fmt: skip
    """Read the buses, keep what the policy names, seal it.

    This process has CAN and the vault, and opens no internet socket. `inland uplink` carries what
    it seals to the region; they meet at a Unix socket in the run folder.

    \b
    Example:
      inland capture --config /etc/inland/agent.toml
    """
    log_to_stderr(verbose=verbose)
    from agent.service.capture import run_capture

    status = run_capture(load_config(config_path), sockets, once=once, wall=wall)
    if status is not None:
        click.echo(over(status))


def over(status: dict[str, Any]) -> str:
    """Return what to say when every log has ended and all is receipted."""
    frames, spool = status["frames"], status["spool"]
    said = f"the log is over: {frames['received']:,} frames seen, {frames['kept']:,} kept, "
    said += f"{frames['lost']:,} lost, {status['samples']:,} samples of signals; "
    said += f"{spool['size']:,} entries, all receipted by {status['region']}"
    if not status["policy"]["name"]:
        said += "\nno policy is in force, so nothing was kept: `inland policy install`"
    return said
