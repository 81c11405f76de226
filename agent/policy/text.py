"""A policy as people write it: TOML text to checked plain values, or an error at its line.

Checks all that can be checked without the DBC files: keys, types, ranges, vocabulary, duplicates.
The example in `agent/policy/examples` shows every key.

Pure.
"""

from __future__ import annotations

import datetime
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NoReturn, TypeVar

from agent.errors import PolicyError
from agent.pb import sealed_pb2
from agent.policy.model import MAX_RULES, MAX_TEXT, RuleOf
from agent.policy.quantities import duration_ns, frame_selector, signal_name
from agent.policy.vocabulary import objection
from agent.region import URI_PREFIX
from agent.toml_lines import Lines
from agent.units import nearest

TOP_KEYS: Final = ("policy", "version", "region", "not_after", "dbc", "collect")
LATER_KEYS: Final = ("recorder", "event", "camera", "consent", "zones")
COLLECT_KEYS: Final = (
    "id", "category", "purpose", "basis", "necessity", "frames", "signals", "every", "on", "keep",
    "recipients", "lane", "timestamp_resolution", "order", "flush",
)  # fmt: skip
NEEDED: Final = ("id", "category", "purpose", "basis", "necessity", "keep", "recipients")
RECIPIENTS: Final = {
    "region": sealed_pb2.REGION, "owner": sealed_pb2.OWNER,
    "shared": sealed_pb2.SHARED, "both": sealed_pb2.BOTH,
}  # fmt: skip
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_AT_LINE: Final = re.compile(r" \(at line (\d+), column (\d+)\)")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SignalName:
    """A signal as the text names it, and where."""

    channel: str
    message: str
    name: str
    where: str


RuleText = RuleOf[SignalName]  # checked; its signals are still names


@dataclass(frozen=True, slots=True)
class PolicyText:
    """A policy text, checked."""

    name: str
    version: int
    region: str
    not_after_unix: int
    dbc: tuple[str, ...]
    dbc_where: str
    rules: tuple[RuleText, ...]


class _Table:
    """One table of the text; reads its keys and objects at their lines."""

    def __init__(
        self, values: Mapping[str, Any], lines: Lines, path: str, name: str = "", number: int = 0
    ) -> None:
        self._values, self._lines, self._path = values, lines, path
        self._name, self._number = name, number

    def where(self, key: str = "", item: str = "") -> str:
        return f"{self._path}:{self._lines.line(self._name, self._number, key, item)}"

    def refuse(self, key: str, what: str, todo: str = "", item: str = "") -> NoReturn:
        raise PolicyError(what, where=self.where(key, item), todo=todo)

    def check_keys(self, valid: tuple[str, ...], needed: tuple[str, ...]) -> None:
        for key in self._values:
            if key not in valid:
                self.refuse(key, f"unknown key '{key}'", nearest(key, valid))
        for key in needed:
            if key not in self._values:
                self.refuse("", f"key '{key}' is missing")

    def has(self, key: str) -> bool:
        return key in self._values

    def raw(self, key: str) -> Any:
        return self._values[key]

    def text(self, key: str, *, pattern: re.Pattern[str] | None = None) -> str:
        value = self._values[key]
        if not isinstance(value, str) or not value.strip():
            self.refuse(key, f"'{key}' must be text in quotes")
        if len(value) > MAX_TEXT or any(ord(char) < 32 or ord(char) == 127 for char in value):
            self.refuse(key, f"'{key}' must be one line of at most {MAX_TEXT} characters")
        if pattern and not pattern.fullmatch(value):
            self.refuse(key, f"'{value}' is no {key}", "letters, digits, '_', '.', '-'; up to 64")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        value = self._values.get(key, [])
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            self.refuse(key, f"'{key}' must be a list of texts, like {key} = [\"...\"]")
        return tuple(value)

    def flag(self, key: str) -> bool:
        value = self._values.get(key, False)
        if not isinstance(value, bool):
            self.refuse(key, f"'{key}' must be true or false")
        return value

    def choice(self, key: str, valid: Mapping[str, T], default: str | None = None) -> T:
        value = self._values.get(key, default)
        if not isinstance(value, str) or value not in valid:
            self.refuse(key, f"unknown {key} '{value}'", nearest(str(value), valid, noun=key))
        return valid[value]

    def duration(self, key: str, default: str, *, least: str, most: str) -> int:
        return self.convert(
            key, lambda text: duration_ns(text, least=least, most=most),
            self._values.get(key, default),
        )  # fmt: skip

    def convert(self, key: str, function: Callable[[Any], T], value: object, item: str = "") -> T:
        try:
            return function(value)
        except ValueError as error:
            self.refuse(key, f"'{key}': {error}", item=item)


