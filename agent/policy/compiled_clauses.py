"""The door for the clauses beside the rules: recorder, events, camera, consents, conditions.

Nothing is trusted from the builder: conditions are parsed again, and what their names mean is held
against the dictionary; the vocabulary has its say again.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from agent.pb import policy_pb2, sealed_pb2
from agent.policy.clauses import (
    DRIVING_METADATA,
    DRIVING_OFF,
    MAX_AT_MOST,
    MAX_CONDITION,
    MAX_EVENTS,
    MAX_EXIT_NS,
    MAX_HOLD_NS,
    MAX_MARGIN_M,
    MAX_RETRIGGER_NS,
    MAX_SNAPSHOT,
    MAX_WINDOW_NS,
    MAX_ZONES_BYTES,
    MIN_NO_FIX_NS,
    MIN_WINDOW_NS,
    PARKED_OFF,
    PARKED_OWNER,
    ZONES_MAGIC,
    Camera,
    Condition,
    ConsentTerm,
    EventRule,
    Position,
    Recorder,
    Trigger,
    Why,
)
from agent.policy.compiled_values import (
    frame_selector,
    in_range,
    one_of,
    refusal,
    refuse,
    text,
    watched,
)
from agent.policy.expression import check_condition
from agent.policy.load_checks import (
    clause_objection,
    consent_objection,
    gate_objection,
    parked_objection,
)
from agent.policy.model import (
    MAX_FLUSH_NS,
    MAX_RESOLUTION_NS,
    MAX_RULES,
    MIN_FLUSH_NS,
    MIN_KEEP_S,
    SignalInfo,
)
from agent.policy.nodes import ExpressionError
from agent.policy.precision import check_position
from agent.policy.vocabulary import CATEGORIES

RECIPIENTS: Final = (
    sealed_pb2.REGION, sealed_pb2.OWNER, sealed_pb2.SHARED, sealed_pb2.BOTH, sealed_pb2.DRIVER,
)  # fmt: skip
PERIODS_NS: Final = (3600 * 10**9, 86_400 * 10**9)
MAX_KEEP_S: Final = 2**40

Signals = tuple[SignalInfo, ...]


def read_consents(wires: Sequence[policy_pb2.ConsentTerm]) -> tuple[ConsentTerm, ...]:
    """Return what consents may be at most.

    Raises:
        PolicyError: a term that the vocabulary refuses, or two for one category.
    """
    in_range(len(wires), 0, len(CATEGORIES), "number of consents")
    terms: dict[str, ConsentTerm] = {}
    for wire in wires:
        where = f"consent '{text(wire.category, 'consent: category')}'"
        refuse(consent_objection(wire.category, wire.max_days, each_drive=wire.each_drive), where)
        if wire.category in terms:
            raise refusal(where, "there are two of this category")
        terms[wire.category] = ConsentTerm(wire.category, wire.max_days, wire.each_drive)
    return tuple(terms.values())


def read_condition(wire: policy_pb2.Condition, signals: Signals, where: str) -> Condition:
    """Return an expression and what its names mean.

    Raises:
        PolicyError: no expression, or its names are not what the terms say.
    """
    condition = Condition(
        text(wire.text, where, most=MAX_CONDITION),
        tuple(
            (text(one.name, f"{where}: name"), watched(one.signal, len(signals), where))
            for one in wire.term
        ),
    )
    try:
        check_condition(condition, signals)
    except ExpressionError as error:
        raise refusal(f"{where}: column {error.column}", error.what) from None
    return condition


def read_recorder(wire: policy_pb2.Recorder) -> Recorder:
    """Return the recorder.

    Raises:
        PolicyError: out of range, or refused by the vocabulary.
    """
    in_range(len(wire.frames), 1, MAX_RULES, "recorder: number of frame selectors")
    return Recorder(
        window_ns=in_range(wire.window_ns, MIN_WINDOW_NS, MAX_WINDOW_NS, "recorder: window_ns"),
        frames=tuple(frame_selector(one, "recorder") for one in wire.frames),
        resolution_ns=in_range(wire.resolution_ns, 1, MAX_RESOLUTION_NS, "recorder: resolution_ns"),
        flush_ns=in_range(wire.flush_ns, MIN_FLUSH_NS, MAX_FLUSH_NS, "recorder: flush_ns"),
        why=_why(wire, "recorder"),
    )


def read_events(wires: Sequence[policy_pb2.Event], signals: Signals) -> tuple[EventRule, ...]:
    """Return the event rules.

    Raises:
        PolicyError: out of range, refused by the vocabulary, or two of one id.
    """
    in_range(len(wires), 0, MAX_EVENTS, "number of events")
    events: dict[str, EventRule] = {}
    for wire in wires:
        event = _event(wire, signals)
        if event.id in events:
            raise refusal(f"event '{event.id}'", "there are two of this id")
        events[event.id] = event
    return tuple(events.values())


def _event(wire: policy_pb2.Event, signals: Signals) -> EventRule:
    where = f"event '{text(wire.id, 'event: id', most=64)}'"
    in_range(len(wire.snapshot), 0, MAX_SNAPSHOT, f"{where}: signals of the snapshot")
    if wire.at_most or wire.period_ns:
        one_of(wire.period_ns, PERIODS_NS, f"{where}: period_ns")
    return EventRule(
        id=wire.id,
        when=read_condition(wire.when, signals, f"{where}: when"),
        before_ns=in_range(wire.before_ns, 0, MAX_HOLD_NS, f"{where}: before_ns"),
        after_ns=in_range(wire.after_ns, 0, MAX_HOLD_NS, f"{where}: after_ns"),
        upload=wire.upload,
        at_most=in_range(wire.at_most, 0, MAX_AT_MOST, f"{where}: at_most"),
        period_ns=wire.period_ns,
        retrigger_ns=in_range(wire.retrigger_ns, 0, MAX_RETRIGGER_NS, f"{where}: retrigger_ns"),
        snapshot=tuple(watched(one, len(signals), f"{where}: snapshot") for one in wire.snapshot),
        keep_s=in_range(wire.keep_s, MIN_KEEP_S, MAX_KEEP_S, f"{where}: keep_s"),
        why=_why(wire, where, keep_s=wire.keep_s),
    )


def read_camera(wire: policy_pb2.Camera, signals: Signals, consents: Iterable[str]) -> Camera:
    """Return the camera gate's rules.

    Args:
        wire: as it came.
        signals: the dictionary.
        consents: categories that have a consent term.

    Raises:
        PolicyError: out of range, or laxer than the vocabulary allows.
    """
    why = _why(wire, "camera", keep_s=wire.keep_s)
    camera = Camera(
        parked=one_of(wire.parked, (PARKED_OFF, PARKED_OWNER), "camera: parked"),
        driving=one_of(wire.driving, (DRIVING_OFF, DRIVING_METADATA), "camera: driving"),
        trigger=_trigger(wire.trigger, len(signals)) if wire.HasField("trigger") else None,
        position=_position(wire.position, signals) if wire.HasField("position") else None,
        zones=_zones(wire.zones),
        margin_m=in_range(wire.margin_m, 0, MAX_MARGIN_M, "camera: margin_m"),
        exit_ns=in_range(wire.exit_ns, 0, MAX_EXIT_NS, "camera: exit_ns"),
        no_fix_ns=wire.no_fix_ns,
        keep_s=in_range(wire.keep_s, MIN_KEEP_S, MAX_KEEP_S, "camera: keep_s"),
        at_most=in_range(wire.at_most, 0, MAX_AT_MOST, "camera: at_most"),
        why=why,
    )
    refuse(parked_objection(
        parked=camera.parked, recipients=why.recipients, consents=frozenset(consents)
    ), "camera")  # fmt: skip
    known = camera.position is not None
    in_range(wire.no_fix_ns, MIN_NO_FIX_NS if known else 0, MAX_EXIT_NS, "camera: no_fix_ns")
    refuse(gate_objection(
        zones=bool(camera.zones), position=known, margin_m=camera.margin_m,
        exit_ns=camera.exit_ns, no_fix_ns=camera.no_fix_ns,
    ), "camera")  # fmt: skip
    return camera


def _trigger(wire: policy_pb2.Trigger, signals: int) -> Trigger:
    return Trigger(
        camera=watched(wire.camera, signals, "camera: trigger: camera"),
        reason=watched(wire.reason, signals, "camera: trigger: reason"),
        state=watched(wire.state, signals, "camera: trigger: state"),
        clip=watched(wire.clip, signals, "camera: trigger: clip"),
    )


def _position(wire: policy_pb2.Position, signals: Signals) -> Position:
    place = Position(
        latitude=watched(wire.latitude, len(signals), "camera: position: latitude"),
        longitude=watched(wire.longitude, len(signals), "camera: position: longitude"),
        speed=watched(wire.speed, len(signals), "camera: position: speed"),
        fix=read_condition(wire.fix, signals, "camera: position: fix"),
    )
    try:
        check_position(
            *(signals[one.signal] for one in (place.latitude, place.longitude, place.speed))
        )
    except ValueError as error:
        raise refusal("camera: position", str(error)) from None
    return place


def _zones(sealed: bytes) -> bytes:
    """Return sealed zones; what is in them is known only where they are opened."""
    in_range(len(sealed), 0, MAX_ZONES_BYTES, "camera: bytes of zones")
    if sealed and not sealed.startswith(ZONES_MAGIC):
        raise refusal("camera: zones", "are not sealed", "`inland station zones seal` seals them")
    return sealed


def _why(
    wire: policy_pb2.Recorder | policy_pb2.Event | policy_pb2.Camera, where: str, *, keep_s: int = 0
) -> Why:
    refuse(clause_objection(purpose=wire.purpose, basis=wire.basis, keep_s=keep_s), where)
    return Why(
        purpose=wire.purpose,
        basis=wire.basis,
        necessity=text(wire.necessity, f"{where}: necessity"),
        recipients=one_of(wire.recipients, RECIPIENTS, f"{where}: recipients"),
    )
