"""`inland policy`: build, install, show. For the people who write policies and the OTA system."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from agent.cli.common import config_option, json_option, print_json
from agent.errors import ConfigError, PolicyError

if TYPE_CHECKING:
    from agent.config import Vehicle
    from agent.policy.model import Policy, Rule
    from agent.region import RegionCard

_FILE = click.Path(path_type=Path, dir_okay=False)
_PATH = click.Path(path_type=Path)
_REHEARSAL_S: Final = 30.0


@click.group()
def command() -> None:
    """Build, install and show policies: what may be kept, why, for whom, how long.

    \b
    Example: from a text to a policy in force:
      inland policy build fleet.toml
      inland policy install fleet.policy --config /etc/inland/agent.toml
      inland policy show --config /etc/inland/agent.toml
    """


@command.command()
@click.argument("toml", type=_FILE)
@click.option("-o", "--output", type=_FILE, help="Compiled file; TOML with .policy if not given.")
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
    _write(path, data)
    policy = read_policy(data)
    click.echo(
        f"{path}: {policy.name} version {policy.version}, {len(policy.rules)} rules, "
        f"{len(policy.signals)} signals, {len(data)} bytes"
    )


@command.command()
@click.argument("source", type=_PATH)
@config_option
@click.option("--state", type=_PATH, help="State folder, in place of the configured one.")
@click.option("--region-card", type=_FILE, help="Region card, in place of the configured one.")
def install(
    source: Path, *, config_path: Path, state: Path | None, region_card: Path | None
) -> None:
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
    from agent.vault.floor import trusted_now_ns

    if state is None or region_card is None:
        state, region_card = _configured(config_path, state, region_card)
    card = load_region_card(region_card)
    now_ns = trusted_now_ns(state, read_clocks())
    folder = state / "policy"
    if source.is_dir():
        if not card.policy_root:
            raise ConfigError(
                "has no policy_root: a bench card trusts no policy repository",
                where=str(region_card), todo="install a compiled FILE.policy",
            )  # fmt: skip
        vehicle = load_config(config_path).vehicle
        changed, name = _install_folder(source, folder, card, vehicle, now_ns)
    else:
        changed, name = _install_file(source, folder, card, now_ns)
    click.echo(f"{name} is in force" if changed else f"{name} was in force already")


def _install_folder(
    source: Path, folder: Path, card: RegionCard, vehicle: Vehicle, now_ns: int
) -> tuple[bool, str]:
    """Install from a policy repository; return whether something changed, and what it is called."""
    from agent.policy.update import update

    done = update(
        source, folder, card_root=card.policy_root, region=card.region, vehicle=vehicle.id,
        group=vehicle.group, now_ns=now_ns, rehearse=_rehearse,
    )  # fmt: skip
    return done.changed, f"{done.name} version {done.version}"


def _install_file(source: Path, folder: Path, card: RegionCard, now_ns: int) -> tuple[bool, str]:
    """Install a compiled policy on a bench; return as `_install_folder`."""
    from agent.policy import store
    from agent.policy.compiled import load_policy

    data = _read(source)
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
    return store.install(folder, data), f"{policy.name} version {policy.version}"


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


@command.command()
@click.argument("file", type=_FILE, required=False)
@config_option
@click.option("--state", type=_PATH, help="Show the policy in force of this state folder.")
@json_option
def show(file: Path | None, *, config_path: Path, state: Path | None, as_json: bool) -> None:
    """Say in plain words what a policy keeps.

    What, why, for whom, how long, until when: of FILE, or of the policy in force.

    \b
    Examples:
      inland policy show fleet.policy
      inland policy show --config /etc/inland/agent.toml --json
    """
    from agent.policy import store
    from agent.policy.compiled import read_policy

    if file is not None:
        policy = read_policy(_read(file))
    else:
        if state is None:
            state, _ = _configured(config_path, None, Path())
        data = store.active(state / "policy")
        if data is None:
            if as_json:
                print_json({"policy": None})
            else:
                click.echo("no policy is in force: nothing is kept")
            return
        policy = read_policy(data)
    if as_json:
        print_json(describe(policy))
    else:
        click.echo("\n".join(_words(policy)))


def describe(policy: Policy) -> dict[str, Any]:
    """Return a policy as plain values for a program."""
    return {
        "policy": policy.name,
        "version": policy.version,
        "region": policy.region,
        "not_after": _date(policy),
        "digest": policy.digest.hex(),
        "rules": [_describe_rule(policy, rule) for rule in policy.rules],
    }


def _describe_rule(policy: Policy, rule: Rule) -> dict[str, Any]:
    from agent.pb import sealed_pb2
    from agent.policy.quantities import duration_text, frame_selector_text

    when = "change" if rule.on_change else "sample"
    return {
        "id": rule.id,
        "category": rule.category,
        "purpose": rule.purpose,
        "basis": rule.basis,
        "necessity": rule.necessity,
        "frames": [frame_selector_text(one) for one in rule.frames],
        "signals": [
            {
                "channel": one.channel,
                "message": policy.signals[one.signal].message,
                "signal": policy.signals[one.signal].name,
                "unit": policy.signals[one.signal].unit,
            }
            for one in rule.signals
        ],
        "every": duration_text(rule.every_ns) if rule.every_ns else when,
        "keep": duration_text(rule.keep_s * 10**9),
        "recipients": sealed_pb2.Recipients.Name(rule.recipients).lower(),
        "lane": sealed_pb2.Lane.Name(rule.lane).lower(),
        "timestamp_resolution": duration_text(rule.resolution_ns),
        "order": rule.order,
        "flush": duration_text(rule.flush_ns),
    }


_FOR = {
    "region": "the region",
    "owner": "the owner",
    "shared": "the region or the owner",
    "both": "the region and the owner together",
}


def _words(policy: Policy) -> list[str]:
    """Return a policy as lines for a person."""
    told = describe(policy)
    lines = [
        f"policy {policy.name} version {policy.version} for {policy.region}",
        f"in force until {told['not_after']}; what is not listed here is not kept",
    ]
    for rule in told["rules"]:
        lines += ["", f"{rule['id']}: {rule['category']}, for {rule['purpose']}"]
        lines.append(f"  why     {rule['necessity']} ({rule['basis']})")
        if rule["frames"]:
            lines.append(f"  frames  {', '.join(rule['frames'])}, raw, every one")
        if rule["signals"]:
            lines.append(f"  signals {', '.join(map(_signal_words, rule['signals']))}")
            lines.append(f"  when    {_when(rule['every'])}")
        lines.append(f"  opens   {_FOR[rule['recipients']]}")
        lines.append(f"  kept    up to {rule['keep']} in the car, stamps to {_stamps(rule)}")
    if not told["rules"]:
        lines += ["", "no rules: nothing is kept"]
    return lines


def _signal_words(signal: dict[str, str]) -> str:
    unit = f" [{signal['unit']}]" if signal["unit"] else ""
    bus = "" if signal["channel"] == "*" else f" on {signal['channel']}"
    return f"{signal['message']}.{signal['signal']}{unit}{bus}"


def _when(every: str) -> str:
    plain = {"change": "when the value changes", "sample": "every sample"}
    return plain.get(every, f"one sample every {every}")


def _stamps(rule: dict[str, Any]) -> str:
    return f"{rule['timestamp_resolution']}" + (", in arrival order" if rule["order"] else "")


def _date(policy: Policy) -> str:
    moment = datetime.datetime.fromtimestamp(policy.not_after_ns // 10**9, datetime.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _configured(
    config_path: Path, state: Path | None, region_card: Path | None
) -> tuple[Path, Path]:
    """Return the state folder and region card, from agent.toml where they are not given."""
    from agent.config import load_config

    loaded = load_config(config_path)
    return state or loaded.state, region_card or loaded.region_card


def _read(path: Path) -> bytes:
    from agent.policy.model import MAX_BYTES

    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(
            f"cannot read the policy: {error.strerror}", where=str(path),
            todo="`inland policy build` makes one",
        ) from None  # fmt: skip


def _write(path: Path, data: bytes) -> None:
    """Write a file so that it is there as a whole or not at all."""
    from agent.files import write_whole

    try:
        write_whole(path, [data], mode=0o644)
    except OSError as error:
        raise ConfigError(f"cannot write: {error.strerror}", where=str(path)) from None
