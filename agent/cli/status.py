"""`inland status`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from agent.cli.common import config_option, json_option, print_json
from agent.config import load_config


@click.command()
@config_option
@json_option
def command(config_path: Path, *, as_json: bool) -> None:
    """Show what the running agent is doing.

    \b
    Example:
      inland status --config /etc/inland/agent.toml
    """
    from agent.hatch import HatchClient

    hatch = HatchClient(load_config(config_path).hatch)
    try:
        status: dict[str, Any] = json.loads(hatch.status())
    finally:
        hatch.close()
    if as_json:
        print_json(status)
        return
    for label, text in lines(status):
        click.echo(f"{label:<9} {text}")


def lines(status: dict[str, Any]) -> list[tuple[str, str]]:
    """Return a status as (label, text) lines for a person."""
    policy, frames, spool, link = (status[k] for k in ("policy", "frames", "spool", "link"))
    shown = f"{policy['name']} version {policy['version']}" if policy["name"] else "none"
    pending = ", ".join(f"{lane} {count}" for lane, count in spool["pending"].items() if count)
    peer = f"connected to {link['peer']}" if link["connected"] else "not connected"
    rows = [
        ("vehicle", f"{status['vehicle']} in {status['region']}, up {status['uptime_s']:.0f} s"),
        ("policy", f"{shown} ({policy['why']})" + ("" if policy["name"] else ": nothing is kept")),
    ]
    rows += [
        ("bus", f"{bus['name']} {bus['state']}, {bus['received']:,} frames")
        for bus in status["buses"]
    ] or [("bus", "none configured")]
    rows += [("people", _people(status.get("people", {"enrolled": 0, "driving": ""})))]
    rows += [
        (
            "frames",
            f"{frames['received']:,} seen, {frames['kept']:,} kept, {frames['lost']:,} lost",
        ),
        ("samples", f"{status['samples']:,} of signals"),
        ("sealed", f"{status['segments']:,} segments, waiting: {pending or 'nothing'}"),
        ("spool", f"{spool['stored_bytes'] / 1e6:.1f} of {spool['quota_bytes'] / 1e6:.0f} MB"),
        ("link", f"{peer}, {link['sent']:,} sent, {status['receipts']:,} receipted"),
    ]
    if link["last_error"]:
        rows.append(("", f"last error: {link['last_error']}"))
    rows += [("refused", f"{code}: {count} times") for code, count in link["refused"].items()]
    return rows


def _people(people: dict[str, Any]) -> str:
    if not people["enrolled"]:
        return "nobody is enrolled: what is for people is not kept"
    driving = people["driving"]
    return f"{people['enrolled']} enrolled, " + (f"{driving} drives" if driving else "none drives")
