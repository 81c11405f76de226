"""`inland uplink`."""

from __future__ import annotations

from pathlib import Path

import click

from agent.cli.common import config_option, log_to_stderr, verbose_option, wall_option
from agent.config import load_config


@click.command()
@config_option
@wall_option
@verbose_option
def command(config_path: Path, *, wall: bool, verbose: bool) -> None:
    """Carry sealed entries to the region's pinned broker, and receipts back.

    This process has the network, and neither CAN nor a key that opens or signs data.

    \b
    Example:
      inland uplink --config /etc/inland/agent.toml
    """
    log_to_stderr(verbose=verbose)
    from agent.service.uplink import run_uplink

    run_uplink(load_config(config_path), wall=wall)
