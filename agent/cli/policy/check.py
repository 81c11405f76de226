"""`inland policy check` and `inland policy diff`: before a policy goes anywhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import click

from agent.cli.common import counted, json_option, print_json, say_error
from agent.cli.policy.files import FILE, either_form
from agent.errors import InlandError, PolicyTextError

_HEADINGS: Final = {
    "new": "newly kept",
    "wider": "wider",
    "narrower": "narrower",
    "gone": "no longer kept",
    "other": "otherwise different",
}
_SHOWN: Final = 8  # J1939 groups


@click.command()
@click.argument("files", type=FILE, nargs=-1, required=True)
@json_option
def check(files: tuple[Path, ...], *, as_json: bool) -> None:
    """Check policies: TOML texts with their DBC files, or compiled ones.

    Each problem stands in a line of its own with file:line:column and what would be right; advice
    on what is allowed but probably not meant follows. Exit code 1 if one is refused, 2 if one
    cannot be read.

    \b
    Example:
      inland policy check fleet.toml
    """
    from agent.policy.advice import advise
    from agent.policy.items import groups

    results: list[dict[str, Any]] = []
    codes = {0}
    for path in files:
        try:
            policy = either_form(path)
        except PolicyTextError as error:
            codes.add(error.exit_code)
            results.append(_result(path, errors=[str(one) for one in error.each]))
            continue
        except InlandError as error:
            codes.add(error.exit_code)
            results.append(_result(path, errors=[str(error)]))
            continue
        advice, found = advise(policy, now_ns=time.time_ns()), groups(policy)
        results.append(_result(path, advice=advice, groups=found))
        if not as_json:
            click.echo(
                f"{path}: ok, {policy.name} version {policy.version}, "
                f"{counted(len(policy.rules), 'rule')}, {counted(len(policy.events), 'event')}, "
                f"{counted(len(policy.signals), 'signal')}"
            )
            if found:
                more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
                click.echo(f"  found by J1939 group: {', '.join(found[:_SHOWN])}{more}")
            for line in advice:
                click.echo(f"  note: {line}")
    refused = [error for one in results for error in one["errors"]]
    if as_json:
        print_json({"ok": not refused, "files": results})
    for why in refused if not as_json else ():
        say_error(why)
    if refused:
        sys.exit(max(codes))


def _result(
    path: Path, *, errors: Sequence[str] = (), advice: Sequence[str] = (),
    groups: Sequence[str] = (),
) -> dict[str, Any]:  # fmt: skip
    told = {"errors": list(errors), "advice": list(advice), "groups": list(groups)}
    return {"file": str(path), **told}


@click.command()
@click.argument("old", type=FILE)
@click.argument("new", type=FILE)
@json_option
def diff(old: Path, new: Path, *, as_json: bool) -> None:
    """Say in words what NEW keeps that OLD did not, and the other way round.

    Both may be TOML texts or compiled policies.

    \b
    Example:
      inland policy diff fleet-6.policy fleet-7.toml
    """
    from agent.policy.diff import EFFECTS
    from agent.policy.diff import diff as compare

    before, after = either_form(old), either_form(new)
    found = compare(before, after)
    if as_json:
        versions = {"old": before.version, "new": after.version}
        print_json(versions | {"differences": [asdict(one) for one in found]})
        return
    click.echo(f"{before.name} version {before.version} -> {after.name} version {after.version}")
    for effect in EFFECTS:
        chosen = [one for one in found if one.effect == effect]
        if chosen:
            click.echo(f"\n{_HEADINGS[effect]}:")
            for one in chosen:
                click.echo(click.wrap_text(f"{one.item}: {one.words}", 100, "  ", "    "))
    if not found:
        click.echo("nothing differs")
