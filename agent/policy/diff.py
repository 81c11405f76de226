"""What changes for the people in the car when one policy takes the place of another, in words.

Items are compared by their clause and id. Each difference is *wider* (more is kept, finer, longer,
for more people, for another purpose), *narrower*, or merely *other*. A name alone makes nothing
wider: an item that is the same under another id is a rename.

Pure.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal

from agent.policy.items import Item, items
from agent.policy.model import Policy
from agent.policy.quantities import duration_text as _length
from agent.policy.words import CATEGORIES, PURPOSES, RECIPIENTS, word

Effect = Literal["new", "wider", "narrower", "gone", "other"]
EFFECTS: Final[tuple[Effect, ...]] = ("new", "wider", "narrower", "gone", "other")

# Who could open it with one more key, who with one less.
_OPENED_BY: Final = {
    "region": {"region"}, "owner": {"owner"}, "shared": {"region", "owner"}, "both": set(),
    "driver": {"driver"},
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference.

    Attributes:
        effect: see the module.
        item: id of the rule or event; "recorder", "camera", or "policy" for the whole.
        words: one sentence.
    """

    effect: Effect
    item: str
    words: str


def diff(old: Policy | None, new: Policy) -> tuple[Difference, ...]:
    """Return what differs, the widest first.

    Args:
        old: the policy before; None: there was none, nothing was kept.
        new: the policy after.
    """
    before = {(one.kind, one.id): one for one in items(old)} if old is not None else {}
    after = {(one.kind, one.id): one for one in items(new)}
    found: list[Difference] = []
    gone = {key: item for key, item in before.items() if key not in after}
    for key, item in after.items():
        if key in before:
            found += _compare(before[key], item)
        elif twin := next((k for k, one in gone.items() if _same(one, item)), None):
            found.append(Difference("other", item.id, f"is what was called '{twin[1]}'"))
            del gone[twin]
        else:
            found.append(Difference("new", item.id, f"newly kept: {_summary(item)}"))
    found += [
        Difference("gone", item.id, f"no longer kept: {_summary(item)}") for item in gone.values()
    ]
    if old is not None:
        found += _whole(old, new)
    return tuple(sorted(found, key=lambda one: EFFECTS.index(one.effect)))


def _same(one: Item, other: Item) -> bool:
    return replace(one, id="") == replace(other, id="")


def _summary(item: Item) -> str:
    what = [*item.signals, *(f"raw frames {frames}" for frames in item.frames)]
    parts = [f"{item.category} ({word(CATEGORIES, item.category, 'en')})"]
    if what:
        parts.append(", ".join(what))
    if when := _when(item):
        parts.append(when)
    if item.condition:
        parts.append(f"when {item.condition}")
    if item.kind == "event" and (item.before_ns or item.after_ns):
        parts.append(f"holding {_hold(item)}")
    parts.append(f"for {word(PURPOSES, item.purpose, 'en')} ({item.basis})")
    parts.append(f"opened by {word(RECIPIENTS, item.recipients, 'en')}")
    parts.append(f"up to {_length(item.keep_ns)} in the car")
    return "; ".join(parts)


def _when(item: Item) -> str:
    if item.on_change:
        return "on each change"
    if item.every_ns:
        return f"every {_length(item.every_ns)}"
    return "every sample" if item.signals and item.kind == "rule" else ""


def _hold(item: Item) -> str:
    return f"{_length(item.before_ns)} before and {_length(item.after_ns)} after"


def _compare(old: Item, new: Item) -> list[Difference]:
    found = [
        *_sets("signal", old.signals, new.signals, new.id),
        *_sets("raw frames", old.frames, new.frames, new.id),
    ]
    if old.signals == new.signals and old.groups != new.groups:
        effect: Effect = "narrower" if set(new.groups) <= set(old.groups) else "wider"
        then, now = (", ".join(one.groups) or "their very ids" for one in (old, new))
        found.append(_other(new, f"its signals are found by {now}; was by {then}", effect))
    if old.category != new.category:
        found.append(_other(new, f"category {new.category}, was {old.category}", "wider"))
    if old.purpose != new.purpose:
        words = f"purpose {word(PURPOSES, new.purpose, 'en')}, was "
        found.append(_other(new, words + word(PURPOSES, old.purpose, "en"), "wider"))
    if old.basis != new.basis:
        effect = "wider" if old.basis == "consent" else "other"
        found.append(_other(new, f"basis {new.basis}, was {old.basis}", effect))
    if old.recipients != new.recipients:
        more = _OPENED_BY[new.recipients] - _OPENED_BY[old.recipients]
        words = f"opened by {word(RECIPIENTS, new.recipients, 'en')}, was "
        words += word(RECIPIENTS, old.recipients, "en")
        found.append(_other(new, words, "wider" if more else "narrower"))
    if old.condition != new.condition:
        words = f"happens when {new.condition}; was when {old.condition}"
        found.append(_other(new, words, "other"))
    if old.upload != new.upload:
        words = "is sent to the region" if new.upload else "is no longer sent to the region"
        found.append(_other(new, words, "wider" if new.upload else "narrower"))
    if (_when(old), old.signals != ()) != (_when(new), new.signals != ()) and new.kind == "rule":
        effect = "wider" if _pace(new) < _pace(old) else "narrower"
        found.append(_other(new, f"sampled {_when(new)}, was {_when(old)}", effect))
    found += _lengths(old, new)
    if old.necessity != new.necessity:
        found.append(_other(new, f"reason given: {new.necessity}", "other"))
    return found


