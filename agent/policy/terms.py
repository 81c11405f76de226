"""What a policy would do under a consent, and whether that is more than was agreed to.

*Terms* are what the policy in force would do under one category: every rule of it with basis
"consent" is a clause (and the parked camera is one of "exterior.parked"). A policy *widens* terms
if one thing that it would keep is in no agreed clause of the same purpose, of at least the same
recipients, with as long a `keep`, and as fine in space and time.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from agent.digest import sha256
from agent.pb import policy_pb2, sealed_pb2
from agent.policy.clauses import PARKED_OWNER, ConsentTerm, SignalSelector
from agent.policy.model import Policy, Rule, SignalLayout
from agent.policy.quantities import frame_selector_text

BASIS: Final = "consent"
PARKED: Final = "exterior.parked"  # the category of cameras in a parked car
MAX_DAYS: Final = 365  # whatever a policy says: "always" is no consent
_OPENS: Final[dict[str, frozenset[str]]] = {
    "region": frozenset({"region", "shared"}),  # who agreed to the key agreed to these as well
    "owner": frozenset({"owner", "shared"}),
    "shared": frozenset({"shared"}),
    "both": frozenset({"both", "region", "owner", "shared"}),
    "driver": frozenset({"driver"}),  # another person than the owner, for all that a policy knows
}


@dataclass(frozen=True, slots=True, order=True)
class SignalTerm:
    """A signal on a channel. Other bits of a frame under an old name are another signal.

    Attributes:
        channel: bus name or "*".
        name: Message.Signal.
        place: where its bits stand, e.g. "18FEF31Cx/0+32".
    """

    channel: str
    name: str
    place: str


@dataclass(frozen=True, slots=True)
class Clause:
    """What one rule keeps under a consent.

    Attributes:
        purpose: one of the vocabulary's.
        recipients: who can open it: region, owner, shared, both or driver.
        keep_s: how long the car keeps it, s.
        space_m: positions are no finer than this, m; 0: as they come.
        time_ns: one sample in each period; 0: as they come.
        signals: sorted.
        frames: selectors as `quantities.frame_selector` reads them, sorted.
        camera: cameras may record while the car is parked.
    """

    purpose: str
    recipients: str
    keep_s: int
    space_m: int = 0
    time_ns: int = 0
    signals: tuple[SignalTerm, ...] = ()
    frames: tuple[str, ...] = ()
    camera: bool = False

    def is_within(self, agreed: Clause) -> bool:
        """Return whether this asks for no more than the other, whatever each is about."""
        return (
            self.purpose == agreed.purpose
            and agreed.recipients in _OPENS[self.recipients]
            and self.keep_s <= agreed.keep_s
            and self.space_m >= agreed.space_m
            and self.time_ns >= agreed.time_ns
        )


@dataclass(frozen=True)
class Terms:
    """What a person agrees to for one category."""

    category: str
    clauses: tuple[Clause, ...] = ()

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of the canonical form: its fields, length-prefixed, in order."""
        words: list[str] = ["terms 1", self.category]
        for one in self.clauses:
            words += ["clause", one.purpose, one.recipients, str(one.keep_s), str(one.space_m),
                      str(one.time_ns), str(int(one.camera))]  # fmt: skip
            words += [part for s in one.signals for part in ("s", s.channel, s.name, s.place)]
            words += [part for frames in one.frames for part in ("f", frames)]
        coded = [word.encode() for word in words]
        return sha256(b"".join(len(word).to_bytes(4, "big") + word for word in coded))

    def widens(self, agreed: Terms) -> bool:
        """Return whether these ask for anything that was not agreed to."""
        if self.category != agreed.category:
            return True
        if self.digest == agreed.digest:
            return False
        known = _Agreed(agreed)
        return not all(known.covers(one) for one in self.clauses)


class _Agreed:
    """Agreed terms, laid out so that a thousand rules can be compared with a thousand."""

    def __init__(self, agreed: Terms) -> None:
        self._cameras = [one for one in agreed.clauses if one.camera]
        self._signals: dict[SignalTerm, list[Clause]] = {}
        self._frames: dict[str, list[Clause]] = {}
        for one in agreed.clauses:
            for term in one.signals:
                self._signals.setdefault(term, []).append(one)
            for text in one.frames:
                self._frames.setdefault(text, []).append(one)
        self._spans = [(_span(text), text) for text in self._frames]

    def covers(self, clause: Clause) -> bool:
        """Return whether everything in a clause was agreed to."""
        if clause.camera and not _within(clause, self._cameras):
            return False
        for term in clause.signals:
            everywhere = SignalTerm("*", term.name, term.place)
            if not any(_within(clause, self._signals.get(one, ())) for one in (term, everywhere)):
                return False
        return all(self._covers_frames(clause, text) for text in clause.frames)

    def _covers_frames(self, clause: Clause, text: str) -> bool:
        if _within(clause, self._frames.get(text, ())):
            return True
        narrow = _span(text)
        return any(
            _holds(span, narrow) and _within(clause, self._frames[wide])
            for span, wide in self._spans
        )


