"""The yearly report: what a year of ledger entries adds up to.

It counts what the rules for car data ask for: kinds, amounts, purposes, recipients, time of
keeping, consents, incidents, losses. Whose car it is, where it was and what was measured are not in
the ledger, so they cannot be in the report.

- An entry belongs to the year of its trusted time, UTC; amounts belong to that of their month.
- Amounts come from Kept entries, by category, purpose and recipients; those of the present month
  from what the agent has counted so far. Rules are not counted one by one: the ids that stand
  beside an amount are those of the policies that decided then, whose bytes are in the ledger.

Source: Several Provisions on Automobile Data Security (China, order no. 7, 2021), articles 10, 13.
"""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from agent.enum_names import name_of
from agent.errors import PolicyError
from agent.pb import ledger_pb2, sealed_pb2
from agent.policy.compiled import read_policy
from agent.policy.headings import Heading, headings

ReadPolicy = Callable[[int, bytes], bytes | None]  # (entry, SHA-256) -> compiled bytes, if there


@dataclass(slots=True)
class Amount:
    """How much was kept under a heading."""

    frames: int = 0
    samples: int = 0
    records: int = 0
    keeps: set[int] = field(default_factory=set)  # s
    rules: set[str] = field(default_factory=set)


@dataclass(slots=True)
class Tally:
    """What was counted of one year."""

    year: int
    vehicle: str = ""
    region: str = ""
    entries: int = 0
    first: int = -1  # entry, its index
    last: int = -1
    began_ns: int = 0
    ended_ns: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    amounts: dict[Heading, Amount] = field(default_factory=dict)
    segments: Counter[str] = field(default_factory=Counter)  # by lane
    segment_bytes: Counter[str] = field(default_factory=Counter)
    consents: dict[str, Counter[str]] = field(default_factory=dict)
    incidents: Counter[str] = field(default_factory=Counter)
    losses: Counter[str] = field(default_factory=Counter)
    drops: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    unclean: int = 0
    step_s: float = 0.0  # the largest
    policies: list[dict[str, Any]] = field(default_factory=list)


class Yearly:
    """Adds up entries, given in the order of the log, from its beginning.

    Args:
        year: of the report.
        policy_bytes: returns the body of a policy entry.
    """

    def __init__(self, year: int, policy_bytes: ReadPolicy) -> None:
        self.tally = Tally(year)
        self._begin_ns, self._end_ns = _begin_ns(year), _begin_ns(year + 1)
        self._policy_bytes = policy_bytes
        self._decided: list[tuple[int, bytes]] = []  # entry and hash of the policies of the year
        self._months = 0  # number of the last Kept entry
        self._last_consent: dict[str, bytes] = {}

    def add(self, entry: ledger_pb2.Entry) -> None:
        """Count one entry. Those of other years may say what counts for this one."""
        kind = entry.WhichOneof("what") or ""
        now_ns = entry.at.unix_ns
        if kind == "policy" and now_ns < self._end_ns:
            if now_ns < self._begin_ns:
                self._decided.clear()  # another one decided when the year began
            if entry.policy.body:
                self._decided.append((entry.index, entry.policy.body))
        if kind == "genesis":
            self.tally.vehicle = entry.genesis.vehicle
            self.tally.region = entry.genesis.region
        # After a crash the last one may be entered once more.
        if kind == "kept" and entry.kept.number != self._months:
            self._months = entry.kept.number
            self._amounts(entry.kept)
        if not self._begin_ns <= now_ns < self._end_ns:
            return
        tally = self.tally
        tally.kinds[kind] += 1
        tally.entries += 1
        tally.first = entry.index if tally.first < 0 else tally.first
        tally.last = entry.index
        tally.began_ns = min(tally.began_ns or now_ns, now_ns)
        tally.ended_ns = max(tally.ended_ns, now_ns)
        counter = _COUNTERS.get(kind)
        if counter is not None:
            counter(self, entry)

    def _boot(self, entry: ledger_pb2.Entry) -> None:
        self.tally.unclean += not entry.boot.clean

    def _segment(self, entry: ledger_pb2.Entry) -> None:
        lane = name_of(sealed_pb2.Lane, entry.segment.lane)
        self.tally.segments[lane] += 1
        self.tally.segment_bytes[lane] += entry.segment.bytes

    def _policy(self, entry: ledger_pb2.Entry) -> None:
        self.tally.policies.append({
            "name": entry.policy.name or None, "version": entry.policy.version,
            "why": entry.policy.why, "at": moment(entry.at.unix_ns),
        })  # fmt: skip

    def finish(self, present: ledger_pb2.Kept) -> Tally:
        """Return the counts, with those of the month that is not over.

        Args:
            present: what was counted since the last Kept entry.
        """
        if present.number != self._months:
            self._amounts(present)
        for where in self._decided:
            for rule, (heading, _) in self._headings(*where).items():
                if heading in self.tally.amounts:
                    self.tally.amounts[heading].rules.add(rule)
        return self.tally

    def _amounts(self, kept: ledger_pb2.Kept) -> None:
        if kept.month[:5] != f"{self.tally.year:04}-":
            return
        for one in kept.amount:
            heading = Heading(one.category, one.purpose, one.recipients)
            amount = self.tally.amounts.setdefault(heading, Amount())
            amount.frames += one.frames
            amount.samples += one.samples
            amount.records += one.records
            amount.keeps |= {one.shortest_keep_s, one.longest_keep_s} - {0}

    def _headings(self, index: int, digest: bytes) -> dict[str, tuple[Heading, int]]:
        data = self._policy_bytes(index, digest)
        try:
            return headings(read_policy(data)) if data else {}
        except PolicyError:  # of an agent before or after this one: its rules are unknown
            return {}

    def _consent(self, entry: ledger_pb2.Entry) -> None:
        # After a crash the last change may be entered once more, in the very same words.
        stored = entry.consent.SerializeToString(deterministic=True)
        if self._last_consent.get(entry.consent.category) == stored:
            return
        self._last_consent[entry.consent.category] = stored
        states = self.tally.consents.setdefault(entry.consent.category, Counter())
        states[name_of(ledger_pb2.ConsentChange.State, entry.consent.state)] += 1

    def _incident(self, entry: ledger_pb2.Entry) -> None:
        state = name_of(ledger_pb2.Incident.State, entry.incident.state)
        suppressed = entry.incident.state == ledger_pb2.Incident.SUPPRESSED
        self.tally.incidents[state] += entry.incident.count if suppressed else 1
        self.tally.incidents["uploaded"] += entry.incident.upload and not suppressed
        self.tally.incidents["entries held"] += _length(entry.incident.held)

    def _loss(self, entry: ledger_pb2.Entry) -> None:
        cause = name_of(ledger_pb2.Loss.Cause, entry.loss.cause)
        self.tally.losses[cause] += entry.loss.count

    def _drop(self, entry: ledger_pb2.Entry) -> None:
        reason = name_of(ledger_pb2.Drop.Reason, entry.drop.reason)
        self.tally.drops[reason] += _length(entry.drop.range)

    def _refusal(self, entry: ledger_pb2.Entry) -> None:
        self.tally.refusals[f"{entry.refusal.what}: {entry.refusal.code}"] += entry.refusal.count

    def _clock(self, entry: ledger_pb2.Entry) -> None:
        step_ns = abs(entry.clock.to_unix_ns - entry.clock.from_unix_ns)
        self.tally.step_s = max(self.tally.step_s, step_ns / 1e9)


