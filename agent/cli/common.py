"""What several commands share: the --config option, logging, JSON lines."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from agent.cli.logs import log_to_stderr
from agent.config import DEFAULT_PATH

__all__ = [
    "config_option", "json_option", "log_to_stderr", "print_json", "verbose_option",
]  # fmt: skip

F = TypeVar("F", bound=Callable[..., Any])


def config_option(function: F) -> F:
    """Add --config FILE, by default /etc/inland/agent.toml."""
    return click.option(
        "--config",
        "config_path",
        type=click.Path(path_type=Path, dir_okay=False),
        default=DEFAULT_PATH,
        show_default=True,
        help="The agent's configuration.",
    )(function)


def json_option(function: F) -> F:
    """Add --json."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")(
        function
    )


def verbose_option(function: F) -> F:
    """Add --verbose."""
    return click.option("-v", "--verbose", is_flag=True, help="Log more.")(function)


def print_json(value: Mapping[str, Any], *, err: bool = False) -> None:
    """Print one JSON object on one line; `err`: on standard error, where data has the other."""
    click.echo(json.dumps(value, ensure_ascii=False), err=err)