def _within(clause: Clause, agreed: Iterable[Clause]) -> bool:
    return any(clause.is_within(one) for one in agreed)


def _span(text: str) -> tuple[str, str, int, int]:
    """Return (channel, kind, first, last) of a canonical selector; the file's reader checks it."""
    channel, _, ids = text.partition(":")
    if ids == "*":
        return channel, "*", 0, 0
    first, _, last = ids.partition("-")
    kind = "wide" if len(first) == 10 else "narrow"
    return channel, kind, int(first, 16), int(last or first, 16)


def _holds(wide: tuple[str, str, int, int], narrow: tuple[str, str, int, int]) -> bool:
    """Return whether one frame selector names all that another one names."""
    if wide[0] not in ("*", narrow[0]):
        return False
    return wide[1] == "*" or (
        wide[1] == narrow[1] and wide[2] <= narrow[2] and narrow[3] <= wide[3]
    )


def asked(policy: Policy | None) -> tuple[str, ...]:
    """Return the categories for which a policy needs consent, sorted."""
    if policy is None:
        return ()
    found = {rule.category for rule in policy.rules if rule.basis == BASIS}
    if policy.camera is not None and policy.camera.parked == PARKED_OWNER:
        found.add(PARKED)
    return tuple(sorted(found))


def terms(policy: Policy, category: str) -> Terms:
    """Return what a policy would do under a category; without clauses if it does not ask."""
    clauses = [
        _clause(policy, rule)
        for rule in policy.rules
        if rule.basis == BASIS and rule.category == category
    ]
    camera = policy.camera
    if category == PARKED and camera is not None and camera.parked == PARKED_OWNER:
        why = camera.why
        clauses.append(Clause(why.purpose, _recipients(why.recipients), camera.keep_s, camera=True))
    return Terms(category, tuple(clauses))


def _clause(policy: Policy, rule: Rule) -> Clause:
    return Clause(
        purpose=rule.purpose, recipients=_recipients(rule.recipients), keep_s=rule.keep_s,
        space_m=rule.space_m, time_ns=rule.every_ns,
        signals=tuple(sorted({_signal_term(policy, one) for one in rule.signals})),
        frames=tuple(sorted({frame_selector_text(one) for one in rule.frames})),
    )  # fmt: skip


def _recipients(number: int) -> str:
    return sealed_pb2.Recipients.Name(number).lower()


def _signal_term(policy: Policy, selector: SignalSelector) -> SignalTerm:
    info = policy.signals[selector.signal]
    place = _place(policy.layouts[selector.signal])
    return SignalTerm(selector.channel, f"{info.message}.{info.name}", place)


def _place(layout: SignalLayout) -> str:
    text = f"{layout.arbitration_id:X}{'x' if layout.extended else ''}"
    text += f"~{layout.free_bits:X}/" if layout.free_bits else "/"
    text += f"{layout.start}+{layout.bits}{'m' if layout.big_endian else ''}"
    text += f"/{policy_pb2.Signal.Kind.Name(layout.kind).lower()}"
    for mux in layout.mux:
        ranges = ",".join(f"{first}-{last}" for first, last in mux.ranges)
        text += f"?{mux.start}+{mux.bits}{'m' if mux.big_endian else ''}={ranges}"
    return text


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a policy wants of a category's consent.

    Attributes:
        terms: what it would do.
        max_days: a consent lasts no longer.
        each_drive: it ends with the drive.
    """

    terms: Terms
    max_days: int
    each_drive: bool


def wants(policy: Policy | None) -> dict[str, Wanted]:
    """Return what a policy needs consent for, by category; costs milliseconds."""
    if policy is None:
        return {}
    limits = {one.category: one for one in policy.consents}
    found = {}
    for category in asked(policy):
        limit = limits.get(category) or ConsentTerm(category, MAX_DAYS, each_drive=True)
        days = min(limit.max_days, MAX_DAYS)
        found[category] = Wanted(terms(policy, category), days, limit.each_drive)
    return found
