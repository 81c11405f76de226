"""The notice: what a policy keeps, for the person whose car it is, in English or Chinese.

It is made from the live policy, so it cannot say less than what is done. For each item it answers:
what, when, why and on what ground, for whom, where and how long, how to stop; and for all together
how to see, copy and delete it, and whom to ask.

Source: GB/T 44464-2024 5.2.1 (content of a notice), Several Provisions on Automobile Data Security
(China, order no. 7, 2021), article 7.

Pure.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass

from agent.policy.items import Item, items
from agent.policy.model import Policy
from agent.policy.notice_words import TEXTS
from agent.policy.words import (
    CATEGORIES,
    PURPOSES,
    RECIPIENTS,
    Language,
    basis_words,
    duration_words,
    word,
)


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and what stands below it: (label, text) pairs."""

    heading: str
    lines: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Notice:
    """A notice, ready to be laid out.

    Attributes:
        title: of the whole.
        intro: paragraphs.
        sections: one for each item that is kept, then the rights.
    """

    title: str
    intro: tuple[str, ...]
    sections: tuple[Section, ...]


def notice(policy: Policy, language: Language) -> Notice:
    """Return the notice of a policy.

    Args:
        policy: the live one.
        language: "en" or "zh".
    """
    say = _Say(policy, language)
    kept = items(policy)
    intro = [say.text("policy"), say.text("default")]
    if not kept:
        intro.append(say.text("nothing"))
    sections = [say.section(number, item) for number, item in enumerate(kept, 1)]
    return Notice(say.text("title"), tuple(intro), (*sections, say.rights()))


def as_text(told: Notice) -> str:
    """Return a notice as plain text."""
    lines = [told.title, "", *told.intro]
    for section in told.sections:
        lines += ["", section.heading]
        lines += [f"  {label}: {text}" for label, text in section.lines]
    return "\n".join(lines)


class _Say:
    """The words of one policy in one language."""

    def __init__(self, policy: Policy, language: Language) -> None:
        self._policy, self._language = policy, language
        until = datetime.datetime.fromtimestamp(policy.not_after_ns // 10**9, datetime.UTC)
        self._facts = {
            "name": policy.name,
            "version": policy.version,
            "region": policy.region.rsplit(":", 1)[-1],
            "until": until.strftime("%Y-%m-%d %H:%M UTC"),
        }
        self._terms = {term.category: term for term in policy.consents}

    def text(self, key: str, **facts: object) -> str:
        chosen = TEXTS[key][1 if self._language == "zh" else 0]
        return chosen.format(**self._facts, **facts)

    def _time(self, value_ns: int) -> str:
        return duration_words(value_ns, self._language)

    def _join(self, parts: list[str]) -> str:
        return ("；" if self._language == "zh" else "; ").join(parts)

    def section(self, number: int, item: Item) -> Section:
        category = word(CATEGORIES, item.category, self._language)
        lines = (
            (self.text("what"), self._what(item)),
            (self.text("when"), self._when(item)),
            (
                self.text("why"),
                self._join([word(PURPOSES, item.purpose, self._language), item.necessity]),
            ),
            (self.text("ground"), basis_words(item.basis, self._language)),
            (self.text("whom"), word(RECIPIENTS, item.recipients, self._language)),
            (self.text("where"), self._where(item)),
            (self.text("stop"), self._stop(item)),
        )
        return Section(f"{number}. {category} ({item.id})", lines)

    def _what(self, item: Item) -> str:
        parts = [", ".join(item.signals)] if item.signals else []
        if item.frames:
            parts.append(self.text("frames", frames=", ".join(item.frames)))
        return self._join(parts)

    def _when(self, item: Item) -> str:
        if item.kind == "camera":
            return self.text("camera")
        if item.kind == "recorder":
            return self.text("window", time=self._time(item.before_ns))
        if item.kind == "event":
            parts = [self.text("event", condition=item.condition)]
            if item.before_ns or item.after_ns:
                before, after = self._time(item.before_ns), self._time(item.after_ns)
                parts.append(self.text("holds", before=before, after=after))
                if item.upload:
                    parts.append(self.text("uploads"))
            return self._join(parts)
        parts = []
        if item.frames:
            parts.append(self.text("always"))
        if item.every_ns:
            parts.append(self.text("every", time=self._time(item.every_ns)))
        elif item.signals:
            parts.append(self.text("on_change" if item.on_change else "every_sample"))
        if item.space_m:
            parts.append(self.text("coarse", metres=item.space_m))
        return self._join(parts)

    def _where(self, item: Item) -> str:
        only_car = item.kind == "recorder" or item.recipients in ("owner", "driver")
        key = "keeps_car" if only_car else "keeps"
        return self.text(key, time=self._time(item.keep_ns))

    def _stop(self, item: Item) -> str:
        term = self._terms.get(item.category)
        if item.basis != "consent" or term is None:
            return self.text("required")
        drive = self.text("drive") if term.each_drive else ""
        return self.text("withdraw", category=item.category, days=term.max_days, drive=drive)

    def rights(self) -> Section:
        contact = self._policy.contact or self.text("no_contact")
        return Section(
            self.text("rights"),
            (
                (self.text("see"), self.text("see_how")),
                (self.text("copy"), self.text("copy_how")),
                (self.text("delete"), self.text("delete_how")),
                (self.text("contact"), contact),
            ),
        )
