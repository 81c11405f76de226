"""`inland owner people`, `drive` and `remove`: the list of who is enrolled in this car.

A running agent sees every change within a second; one that does not run sees it when it starts.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from agent.cli.common import config_option, json_option, print_json
from agent.errors import ConfigError

if TYPE_CHECKING:
    from agent.owner.register import Register


@click.command()
@config_option
@json_option
def people(*, config_path: Path, as_json: bool) -> None:
    """List who is enrolled, and who drives.

    \b
    Example:
      inland owner people --json
    """
    from agent.cli.consent_view import moment

    found = _read(_file(config_path))
    if as_json:
        print_json({"driving": found.driving, "people": [
            {"id": one.id, "role": one.role, "name": one.key.name, "since_ns": one.since_ns}
            for one in found.people
        ]})  # fmt: skip
        return
    if not found.people:
        click.echo("nobody is enrolled: what is for the owner or the driver is not kept")
    for one in found.people:
        drives = "  drives" if one.id == found.driving else ""
        click.echo(f"{one.id}  {one.role:<6}  {one.key.name}  since {moment(one.since_ns)}{drives}")
    if found.people and not found.driving:
        click.echo("none of them drives: what is for the driver is not kept")


@click.command()
@click.argument("person", required=False, metavar="ID")
@click.option("--nobody", is_flag=True, help="Nobody who is enrolled.")
@config_option
@json_option
def drive(person: str | None, *, nobody: bool, config_path: Path, as_json: bool) -> None:
    """Say who drives: what is for the driver opens with that person's key, and no other.

    ID is what `inland owner people` lists, or how it begins.

    \b
    Examples:
      inland owner drive 3f09
      inland owner drive --nobody
    """
    from agent.owner.custody import number
    from agent.owner.register import edit

    if nobody == (person is not None):
        raise ConfigError("name somebody, or say --nobody", where="inland owner drive")
    path = _file(config_path)
    with edit(path, epoch=number(path.parent)) as held:
        id_ = held.register.find(person).id if person is not None else ""
        held.register = held.register.drive(id_)
    if as_json:
        print_json({"driving": id_})
    else:
        click.echo(f"{id_ or 'nobody who is enrolled'} drives")


@click.command()
@click.argument("person", metavar="ID")
@config_option
@json_option
def remove(person: str, *, config_path: Path, as_json: bool) -> None:
    """Take somebody out: nothing is sealed to that key from then on.

    What was sealed to it stays as it is, and opens with it.

    \b
    Example:
      inland owner remove 3f09
    """
    from agent.owner.custody import number
    from agent.owner.register import edit

    path = _file(config_path)
    with edit(path, epoch=number(path.parent)) as held:
        gone = held.register.find(person)
        held.register = held.register.remove(gone.id)
    if as_json:
        print_json({"id": gone.id, "role": gone.role, "name": gone.key.name})
    else:
        click.echo(f"removed: {gone.role} {gone.id}")


def _file(config_path: Path) -> Path:
    from agent.config import load_config
    from agent.owner.register import FILE
    from agent.service.acting import act_as_owner_of

    folder = load_config(config_path).state
    act_as_owner_of(folder)
    return folder / FILE


def _read(path: Path) -> Register:
    from agent.owner.custody import number
    from agent.owner.register import of_epoch

    return of_epoch(path, number(path.parent))
