"""`inland policy simulate`: try a policy on recorded logs, and see what it would cost."""

from __future__ import annotations

import datetime
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from agent.cli.common import json_option, parse_maps, print_json
from agent.cli.policy.files import FILE, either_form
from agent.errors import ConfigError

if TYPE_CHECKING:
    from agent.policy.model import Policy
    from agent.policy.zones import Zones
    from agent.service.simulate import Report

HOURS: Final = 45.0  # of driving in a month: an hour and a half a day
_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB")
_NAMED: Final = 10  # broken lines that are named; all are counted
_SHOWN: Final = 8  # signals that never came


@click.command()
@click.argument("policy", type=FILE)
@click.argument("logs", type=FILE, nargs=-1, required=True)
@click.option("--map", "maps", multiple=True, metavar="LOG=POLICY", help="Rename a log's channel.")
@click.option(
    "--without", multiple=True, metavar="CATEGORY",
    help="No consent to this category; without it every consent counts as given.",
)  # fmt: skip
@click.option("--zones-key", type=FILE, help="Opens the policy's zones (zones.key of the region).")
@click.option(
    "--hours", default=HOURS, show_default=True, type=click.FloatRange(0.01, 744),
    help="Hours of driving in a month.",
)  # fmt: skip
@click.option("--strict", is_flag=True, help="Stop at the first broken line.")
@json_option
def simulate(
    *, policy: Path, logs: tuple[Path, ...], maps: tuple[str, ...], without: tuple[str, ...],
    zones_key: Path | None, hours: float, strict: bool, as_json: bool,
) -> None:  # fmt: skip
    """Play LOGS through POLICY: what is kept, what happens, what it costs. Nothing is stored.

    POLICY is a TOML text or a compiled policy; a log is anything that `inland replay` plays. The
    frames go the agent's own way, sealing included, so bytes are what a car would write and send.

    \b
    Example:
      inland policy simulate fleet.toml drive.log --map vcan0=can0
    """
    from agent.capture.logbus import MappedChannels
    from agent.frames import ChannelTable
    from agent.service.simulate import Simulation

    loaded = either_form(policy)
    asked = frozenset(term.category for term in loaded.consents)
    for category in without:
        if category not in asked:
            raise ConfigError(f"the policy asks no consent to '{category}'", where="--without")
    names = parse_maps(maps, "POLICY_CHANNEL")
    results = []
    for log in logs:
        channels = MappedChannels(ChannelTable(), names)
        run = Simulation(
            loaded, channels, consented=asked - set(without), zones=_zones(loaded, zones_key)
        )
        broken: Counter[str] = Counter()
        for batch in _batches(log, channels, broken, strict=strict, quiet=as_json):
            run.feed(batch)
        report = run.finish()
        missed = (f"nothing of the log is on {name}: --map {name}=... did nothing"
                  for name in sorted(channels.unused))  # fmt: skip
        report.notes = (*report.notes, *missed)
        results.append(_told(log, report, broken.total(), channels.names, hours))
        if not as_json:
            _print(log, loaded, report, results[-1], hours)
    if as_json:
        print_json({"policy": loaded.name, "version": loaded.version, "logs": results})


def _zones(policy: Policy, key: Path | None) -> Zones | None:
    if key is None:
        return None
    if policy.camera is None or not policy.camera.zones:
        raise ConfigError("the policy has no zones to open", where="--zones-key")
    from agent.policy.zone_file import open_zones
    from agent.policy.zone_key import load_zones_key

    return open_zones(policy.camera.zones, load_zones_key(key), policy.region)


@contextmanager
def _bar(path: Path, *, quiet: bool) -> Iterator[Any]:
    with click.progressbar(
        length=max(1, path.stat().st_size), label=path.name, file=sys.stderr,
        hidden=quiet or not sys.stderr.isatty(),
    ) as bar:  # fmt: skip
        yield bar


def _batches(
    log: Path, channels: Any, broken: Counter[str], *, strict: bool, quiet: bool
) -> Iterator[Any]:
    from agent.capture.logs import find_format, read_log

    def name_broken(where: str, why: str) -> None:
        broken[why] += 1
        if broken.total() <= _NAMED:
            click.echo(f"{where}: {why}", err=True)

    find_format(log)
    with _bar(log, quiet=quiet) as bar:
        yield from read_log(
            log, channels, strict=strict, on_broken=name_broken, progress=bar.update
        )


