"""`inland station policy`: put policies on offer, renew the signatures, change the keys."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from agent.cli.common import json_option, print_json
from agent.cli.policy.files import of_file, read_compiled

F = TypeVar("F", bound=Callable[..., Any])

_FILE = click.Path(path_type=Path, dir_okay=False)
_FOLDER = click.Path(path_type=Path, file_okay=False)


def _region_option(function: F) -> F:
    """Add --region DIR."""
    return click.option("--region", "folder", type=_FOLDER, required=True, help="Region's folder.")(
        function
    )


def _group_option(function: F) -> F:
    """Add --group NAME."""
    return click.option("--group", default="default", show_default=True, help="Vehicle group.")(
        function
    )


def _key_option(function: F) -> F:
    """Add --key FILE, which may be given several times."""
    return click.option(
        "--key", "keys", multiple=True, type=_FILE,
        help="Signing key that is not in the region's folder; repeat for more.",
    )(function)  # fmt: skip


@click.group(name="policy")
def policy() -> None:
    """Put policies on offer to vehicle groups, signed by two of three people's keys.

    \b
    Example: a policy for a tenth of the cars, then for all:
      inland station policy publish fleet.policy --region cn --percent 10
      inland station policy publish fleet.policy --region cn
    """


@policy.command()
@click.argument("file", type=_FILE)
@_region_option
@_group_option
@click.option("--percent", default=100, show_default=True, help="Of the group's cars, go first.")
@_key_option
@json_option
def publish(
    file: Path, *, folder: Path, group: str, percent: int, keys: tuple[Path, ...], as_json: bool
) -> None:
    """Put a compiled policy on offer.

    Below 100 per cent it is staged beside the one for all; at 100 it replaces both. Running it
    again changes nothing, and mends a run that was cut short.

    \b
    Examples:
      inland station policy publish fleet.policy --region cn --percent 10
      inland station policy publish fleet.policy --region cn --key /media/a/targets-1.pem
    """
    from agent.station.authority import load_region
    from agent.station.publish import publish as put_on_offer

    region, data = load_region(folder), read_compiled(file)
    with of_file(file):
        done = put_on_offer(region, data, group=group, percent=percent, keys=keys, now=_now())
    if as_json:
        print_json(
            {
                "changed": done.changed, "target": done.target, "policy": done.policy,
                "version": done.version, "percent": done.percent, "signed_by": done.signed_by,
            }
        )  # fmt: skip
        return
    what = f"{done.policy} version {done.version}"
    for_whom = f"{done.percent} % of group '{group}'"
    if not done.changed:
        click.echo(f"{what} is on offer to {for_whom} already")
        return
    click.echo(f"{what} is on offer to {for_whom}, signed by {', '.join(done.signed_by)}")


@policy.command(name="ls")
@_region_option
@json_option
def list_(folder: Path, as_json: bool) -> None:
    """Say what is on offer to whom, until when it is signed, which keys are here.

    \b
    Example:
      inland station policy ls --region cn
    """
    from agent.station.authority import load_region
    from agent.station.publish import listing

    told = listing(load_region(folder))
    if as_json:
        print_json(told)
        return
    for one in told["offers"]:
        share = "all" if one["percent"] == 100 else f"{one['percent']} %"
        click.echo(
            f"{one['group']:<16} version {one['version']:<6} {share:<5} "
            f"{one['bytes']} bytes  {one['digest'][:16]}"
        )
    if not told["offers"]:
        click.echo("nothing is on offer")
    for role, end in told["expires"].items():
        keys = ", ".join(
            key["name"] + ("" if key["here"] else " (elsewhere)") for key in told["keys"][role]
        )
        click.echo(f"{role:<10} version {told['versions'][role]} until {end[:10]}, keys: {keys}")


@policy.command()
@_region_option
@click.option("--targets", is_flag=True, help="Sign the policies on offer anew; takes 2 keys.")
@click.option("--root", is_flag=True, help="Sign the root anew; takes 2 root keys.")
@_key_option
@json_option
def refresh(
    *, folder: Path, targets: bool, root: bool, keys: tuple[Path, ...], as_json: bool
) -> None:
    """Renew the signatures that nothing newer exists: good for 30 days.

    `inland station serve` does it by itself. The policies on offer are signed for a year, the root
    for five; both need people's keys.

    \b
    Examples:
      inland station policy refresh --region cn
      inland station policy refresh --region cn --targets --key a.pem --key b.pem
    """
    from agent.station.authority import load_region
    from agent.station.publish import refresh as renew

    state = renew(load_region(folder), now=_now(), keys=keys, targets=targets, root=root)
    ends = {role: end.isoformat() for role, end in state.expiries().items()}
    if as_json:
        print_json(ends)
        return
    click.echo("signed until: " + ", ".join(f"{role} {end[:10]}" for role, end in ends.items()))


@policy.command()
@click.argument("role", type=click.Choice(["root", "targets", "snapshot", "timestamp"]))
@click.argument("name")
@_region_option
@_key_option
@json_option
def rotate(role: str, name: str, *, folder: Path, keys: tuple[Path, ...], as_json: bool) -> None:
    """Replace key NAME of a role by a new one. Takes 2 root keys, and the role's own.

    \b
    Example:
      inland station policy rotate targets targets-2 --region cn
    """
    from agent.station.authority import load_region
    from agent.station.publish import rotate as replace_key

    done = replace_key(load_region(folder), role, name, keys=keys, now=_now())
    if as_json:
        print_json(
            {
                "old": done.old, "new": done.new, "file": str(done.path),
                "root": done.root_version, "signed_by": done.signed_by,
            }
        )  # fmt: skip
        return
    click.echo(
        f"{done.new} in place of {done.old}: root version {done.root_version}, "
        f"signed by {', '.join(done.signed_by)}"
    )
    click.echo(f"next: take {done.path} to where it will live; destroy {done.old}")


@policy.command()
@click.argument("to", type=_FOLDER)
@_region_option
@_group_option
@json_option
def export(to: Path, *, folder: Path, group: str, as_json: bool) -> None:
    """Write what a group is offered as a folder that `inland policy install` takes.

    For an OTA system of one's own, or a stick.

    \b
    Example:
      inland station policy export drop --region cn
    """
    from agent.station.authority import load_region
    from agent.station.offer import export as write

    files = write(load_region(folder).path, to, group)
    if as_json:
        print_json({"folder": str(to.absolute()), "files": files})
        return
    click.echo(f"{to}: {len(files)} files for group '{group}'")
    click.echo(f"next, in the car: inland policy install {to}")


@policy.command(name="withdraw-next")
@_region_option
@_group_option
@_key_option
@json_option
def withdraw_next(*, folder: Path, group: str, keys: tuple[Path, ...], as_json: bool) -> None:
    """Take the staged policy of a group off the offer.

    Cars that took it keep it until a higher version is on offer: versions only rise.

    \b
    Example:
      inland station policy withdraw-next --region cn
    """
    from agent.station.authority import load_region
    from agent.station.publish import withdraw_next as withdraw

    version = withdraw(load_region(folder), group=group, keys=keys, now=_now())
    if as_json:
        print_json({"group": group, "withdrawn": version})
        return
    click.echo(f"version {version} is no longer offered to group '{group}'")
    click.echo(f"next: cars that have it keep it until a version above {version} is on offer")


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
