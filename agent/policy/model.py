"""A policy as plain values, and its limits. What every other part of the engine works on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from agent.pb import policy_pb2
from agent.policy.clauses import (
    Camera,
    Condition,
    ConsentTerm,
    EventRule,
    FrameSelector,
    Recorder,
    SignalSelector,
)

MAX_STANDARD: Final = 0x7FF
MAX_EXTENDED: Final = 0x1FFF_FFFF

# Limits. A policy beyond them is refused, so that no policy costs the car more than is foreseen.
MAX_BYTES: Final = 240 * 1024  # compiled: it travels in one message of at most 256 KiB
MAX_RULES: Final = 1024
MAX_RULE_SETS: Final = 64  # each makes segments and tables of its own
MAX_SIGNALS: Final = 65_535  # a signal's number is a u16
MAX_MUX_DEPTH: Final = 8
MAX_MUX_RANGES: Final = 256  # of one multiplexer
MAX_CHOICES: Final = 1024  # labels of one signal
MAX_TEXT: Final = 500  # characters of a necessity; names, units and labels are held to it too
MIN_FLUSH_NS: Final = 100 * 10**6
MAX_FLUSH_NS: Final = 4 * 10**9
MAX_RESOLUTION_NS: Final = 10**9
MIN_EVERY_NS: Final = 10**6
MAX_EVERY_NS: Final = 86_400 * 10**9
MIN_KEEP_S: Final = 60

UNSIGNED: Final = int(policy_pb2.Signal.UNSIGNED)
SIGNED: Final = int(policy_pb2.Signal.SIGNED)
FLOAT32: Final = int(policy_pb2.Signal.FLOAT32)
FLOAT64: Final = int(policy_pb2.Signal.FLOAT64)
KINDS: Final = (UNSIGNED, SIGNED, FLOAT32, FLOAT64)


@dataclass(frozen=True, slots=True)
class MuxLayout:
    """A multiplexer: the signal is present if its unsigned value lies in one of the ranges."""

    start: int
    bits: int
    big_endian: bool
    ranges: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class SignalLayout:
    """Where a signal stands in a frame.

    Attributes:
        arbitration_id: of the frame.
        extended: the id has 29 bits.
        start: start bit as DBC counts: least significant bit, or most significant if big endian.
        bits: 1 to 64.
        big_endian: Motorola byte order.
        kind: UNSIGNED, SIGNED, FLOAT32 or FLOAT64.
        mux: all must hold.
    """

    arbitration_id: int
    extended: bool
    start: int
    bits: int
    big_endian: bool
    kind: int
    mux: tuple[MuxLayout, ...] = ()


@dataclass(frozen=True, slots=True)
class SignalInfo:
    """What a reader needs to turn a raw value into a physical one: raw * factor + offset."""

    name: str
    message: str
    unit: str
    factor: float
    offset: float
    kind: int
    choices: tuple[tuple[int, str], ...]


S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class RuleOf(Generic[S]):
    """One [[collect]]: what is kept, why, for whom, how long. Fields as in policy.proto.

    Its signals are still names in a policy's text, and `SignalSelector`s when it is compiled.
    """

    id: str
    category: str
    purpose: str
    basis: str
    necessity: str
    recipients: int
    lane: int
    keep_s: int
    frames: tuple[FrameSelector, ...]
    signals: tuple[S, ...]
    every_ns: int
    on_change: bool
    resolution_ns: int
    order: bool
    flush_ns: int
    space_m: int = 0


Rule = RuleOf[SignalSelector]  # for annotations; made as RuleOf(...)


@dataclass(frozen=True, slots=True)
class RuleSet:
    """What rules that share an output have in common. Fields as in policy.proto.

    Attributes:
        consent: the category whose consent its rules need, "" if none: what is kept under a consent
            stands in segments of its own, so that a withdrawal finds it.
    """

    recipients: int
    lane: int
    resolution_ns: int
    keep_order: bool
    flush_ns: int
    keep_s: int
    consent: str = ""


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy that passed the door.

    Attributes:
        name: of the policy.
        version: only rises.
        region: urn:inland:region:<id>.
        not_after_ns: ns since 1970; from then on it decides nothing.
        dictionary: Dictionary bytes as stored; their SHA-256 names them in segments.
        signals: the dictionary, by number.
        layouts: where each of them stands, by number.
        rules: in the order of the text.
        digest: SHA-256 of the compiled policy.
        recorder: the black box, if there is one.
        events: in the order of the text.
        camera: the camera gate's rules; None: the gate stays closed.
        consents: by category, what a consent may be at most.
        driving: true while the car is driven; None: that is never known.
        contact: whom a person can ask about what is kept; "" if the policy names nobody.
    """

    name: str
    version: int
    region: str
    not_after_ns: int
    dictionary: bytes
    signals: tuple[SignalInfo, ...]
    layouts: tuple[SignalLayout, ...]
    rules: tuple[Rule, ...]
    digest: bytes
    recorder: Recorder | None = None
    events: tuple[EventRule, ...] = ()
    camera: Camera | None = None
    consents: tuple[ConsentTerm, ...] = ()
    driving: Condition | None = None
    contact: str = ""


