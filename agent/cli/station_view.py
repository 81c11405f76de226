"""How the station's figures are said to people: one line each, without the zeros."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import click

from agent.cli.common import counted, print_json
from agent.errors import StationError, UndecidedError

if TYPE_CHECKING:
    from agent.evidence.opening import Opened

MAX_PROBLEMS: Final = 50  # lines; --json has all


def status_line(status: dict[str, Any]) -> str:
    """Return what `serve` says of its state."""
    line = f"{status['state']}: {status['stored']} stored, {status['duplicates']} again"
    for key in ("waiting", "conflicts", "refused"):
        line += f", {status[key]} {key}" if status[key] else ""
    if "error" in status:
        line += f"; {status['error']}; next try in {status['retry_s']} s"
    return line


def catalogue_lines(found: dict[str, Any]) -> list[str]:
    """Return what `ls` says of a catalogue (agent/station/catalogue.py)."""
    lines = [f"region {found['region']}, {counted(len(found['vehicles']), 'vehicle')}"]
    for vehicle in found["vehicles"]:
        lines.append(vehicle["vehicle"] + ("" if vehicle["logs"] else "  nothing received"))
        lines += [line for log in vehicle["logs"] for line in _log_lines(log)]
    for refusal in found["refusals"]:
        lines.append(f"refused {refusal['count']} x {refusal['code']} from {refusal['vehicle']}")
    for alarm in found["alarms"]:
        lines.append(f"ALARM {alarm['code']} {alarm['vehicle']}: {alarm['detail']}")
    return lines


def opening_line(entry: dict[str, Any]) -> str:
    """Return what `ls --openings` says of one entry."""
    line = f"{entry['i']}  {entry['at']}  {entry['who']}  {entry['vehicle']}"
    line += f"  {counted(entry['segments'], 'segment')}  {entry['from']} to {entry['to']}"
    line += "".join(f"  {entry[key]}" for key in ("kind", "kid", "authority") if key in entry)
    return line + (f"  {entry['reason']}" if entry["reason"] else "")


def _log_lines(log: dict[str, Any]) -> list[str]:
    head, span = log["checkpoint"], ""
    if log["entries"]:
        span = f", {_iso(log['from_ns'])} to {_iso(log['to_ns'])}"
    held = f"{counted(log['entries'], 'entry', 'entries')}, {counted(log['segments'], 'segment')}"
    lines = [f"  log {log['log'][:16]}  {held}{span}"]
    lines.append(
        f"    co-signed to {head['size']} at {_iso(head['at_ns'])}" if head else "    not co-signed"
    )
    for first, last in log["missing"]:
        lines.append(f"    not received: {first}" + (f" to {last}" if last > first else ""))
    if log["losses"]:
        lines.append(f"    lost on the car: {counted(log['losses'], 'frame')}")
    for reason, count in log["drops"].items():
        lines.append(f"    dropped by the car: {counted(count, 'body', 'bodies')} ({reason})")
    if log["conflicts"]:
        count = counted(log["conflicts"], "entry", "entries")
        lines.append(f"    CONFLICTS: {count} came again with another hash")
    return lines


def _iso(unix_ns: int) -> str:
    return (
        dt.datetime.fromtimestamp(unix_ns // 10**9, dt.UTC).isoformat().removesuffix("+00:00") + "Z"
    )


def told(entry: Mapping[str, Any]) -> Iterator[str]:
    """Yield what an owner is told of an opening: who, when, which window, on which basis, what."""
    kind, served = str(entry.get("kind")), f"served at the region by user {entry['who']}"
    who, asked = {
        "request": (f"request of {entry.get('role')} {entry.get('kid')}", served),
        "order": (f"order of {entry.get('authority')}", f"{entry.get('officer')}; {served}"),
    }.get(kind, (f"opened by {entry['who']}", "the region itself, without an order"))
    yield f"{entry['at']}  {who}"
    yield f"  by      {asked}"
    lanes = ", ".join(str(lane).lower() for lane in entry.get("lanes") or ()) or "all"
    yield f"  window  {_moment(str(entry['from']))} to {_moment(str(entry['to']))}, lanes: {lanes}"
    if kind == "order":
        yield f"  basis   {entry.get('basis') or 'not said'}; file {entry['reason']}"
    elif entry["reason"]:
        yield f"  reason  {entry['reason']}"
    yield f"  got     {_got(entry, kind)}"
    yield f"  entry   {entry['i']} of the region's ledger of openings"


def _got(entry: Mapping[str, Any], kind: str) -> str:
    count = entry.get("segments")
    parts = counted(count, "part") if isinstance(count, int) else f"{count} parts"
    if kind == "request":
        return f"{parts}, sealed: the region opened nothing"
    what = [name for name in ("frames", "signals") if entry.get(name)]
    return f"{parts}, opened" + (f": {' and '.join(what)}" if what else "")


def _moment(said: str) -> str:
    return _iso(int(said)) if said.isdecimal() and len(said) < 20 else said


def report_opened(
    opened: Opened, *, about: dict[str, str] | None = None, to_stderr: bool = False, as_json: bool
) -> None:
    """Say what was opened, and `about` what; standard output only if no data goes there."""
    summary: dict[str, Any] = {
        **(about or {}),
        "segments": opened.segments,
        "frames": opened.frame_count,
        "samples": opened.sample_count,
        "dropped": opened.dropped,
        "owner_only": opened.owner_only,
        "in_car": opened.in_car,
        "problems": [problem._asdict() for problem in opened.problems],
    }
    if as_json:
        print_json(summary, err=to_stderr)
    else:
        line = f"{counted(opened.segments, 'segment')}: {counted(opened.frame_count, 'frame')}"
        line += f", {counted(opened.sample_count, 'sample')}"
        line += f", {opened.owner_only} for the owner alone" if opened.owner_only else ""
        line += f", {opened.in_car} still in the car" if opened.in_car else ""
        for reason, count in opened.dropped.items():
            line += f", {count} dropped by the car ({reason})"
        click.echo(line, err=to_stderr)
        for problem in opened.problems[:MAX_PROBLEMS]:
            click.echo(f"{problem.kind}: {problem.where}: {problem.why}", err=True)
    altered = sum(problem.kind == "altered" for problem in opened.problems)
    if altered:
        what = counted(altered, "entry is", "entries are")
        raise StationError(f"{what} altered", todo="what else opened was written")
    if opened.problems:
        what = counted(len(opened.problems), "part has", "parts have")
        raise UndecidedError(f"{what} not come", todo="what is here was written")
