"""`inland policy`: for the people who write policies, the OTA system, and the owner."""

from __future__ import annotations

from pathlib import Path

import click

from agent.cli.common import config_option
from agent.cli.policy.check import check, diff
from agent.cli.policy.files import FILE, PATH, read_compiled, write_compiled
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
def build(toml: Path, output: Path | None) -> None:
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
    click.echo(
        f"{path}: {policy.name} version {policy.version}, {len(policy.rules)} rules, "
        f"{len(policy.signals)} signals, {len(data)} bytes"
    )


@command.command()
@click.argument("file", type=FILE)
@config_option
@click.option("--state", type=PATH, help="State folder, in place of the configured one.")
@click.option("--region-card", type=FILE, help="Region card, in place of the configured one.")
def install(file: Path, *, config_path: Path, state: Path | None, region_card: Path | None) -> None:
    """Put a compiled policy in force. A bad one never replaces a good one.

    \b
    Examples:
      inland policy install fleet.policy --config /etc/inland/agent.toml
      inland policy install fleet.policy --state /var/lib/inland --region-card region.toml
    """
    from agent.clock import first_trusted_ns, read_clocks
    from agent.policy import store
    from agent.policy.compiled import load_policy
    from agent.region import load_region_card

    if state is None or region_card is None:
        state, region_card = _configured(config_path, state, region_card)
    data = read_compiled(file)
    region = load_region_card(region_card).region
    policy = load_policy(data, region=region, now_ns=first_trusted_ns(read_clocks()))
    changed = store.install(state / "policy", data)
    name = f"{policy.name} version {policy.version}"
    click.echo(f"{name} is in force" if changed else f"{name} was in force already")


def _configured(
    config_path: Path, state: Path | None, region_card: Path | None
) -> tuple[Path, Path]:
    """Return the state folder and region card, from agent.toml where they are not given."""
    from agent.config import load_config

    loaded = load_config(config_path)
    return state or loaded.state, region_card or loaded.region_card


command.add_command(check)
command.add_command(diff)
command.add_command(simulate)
command.add_command(show, "show")
