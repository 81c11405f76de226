"""`inland policy install`: what an OTA system calls, and what capture runs for a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from agent.cli.common import config_option, json_option, print_json
from agent.cli.policy.files import FILE, PATH, of_file, read_compiled
from agent.errors import ConfigError, PolicyError

if TYPE_CHECKING:
    from agent.config import Vehicle
    from agent.policy.model import Policy
    from agent.region import RegionCard

_REHEARSAL_S: Final = 30.0


@click.command()
@click.argument("source", type=PATH)
@config_option
@click.option("--state", type=PATH, help="State folder, in place of the configured one.")
@click.option("--region-card", type=FILE, help="Region card, in place of the configured one.")
@json_option
def install(
    source: Path, *, config_path: Path, state: Path | None, region_card: Path | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Put a policy in force. A bad one never replaces a good one.

    SOURCE is a folder with the region's policy repository, as it comes over MQTT, from an OTA
    system or on a stick. On a bench, with a region card without policy_root, it is a compiled
    policy. Exit code 0: in force, or it was already; 1: refused; 75: try again, the disk is full.

    \b
    Examples:
      inland policy install drop/ --config /etc/inland/agent.toml
      inland policy install fleet.policy --state state --region-card bench.toml
    """
    from agent.clock import read_clocks
    from agent.config import load_config
    from agent.region import load_region_card
    from agent.service.acting import act_as, other_owner, readable_for
    from agent.vault.floor import trusted_now_ns

    if state is None or region_card is None:
        state, region_card = _configured(config_path, state, region_card)
    card = load_region_card(region_card)
    is_folder = source.is_dir()
    if is_folder and not card.policy_root:
        raise ConfigError(
            "has no policy_root: a bench card trusts no policy repository",
            where=str(region_card), todo="install a compiled FILE.policy",
        )  # fmt: skip
    vehicle = load_config(config_path).vehicle if is_folder else None
    owner = other_owner(state)
    with readable_for(owner, source) as given:
        act_as(owner)  # from here on: nothing of root's stays in the state folder
        now_ns = trusted_now_ns(state, read_clocks())
        folder = state / "policy"
        if vehicle is not None:
            changed, name, version = _install_folder(given, folder, card, vehicle, now_ns)
        else:
            changed, name, version = _install_file(given, folder, card, now_ns)
    if as_json:
        print_json({"changed": changed, "policy": name, "version": version})
        return
    click.echo(f"{name} version {version} {'is in force' if changed else 'was in force already'}")


def _install_folder(
    source: Path, folder: Path, card: RegionCard, vehicle: Vehicle, now_ns: int
) -> tuple[bool, str, int]:
    """Install from a policy repository; return whether something changed, name and version."""
    from agent.policy.update import update

    done = update(
        source, folder, card_root=card.policy_root, region=card.region, vehicle=vehicle.id,
        group=vehicle.group, now_ns=now_ns, rehearse=_rehearse,
    )  # fmt: skip
    return done.changed, done.name, done.version


def _install_file(
    source: Path, folder: Path, card: RegionCard, now_ns: int
) -> tuple[bool, str, int]:
    """Install a compiled policy on a bench; return as `_install_folder`."""
    from agent.policy import store
    from agent.policy.compiled import load_policy

    data = read_compiled(source)
    with of_file(source):
        policy = load_policy(data, region=card.region, now_ns=now_ns)
    if card.policy_root:
        raise PolicyError(
            "is not signed: this car takes policies only from its region's repository",
            where=str(source),
            todo="put it on offer with `inland station policy publish`, and install the folder "
            "that `inland station policy export` writes",
        )
    if store.check_version(folder, policy):
        _rehearse(policy)
    return store.install(folder, data), policy.name, policy.version


def _rehearse(policy: Policy) -> None:
    """Let a policy run on made-up frames; end what does not come to its end by itself."""
    import signal

    from agent.policy.rehearsal import rehearse

    def late(_number: int, _frame: object) -> None:
        raise PolicyError(f"the dry run took longer than {_REHEARSAL_S} s",
                          where=f"policy {policy.name} version {policy.version}")  # fmt: skip

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, _REHEARSAL_S)
    try:
        rehearse(policy)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _configured(
    config_path: Path, state: Path | None, region_card: Path | None
) -> tuple[Path, Path]:
    """Return the state folder and region card, from agent.toml where they are not given."""
    from agent.config import load_config

    loaded = load_config(config_path)
    return state or loaded.state, region_card or loaded.region_card