_COUNTERS: Final[dict[str, Callable[[Yearly, ledger_pb2.Entry], None]]] = {
    "boot": Yearly._boot,
    "segment": Yearly._segment,
    "policy": Yearly._policy,
    "consent": Yearly._consent,
    "incident": Yearly._incident,
    "loss": Yearly._loss,
    "drop": Yearly._drop,
    "refusal": Yearly._refusal,
    "clock": Yearly._clock,
}


def _recipients(number: int) -> str:
    return name_of(sealed_pb2.Recipients, number)


def _length(ranges: Iterable[ledger_pb2.Range]) -> int:
    return sum(one.last - one.first + 1 for one in ranges)


def _begin_ns(year: int) -> int:
    return int(datetime.datetime(year, 1, 1, tzinfo=datetime.UTC).timestamp()) * 10**9


def moment(unix_ns: int) -> str:
    """Return a moment, ns since the epoch, as ISO 8601 in UTC."""
    when = datetime.datetime.fromtimestamp(unix_ns // 10**9, datetime.UTC)
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")


def report(tally: Tally, waiting: int) -> dict[str, Any]:
    """Return the report as plain values.

    Args:
        tally: of a year.
        waiting: of its entries the region has not confirmed so many.
    """
    kinds = tally.kinds
    return {
        "year": tally.year,
        "vehicle": tally.vehicle,
        "region": tally.region,
        "entries": tally.entries,
        "first": {"entry": tally.first, "at": moment(tally.began_ns)} if tally.entries else None,
        "last": {"entry": tally.last, "at": moment(tally.ended_ns)} if tally.entries else None,
        "kept": [
            {
                "category": heading.category, "purpose": heading.purpose,
                "recipients": _recipients(heading.recipients), "frames": amount.frames,
                "samples": amount.samples, "records": amount.records,
                "keep_s": [min(amount.keeps), max(amount.keeps)] if amount.keeps else None,
                "rules": sorted(amount.rules),
            }
            for heading, amount in sorted(tally.amounts.items(), key=lambda one: str(one[0]))
        ],
        "segments": {
            lane: {"count": tally.segments[lane], "bytes": tally.segment_bytes[lane]}
            for lane in sorted(tally.segments)
        },
        "consents": {name: dict(sorted(tally.consents[name].items()))
                     for name in sorted(tally.consents)},
        "incidents": dict(sorted(tally.incidents.items())),
        "losses": dict(sorted(tally.losses.items())),
        "drops": dict(sorted(tally.drops.items())),
        "refusals": dict(sorted(tally.refusals.items())),
        "clock_steps": {"count": kinds["clock"], "largest_s": tally.step_s},
        "uploads": {"confirmed": tally.entries - waiting, "waiting": waiting},
        "starts": {"count": kinds["boot"], "unclean": tally.unclean},
        "gaps": kinds["gap"],
        "policies": tally.policies,
    }  # fmt: skip
