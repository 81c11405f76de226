"""The clauses of a policy text beside its rules: recorder, events, camera, consent, conditions.

As checked values whose signals are still names. What needs the DBC files is checked when they are
read (`build_clauses.py`).

Pure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from agent.errors import PolicyError
from agent.pb import sealed_pb2
from agent.policy.clauses import (
    DRIVING_METADATA,
    DRIVING_OFF,
    MAX_MARGIN_M,
    MAX_SNAPSHOT,
    PARKED_OFF,
    PARKED_OWNER,
    ConsentTerm,
    Recorder,
    Why,
)
from agent.policy.expression import parse
from agent.policy.load_checks import (
    Objection,
    clause_objection,
    consent_objection,
    gate_objection,
    parked_objection,
)
from agent.policy.nodes import ExpressionError, Name, walk
from agent.policy.quantities import at_most, frame_selector, metres, signal_name
from agent.policy.table import Origin, Table

RECORDER_KEYS: Final = (
    "window", "frames", "recipients", "timestamp_resolution", "flush",
    "purpose", "basis", "necessity",
)  # fmt: skip
EVENT_KEYS: Final = (
    "id", "when", "hold", "upload", "at_most", "retrigger", "snapshot",
    "purpose", "basis", "necessity", "recipients", "keep",
)  # fmt: skip
CAMERA_KEYS: Final = (
    "parked", "driving", "trigger", "position", "zones_file", "margin", "exit_delay", "no_fix",
    "no_fix_after", "purpose", "basis", "necessity", "recipients", "keep", "at_most",
)  # fmt: skip
CONSENT_KEYS: Final = ("category", "max_days", "each_drive")
TRIGGER_KEYS: Final = ("camera", "reason", "state", "clip")
POSITION_KEYS: Final = ("latitude", "longitude", "speed", "fix")
WHY_KEYS: Final = ("purpose", "basis", "necessity", "recipients")
RECIPIENTS: Final = {
    "region": sealed_pb2.REGION, "owner": sealed_pb2.OWNER,
    "shared": sealed_pb2.SHARED, "both": sealed_pb2.BOTH, "driver": sealed_pb2.DRIVER,
}  # fmt: skip
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
MAX_DAYS_WRITTEN: Final = 10**6


@dataclass(frozen=True, slots=True)
class SignalName:
    """A signal as the text names it, and where."""

    channel: str
    message: str
    name: str
    where: str


@dataclass(frozen=True, slots=True)
class ConditionText:
    """An expression that parses; its names in the order of the text, each once, as written."""

    text: str
    names: tuple[tuple[str, SignalName], ...]
    origin: Origin


@dataclass(frozen=True, slots=True)
class EventText:
    """One [[event]]. Fields as in policy.proto."""

    id: str
    when: ConditionText
    before_ns: int
    after_ns: int
    upload: bool
    at_most: int
    period_ns: int
    retrigger_ns: int
    snapshot: tuple[SignalName, ...]
    keep_s: int
    why: Why


@dataclass(frozen=True, slots=True)
class PositionText:
    """Where the car is."""

    latitude: SignalName
    longitude: SignalName
    speed: SignalName
    fix: ConditionText


@dataclass(frozen=True, slots=True)
class CameraText:
    """[camera]. Fields as in policy.proto.

    Attributes:
        trigger: signals by `TRIGGER_KEYS`.
        zones_file: name of the sealed zones, "" if there are none.
        zones_where: where it is named.
    """

    parked: int
    driving: int
    trigger: tuple[SignalName, ...]
    position: PositionText | None
    zones_file: str
    zones_where: str
    margin_m: int
    exit_ns: int
    no_fix_ns: int
    keep_s: int
    at_most: int
    why: Why


def read_signal(table: Table, key: str, text: object, item: str = "") -> SignalName:
    """Return the signal that a text names.

    Raises:
        PolicyError: it names none.
    """
    if not isinstance(text, str):
        table.refuse(key, f"'{key}' must be the name of a signal")
    found = table.convert(key, signal_name, text, item=item)
    return SignalName(*found, table.where(key, item))


def read_signals(table: Table, key: str) -> tuple[SignalName, ...]:
    """Return the signals that an array names."""
    return tuple(read_signal(table, key, one, item=one) for one in table.texts(key))


def read_condition(table: Table, key: str) -> ConditionText:
    """Return the expression of a key.

    Raises:
        PolicyError: it is none, with file:line:column.
    """
    text, origin = table.expression(key)
    try:
        tree = parse(text)
    except ExpressionError as error:
        raise PolicyError(error.what, where=origin.where(error.column)) from None
    names: dict[str, SignalName] = {}
    for node in walk(tree):
        if isinstance(node, Name) and node.name not in names:
            place = origin.where(node.column)
            try:
                names[node.name] = SignalName(*signal_name(node.name), place)
            except ValueError as error:
                raise PolicyError(str(error), where=place) from None
    return ConditionText(text, tuple(names.items()), origin)


def refuse(table: Table, wrong: Objection | None) -> None:
    """Object to what the vocabulary objects to.

    Raises:
        PolicyError: unless there is nothing.
    """
    if wrong:
        table.refuse(wrong.key, wrong.text, wrong.todo)


def _why(table: Table) -> Why:
    return Why(
        purpose=table.text("purpose"), basis=table.text("basis"),
        necessity=table.text("necessity"), recipients=table.choice("recipients", RECIPIENTS),
    )  # fmt: skip


def read_consent(table: Table) -> ConsentTerm:
    """Return a [[consent]].

    Raises:
        PolicyError: with file and line.
    """
    table.check_keys(CONSENT_KEYS, ("category", "max_days"))
    term = ConsentTerm(
        category=table.text("category"),
        max_days=table.number("max_days", least=0, most=MAX_DAYS_WRITTEN),
        each_drive=table.flag("each_drive", default=True),
    )
    refuse(table, consent_objection(term.category, term.max_days, each_drive=term.each_drive))
    return term


def read_recorder(table: Table) -> Recorder:
    """Return the [recorder].

    Raises:
        PolicyError: with file and line.
    """
    table.check_keys(RECORDER_KEYS, ("window", "frames", *WHY_KEYS))
    frames = tuple(
        table.convert("frames", frame_selector, one, item=one) for one in table.texts("frames")
    )
    if not frames:
        table.refuse("frames", "the recorder names no frames", 'write frames = ["*:*"]')
    why = _why(table)
    refuse(table, clause_objection(purpose=why.purpose, basis=why.basis))
    return Recorder(
        window_ns=table.duration("window", "", least="1s", most="24h"),
        frames=frames,
        resolution_ns=table.duration("timestamp_resolution", "1us", least="1ns", most="1s"),
        flush_ns=table.duration("flush", "4s", least="100ms", most="4s"),
        why=why,
    )


def read_event(table: Table) -> EventText:
    """Return an [[event]].

    Raises:
        PolicyError: with file and line, and the column in its expression.
    """
    table.check_keys(EVENT_KEYS, ("id", "when", "keep", *WHY_KEYS))
    hold = table.sub("hold")
    before_ns = after_ns = 0
    if hold is not None:
        hold.check_keys(("before", "after"), ())
        before_ns = hold.duration("before", "0s", least="0s", most="1h")
        after_ns = hold.duration("after", "0s", least="0s", most="1h")
    snapshot = read_signals(table, "snapshot")
    if len(snapshot) > MAX_SNAPSHOT:
        table.refuse("snapshot", f"{len(snapshot)} signals", f"at most {MAX_SNAPSHOT}")
    why = _why(table)
    keep_s = table.duration("keep", "", least="1min", most="3660d") // 10**9
    refuse(table, clause_objection(purpose=why.purpose, basis=why.basis, keep_s=keep_s))
    limit = table.raw("at_most") if table.has("at_most") else "20/day"
    count, period_ns = table.convert("at_most", lambda text: at_most(text, "hour", "day"), limit)
    return EventText(
        id=table.text("id", pattern=NAME),
        when=read_condition(table, "when"),
        before_ns=before_ns, after_ns=after_ns,
        upload=table.flag("upload"),
        at_most=count, period_ns=period_ns,
        retrigger_ns=table.duration("retrigger", "10s", least="0s", most="1h"),
        snapshot=snapshot,
        keep_s=keep_s,
        why=why,
    )  # fmt: skip


def read_camera(table: Table, *, consents: frozenset[str], driving: bool) -> CameraText:
    """Return the [camera].

    Args:
        table: of the text.
        consents: categories that have a [[consent]].
        driving: the policy says how the car is known to be driven.

    Raises:
        PolicyError: with file and line.
    """
    table.check_keys(CAMERA_KEYS, ("keep", *WHY_KEYS))
    why = _why(table)
    keep_s = table.duration("keep", "", least="1min", most="3660d") // 10**9
    refuse(table, clause_objection(purpose=why.purpose, basis=why.basis, keep_s=keep_s))
    table.choice("no_fix", {"closed": True}, "closed")
    limit = table.raw("at_most") if table.has("at_most") else "60/min"
    margin = table.raw("margin") if table.has("margin") else "500m"
    camera = CameraText(
        parked=table.choice("parked", {"off": PARKED_OFF, "owner": PARKED_OWNER}, "off"),
        driving=table.choice("driving", {"off": DRIVING_OFF, "metadata": DRIVING_METADATA}, "off"),
        trigger=_trigger(table.sub("trigger")),
        position=_position(table.sub("position")),
        zones_file=table.text("zones_file", ""),
        zones_where=table.where("zones_file"),
        margin_m=table.convert(
            "margin", lambda text: metres(text, least=0, most=MAX_MARGIN_M), margin
        ),
        exit_ns=table.duration("exit_delay", "60s", least="0s", most="1h"),
        no_fix_ns=table.duration("no_fix_after", "10s", least="1s", most="1h"),
        keep_s=keep_s,
        at_most=table.convert("at_most", lambda text: at_most(text, "min"), limit)[0],
        why=why,
    )
    if camera.driving == DRIVING_METADATA and not driving:
        table.refuse("driving", "nothing says when the car is driven, so the gate would never open",
                     'write driving = "<expression>" at the top')  # fmt: skip
    refuse(table, parked_objection(
        parked=camera.parked, recipients=why.recipients, consents=consents
    ))  # fmt: skip
    refuse(table, gate_objection(
        zones=bool(camera.zones_file), position=camera.position is not None,
        margin_m=camera.margin_m, exit_ns=camera.exit_ns, no_fix_ns=camera.no_fix_ns,
    ))  # fmt: skip
    return camera


def _margin(text: object) -> int:
    return metres(text, least=0, most=MAX_MARGIN_M)


def _trigger(table: Table | None) -> tuple[SignalName, ...]:
    if table is None:
        return ()
    table.check_keys(TRIGGER_KEYS, TRIGGER_KEYS)
    return tuple(read_signal(table, key, table.raw(key)) for key in TRIGGER_KEYS)


def _position(table: Table | None) -> PositionText | None:
    if table is None:
        return None
    table.check_keys(POSITION_KEYS, POSITION_KEYS)
    latitude, longitude, speed = (
        read_signal(table, key, table.raw(key)) for key in POSITION_KEYS[:3]
    )
    return PositionText(latitude, longitude, speed, read_condition(table, "fix"))
