"""The book of what a person agreed to, category by category.

- What is agreed to are *terms* (`terms.py`). A policy that wants more needs a new consent.
- A grant always ends: after at most the policy's `max_days`, and a year in any case. Many end with
  the drive. One that has ended never comes back: not by a clock that is set back, not by a policy
  that asks for less again. Only the person can give a new one.
- Time for a grant never falls: it is the highest that was seen since it was given.
- Each change has a serial number; changes wait in the book until they are entered in the ledger.

Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

from agent.policy.terms import MAX_DAYS, Terms, Wanted, asked, terms, wants

__all__ = [
    "MAX_DAYS",
    "Book",
    "Change",
    "Grant",
    "State",
    "Terms",
    "Wanted",
    "asked",
    "change_of",
    "terms",
    "wants",
]

DAY_NS: Final = 86_400 * 10**9
SEEN_EVERY_NS: Final = 3600 * 10**9  # how often the highest time is worth a write


class State(StrEnum):
    """Where a consent stands. The names are those of ConsentChange.State, in small letters."""

    NEVER_ASKED = "never_asked"
    GRANTED = "granted"
    WITHDRAWN = "withdrawn"
    EXPIRED = "expired"
    NEEDS_RENEWAL = "needs_renewal"
    RESET = "reset"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Grant:
    """Where the consent to one category stands, and the terms that it is about.

    Attributes:
        state: now.
        serial: of the change that brought it there.
        since_ns: when, ns since the epoch, by the clock of whoever changed it.
        until_ns: of a grant, when it ends; else of the grant before, 0 if there was none.
        each_drive: it ends with the drive.
        drive: the drive in which the agent saw it first; None: it has not yet.
        waits: the car stood then: the next drive belongs to it as well.
        seen_ns: highest trusted time since it was given; 0: the running agent has not seen it.
        terms: that were agreed to; without clauses if nothing ever was.
    """

    state: State
    serial: int
    since_ns: int
    until_ns: int
    each_drive: bool
    drive: int | None
    waits: bool
    seen_ns: int
    terms: Terms


@dataclass(frozen=True, slots=True)
class Change:
    """A change that the ledger shall name. Fields as in ConsentChange."""

    serial: int
    category: str
    state: State
    until_ns: int
    each_drive: bool
    digest: bytes


def change_of(category: str, grant: Grant) -> Change:
    """Return the change that brought a consent to where it stands."""
    given = grant.state is State.GRANTED
    return Change(
        grant.serial, category, grant.state,
        until_ns=grant.until_ns if given else 0,
        each_drive=given and grant.each_drive,
        digest=grant.terms.digest if grant.terms.clauses else b"",
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Book:
    """All consents of a car. Every method returns a new book.

    Attributes:
        serial: of the last change.
        told: changes up to this one are in the ledger.
        grants: by category; a category that is not here was never asked for.
        changes: those after `told`, by serial number.
        id: of this book; a book that is begun anew has another, and its own serial numbers.
    """

    serial: int = 0
    told: int = 0
    grants: Mapping[str, Grant] = field(default_factory=dict)
    changes: tuple[Change, ...] = ()
    id: str = ""

    def state(self, category: str) -> State:
        """Return where a category stands, as the book says; see `due`."""
        grant = self.grants.get(category)
        return grant.state if grant is not None else State.NEVER_ASKED

    def grant(
        self, agreed: Terms, *, now_ns: int, until_ns: int, each_drive: bool
    ) -> Book:  # fmt: skip
        """Note that a person agreed to terms until a moment.

        Args:
            agreed: what to.
            now_ns: now, ns since the epoch.
            until_ns: when it ends.
            each_drive: it ends with the drive, if that is sooner.

        Raises:
            ValueError: it would not end within a year, or has ended already.
        """
        if not now_ns < until_ns <= now_ns + MAX_DAYS * DAY_NS:
            raise ValueError(f"a consent lasts from a moment to {MAX_DAYS} days")
        if not agreed.clauses:
            raise ValueError(f"there is nothing to agree to for {agreed.category}")
        grant = Grant(State.GRANTED, self.serial + 1, now_ns, until_ns, each_drive=each_drive,
                      drive=None, waits=False, seen_ns=0, terms=agreed)  # fmt: skip
        return self._with(agreed.category, grant)

    def end(self, category: str, state: State, *, now_ns: int) -> Book:
        """Note that a consent ended, or was refused."""
        before = self.grants.get(category)
        if before is None:
            before = Grant(state, 0, now_ns, 0, each_drive=False, drive=None, waits=False,
                           seen_ns=0, terms=Terms(category))  # fmt: skip
        grant = replace(before, state=state, serial=self.serial + 1, since_ns=now_ns)
        return self._with(category, grant)

    def _with(self, category: str, grant: Grant) -> Book:
        change = change_of(category, grant)
        grants = {**self.grants, category: grant}
        return replace(self, serial=grant.serial, grants=grants, changes=(*self.changes, change))

    def tell(self, serial: int) -> Book:
        """Forget the changes up to a serial number: they are in the ledger."""
        told = max(self.told, min(serial, self.serial))
        left = tuple(change for change in self.changes if change.serial > told)
        return replace(self, told=told, changes=left)

    def see(self, now_ns: int, *, drive: int, driving: bool) -> Book:
        """Note the time, and the drive of grants that are new; this book if nothing is worth it.

        A grant that was given by a clock ahead of ours lasts as long as was agreed, from now.
        """
        grants = dict(self.grants)
        for category, grant in self.grants.items():
            if grant.state is not State.GRANTED:
                continue
            if not grant.seen_ns:
                length_ns = grant.until_ns - grant.since_ns
                grants[category] = replace(
                    grant, drive=drive, waits=not driving, seen_ns=now_ns,
                    since_ns=min(grant.since_ns, now_ns),
                    until_ns=min(grant.until_ns, now_ns + length_ns),
                )  # fmt: skip
            elif now_ns >= grant.seen_ns + SEEN_EVERY_NS:
                grants[category] = replace(grant, seen_ns=now_ns)
        if grants == self.grants:
            return self
        return replace(self, grants=grants)

    def widened(self, wanted: Mapping[str, Wanted]) -> frozenset[str]:
        """Return the granted categories of which a policy wants more than was agreed to."""
        return frozenset(
            category
            for category, one in wanted.items()
            if self.state(category) is State.GRANTED
            and one.terms.widens(self.grants[category].terms)
        )

    def due(
        self, now_ns: int, *, drive: int | None, wanted: Mapping[str, Wanted],
        widened: frozenset[str],
    ) -> dict[str, State]:  # fmt: skip
        """Return which grants have ended by themselves, and how.

        Args:
            now_ns: trusted time.
            drive: the present drive; None: not known.
            wanted: by the policy in force.
            widened: as `widened` returned it for them.
        """
        found = {}
        for category, grant in self.grants.items():
            if grant.state is not State.GRANTED:
                continue
            if _is_over(grant, now_ns, wanted.get(category)):
                found[category] = State.EXPIRED
            elif _is_other_drive(grant, drive, wanted.get(category)):
                found[category] = State.RESET
            elif category in widened:
                found[category] = State.NEEDS_RENEWAL
        return found


def _is_over(grant: Grant, now_ns: int, wanted: Wanted | None) -> bool:
    latest_ns = grant.until_ns
    if wanted is not None:
        latest_ns = min(latest_ns, grant.since_ns + wanted.max_days * DAY_NS)
    return max(now_ns, grant.seen_ns) >= latest_ns


def _is_other_drive(grant: Grant, drive: int | None, wanted: Wanted | None) -> bool:
    """A count that fell was lost, and with it the drive that the grant was for."""
    if not (grant.each_drive or (wanted is not None and wanted.each_drive)):
        return False
    if grant.drive is None or drive is None:
        return False
    return not grant.drive <= drive <= grant.drive + grant.waits
