"""The door: compiled policy bytes to a `Policy`, or a refusal. The same at install and at boot.

- Nothing unknown: no field, enum value or reference that this version does not understand. A policy
  that asks for more than is understood must not be obeyed in part.
- Every number has a range; every name is text without control characters.
- The vocabulary, the grammar of expressions and the grid of positions are checked again here, not
  trusted from the builder.
- Whatever the bytes are, the outcome is a `Policy` or a `PolicyError`.

The parts are in `compiled_values.py`, `compiled_dictionary.py` and `compiled_clauses.py`.

Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from google.protobuf.message import DecodeError, Message
from google.protobuf.unknown_fields import UnknownFieldSet

from agent.digest import sha256
from agent.errors import PolicyError
from agent.pb import policy_pb2, sealed_pb2
from agent.policy.clauses import SignalSelector
from agent.policy.compiled_clauses import (
    MAX_KEEP_S,
    RECIPIENTS,
    read_camera,
    read_condition,
    read_consents,
    read_events,
    read_recorder,
)
from agent.policy.compiled_dictionary import read_layout, read_signal
from agent.policy.compiled_values import (
    frame_selector,
    in_range,
    one_of,
    refusal,
    refuse,
    signal_selector,
    text,
)
from agent.policy.j1939 import same_bits
from agent.policy.load_checks import (
    Claim,
    collect_objection,
    is_place,
    must_be_coarse,
    place_objection,
)
from agent.policy.model import (
    MAX_BYTES,
    MAX_EVERY_NS,
    MAX_FLUSH_NS,
    MAX_RESOLUTION_NS,
    MAX_RULE_SETS,
    MAX_RULES,
    MAX_SIGNALS,
    MIN_EVERY_NS,
    MIN_FLUSH_NS,
    MIN_KEEP_S,
    Policy,
    Rule,
    RuleOf,
    SignalInfo,
    rule_set_of,
    watch_points,
)
from agent.policy.precision import grain, is_degrees
from agent.policy.vocabulary import SPACES
from agent.region import URI_PREFIX

LANES: Final = (sealed_pb2.ROUTINE,)  # the others belong to what the agent does by itself
MAX_NOT_AFTER_S: Final = 4_102_444_800  # 2100-01-01


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
        raise PolicyError(f"is for region {policy.region}, not for {region}", where=where)
    if policy.not_after_ns <= now_ns:
        raise PolicyError("has expired", where=where, todo="publish one with a later not_after")
    return policy


def read_policy(data: bytes) -> Policy:
    """Return the policy that the bytes hold, whatever its region and time.

    Raises:
        PolicyError: not a policy, or one that this version does not take.
    """
    if not data:
        raise refusal("", "is empty", "build it again")
    if len(data) > MAX_BYTES:
        raise refusal("", f"has more than {MAX_BYTES} bytes")
    wire = policy_pb2.Policy()
    _parse(wire, data, "")
    _check_head(wire)
    signals = _dictionary(wire)
    consents = read_consents(wire.consent)
    asked = frozenset(one.category for one in consents)
    policy = Policy(
        name=wire.name,
        version=wire.version,
        region=wire.region,
        not_after_ns=wire.not_after_unix * 10**9,
        dictionary=wire.dictionary,
        signals=signals,
        layouts=tuple(
            read_layout(one, signals[at].kind, f"decode {at}") for at, one in enumerate(wire.decode)
        ),
        rules=tuple(_rule(one, signals, asked) for one in wire.collect),
        digest=sha256(data),
        recorder=read_recorder(wire.recorder) if wire.HasField("recorder") else None,
        events=read_events(wire.event, signals),
        camera=read_camera(wire.camera, signals, asked) if wire.HasField("camera") else None,
        consents=consents,
        driving=(
            read_condition(wire.driving, signals, "driving") if wire.HasField("driving") else None
        ),
        contact=text(wire.contact, "contact", least=0),
    )
    _check_together(policy)
    _check_places(policy)
    return policy


def _check_head(wire: policy_pb2.Policy) -> None:
    text(wire.name, "name", most=64)
    in_range(wire.version, 1, 2**63 - 1, "version")
    if not wire.region.startswith(URI_PREFIX) or len(wire.region) == len(URI_PREFIX):
        raise refusal("region", f"is not {URI_PREFIX}<id>")
    text(wire.region, "region", most=len(URI_PREFIX) + 64)
    in_range(wire.not_after_unix, 1, MAX_NOT_AFTER_S, "not_after")
    in_range(len(wire.collect), 0, MAX_RULES, "number of rules")


def _dictionary(wire: policy_pb2.Policy) -> tuple[SignalInfo, ...]:
    words = policy_pb2.Dictionary()
    _parse(words, wire.dictionary, "dictionary")
    in_range(len(words.signal), 0, MAX_SIGNALS, "number of signals")
    if len(words.signal) != len(wire.decode):
        raise refusal("decode", "and dictionary differ in length")
    return tuple(read_signal(one, f"signal {at}") for at, one in enumerate(words.signal))


def _parse(message: Message, data: bytes, what: str) -> None:
    try:
        message.ParseFromString(data)
    except DecodeError:
        raise refusal(what, "is damaged", "build it again") from None
    _refuse_unknown(message, what)


def _refuse_unknown(message: Message, what: str) -> None:
    """Refuse fields that this version does not know, at any depth."""
    if len(UnknownFieldSet(message)):
        raise refusal(what, "asks for something not supported by this version", "update the agent")
    for field, value in message.ListFields():
        kind = field.message_type
        # GetOptions imports the descriptors' own messages: asked only where there are options.
        if kind is None or (kind.has_options and kind.GetOptions().map_entry):
            continue
        for one in value if field.is_repeated else (value,):
            _refuse_unknown(one, what)


def _rule(wire: policy_pb2.Collect, signals: tuple[SignalInfo, ...], asked: frozenset[str]) -> Rule:
    where = f"rule '{text(wire.id, 'rule: id', most=64)}'"
    _check_thinning(wire, where)
    claim = Claim(
        category=wire.category, purpose=wire.purpose, basis=wire.basis, keep_s=wire.keep_s,
        recipients=one_of(wire.recipients, RECIPIENTS, f"{where}: recipients"),
        raw=bool(wire.frames), space_m=wire.space_m, every_ns=wire.every_ns,
    )  # fmt: skip
    refuse(collect_objection(claim, asked), where)
    return RuleOf(
        id=wire.id,
        category=wire.category,
        purpose=wire.purpose,
        basis=wire.basis,
        necessity=text(wire.necessity, f"{where}: necessity"),
        recipients=wire.recipients,
        lane=one_of(wire.lane, LANES, f"{where}: lane"),
        keep_s=in_range(wire.keep_s, MIN_KEEP_S, MAX_KEEP_S, f"{where}: keep_s"),
        frames=tuple(frame_selector(one, where) for one in wire.frames),
        signals=_signals(wire, signals, where),
        every_ns=wire.every_ns,
        on_change=wire.on_change,
        resolution_ns=in_range(wire.resolution_ns, 1, MAX_RESOLUTION_NS, f"{where}: resolution_ns"),
        order=wire.order,
        flush_ns=in_range(wire.flush_ns, MIN_FLUSH_NS, MAX_FLUSH_NS, f"{where}: flush_ns"),
        space_m=wire.space_m,
    )


def _check_thinning(wire: policy_pb2.Collect, where: str) -> None:
    if not wire.frames and not wire.signals:
        raise refusal(where, "names no frames and no signals")
    if wire.every_ns and wire.on_change:
        raise refusal(where, "has both every and on_change")
    if wire.every_ns:
        in_range(wire.every_ns, MIN_EVERY_NS, MAX_EVERY_NS, f"{where}: every_ns")
    if (wire.every_ns or wire.on_change or wire.space_m) and wire.frames:
        raise refusal(where, "thins out raw frames; only signals can be thinned out")
    one_of(wire.space_m, tuple(SPACES.values()), f"{where}: space_m")


def _signals(
    wire: policy_pb2.Collect, signals: tuple[SignalInfo, ...], where: str
) -> tuple[SignalSelector, ...]:
    """Return what a rule names, each rounded as the rule's precision asks for."""
    found = tuple(signal_selector(one, len(signals), where) for one in wire.signals)
    needed = must_be_coarse(wire.category, wire.recipients)
    for one in found:
        try:
            right = grain(signals[one.signal], wire.space_m, needed=needed)
        except ValueError as error:
            raise refusal(f"{where}: space_m", str(error)) from None
        if one.grain != right:
            raise refusal(f"{where}: grain", f"{one.grain} is not the {right} of space_m")
    if wire.space_m and not any(one.grain for one in found):
        raise refusal(f"{where}: space_m", "makes nothing coarser: no signal is in degrees")
    return found