def _told(
    log: Path, report: Report, broken: int, channels: tuple[str, ...], hours: float
) -> dict[str, Any]:
    """Return a report for a program."""
    scale = 3600 / report.seconds if report.seconds else 0.0
    costs = {name: asdict(cost) for name, cost in report.costs.items()}
    costs["total"] = asdict(report.total())
    return {
        "log": str(log), "frames": report.frames, "broken": broken, "channels": list(channels),
        "seconds": report.seconds,
        "kept": {name: asdict(use) for name, use in report.uses.items()},
        "bytes": costs,
        "bytes_an_hour": {
            name: {kind: round(size * scale) for kind, size in cost.items()}
            for name, cost in costs.items()
        },
        "bytes_a_month": {
            name: {kind: round(size * scale * hours) for kind, size in cost.items()}
            for name, cost in costs.items()
        },
        "recorder_bytes": report.recorder_bytes,
        "events": [asdict(event) for event in report.events],
        "suppressed": report.suppressed,
        "gate_s": report.gate_s,
        "unseen": list(report.unseen),
        "notes": list(report.notes),
    }  # fmt: skip


def _print(log: Path, policy: Policy, report: Report, told: dict[str, Any], hours: float) -> None:
    where = ", ".join(told["channels"])
    click.echo(f"{log}: {report.frames} frames on {where}, {report.seconds:.1f} s of driving")
    click.echo(f"policy {policy.name} version {policy.version}; nothing was stored\n")
    click.echo(f"{'kept':<28}{'frames':>10}{'samples':>10}{'records':>10}")
    names = [rule.id for rule in policy.rules]
    names += ["recorder"] if policy.recorder else []
    names += [event.id for event in policy.events] + (["camera"] if policy.camera else [])
    for name in names:
        use = told["kept"].get(name, {"frames": 0, "samples": 0, "records": 0})
        click.echo(f"  {name:<26}{use['frames']:>10}{use['samples']:>10}{use['records']:>10}")
    _print_costs(told, hours)
    _print_events(report)
    if report.gate_s:
        parts = ", ".join(f"{word} {seconds:.1f} s" for word, seconds in report.gate_s.items())
        click.echo(f"\ncamera gate: {parts}")
    if report.unseen:
        more = len(report.unseen) - _SHOWN
        shown = ", ".join(report.unseen[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
        click.echo(f"\nnamed by the policy, never on the bus: {shown}")
    for note in report.notes:
        click.echo(f"note: {note}")
    click.echo("")


def _print_costs(told: dict[str, Any], hours: float) -> None:
    click.echo(f"\n{'cost':<22}{'flash/h':>12}{'link/h':>12}{'flash/month':>14}{'link/month':>14}")
    for name, hourly in told["bytes_an_hour"].items():
        monthly = told["bytes_a_month"][name]
        figures = (hourly["flash"], hourly["link"], monthly["flash"], monthly["link"])
        sizes = "".join(
            f"{_size(one):>{wide}}" for one, wide in zip(figures, (12, 12, 14, 14), strict=True)
        )
        click.echo(f"  {name:<20}{sizes}")
    window = _size(told["recorder_bytes"])
    click.echo(
        f"  of an hour, and of {hours:g} hours of driving; the recorder's window has {window}"
    )


def _print_events(report: Report) -> None:
    click.echo("\nevents" if report.events else "\nno events")
    for event in report.events:
        stamp = datetime.datetime.fromtimestamp(event.stamp_ns / 1e9, datetime.UTC)
        holds = f"holds {event.before_s:.1f} s before and {event.after_s:.1f} s after"
        cut = "" if event.complete else ", cut short by the end of the log"
        again = f", {event.triggers} triggers" if event.triggers > 1 else ""
        when = f"{event.at_s:9.3f} s  {stamp:%Y-%m-%d %H:%M:%S.%f}"
        click.echo(f"  {when}  {event.rule}: {holds}{again}{cut}")
    if report.suppressed:
        click.echo(f"  {report.suppressed} more than the policy's 'at_most' were only counted")


def _size(size: float) -> str:
    for unit in _UNITS:
        if size < 1024 or unit == _UNITS[-1]:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    raise AssertionError  # the last unit has returned