def parse_policy(text: str, *, where: str) -> PolicyText:
    """Return what a policy text says.

    Args:
        text: TOML.
        where: file name for errors.

    Raises:
        PolicyError: with file and line.
    """
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = _AT_LINE.search(str(error))
        place = found[1] if found else text.count("\n") + 1
        reason = _AT_LINE.sub("", str(error)).removesuffix(" (at end of document)")
        raise PolicyError(f"not TOML: {reason}", where=f"{where}:{place}") from None
    except RecursionError:
        raise PolicyError("not TOML: nested too deeply", where=where) from None
    lines = Lines(text)
    top = _Table(values, lines, where)
    for key in LATER_KEYS:
        if key in values:
            line = lines.line(key, 0, "")
            raise PolicyError(
                f"[{key}] is not supported by this version",
                where=f"{where}:{line}" if line > 1 else top.where(key),
                todo="take it out",
            )
    top.check_keys(TOP_KEYS, ("policy", "version", "region", "not_after"))
    return PolicyText(
        name=top.text("policy", pattern=_NAME),
        version=_version(top),
        region=URI_PREFIX + top.text("region", pattern=_NAME),
        not_after_unix=_not_after(top),
        dbc=top.texts("dbc"),
        dbc_where=top.where("dbc"),
        rules=_rules(top, lines, where),
    )


def _version(top: _Table) -> int:
    version = top.raw("version")
    if not isinstance(version, int) or isinstance(version, bool) or not 1 <= version < 2**63:
        top.refuse("version", "'version' must be a whole number from 1")
    return version


def _not_after(top: _Table) -> int:
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


def _rules(top: _Table, lines: Lines, where: str) -> tuple[RuleText, ...]:
    tables = top.raw("collect") if top.has("collect") else []
    if not isinstance(tables, list) or not all(isinstance(one, dict) for one in tables):
        top.refuse("collect", "rules are written as [[collect]]")
    if len(tables) > MAX_RULES:
        top.refuse("", f"{len(tables)} rules", f"at most {MAX_RULES}")
    rules: dict[str, RuleText] = {}
    for number, values in enumerate(tables):
        table = _Table(values, lines, where, "collect", number)
        rule = _rule(table)
        if rule.id in rules:
            table.refuse("id", f"there are two rules with the id '{rule.id}'")
        rules[rule.id] = rule
    return tuple(rules.values())


def _rule(table: _Table) -> RuleText:
    table.check_keys(COLLECT_KEYS, NEEDED)
    frames = tuple(
        table.convert("frames", frame_selector, one, item=one) for one in table.texts("frames")
    )
    signals = tuple(
        SignalName(
            *table.convert("signals", signal_name, one, item=one), table.where("signals", one)
        )
        for one in table.texts("signals")
    )
    if not frames and not signals:
        table.refuse("", "the rule names no frames and no signals")
    _check_thinning(table, bool(frames))
    rule = RuleOf(
        id=table.text("id", pattern=_NAME),
        category=table.text("category"),
        purpose=table.text("purpose"),
        basis=table.text("basis"),
        necessity=table.text("necessity"),
        recipients=table.choice("recipients", RECIPIENTS),
        lane=table.choice("lane", {"routine": sealed_pb2.ROUTINE}, "routine"),
        keep_s=table.duration("keep", "", least="1min", most="3660d") // 10**9,
        frames=frames,
        signals=signals,
        every_ns=table.duration("every", "", least="1ms", most="1d") if table.has("every") else 0,
        on_change=table.choice("on", {"change": True}) if table.has("on") else False,
        resolution_ns=table.duration("timestamp_resolution", "1us", least="1ns", most="1s"),
        order=table.flag("order"),
        flush_ns=table.duration("flush", "1s", least="100ms", most="4s"),
    )
    wrong = objection(
        category=rule.category, purpose=rule.purpose, basis=rule.basis, keep_s=rule.keep_s
    )
    if wrong:
        table.refuse(wrong.key, wrong.what, wrong.todo)
    return rule


def _check_thinning(table: _Table, has_frames: bool) -> None:
    if table.has("every") and table.has("on"):
        table.refuse("on", "a rule has 'every' or 'on', not both", "make two rules of it")
    for key in ("every", "on"):
        if table.has(key) and has_frames:
            table.refuse(key, f"'{key}' thins out signals, not raw frames", "make two rules of it")
