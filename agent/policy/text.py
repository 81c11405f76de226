"""A policy as people write it: TOML text to checked plain values, or an error at its place.

Checks all that can be checked without the DBC files: keys, types, ranges, vocabulary, duplicates,
the grammar of expressions. The examples in `agent/policy/examples` show every key.

Pure.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Final

from agent.pb import sealed_pb2
from agent.policy.clauses import MAX_EVENTS, ConsentTerm, Recorder
from agent.policy.load_checks import Claim, collect_objection
from agent.policy.mistakes import Mistakes
from agent.policy.model import MAX_RULES, RuleOf
from agent.policy.quantities import frame_selector
from agent.policy.table import Table, read_document
from agent.policy.text_clauses import (
    NAME,
    RECIPIENTS,
    CameraText,
    ConditionText,
    EventText,
    SignalName,
    read_camera,
    read_condition,
    read_consent,
    read_event,
    read_recorder,
    read_signals,
    refuse,
)
from agent.policy.vocabulary import CATEGORIES, SPACES
from agent.region import URI_PREFIX

TOP_KEYS: Final = (
    "policy", "version", "region", "not_after", "contact", "dbc", "driving",
    "collect", "recorder", "event", "camera", "consent",
)  # fmt: skip
COLLECT_KEYS: Final = (
    "id", "category", "purpose", "basis", "necessity", "frames", "signals", "every", "on", "keep",
    "recipients", "lane", "timestamp_resolution", "order", "flush", "precision",
)  # fmt: skip
NEEDED: Final = ("id", "category", "purpose", "basis", "necessity", "keep", "recipients")

RuleText = RuleOf[SignalName]  # checked; its signals are still names


@dataclass(frozen=True, slots=True)
class PolicyText:
    """A policy text, checked."""

    name: str
    version: int
    region: str
    not_after_unix: int
    contact: str
    dbc: tuple[str, ...]
    dbc_where: str
    rules: tuple[RuleText, ...]
    recorder: Recorder | None
    events: tuple[EventText, ...]
    camera: CameraText | None
    consents: tuple[ConsentTerm, ...]
    driving: ConditionText | None


@dataclass(slots=True)
class _Clauses:
    """What was read so far."""

    rules: tuple[RuleText, ...] = ()
    recorder: Recorder | None = None
    events: tuple[EventText, ...] = ()
    camera: CameraText | None = None


def parse_policy(text: str, *, where: str) -> PolicyText:
    """Return what a policy text says.

    Args:
        text: TOML.
        where: file name for errors.

    Raises:
        PolicyError: with file and line, and the column in an expression; PolicyTextError: several.
    """
    top = read_document(text, where=where)
    top.check_keys(TOP_KEYS, ("policy", "version", "region", "not_after"))
    consents = _consents(top)
    asked = frozenset(one.category for one in consents)
    driving = read_condition(top, "driving") if top.has("driving") else None
    clauses, mistakes = _Clauses(), Mistakes()
    clauses.rules = _rules(top, asked, mistakes)
    with mistakes.apart():
        if (recorder := top.sub("recorder")) is not None:
            clauses.recorder = read_recorder(recorder)
    clauses.events = _events(top, mistakes)
    with mistakes.apart():
        if (camera := top.sub("camera")) is not None:
            clauses.camera = read_camera(camera, consents=asked, driving=driving is not None)
    mistakes.end()
    return PolicyText(
        name=top.text("policy", pattern=NAME),
        version=top.number("version", least=1, most=2**63 - 1),
        region=URI_PREFIX + top.text("region", pattern=NAME),
        not_after_unix=_not_after(top),
        contact=top.text("contact", ""),
        dbc=top.texts("dbc"),
        dbc_where=top.where("dbc"),
        rules=clauses.rules,
        recorder=clauses.recorder,
        events=clauses.events,
        camera=clauses.camera,
        consents=consents,
        driving=driving,
    )


def _not_after(top: Table) -> int:
    """Return the end in s since 1970; a date counts to its end, UTC."""
    value = top.raw("not_after")
    if isinstance(value, datetime.datetime):
        if value.tzinfo is None:
            top.refuse("not_after", "'not_after' has a time but no time zone", "add Z for UTC")
        moment = value
    elif isinstance(value, datetime.date):
        if value.year > 2099:
            top.refuse("not_after", "'not_after' must lie between 2020 and 2100")
        day = datetime.datetime(value.year, value.month, value.day, tzinfo=datetime.UTC)
        moment = day + datetime.timedelta(days=1)
    else:
        top.refuse("not_after", "'not_after' must be a date without quotes, like 2027-06-30")
    if not 2020 <= moment.year <= 2100:
        top.refuse("not_after", "'not_after' must lie between 2020 and 2100")
    return int(moment.timestamp())


def _consents(top: Table) -> tuple[ConsentTerm, ...]:
    terms: dict[str, ConsentTerm] = {}
    for table in top.array("consent", len(CATEGORIES)):
        term = read_consent(table)
        if term.category in terms:
            table.refuse("category", f"there are two consents to '{term.category}'")
        terms[term.category] = term
    return tuple(terms.values())


def _events(top: Table, mistakes: Mistakes) -> tuple[EventText, ...]:
    events: dict[str, EventText] = {}
    for table in top.array("event", MAX_EVENTS):
        with mistakes.apart():
            event = read_event(table)
            if event.id in events:
                table.refuse("id", f"there are two events with the id '{event.id}'")
            events[event.id] = event
    return tuple(events.values())


def _rules(top: Table, asked: frozenset[str], mistakes: Mistakes) -> tuple[RuleText, ...]:
    rules: dict[str, RuleText] = {}
    for table in top.array("collect", MAX_RULES):
        with mistakes.apart():
            rule = _rule(table, asked)
            if rule.id in rules:
                table.refuse("id", f"there are two rules with the id '{rule.id}'")
            rules[rule.id] = rule
    return tuple(rules.values())


def _rule(table: Table, asked: frozenset[str]) -> RuleText:
    table.check_keys(COLLECT_KEYS, NEEDED)
    frames = tuple(
        table.convert("frames", frame_selector, one, item=one) for one in table.texts("frames")
    )
    signals = read_signals(table, "signals")
    if not frames and not signals:
        table.refuse("", "the rule names no frames and no signals")
    space_m, every_ns = _precision(table, has_frames=bool(frames))
    rule = RuleOf(
        id=table.text("id", pattern=NAME),
        category=table.text("category"),
        purpose=table.text("purpose"),
        basis=table.text("basis"),
        necessity=table.text("necessity"),
        recipients=table.choice("recipients", RECIPIENTS),
        lane=table.choice("lane", {"routine": sealed_pb2.ROUTINE}, "routine"),
        keep_s=table.duration("keep", "", least="1min", most="3660d") // 10**9,
        frames=frames,
        signals=signals,
        every_ns=every_ns,
        on_change=table.choice("on", {"change": True}) if table.has("on") else False,
        resolution_ns=table.duration("timestamp_resolution", "1us", least="1ns", most="1s"),
        order=table.flag("order"),
        flush_ns=table.duration("flush", "1s", least="100ms", most="4s"),
        space_m=space_m,
    )
    claim = Claim(
        category=rule.category, purpose=rule.purpose, basis=rule.basis, keep_s=rule.keep_s,
        recipients=rule.recipients, raw=bool(frames), space_m=space_m, every_ns=every_ns,
    )  # fmt: skip
    refuse(table, collect_objection(claim, asked))
    return rule


def _precision(table: Table, *, has_frames: bool) -> tuple[int, int]:
    """Return (grid in m, period in ns): how much a rule's signals are thinned out."""
    if table.has("every") and table.has("on"):
        table.refuse("on", "a rule has 'every' or 'on', not both", "make two rules of it")
    for key in ("every", "on", "precision"):
        if table.has(key) and has_frames:
            table.refuse(key, f"'{key}' thins out signals, not raw frames", "make two rules of it")
    every_ns = table.duration("every", "", least="1ms", most="1d") if table.has("every") else 0
    precision = table.sub("precision")
    if precision is None:
        return 0, every_ns
    precision.check_keys(("space", "time"), ())
    if precision.has("time"):
        if table.has("on"):
            precision.refuse("time", "'time' is a period, and the rule has 'on'",
                             "write 'every', or make two rules of it")  # fmt: skip
        every_ns = max(every_ns, precision.duration("time", "", least="1ms", most="1d"))
    return precision.choice("space", SPACES, "none"), every_ns