def rule_set_of(rule: Rule) -> RuleSet:
    """Return the set that a rule belongs to."""
    return RuleSet(
        rule.recipients, rule.lane, rule.resolution_ns, rule.order, rule.flush_ns, rule.keep_s,
        rule.category if rule.basis == "consent" else "",
    )  # fmt: skip


def watch_points(policy: Policy) -> tuple[SignalSelector, ...]:
    """Return the signals that the policy's clauses look at, each once: the watch points by number.

    The engine hands out their samples under these numbers, and every clause finds its own by them.
    """
    found: dict[SignalSelector, None] = {}
    conditions = [event.when for event in policy.events]
    if policy.driving is not None:
        conditions.append(policy.driving)
    if (camera := policy.camera) is not None:
        if (trigger := camera.trigger) is not None:
            found |= dict.fromkeys((trigger.camera, trigger.reason, trigger.state, trigger.clip))
        if (place := camera.position) is not None:
            found |= dict.fromkeys((place.latitude, place.longitude, place.speed))
            conditions.append(place.fix)
    for condition in conditions:
        found |= dict.fromkeys(selector for _, selector in condition.terms)
    for event in policy.events:
        found |= dict.fromkeys(event.snapshot)
    return tuple(found)


def gate_points(policy: Policy) -> frozenset[int]:
    """Return the watch points that the camera gate and `driving` look at, by number."""
    found: set[SignalSelector] = set()
    conditions = [] if policy.driving is None else [policy.driving]
    if (camera := policy.camera) is not None:
        if (trigger := camera.trigger) is not None:
            found |= {trigger.camera, trigger.reason, trigger.state, trigger.clip}
        if (place := camera.position) is not None:
            found |= {place.latitude, place.longitude, place.speed}
            conditions.append(place.fix)
    found.update(selector for one in conditions for _, selector in one.terms)
    return frozenset(at for at, one in enumerate(watch_points(policy)) if one in found)


def event_points(policy: Policy) -> frozenset[int]:
    """Return the watch points that events look at, by number."""
    found = {selector for event in policy.events for _, selector in event.when.terms}
    found.update(selector for event in policy.events for selector in event.snapshot)
    return frozenset(at for at, one in enumerate(watch_points(policy)) if one in found)


def last_bit(start: int, bits: int, *, big_endian: bool) -> int:
    """Return how many bits of a frame, counted in sending order, a field needs.

    A big-endian start bit counts from the least significant bit of its byte, but the field goes on
    towards lower bits and then later bytes; in sending order both kinds are contiguous.
    """
    first = 8 * (start // 8) + 7 - start % 8 if big_endian else start
    return first + bits
