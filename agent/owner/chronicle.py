"""What the ledger's entries tell of a time: who decided, what was agreed to, what was lost. Pure.

Entries are given in the order of their logs, those from before the time as well: what they began
lasts. Nothing is opened, and nothing here is proved: that is the verifier's part.

- A policy decides from its entry until the next one.
- A consent is in force from its grant until any other change of its category, or its end date. One
  that ends in the time and whose grant is not among the entries was given before them.
- A bus is down from `down`, `missing` or `bus-off` until `up`.
- The car is asleep from the last entry of a run until the next run begins: an agent that runs
  enters something at least as often as it seals. Before the first entry and after the last one
  it is not known to be awake.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from agent.enum_names import name_of
from agent.evidence.source import OTHERS
from agent.owner.stretches import Stretch, Stretches, joined
from agent.pb import ledger_pb2, sealed_pb2

DOWN: Final = ("down", "missing", "bus-off")
ENDS: Final = (
    ledger_pb2.ConsentChange.WITHDRAWN, ledger_pb2.ConsentChange.EXPIRED,
    ledger_pb2.ConsentChange.RESET, ledger_pb2.ConsentChange.NEEDS_RENEWAL,
)  # fmt: skip
STILL_HERE: Final = (1 << 63) - 1
LEFT_OUT: Final = "left out"  # with which a source begins such a reason

Place = tuple[bytes, int]  # log, index


class Decided(NamedTuple):
    """A policy that decided; `digest` is empty while none did."""

    begin_ns: int
    end_ns: int
    name: str
    version: int
    digest: bytes
    why: str


class Told(NamedTuple):
    """Something that happened at a moment."""

    at_ns: int
    kind: str
    what: ledger_pb2.Entry


@dataclass(slots=True)
class Shelf:
    """Segments that the same people can open, on one lane.

    Attributes:
        segments: that were sealed.
        sealed_bytes: of them.
        here: whose body is here.
        closed: sealed to others; of these, or left out for that reason.
        removed: whose body the car has dropped, by its reason.
        left_out: whose body was left out on purpose: nobody asked for it.
        absent: whose body is not here, and nothing says why.
        held: of the recorder: kept because of an event, and for the region as well.
    """

    segments: int = 0
    sealed_bytes: int = 0
    here: int = 0
    closed: int = 0
    removed: Counter[str] = field(default_factory=Counter)
    left_out: int = 0
    absent: int = 0
    held: int = 0


@dataclass(slots=True)
class Chronicle:
    """What was read.

    Attributes:
        vehicle: pseudonym of the car.
        region: urn:inland:region:<id>.
        begin_ns, end_ns: the time that was asked for, or that of the first and last entry.
        entries: how many there are of that time.
        policies: in order.
        consented: when the consent to a category was in force.
        down: when a bus was not there, by the name of every bus that an entry names.
        awake: when the agent ran.
        shelves: by (recipients, lane), as the schema names them.
        told: entries that people want to see, in order: consents, losses, drops, clock steps,
            gaps, refusals, buses, boots, incidents.
    """

    vehicle: str = ""
    region: str = ""
    begin_ns: int = 0
    end_ns: int = 0
    entries: int = 0
    policies: list[Decided] = field(default_factory=list)
    consented: dict[str, Stretches] = field(default_factory=dict)
    down: dict[str, Stretches] = field(default_factory=dict)
    awake: Stretches = ()
    shelves: dict[tuple[str, str], Shelf] = field(default_factory=dict)
    told: list[Told] = field(default_factory=list)

    @property
    def asked(self) -> Stretches:
        """The time that was asked for, as one stretch."""
        return joined([(self.begin_ns, self.end_ns)])

    def of(self, *kinds: str) -> list[Told]:
        """Return what was told of some kinds."""
        return [one for one in self.told if one.kind in kinds]


@dataclass(frozen=True, slots=True)
class Bodies:
    """Where the bodies of segments are.

    Attributes:
        here: whether the body of an entry (log, index) is here.
        closed: entries whose body is sealed to others.
        why: why a body is not here that no entry calls dropped; None: nothing says it.
    """

    here: Callable[[bytes, int], bool]
    closed: Collection[Place] = ()
    why: Callable[[bytes, int], str | None] = lambda *_: None


def chronicle(
    entries: Iterable[tuple[bytes, ledger_pb2.Entry]],
    bodies: Bodies,
    *,
    begin_ns: int,
    end_ns: int,
) -> Chronicle:
    """Read entries.

    Args:
        entries: (log, entry), log after log, each in its own order.
        bodies: where those of the segments are.
        begin_ns: of the time that was asked for; before any stamp: from the first entry on.
        end_ns: end of it, exclusive; beyond any stamp: up to the last entry.
    """
    reader = _Reader(bodies, begin_ns, end_ns)
    for log, entry in entries:
        reader.add(log, entry)
    return reader.end()


class _Reader:
    def __init__(self, bodies: Bodies, begin_ns: int, end_ns: int) -> None:
        self._bodies = bodies
        self._asked = begin_ns, end_ns
        self._first_ns, self._last_ns = STILL_HERE, 0
        self._runs: list[tuple[int, int]] = []
        self._grants: dict[str, tuple[int, int]] = {}  # since, until
        self._consented: dict[str, list[tuple[int, int]]] = {}
        self._down_since: dict[str, int] = {}
        self._down: dict[str, list[tuple[int, int]]] = {}
        self._sessions: dict[tuple[bytes, bytes], str] = {}
        self._segments: dict[bytes, list[tuple[int, tuple[str, str]]]] = {}
        self._drops: list[tuple[bytes, ledger_pb2.Drop]] = []
        self._held: list[tuple[bytes, ledger_pb2.Incident]] = []
        self._found = Chronicle()

    def add(self, log: bytes, entry: ledger_pb2.Entry) -> None:
        kind, at_ns = str(entry.WhichOneof("what") or ""), entry.at.unix_ns
        inside = self._asked[0] <= at_ns < self._asked[1]
        if inside:
            self._found.entries += 1
            self._first_ns = min(self._first_ns, at_ns)
            self._last_ns = max(self._last_ns, at_ns)
        if kind == "boot" or not self._runs:
            self._runs.append((at_ns, at_ns))
        self._runs[-1] = self._runs[-1][0], max(self._runs[-1][1], at_ns)
        match kind:
            case "genesis":
                self._found.vehicle = entry.genesis.vehicle
                self._found.region = entry.genesis.region
            case "policy":
                self._policy(entry.policy, at_ns)
            case "session":
                self._sessions[log, entry.session.session] = recipients_name(
                    entry.session.recipients
                )
            case "segment" if inside:
                self._segment(log, entry)
            case "drop":
                self._drops.append((log, entry.drop))
            case "incident":
                self._held.append((entry.incident.log or log, entry.incident))
            case "consent":
                self._consent(entry.consent, at_ns)
            case "bus":
                self._bus(entry.bus, at_ns)
        if inside and kind not in ("genesis", "segment", "session", "policy", "kept"):
            self._found.told.append(Told(at_ns, kind, entry))

    def _policy(self, policy: ledger_pb2.PolicyInForce, at_ns: int) -> None:
        found = self._found.policies
        if found:
            found[-1] = found[-1]._replace(end_ns=at_ns)
        found.append(
            Decided(at_ns, STILL_HERE, policy.name, policy.version, policy.body, policy.why)
        )

    def _segment(self, log: bytes, entry: ledger_pb2.Entry) -> None:
        segment = entry.segment
        who = self._sessions.get((log, segment.session), "unknown")
        key = who, lane_name(segment.lane)
        shelf = self._found.shelves.setdefault(key, Shelf())
        shelf.segments += 1
        shelf.sealed_bytes += segment.bytes
        self._segments.setdefault(log, []).append((entry.index, key))

    def _consent(self, change: ledger_pb2.ConsentChange, at_ns: int) -> None:
        spans = self._consented.setdefault(change.category, [])
        since = self._grants.pop(change.category, None)
        if since is None and not spans and change.state in ENDS:
            since = 0, STILL_HERE
        if since is not None:
            spans.append((since[0], min(at_ns, since[1])))
        if change.state == ledger_pb2.ConsentChange.GRANTED:
            until = change.until_unix_ns or STILL_HERE
            self._grants[change.category] = at_ns, min(until, STILL_HERE)

    def _bus(self, bus: ledger_pb2.BusState, at_ns: int) -> None:
        self._down.setdefault(bus.channel, [])
        if bus.state in DOWN:
            self._down_since.setdefault(bus.channel, at_ns)
        elif bus.state == "up" and bus.channel in self._down_since:
            since = self._down_since.pop(bus.channel)
            self._down[bus.channel].append((since, at_ns))

    def end(self) -> Chronicle:
        found = self._found
        first = self._first_ns if self._first_ns < STILL_HERE else 0
        begin = self._asked[0] if self._asked[0] > 0 else first
        end = self._asked[1] if self._asked[1] < STILL_HERE else self._last_ns + 1
        found.begin_ns, found.end_ns = begin, max(begin, end)
        for category, (since, until) in self._grants.items():
            self._consented.setdefault(category, []).append((since, until))
        for channel, since in self._down_since.items():
            self._down[channel].append((since, STILL_HERE))
        found.consented = {name: self._cut(spans) for name, spans in self._consented.items()}
        found.down = {name: self._cut(spans) for name, spans in self._down.items()}
        found.awake = self._cut([(begin, end + 1) for begin, end in self._runs])
        found.policies = [
            one._replace(begin_ns=max(one.begin_ns, begin), end_ns=min(one.end_ns, found.end_ns))
            for one in found.policies
            if one.end_ns > begin and one.begin_ns < found.end_ns
        ]
        self._count()
        return found

    def _cut(self, spans: Iterable[tuple[int, int]]) -> Stretches:
        low, high = self._found.begin_ns, self._found.end_ns
        return joined(Stretch(max(begin, low), min(end, high)) for begin, end in spans)

    def _count(self) -> None:
        """Say of each segment where its body is."""
        for log, segments in self._segments.items():
            indices = [index for index, _ in segments]
            why: dict[int, str] = {}
            held: set[int] = set()
            for its, drop in self._drops:
                if its == log:
                    reason = drop_name(drop.reason)
                    why |= dict.fromkeys(_inside(indices, drop.range), reason)
            for its, incident in self._held:
                if its == log and incident.upload:
                    held |= set(_inside(indices, incident.held))
            for index, key in segments:
                shelf = self._found.shelves[key]
                shelf.held += index in held
                self._place(shelf, log, index, why.get(index))

    def _place(self, shelf: Shelf, log: bytes, index: int, dropped: str | None) -> None:
        if self._bodies.here(log, index):
            shelf.here += 1
            shelf.closed += (log, index) in self._bodies.closed
            return
        reason = dropped or self._bodies.why(log, index)
        if reason is None:
            shelf.absent += 1
        elif reason == f"{LEFT_OUT}: {OTHERS}":
            shelf.closed += 1
        elif reason.startswith(LEFT_OUT):
            shelf.left_out += 1
        else:
            shelf.removed[reason] += 1


def _inside(indices: list[int], ranges: Iterable[ledger_pb2.Range]) -> list[int]:
    return [
        index
        for one in ranges
        for index in indices[bisect_left(indices, one.first) : bisect_right(indices, one.last)]
    ]


def recipients_name(number: int) -> str:
    """Return a recipient set as policies write it: "region"."""
    return name_of(sealed_pb2.Recipients, number)


def lane_name(number: int) -> str:
    """Return a lane: "routine"."""
    return name_of(sealed_pb2.Lane, number)


def drop_name(number: int) -> str:
    """Return a reason of a drop: "quota"."""
    return name_of(ledger_pb2.Drop.Reason, number)
