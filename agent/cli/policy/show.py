"""`inland policy show`: what a policy keeps, for its owner or for a program."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.cli.common import config_option, json_option, print_json
from agent.cli.policy.files import FILE, PATH, either_form, in_force
from agent.config import load_config

if TYPE_CHECKING:
    from agent.policy.model import Policy
    from agent.policy.notice import Notice

_LABEL_COLUMNS = 20


@click.command()
@click.argument("file", type=FILE, required=False)
@config_option
@click.option("--state", type=PATH, help="Show the policy in force of this state folder.")
@click.option(
    "--lang", type=click.Choice(["en", "zh"]), default="en", show_default=True, help="Language."
)
@json_option
def command(
    file: Path | None, *, config_path: Path, state: Path | None, lang: str, as_json: bool
) -> None:
    """Say in plain words what a policy keeps: the notice for the car's owner.

    FILE is a TOML text or a compiled policy; without one it is the policy in force.

    What, when, why, on what ground, for whom, where and how long, how to stop, how to see and
    delete it: of FILE, or of the policy in force.

    \b
    Examples:
      inland policy show fleet.policy --lang zh
      inland policy show --config /etc/inland/agent.toml --json
    """
    from agent.policy.notice import notice

    if file is not None:
        policy: Policy | None = either_form(file)
    else:
        policy = in_force(state if state is not None else load_config(config_path).state)
    if policy is None:
        if as_json:
            print_json({"policy": None})
        else:
            click.echo("no policy is in force: nothing is kept")
        return
    if as_json:
        print_json(describe(policy))
    else:
        click.echo(_laid_out(notice(policy, "zh" if lang == "zh" else "en")))


def _laid_out(told: Notice) -> str:
    """Return a notice for a terminal: labels in a column, long texts wrapped."""
    lines = [click.style(told.title, bold=True), ""]
    lines += [click.wrap_text(text, width=_width()) for text in told.intro]
    for section in told.sections:
        lines += ["", click.style(section.heading, bold=True)]
        for label, text in section.lines:
            gap = " " * max(1, _LABEL_COLUMNS - _columns(label))
            hang = " " * (_LABEL_COLUMNS + 2)
            lines.append(click.wrap_text(text, _width(), f"  {label}{gap}", hang))
    return "\n".join(lines)


def _width() -> int:
    import shutil

    return min(100, max(60, shutil.get_terminal_size().columns))


def _columns(text: str) -> int:
    """Return how many columns of a terminal a text takes: Chinese characters take two."""
    import unicodedata

    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


def describe(policy: Policy) -> dict[str, Any]:
    """Return a policy as plain values for a program."""
    from dataclasses import asdict

    from agent.policy.items import items

    until = datetime.datetime.fromtimestamp(policy.not_after_ns // 10**9, datetime.UTC)
    return {
        "policy": policy.name,
        "version": policy.version,
        "region": policy.region,
        "not_after": until.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "contact": policy.contact or None,
        "digest": policy.digest.hex(),
        "items": [asdict(one) for one in items(policy)],
        "consents": [asdict(one) for one in policy.consents],
        "driving": policy.driving.text if policy.driving else None,
        "camera": _camera(policy),
    }


def _camera(policy: Policy) -> dict[str, Any] | None:
    camera = policy.camera
    if camera is None:
        return None
    return {
        "parked": "owner" if camera.parked else "off",
        "driving": "metadata" if camera.driving else "off",
        "zones_bytes": len(camera.zones),
        "margin_m": camera.margin_m,
        "exit_ns": camera.exit_ns,
        "no_fix_ns": camera.no_fix_ns,
    }
