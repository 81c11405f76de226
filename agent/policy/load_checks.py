"""Why a policy is refused: its rules and clauses held against the vocabulary.

Every refusal names the rule that it breaks and what would make the policy acceptable. The same
checks run on the text when a policy is built and on the compiled form at install and boot.

Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from agent.pb import sealed_pb2
from agent.policy.clauses import PARKED_OWNER
from agent.policy.vocabulary import (
    AGENT,
    AGENT_ALONE,
    BASES,
    CATEGORIES,
    CONSENT,
    CONSENT_PURPOSES,
    DAY_S,
    DEFAULT_DENY,
    DENIED,
    EVENT_RECORD,
    IMPORTANT,
    MAX_CONSENT_DAYS,
    MAX_NO_FIX_S,
    MIN_EXIT_S,
    MIN_MARGIN_M,
    PARKED,
    PRECISION,
    PURPOSES,
    SENSITIVE,
    SPACES,
    ZONES,
    Category,
)
from agent.units import nearest

OWNER: Final = int(sealed_pb2.OWNER)
# One person alone can open it: nobody else learns where that person was.
PERSONS: Final = frozenset({OWNER, int(sealed_pb2.DRIVER)})
_REFERENCE: Final = re.compile(r"(law|order):(?=\S)[^\x00-\x1f\x7f]{1,120}")
_SPACE_NAMES: Final = {metres: name for name, metres in SPACES.items()}


@dataclass(frozen=True, slots=True)
class Objection:
    """Why a rule or clause is refused.

    Attributes:
        key: of the text that it is about.
        what: what is wrong.
        rule: which rule is broken.
        todo: what would make it acceptable.
    """

    key: str
    what: str
    rule: str
    todo: str

    @property
    def text(self) -> str:
        """What is wrong, and by which rule."""
        return f"{self.what} ({self.rule})"


@dataclass(frozen=True, slots=True)
class Claim:
    """What a [[collect]] asks for, as far as the vocabulary has a say in it.

    Attributes:
        category: as written.
        purpose: as written.
        basis: as written.
        keep_s: how long the car would keep it, s.
        recipients: sealed_pb2.Recipients.
        raw: it names raw frames.
        space_m: positions are no finer than this, m; 0: as they come.
        every_ns: between two samples, ns; 0: every sample, or every change.
    """

    category: str
    purpose: str
    basis: str
    keep_s: int
    recipients: int
    raw: bool
    space_m: int
    every_ns: int


def collect_objection(claim: Claim, consents: Iterable[str]) -> Objection | None:
    """Return why a rule may not be, or None if it may.

    Args:
        claim: what it asks for.
        consents: categories that have a [[consent]].
    """
    known = CATEGORIES.get(claim.category)
    if known is None:
        return _unknown_category(claim.category)
    why = _why(claim.purpose, claim.basis)
    if why:
        return why
    for check in _COLLECT:
        wrong = check(known, claim)
        if wrong:
            return wrong
    if claim.basis == "consent" and known.name not in consents:
        return Objection(
            "basis", f"the consent to '{known.name}' has no end", CONSENT,
            f'add [[consent]] with category = "{known.name}" and max_days',
        )  # fmt: skip
    return None


def must_be_coarse(category: str, recipients: int) -> bool:
    """Return whether every signal of a rule must be made coarser in space."""
    return is_place(category) and recipients not in PERSONS


def _unknown_category(name: str) -> Objection:
    advice = nearest(name, CATEGORIES, noun="category")
    return Objection("category", f"unknown category '{name}'", DEFAULT_DENY, advice)


def _why(purpose: str, basis: str) -> Objection | None:
    if purpose not in PURPOSES:
        advice = nearest(purpose, PURPOSES, noun="purpose")
        return Objection("purpose", f"unknown purpose '{purpose}'", DEFAULT_DENY, advice)
    if basis not in ("consent", "safety") and not _REFERENCE.fullmatch(basis):
        advice = f"bases are {', '.join(BASES)}"
        return Objection("basis", f"unknown basis '{basis}'", DEFAULT_DENY, advice)
    if purpose in CONSENT_PURPOSES and basis != "consent":
        return Objection("basis", f"purpose '{purpose}' needs the basis 'consent', not '{basis}'",
                         CONSENT, 'write basis = "consent" and a [[consent]]')  # fmt: skip
    return None


def _collectable(category: Category, _: Claim) -> Objection | None:
    if category.kind == DENIED:
        return Objection("category", f"category '{category.name}' is never collected",
                         category.rule, "take the rule out")  # fmt: skip
    if category.kind == AGENT:
        return Objection(
            "category",
            f"category '{category.name}' is written by the agent, not collected from a bus",
            AGENT_ALONE, "choose the category of the signals",
        )  # fmt: skip
    return None


def _basis(category: Category, claim: Claim) -> Objection | None:
    if category.kind == SENSITIVE and claim.basis != "consent":
        return Objection(
            "basis", f"category '{category.name}' is sensitive and needs the basis 'consent', "
            f"not '{claim.basis}'", category.rule, 'write basis = "consent" and a [[consent]]',
        )  # fmt: skip
    if category.kind == IMPORTANT and not claim.basis.startswith(("law:", "order:")):
        return Objection(
            "basis", f"category '{category.name}' is important data; '{claim.basis}' is no basis "
            "for it", category.rule, "it needs 'law:<reference>' or 'order:<reference>'",
        )  # fmt: skip
    return None


def _keep(category: Category, claim: Claim) -> Objection | None:
    if category.keep_cap_s == 0:
        return Objection("keep", f"category '{category.name}' is never stored", category.rule,
                         "take the rule out")  # fmt: skip
    if claim.keep_s > category.keep_cap_s:
        return Objection("keep", f"keeps '{category.name}' too long", category.rule,
                         f"at most {category.keep_cap_s // DAY_S}d")  # fmt: skip
    return None


def _recipients(category: Category, claim: Claim) -> Objection | None:
    if category.owner_alone and claim.recipients != OWNER:
        return Objection("recipients", f"category '{category.name}' is for the owner alone",
                         category.rule, 'write recipients = "owner"')  # fmt: skip
    return None


def _precision(category: Category, claim: Claim) -> Objection | None:
    finest = category.finest
    if finest is None or claim.recipients in PERSONS:
        return None
    if claim.raw:
        return Objection(
            "frames", f"raw frames of '{category.name}' cannot be made coarser", PRECISION,
            'name signals, or write recipients = "owner"',
        )  # fmt: skip
    if claim.space_m < finest.space_m:
        return Objection(
            "precision", f"'{category.name}' is finer in space than others than the owner may have",
            PRECISION, f'write space = "{_SPACE_NAMES[finest.space_m]}" or coarser in precision',
        )  # fmt: skip
    if claim.every_ns < finest.time_s * 10**9:
        return Objection(
            "every", f"'{category.name}' is finer in time than others than the owner may have",
            PRECISION, f'write every = "{finest.time_s}s" or longer',
        )  # fmt: skip
    return None


_COLLECT: Final[tuple[Callable[[Category, Claim], Objection | None], ...]] = (
    _collectable, _basis, _keep, _recipients, _precision,
)  # fmt: skip


def is_place(category: str) -> bool:
    """Return whether what is collected under a category says where the car is."""
    known = CATEGORIES.get(category)
    return known is not None and known.finest is not None


def place_objection(name: str) -> Objection:
    """Return why a signal that says where the car is may not be kept as something else."""
    return Objection(
        "signals", f"'{name}' says where the car is, and would be kept without a consent", CONSENT,
        "take it out; a rule of the category 'location.track' may have it",
    )  # fmt: skip


def clause_objection(*, purpose: str, basis: str, keep_s: int = 0) -> Objection | None:
    """Return why a [recorder], an [[event]] or a [camera] may not be, or None if it may.

    Args:
        purpose: as written.
        basis: as written.
        keep_s: how long the car would keep its records, s.
    """
    if purpose in CONSENT_PURPOSES:
        return Objection("purpose", f"what the agent writes about events is not for '{purpose}'",
                         AGENT_ALONE, "choose another purpose")  # fmt: skip
    why = _why(purpose, basis)
    if why:
        return why
    if basis == "consent":
        return Objection(
            "basis", "what the agent writes about events does not depend on a consent", AGENT_ALONE,
            "write 'safety', 'law:<reference>' or 'order:<reference>'",
        )  # fmt: skip
    if keep_s > EVENT_RECORD.keep_cap_s:
        return Objection("keep", f"keeps '{EVENT_RECORD.name}' too long", EVENT_RECORD.rule,
                         f"at most {EVENT_RECORD.keep_cap_s // DAY_S}d")  # fmt: skip
    return None


def parked_objection(*, parked: int, recipients: int, consents: Iterable[str]) -> Objection | None:
    """Return why cameras may not record in a parked car, or None if they may (or do not).

    Args:
        parked: clauses.PARKED_OFF or PARKED_OWNER.
        recipients: sealed_pb2.Recipients of the camera clause.
        consents: categories that have a [[consent]].
    """
    if parked != PARKED_OWNER:
        return None
    if recipients != OWNER:
        return Objection("recipients", "surveillance while parked is for the owner alone",
                         PARKED.rule, 'write recipients = "owner" or parked = "off"')  # fmt: skip
    if PARKED.name not in consents:
        return Objection("parked", "surveillance while parked needs the owner's consent", CONSENT,
                         f'add [[consent]] with category = "{PARKED.name}"')  # fmt: skip
    return None


def gate_objection(
    *, zones: bool, position: bool, margin_m: int, exit_ns: int, no_fix_ns: int
) -> Objection | None:
    """Return why a camera gate would be too lax, or None if it is not.

    Args:
        zones: there are protected zones.
        position: the car knows where it is.
        margin_m: closed so far before a zone's edge, m.
        exit_ns: closed so long after it was left.
        no_fix_ns: closed if there was no position for so long.
    """
    if zones and not position:
        return Objection("position", "zones without a position protect nothing", ZONES,
                         "write position = { ... }")  # fmt: skip
    if zones and margin_m < MIN_MARGIN_M:
        return Objection("margin", f"a margin of {margin_m} m is too small", ZONES,
                         f"at least {MIN_MARGIN_M}m")  # fmt: skip
    if zones and exit_ns < MIN_EXIT_S * 10**9:
        return Objection("exit_delay", "the gate opens too soon after a zone", ZONES,
                         f"at least {MIN_EXIT_S}s")  # fmt: skip
    if position and no_fix_ns > MAX_NO_FIX_S * 10**9:
        return Objection("no_fix_after", "the gate stays open too long without a position", ZONES,
                         f"at most {MAX_NO_FIX_S}s")  # fmt: skip
    return None


def consent_objection(category: str, max_days: int, *, each_drive: bool) -> Objection | None:
    """Return why a [[consent]] may not be, or None if it may.

    Args:
        category: as written.
        max_days: longest time that a person may consent for.
        each_drive: it ends with the drive.
    """
    known = CATEGORIES.get(category)
    if known is None:
        return _unknown_category(category)
    if known.kind == DENIED:
        return Objection("category", f"no consent allows '{category}'", known.rule,
                         "take it out")  # fmt: skip
    if known.kind == AGENT:
        return Objection("category", f"'{category}' is written by the agent; nobody is asked",
                         AGENT_ALONE, "take it out")  # fmt: skip
    if not 1 <= max_days <= MAX_CONSENT_DAYS:
        return Objection("max_days", f"a consent of {max_days} days", CONSENT,
                         f"from 1 to {MAX_CONSENT_DAYS}: none is for ever")  # fmt: skip
    if known.each_drive and not each_drive:
        return Objection("each_drive", f"a consent to '{category}' must end with the drive",
                         known.rule, "write each_drive = true")  # fmt: skip
    return None
