"""`inland run`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from agent.cli.common import config_option, log_to_stderr, verbose_option
from agent.config import load_config


@click.command()
@config_option
@click.option("--once", is_flag=True, help="End when every log has ended and all is receipted.")
@verbose_option
def command(config_path: Path, *, once: bool, verbose: bool) -> None:
    """Start capture and uplink, and stop both when one ends.

    A [[bus]] with interface = "log" plays a recorded log; with --once the command ends when the log
    has ended and the region has receipted everything, and says what became of it.

    \b
    Example:
      inland run --config bundle/agent.toml --once
    """
    log_to_stderr(verbose=verbose)
    load_config(config_path)  # a mistake in it is said once, not by two children
    from agent.service.both import run_both

    sys.exit(run_both(config_path, once=once, verbose=verbose))
