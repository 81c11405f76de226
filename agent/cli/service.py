"""`inland service`: start at boot, behind walls."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from agent.cli.common import config_option, json_option, print_json, say_error

_ROOT = click.option(
    "--root", type=click.Path(path_type=Path, file_okay=False, exists=True), default=Path("/"),
    help="The root folder of a car's image: files are written, nothing is started.",
)  # fmt: skip


@click.group()
def command() -> None:
    """Start inland at every boot, as two services that systemd watches and walls in. Needs root.

    \b
    Example:
      inland service install
      systemctl status inland-capture inland-uplink
    """


@command.command()
@config_option
@_ROOT
@click.option(
    "--python", type=click.Path(path_type=Path),
    help="The car's interpreter, in place of the one that runs this; for --root.",
)  # fmt: skip
@click.option(
    "--resolver", "resolvers", multiple=True, metavar="ADDRESS",
    help="A DNS server that uplink may ask, in place of those of /etc/resolv.conf.",
)  # fmt: skip
@json_option
def install(
    config_path: Path, *, root: Path, python: Path | None, resolvers: tuple[str, ...],
    as_json: bool,
) -> None:  # fmt: skip
    """Install the boot service and start it; or bring it up to date.

    Looks at everything first: with a mistake in agent.toml, a key that is none, or a file that the
    service could not see, nothing is changed. What stands in the units follows from agent.toml, the
    region card and resolv.conf; install again when one of them has changed.

    \b
    Examples:
      inland service install
      inland service install --root image --python /opt/inland/bin/python
    """
    from agent.service import boot
    from agent.service.machine import Machine
    from agent.service.premises import Wish, survey

    root, machine = root.resolve(), Machine()
    is_image = root != Path("/")
    if not is_image:
        machine.check()
    wish = Wish(
        Path("/") / config_path if is_image else config_path.absolute(), root, python, resolvers
    )
    site, mistakes = survey(wish)
    for mistake in mistakes:
        say_error(mistake)
    if site is None:
        sys.exit(2)
    done = boot.install_image(site, root) if is_image else boot.install(site, machine)
    if as_json:
        done = [] if done == [boot.NOTHING] else done
        print_json({"done": done, "may_reach": list(site.allowed), "runs": not is_image})
        return
    click.echo("\n".join(done))
    click.echo(f"uplink may talk to {', '.join(site.allowed)}, and to nobody else")
    if not is_image:
        click.echo("inland runs, and starts at every boot")


@command.command()
@_ROOT
@json_option
def uninstall(root: Path, *, as_json: bool) -> None:
    """Stop the boot service and take it out. The car's data, configuration and keys stay.

    \b
    Example:
      inland service uninstall
    """
    from agent.service import boot
    from agent.service.machine import Machine

    root, machine = root.resolve(), Machine()
    is_image = root != Path("/")
    if not is_image:
        machine.check()
    done = boot.uninstall(root, None if is_image else machine)
    if as_json:
        print_json({"done": [] if done == [boot.NOT_THERE] else done})
    else:
        click.echo("\n".join(done))
