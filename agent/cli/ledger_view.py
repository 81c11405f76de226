"""Ledger entries and the yearly report in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from agent.enum_names import name_of
from agent.pb import ledger_pb2, moment_pb2, sealed_pb2
from agent.policy.quantities import duration_text
from agent.service.ledger import moment

Ranges = Any  # a repeated field of ledger_pb2.Range

_CLOCKS: Final = {moment_pb2.CLOCK_FLOOR: "at the earliest", moment_pb2.CLOCK_WALL: "by its clock",
                  moment_pb2.CLOCK_REGION: ""}  # fmt: skip
_WHY_DROPPED: Final = {
    "confirmed": "the region has them, room was needed", "quota": "room was needed, unsent",
    "expired": "their time to be kept is over", "rotten": "the disk has altered them",
    "rolled": "the recorder has moved on", "withdrawn": "the consent to them has ended",
    "transferred": "they were of the owner before",
    "unspecified": "no reason is given",
}  # fmt: skip
_WHY_LOST: Final = {
    "kernel": "the kernel's buffer ran over", "queue": "the queue ran over",
    "broken": "they were broken", "seal": "they could not be stored",
    "no_recipient": "nobody is enrolled who could open them", "unknown": "the cause is not known",
    "overrun": "the bus controller ran over, and counts no frames",
}  # fmt: skip


def line(entry: ledger_pb2.Entry) -> str:
    """Return one line: index, time, what, why."""
    when = moment(entry.at.unix_ns)
    clock = _CLOCKS.get(entry.at.quality, "")
    return f"{entry.index:>8}  {when}{f' ({clock})' if clock else ''}  {words(entry)}"


def said(entry: ledger_pb2.Entry) -> dict[str, Any]:
    """Return the same for programs."""
    clock = name_of(moment_pb2.ClockQuality, entry.at.quality)
    return {
        "entry": entry.index, "at": moment(entry.at.unix_ns),
        "clock": clock.removeprefix("clock_"), "what": entry.WhichOneof("what"),
        "words": words(entry),
    }  # fmt: skip


def words(entry: ledger_pb2.Entry) -> str:
    """Return what an entry says."""
    kind = entry.WhichOneof("what")
    if kind is None or kind not in _WORDS:
        return "something that this version does not know"
    return _WORDS[kind](getattr(entry, kind))


def _genesis(what: ledger_pb2.Genesis) -> str:
    return f"ledger begun for {what.vehicle} in {what.region}"


def _boot(what: ledger_pb2.Boot) -> str:
    before = "" if what.clean else ": the run before did not end in order"
    return f"agent {what.version} started{before}"


def _session(what: ledger_pb2.SessionBegun) -> str:
    who = name_of(sealed_pb2.Recipients, what.recipients)
    return f"session {what.session.hex()[:8]} begun, sealed to {who}"


def _segment(what: ledger_pb2.SegmentSealed) -> str:
    lane = name_of(sealed_pb2.Lane, what.lane)
    return f"segment of {what.bytes:,} bytes sealed on lane {lane}"


def _policy(what: ledger_pb2.PolicyInForce) -> str:
    if not what.body:
        return f"no policy decides: nothing is kept ({what.why})"
    return f"policy {what.name} version {what.version} decides ({what.why})"


def _loss(what: ledger_pb2.Loss) -> str:
    cause = name_of(ledger_pb2.Loss.Cause, what.cause)
    bus = f" of {what.channel}" if what.channel else ""
    few = "at least " if what.cause == ledger_pb2.Loss.OVERRUN else ""
    return f"{few}{what.count:,} frames or samples{bus} lost: {_WHY_LOST.get(cause, cause)}"


def _drop(what: ledger_pb2.Drop) -> str:
    reason = name_of(ledger_pb2.Drop.Reason, what.reason)
    return f"contents of {_ranges(what.range)} dropped: {_WHY_DROPPED.get(reason, reason)}"


def _clock(what: ledger_pb2.ClockStep) -> str:
    step_s = (what.to_unix_ns - what.from_unix_ns) / 1e9
    return f"the wall clock jumped by {step_s:+,.0f} s"


def _refusal(what: ledger_pb2.Refusal) -> str:
    return f"{what.what} refused {what.count:,} times: {what.code}"


def _gap(what: ledger_pb2.Gap) -> str:
    before = f" of {what.size:,} entries" if what.size else ""
    return f"the ledger before{before} could not be continued: {what.why}; {what.salvaged:,} saved"


def _bus(what: ledger_pb2.BusState) -> str:
    count = f", {what.count:,} error frames" if what.count else ""
    return f"bus {what.channel} {what.state}{count}"


def _incident(what: ledger_pb2.Incident) -> str:
    if what.state == ledger_pb2.Incident.SUPPRESSED:
        return f"{what.count:,} events counted and not recorded: more than the policy allows"
    end = "" if what.state == ledger_pb2.Incident.COMPLETE else ", the run ended before its end"
    held = f"{_ranges(what.held)} held" if what.held else "nothing held"
    upload = ", for the region" if what.upload else ""
    return f"event of entry {what.record}: {held}{upload}{end}"


def _consent(what: ledger_pb2.ConsentChange) -> str:
    state = name_of(ledger_pb2.ConsentChange.State, what.state).replace("_", " ")
    text = f"consent to {what.category}: {state}"
    if what.state == ledger_pb2.ConsentChange.GRANTED:
        text += f" until {moment(what.until_unix_ns)}"
        text += ", or until the drive ends" if what.each_drive else ""
    return text


def _transfer(what: ledger_pb2.Transfer) -> str:
    bodies = sum(one.bodies for one in what.erased)
    return (f"transferred: ownership {what.from_epoch} ended and {what.to_epoch} began, "
            f"{bodies:,} contents erased ({what.custody} custody)")  # fmt: skip


def _owner(what: ledger_pb2.OwnerChange) -> str:
    who = "owner" if what.role == ledger_pb2.OwnerChange.OWNER_OF_CAR else "driver"
    said = {
        ledger_pb2.OwnerChange.ENROLLED: f"{who} {what.kid.hex()} is enrolled",
        ledger_pb2.OwnerChange.REMOVED: f"{who} {what.kid.hex()} is no longer enrolled",
        ledger_pb2.OwnerChange.DRIVES: f"{who} {what.kid.hex()} drives",
        ledger_pb2.OwnerChange.NOBODY_DRIVES: "nobody who is enrolled drives",
    }
    return said.get(what.what, "people changed in a way that a later version can name")


def _kept(what: ledger_pb2.Kept) -> str:
    frames, samples, records = (
        sum(getattr(one, name) for one in what.amount) for name in ("frames", "samples", "records")
    )
    return f"kept in {what.month}: {frames:,} frames, {samples:,} samples, {records:,} records"


_WORDS: Final[dict[str, Callable[[Any], str]]] = {
    "genesis": _genesis, "boot": _boot, "session": _session, "segment": _segment,
    "policy": _policy, "loss": _loss, "drop": _drop, "clock": _clock, "refusal": _refusal,
    "gap": _gap, "bus": _bus, "incident": _incident, "consent": _consent, "kept": _kept,
    "owner": _owner, "transfer": _transfer,
}  # fmt: skip


def _ranges(ranges: Ranges) -> str:
    parts = [str(one.first) if one.first == one.last else f"{one.first}-{one.last}"
             for one in ranges]  # fmt: skip
    more = f" and {len(parts) - 4} more" if len(parts) > 4 else ""
    return f"entries {', '.join(parts[:4])}{more}"


def year_lines(told: Mapping[str, Any]) -> list[str]:
    """Return the yearly report, see `agent.service.ledger.report`, for a person."""
    lines = [f"{told['year']}: {told['vehicle']} in {told['region']}"]
    if not told["entries"]:
        return [*lines, "no entries of this year"]
    first, last = told["first"], told["last"]
    lines.append(f"{told['entries']:,} entries, {first['entry']} at {first['at']} "
                 f"to {last['entry']} at {last['at']}")  # fmt: skip
    lines += ["", "kept, by category, purpose and recipients"]
    lines += [_kept_line(one) for one in told["kept"]] or ["  nothing"]
    lines += ["", "sealed, by lane"]
    lines += [f"  {lane:<10} {one['count']:>12,} segments {one['bytes']:>16,} bytes"
              for lane, one in told["segments"].items()] or ["  nothing"]  # fmt: skip
    lines += ["", "consents"]
    lines += [f"  {name:<20} {_counts(states)}" for name, states in told["consents"].items()] or [
        "  none was given or ended"
    ]
    uploads, starts, steps = (told[name] for name in ("uploads", "starts", "clock_steps"))
    lines += [
        "",
        f"incidents     {_counts(told['incidents']) or 'none'}",
        f"uploads       {uploads['confirmed']:,} confirmed, {uploads['waiting']:,} waiting",
        f"lost          {_counts(told['losses']) or 'nothing'}",
        f"dropped       {_counts(told['drops']) or 'nothing'}",
        f"refused       {_counts(told['refusals']) or 'nothing'}",
        f"starts        {starts['count']:,}, {starts['unclean']:,} after a run that broke off",
        f"clock steps   {steps['count']:,}, the largest {steps['largest_s']:,.0f} s",
        f"gaps          {told['gaps']:,}",
    ]
    lines += [f"policy        {_policy_line(one)}" for one in told["policies"]]
    return lines


def _policy_line(one: Mapping[str, Any]) -> str:
    name = f"{one['name']} version {one['version']}" if one["name"] else "none"
    return f"{one['at']} {name} ({one['why']})"


def _kept_line(one: Mapping[str, Any]) -> str:
    keep = ""
    if one["keep_s"]:
        least, most = (duration_text(value * 10**9) for value in one["keep_s"])
        keep = f", kept {least}" + (f" to {most}" if most != least else "")
    head = f"  {one['category']}, {one['purpose']}, {one['recipients']}"
    return (f"{head}: {one['frames']:,} frames, {one['samples']:,} samples, "
            f"{one['records']:,} records{keep}")  # fmt: skip


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in counts.items())