def _pace(item: Item) -> float:
    """Return the time between samples: none for every sample, then changes, then periods."""
    return 0.5 if item.on_change else float(item.every_ns)


def _other(item: Item, words: str, effect: Effect) -> Difference:
    return Difference(effect, item.id, words)


def _sets(what: str, old: tuple[str, ...], new: tuple[str, ...], name: str) -> list[Difference]:
    found = [
        Difference("wider", name, f"newly keeps {what} {one}") for one in new if one not in old
    ]
    return found + [
        Difference("narrower", name, f"no longer keeps {what} {one}")
        for one in old
        if one not in new
    ]


def _lengths(old: Item, new: Item) -> list[Difference]:
    """Compare lengths of time and space: longer is wider, but for the grain of places."""
    found: list[Difference] = []
    for field, words in (
        ("keep_ns", "kept up to {new} in the car, was {old}"),
        ("before_ns", "reaches back {new}, was {old}"),
        ("after_ns", "goes on for {new} after, was {old}"),
    ):
        then, now = getattr(old, field), getattr(new, field)
        if now != then and not (field == "before_ns" and new.kind == "recorder"):
            text = words.format(new=_length(now), old=_length(then))
            found.append(_other(new, text, "wider" if now > then else "narrower"))
    if old.space_m != new.space_m:
        coarser = new.space_m > old.space_m
        text = f"positions to {_metres(new)}, was {_metres(old)}"
        found.append(_other(new, text, "narrower" if coarser else "wider"))
    return found


def _metres(item: Item) -> str:
    return f"{item.space_m} m" if item.space_m else "full precision"


def _whole(old: Policy, new: Policy) -> list[Difference]:
    """Compare what is said of the policy as a whole: consents, cameras, its end."""
    found: list[Difference] = []
    if old.region != new.region:
        found.append(Difference("other", "policy", f"for {new.region}, was {old.region}"))
    if old.not_after_ns != new.not_after_ns:
        days = (new.not_after_ns - old.not_after_ns) / 86_400e9
        words = f"ends {abs(days):g} days {'later' if days > 0 else 'earlier'}"
        found.append(Difference("other", "policy", words))
    terms = {one.category: one for one in old.consents}
    for term in new.consents:
        was = terms.get(term.category)
        if was is not None and was != term:
            wider = term.max_days > was.max_days or (was.each_drive and not term.each_drive)
            words = f"a consent to {term.category} lasts up to {term.max_days} days"
            words += ", a drive at most" if term.each_drive else ""
            found.append(Difference("wider" if wider else "narrower", "policy", words))
    return found + _gates(old, new)


def _gates(old: Policy, new: Policy) -> list[Difference]:
    """Compare how far the camera gate opens."""
    found: list[Difference] = []
    one, other = old.camera, new.camera
    if one is None or other is None:
        return found
    modes = ("off", "on")
    figures = (
        # (before, after, 1 if more is wider, what)
        (one.parked, other.parked, 1, f"cameras while parked are {modes[other.parked]}"),
        (one.driving, other.driving, 1, f"cameras while driving are {modes[other.driving]}"),
        (one.margin_m, other.margin_m, -1, f"{other.margin_m} m kept from protected places"),
        (one.exit_ns, other.exit_ns, -1, f"off for {_length(other.exit_ns)} after one"),
        (one.no_fix_ns, other.no_fix_ns, 1, f"off {_length(other.no_fix_ns)} after a position"),
    )
    for before, after, sign, words in figures:
        if before != after:
            wider = (after - before) * sign > 0
            found.append(Difference("wider" if wider else "narrower", "camera", words))
    if one.zones != other.zones:
        found.append(Difference("other", "camera", "another list of protected places"))
    return found
