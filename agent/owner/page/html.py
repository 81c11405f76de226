"""HTML that cannot be broken by what it shows, and how moments and amounts are written. Pure.

`Html` is text that is markup already. Everything else is escaped on its way in, by `tag` and by
nothing else, so a signal may be called `<script>`.
"""

from __future__ import annotations

import datetime as dt
import html
from dataclasses import dataclass
from typing import Final

from agent.owner.page.words import TEXTS
from agent.owner.signal_files import offset_text
from agent.policy.words import Language, Words

_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_VOID: Final = ("meta", "br", "path", "line", "rect")


class Html(str):
    """Text that is markup."""

    __slots__ = ()


def escape(text: object) -> Html:
    """Return anything as markup; markup stays as it is."""
    return text if isinstance(text, Html) else Html(html.escape(str(text), quote=True))


def join(parts: object, between: str = "") -> Html:
    """Return some parts one behind the other; `between` is markup."""
    return Html(between.join(escape(part) for part in parts))  # type: ignore[attr-defined]


def tag(name: str, *content: object, **attributes: object) -> Html:
    """Return an element.

    Args:
        name: of the element; never from data.
        content: text or markup.
        attributes: an underscore stands for a hyphen, one at the end for nothing; None and False:
            left out; True: without a value.
    """
    said = "".join(
        f" {key.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{escape(value)}"')
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    if name in _VOID:
        return Html(f"<{name}{said}/>")
    return Html(f"<{name}{said}>{join(content)}</{name}>")


@dataclass(frozen=True, slots=True)
class Page:
    """Language and zone of a page.

    Attributes:
        language: "en" or "zh".
        zone: of the local time.
    """

    language: Language
    zone: dt.tzinfo

    def text(self, key: str, **facts: object) -> str:
        """Return one of the page's texts."""
        return self.word(TEXTS, key).format(**facts)

    def word(self, words: Words, name: str) -> str:
        """Return a name in words; a name that has none stands for itself."""
        pair = words.get(name)
        return name if pair is None else pair[1 if self.language == "zh" else 0]

    def _local(self, unix_ns: int) -> dt.datetime:
        return (_EPOCH + dt.timedelta(microseconds=unix_ns // 1000)).astimezone(self.zone)

    def local(self, unix_ns: int, *, parts: str = "milliseconds") -> str:
        """Return a moment in local time: "2026-11-22 09:00:00.125 +08:00"."""
        at = self._local(unix_ns)
        offset = offset_text(at.utcoffset() or dt.timedelta())
        return f"{at.replace(tzinfo=None).isoformat(' ', parts)} {offset}"

    def clock(self, unix_ns: int) -> str:
        """Return the time of day, local: "09:00:00"."""
        return self._local(unix_ns).strftime("%H:%M:%S")

    def time(self, unix_ns: int, *, parts: str = "milliseconds") -> Html:
        """Return a moment in local time, with UTC for programs and for who points at it."""
        utc = self.utc(unix_ns)
        return tag("time", self.local(unix_ns, parts=parts), datetime=utc, title=utc)

    def utc(self, unix_ns: int) -> str:
        """Return a moment as ISO 8601, UTC."""
        at = _EPOCH + dt.timedelta(microseconds=unix_ns // 1000)
        return at.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"

    def span(self, begin_ns: int, end_ns: int) -> Html:
        """Return a time from one moment to another."""
        begin, end = self.time(begin_ns, parts="seconds"), self.time(end_ns, parts="seconds")
        return Html(escape(self.word(TEXTS, "to")).format(begin=begin, end=end))

    def duration(self, ns: int) -> str:
        """Return a length of time as people say it: "30 min", "1 h 05 min", "2.5 s"."""
        hour, minute, second, day = ("时", "分", "秒", "天") if self.language == "zh" else (
            "h", "min", "s", "d",
        )  # fmt: skip
        seconds = ns / 1e9
        if seconds < 60:
            small = f"{seconds * 1000:.3g} {'毫秒' if self.language == 'zh' else 'ms'}"
            return small if 0 < seconds < 1 else f"{seconds:.3g} {second}"
        whole = round(seconds)
        if whole < 3600:
            rest = f" {whole % 60:02d} {second}" if whole % 60 else ""
            return f"{whole // 60} {minute}{rest}"
        if whole < 48 * 3600:
            rest = f" {whole % 3600 // 60:02d} {minute}" if whole % 3600 // 60 else ""
            return f"{whole // 3600} {hour}{rest}"
        return f"{whole // 86_400} {day} {whole % 86_400 // 3600:02d} {hour}"


def number(value: float) -> str:
    """Return a number for people: at most four digits that matter, thousands apart."""
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.1f}" if abs(value) >= 1000 else f"{value:.4g}"


def size(count: int) -> str:
    """Return an amount of bytes."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count} B"
