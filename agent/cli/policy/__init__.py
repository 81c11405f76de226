"""`inland policy`: for the people who write policies, the OTA system, and the owner."""

from __future__ import annotations

from pathlib import Path

import click

from agent.cli.common import counted, json_option, print_json
from agent.cli.policy.check import check, diff
from agent.cli.policy.files import FILE, write_compiled
from agent.cli.policy.install import install
from agent.cli.policy.show import command as show
from agent.cli.policy.simulate import simulate


@click.group()
def command() -> None:
    """Check, compare, build, install and show policies: what may be kept, why, for whom, how long.

    \b
    Example: from a text to a policy in force:
      inland policy check fleet.toml
      inland policy build fleet.toml
      inland policy install fleet.policy --config /etc/inland/agent.toml
      inland policy show --config /etc/inland/agent.toml
    """


@command.command()
@click.argument("toml", type=FILE)
@click.option("-o", "--output", type=FILE, help="Compiled file; TOML with .policy if not given.")
@json_option
def build(toml: Path, output: Path | None, *, as_json: bool) -> None:
    """Build a compiled policy from TOML and its DBC files.

    \b
    Example:
      inland policy build fleet.toml -o fleet.policy
    """
    from agent.policy.build import build_policy
    from agent.policy.compiled import read_policy

    data = build_policy(toml)
    path = output or toml.with_suffix(".policy")
    write_compiled(path, data)
    policy = read_policy(data)
    if as_json:
        print_json({
            "file": str(path), "policy": policy.name, "version": policy.version,
            "rules": len(policy.rules), "signals": len(policy.signals), "bytes": len(data),
        })  # fmt: skip
        return
    click.echo(
        f"{path}: {policy.name} version {policy.version}, {counted(len(policy.rules), 'rule')}, "
        f"{counted(len(policy.signals), 'signal')}, {len(data)} bytes"
    )


command.add_command(install)
command.add_command(check)
command.add_command(diff)
command.add_command(simulate)
command.add_command(show, "show")