def _check_together(policy: Policy) -> None:
    """Refuse two rules of one name, too many outputs, and signals that nothing names."""
    if len({rule_set_of(rule) for rule in policy.rules}) > MAX_RULE_SETS:
        raise refusal(
            "rules", f"more than {MAX_RULE_SETS} combinations of recipients, keep, flush, "
            "timestamp_resolution, order and consent", "let rules share them",
        )  # fmt: skip
    _check_ids(policy.rules)
    named = {one.signal for rule in policy.rules for one in rule.signals}
    named |= {one.signal for one in watch_points(policy)}
    if len(named) != len(policy.signals):
        raise refusal("dictionary", "has signals that no rule and no clause names")


def _check_places(policy: Policy) -> None:
    """Refuse what would keep a place under another name than a place's."""
    named = [one for rule in policy.rules if is_place(rule.category) for one in rule.signals]
    places = {
        policy.layouts[one.signal] for one in named if is_degrees(policy.signals[one.signal].unit)
    }
    if policy.camera is not None and (position := policy.camera.position) is not None:
        places |= {policy.layouts[one.signal] for one in (position.latitude, position.longitude)}
    kept = [
        (f"rule '{rule.id}'", rule.signals) for rule in policy.rules if not is_place(rule.category)
    ]
    for event in policy.events:
        terms = tuple(selector for _, selector in event.when.terms)
        kept.append((f"event '{event.id}'", terms + event.snapshot))
    for where, selectors in kept:
        for one in selectors:
            if any(same_bits(policy.layouts[one.signal], place) for place in places):
                info = policy.signals[one.signal]
                refuse(place_objection(f"{info.message}.{info.name}"), where)


def _check_ids(rules: Sequence[Rule]) -> None:
    seen: set[str] = set()
    for rule in rules:
        if rule.id in seen:
            raise refusal(f"rule '{rule.id}'", "there are two of this id")
        seen.add(rule.id)
