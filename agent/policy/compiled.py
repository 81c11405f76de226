"""The door: compiled policy bytes to a `Policy`, or a refusal. The same at install and at boot.

- Nothing unknown: no field, enum value or reference that this version does not understand. A policy
  that asks for more than is understood must not be obeyed in part.
- Every number has a range; every name is text without control characters.
- The vocabulary is checked again here, not trusted from the builder.
- Whatever the bytes are, the outcome is a `Policy` or a `PolicyError`.

Pure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from google.protobuf.message import DecodeError, Message
from google.protobuf.unknown_fields import UnknownFieldSet

from agent.digest import sha256
from agent.errors import PolicyError
from agent.pb import policy_pb2, sealed_pb2
from agent.policy.clauses import FrameSelector, SignalSelector
from agent.policy.model import (
    FLOAT32,
    FLOAT64,
    KINDS,
    MAX_BYTES,
    MAX_CHOICES,
    MAX_EVERY_NS,
    MAX_EXTENDED,
    MAX_FLUSH_NS,
    MAX_MUX_DEPTH,
    MAX_MUX_RANGES,
    MAX_RESOLUTION_NS,
    MAX_RULE_SETS,
    MAX_RULES,
    MAX_SIGNALS,
    MAX_STANDARD,
    MAX_TEXT,
    MIN_EVERY_NS,
    MIN_FLUSH_NS,
    MIN_KEEP_S,
    MuxLayout,
    Policy,
    Rule,
    RuleOf,
    SignalInfo,
    SignalLayout,
    last_bit,
    rule_set_of,
)
from agent.policy.quantities import is_channel
from agent.policy.vocabulary import objection
from agent.region import URI_PREFIX

RECIPIENTS: Final = (sealed_pb2.REGION, sealed_pb2.OWNER, sealed_pb2.SHARED, sealed_pb2.BOTH)
LANES: Final = (sealed_pb2.ROUTINE,)  # the others belong to events, which this version has not
MAX_NOT_AFTER_S: Final = 4_102_444_800  # 2100-01-01
FRAME_BITS: Final = 512


def load_policy(data: bytes, *, region: str, now_ns: int) -> Policy:
    """Return the policy, if it may be in force here and now.

    Args:
        data: compiled policy.
        region: urn:inland:region:<id> of the car's region card.
        now_ns: trusted time, ns since 1970.

    Raises:
        PolicyError: see `read_policy`; another region; expired.
    """
    policy = read_policy(data)
    where = f"policy {policy.name} version {policy.version}"
    if policy.region != region:
        raise PolicyError(
            f"is for region {policy.region}, this car belongs to {region}", where=where
        )
    if policy.not_after_ns <= now_ns:
        raise PolicyError("has expired", where=where, todo="publish one with a later not_after")
    return policy


def read_policy(data: bytes) -> Policy:
    """Return the policy that the bytes hold, whatever its region and time.

    Raises:
        PolicyError: not a policy, or one that this version does not take.
    """
    if len(data) > MAX_BYTES:
        raise PolicyError(f"compiled policy has {len(data)} bytes", todo=f"at most {MAX_BYTES}")
    wire = policy_pb2.Policy()
    _parse(wire, data, "policy")
    words = policy_pb2.Dictionary()
    _parse(words, wire.dictionary, "dictionary")
    _text(wire.name, "name", most=64)
    _range(wire.version, 1, 2**63 - 1, "version")
    if not wire.region.startswith(URI_PREFIX) or len(wire.region) == len(URI_PREFIX):
        raise _refusal("region", f"is not {URI_PREFIX}<id>")
    _text(wire.region, "region", most=len(URI_PREFIX) + 64)
    _range(wire.not_after_unix, 1, MAX_NOT_AFTER_S, "not_after")
    _range(len(wire.collect), 0, MAX_RULES, "number of rules")
    _range(len(words.signal), 0, MAX_SIGNALS, "number of signals")
    if len(words.signal) != len(wire.decode):
        raise _refusal("decode", "and dictionary differ in length")
    signals = tuple(_signal(one, f"signal {at}") for at, one in enumerate(words.signal))
    layouts = tuple(
        _layout(one, signals[at].kind, f"decode {at}") for at, one in enumerate(wire.decode)
    )
    rules = tuple(_rule(one, len(signals)) for one in wire.collect)
    _check_together(rules, len(signals))
    return Policy(
        name=wire.name, version=wire.version, region=wire.region,
        not_after_ns=wire.not_after_unix * 10**9, dictionary=wire.dictionary,
        signals=signals, layouts=layouts, rules=rules, digest=sha256(data),
    )  # fmt: skip


def _refusal(where: str, what: str, todo: str = "") -> PolicyError:
    return PolicyError(what, where=f"compiled policy: {where}", todo=todo)


def _parse(message: Message, data: bytes, what: str) -> None:
    try:
        message.ParseFromString(data)
    except DecodeError:
        raise _refusal(what, "is damaged", "build it again") from None
    _refuse_unknown(message, what)


def _refuse_unknown(message: Message, what: str) -> None:
    """Refuse fields that this version does not know, at any depth."""
    if len(UnknownFieldSet(message)):
        raise _refusal(what, "asks for something not supported by this version", "update the agent")
    for field, value in message.ListFields():
        if field.message_type is None or field.message_type.GetOptions().map_entry:
            continue
        for one in value if field.is_repeated else (value,):
            _refuse_unknown(one, what)


def _range(value: int, least: int, most: int, where: str) -> int:
    if not least <= value <= most:
        raise _refusal(where, f"{value} is out of range", f"from {least} to {most}")
    return value


def _text(value: str, where: str, *, most: int = MAX_TEXT, least: int = 1) -> str:
    if not least <= len(value) <= most:
        raise _refusal(where, f"has {len(value)} characters", f"from {least} to {most}")
    if any(ord(char) < 32 or ord(char) == 127 for char in value):
        raise _refusal(where, "has control characters")
    return value


def _one_of(value: int, valid: Sequence[int], where: str) -> int:
    if value not in valid:
        raise _refusal(where, f"{value} is not supported by this version")
    return value


def _signal(wire: policy_pb2.Signal, where: str) -> SignalInfo:
    _range(len(wire.choices), 0, MAX_CHOICES, f"{where}: number of choices")
    if not (math.isfinite(wire.factor) and math.isfinite(wire.offset)):
        raise _refusal(where, "factor or offset is not a number")
    return SignalInfo(
        name=_text(wire.name, f"{where}: name"),
        message=_text(wire.message, f"{where}: message"),
        unit=_text(wire.unit, f"{where}: unit", least=0),
        factor=wire.factor,
        offset=wire.offset,
        kind=_one_of(wire.kind, KINDS, f"{where}: kind"),
        choices=tuple(
            (raw, _text(wire.choices[raw], f"{where}: choice {raw}", least=0))
            for raw in sorted(wire.choices)
        ),
    )


def _layout(wire: policy_pb2.Decode, kind: int, where: str) -> SignalLayout:
    _range(wire.id, 0, MAX_EXTENDED if wire.extended else MAX_STANDARD, f"{where}: id")
    _field(wire.start, wire.bits, wire.big_endian, where)
    width = {FLOAT32: 32, FLOAT64: 64}.get(kind, wire.bits)
    if wire.bits != width:
        raise _refusal(where, f"a float of {wire.bits} bits")
    _range(len(wire.mux), 0, MAX_MUX_DEPTH, f"{where}: number of multiplexers")
    return SignalLayout(
        arbitration_id=wire.id,
        extended=wire.extended,
        start=wire.start,
        bits=wire.bits,
        big_endian=wire.big_endian,
        kind=kind,
        mux=tuple(_mux(one, f"{where}: mux") for one in wire.mux),
    )


def _field(start: int, bits: int, big_endian: bool, where: str) -> None:
    _range(bits, 1, 64, f"{where}: bits")
    _range(start, 0, FRAME_BITS - 1, f"{where}: start")
    _range(last_bit(start, bits, big_endian=big_endian), 1, FRAME_BITS, f"{where}: last bit")


def _mux(wire: policy_pb2.Mux, where: str) -> MuxLayout:
    _field(wire.start, wire.bits, wire.big_endian, where)
    _range(len(wire.range), 1, MAX_MUX_RANGES, f"{where}: number of ranges")
    for one in wire.range:
        _range(one.last, 0, 2**wire.bits - 1, f"{where}: last")
        _range(one.first, 0, one.last, f"{where}: first")
    ranges = tuple((one.first, one.last) for one in wire.range)
    return MuxLayout(wire.start, wire.bits, wire.big_endian, ranges)


def _rule(wire: policy_pb2.Collect, signals: int) -> Rule:
    where = f"rule '{_text(wire.id, 'rule: id', most=64)}'"
    wrong = objection(
        category=wire.category, purpose=wire.purpose, basis=wire.basis, keep_s=wire.keep_s
    )
    if wrong:
        raise _refusal(f"{where}: {wrong.key}", wrong.what, wrong.todo)
    if wire.every_ns and wire.on_change:
        raise _refusal(where, "has both every and on_change")
    if wire.every_ns:
        _range(wire.every_ns, MIN_EVERY_NS, MAX_EVERY_NS, f"{where}: every_ns")
    if not wire.frames and not wire.signals:
        raise _refusal(where, "names no frames and no signals")
    if (wire.every_ns or wire.on_change) and wire.frames:
        raise _refusal(where, "thins out raw frames; only signals can be thinned out")
    return RuleOf(
        id=wire.id,
        category=wire.category,
        purpose=wire.purpose,
        basis=wire.basis,
        necessity=_text(wire.necessity, f"{where}: necessity"),
        recipients=_one_of(wire.recipients, RECIPIENTS, f"{where}: recipients"),
        lane=_one_of(wire.lane, LANES, f"{where}: lane"),
        keep_s=_range(wire.keep_s, MIN_KEEP_S, 2**40, f"{where}: keep_s"),
        frames=tuple(_frames(one, where) for one in wire.frames),
        signals=tuple(_signals(one, signals, where) for one in wire.signals),
        every_ns=wire.every_ns,
        on_change=wire.on_change,
        resolution_ns=_range(wire.resolution_ns, 1, MAX_RESOLUTION_NS, f"{where}: resolution_ns"),
        order=wire.order,
        flush_ns=_range(wire.flush_ns, MIN_FLUSH_NS, MAX_FLUSH_NS, f"{where}: flush_ns"),
    )


def _channel(name: str, where: str) -> str:
    if not is_channel(name):
        raise _refusal(where, "names a channel that is none")
    return name


def _frames(wire: policy_pb2.FrameSelector, where: str) -> FrameSelector:
    top = MAX_EXTENDED if wire.extended or wire.any else MAX_STANDARD
    _range(wire.last_id, 0, top, f"{where}: last_id")
    _range(wire.first_id, 0, wire.last_id, f"{where}: first_id")
    return FrameSelector(
        _channel(wire.channel, where), wire.first_id, wire.last_id,
        extended=wire.extended, every_id=wire.any,
    )  # fmt: skip


def _signals(wire: policy_pb2.SignalSelector, signals: int, where: str) -> SignalSelector:
    if wire.signal >= signals:
        raise _refusal(where, f"names signal {wire.signal} of {signals}")
    return SignalSelector(_channel(wire.channel, where), wire.signal)


def _check_together(rules: Sequence[Rule], signals: int) -> None:
    """Refuse two rules of one name, too many outputs, and signals that no rule names."""
    if len({rule_set_of(rule) for rule in rules}) > MAX_RULE_SETS:
        raise _refusal(
            "rules", f"more than {MAX_RULE_SETS} combinations of recipients, keep, flush, "
            "timestamp_resolution and order", "let rules share them",
        )  # fmt: skip
    seen: set[str] = set()
    named: set[int] = set()
    for rule in rules:
        if rule.id in seen:
            raise _refusal(f"rule '{rule.id}'", "there are two of this id")
        seen.add(rule.id)
        named.update(one.signal for one in rule.signals)
    if len(named) != signals:
        raise _refusal("dictionary", "has signals that no rule names")
