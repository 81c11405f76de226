"""The consents that count now: looked at twice a second, and brought up to date by time and drive.

- The file is the truth. It changes under `inland consent` and here, both under its lock; looking at
  it costs one stat() as long as it is the same file.
- A grant that has ended by time, by the drive or by a wider policy is marked so in the file. If the
  file cannot be written, it has ended all the same, and is marked as soon as it can be.
- A file that cannot be read is no consent to anything.
- Every change is returned once, in order, also one that was made while the agent did not run; after
  a crash the last ones may come again. `entered` says that they are in the ledger; the next look
  says it too.
- Time for grants is trusted time, and within a run it goes on with CLOCK_BOOTTIME: a clock that is
  set back lengthens nothing. It falls for a time that the region signed, and for a grant that is
  new: a person who agrees agrees from now.
- At the first look, and whenever a category falls silent, it is among the ended ones: what is still
  unsent of it has to go.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from agent.clock import REGION
from agent.errors import InlandError
from agent.files import file_identity
from agent.pb.ledger_pb2 import ConsentChange
from agent.pb.moment_pb2 import Moment
from agent.policy import consent_file
from agent.policy.consent import Book, Change, State, Wanted, change_of, wants
from agent.policy.model import Policy

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ConsentStep:
    """What counts from now on.

    Attributes:
        silent: categories that the policy may not use: their rules do not exist.
        consented: categories of the policy with a consent in force.
        entries: changes that belong in the ledger, in order.
        ended: categories whose consent ended, or never was: open rows and unsent bodies go first,
            also of those that are consented to again.
    """

    silent: frozenset[str]
    consented: frozenset[str]
    entries: tuple[ConsentChange, ...]
    ended: frozenset[str]


@dataclass(slots=True)
class _Known:
    """What the last look found."""

    identity: tuple[int, int, int] | None = None
    book: Book = field(default_factory=Book)
    readable: bool = True
    policy: bytes | None = None  # digest
    wanted: Mapping[str, Wanted] = field(default_factory=dict)
    widened: frozenset[str] = frozenset()


class ConsentSlot:
    """Watches the file of consents. One thread.

    Args:
        path: state/consent.json.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known = _Known()
        self._first = True
        self._silent: frozenset[str] = frozenset()
        self._consented: frozenset[str] = frozenset()
        # Grants that ended and could not be marked yet: (category, serial, since) -> how.
        self._held: dict[tuple[str, int, int], State] = {}
        self._returned, self._returned_of = 0, ""  # last change that was returned, of which book
        self._lost: frozenset[str] = frozenset()  # consents that went with the file
        self._complained = ""
        self._time: tuple[int, int] | None = None  # for grants, and CLOCK_BOOTTIME then

    def look(
        self, policy: Policy | None, now: Moment, *, drive: int, driving: bool = True
    ) -> ConsentStep | None:
        """Return what changed since the last look; None if nothing did.

        Args:
            policy: in force; a policy that is put in force has to be looked at with this before it
                decides anything.
            now: trusted time.
            drive: number of the present drive, or of the last one if the car stands; it never
                falls, over restarts too. A grant that is for one drive ends when it rises.
            driving: the car is being driven. A grant that is given while it stands is for the next
                drive.
        """
        self.entered()
        self._read(policy)
        now_ns = self._now_ns(now)
        self._update(now_ns, drive=drive, driving=driving)
        return self._step(now_ns, drive)

    def _now_ns(self, now: Moment) -> int:
        """Return the time for grants; see the module."""
        now_ns = now.unix_ns
        is_new = any(
            grant.state is State.GRANTED and not grant.seen_ns
            for grant in self._known.book.grants.values()
        )
        if self._time is not None and now.quality != REGION and not is_new:
            before_ns, then_ns = self._time
            now_ns = max(now_ns, before_ns + max(0, now.boottime_ns - then_ns))
        self._time = now_ns, now.boottime_ns
        return now_ns

    def begin_anew(self) -> None:
        """Have the next look say what counts, whether it changed or not: it is for a new policy."""
        self._first = True

    def entered(self) -> None:
        """Note that the entries of the last step are in the ledger."""
        if not self._known.readable or self._returned <= self._known.book.told:
            return
        try:
            with consent_file.edit(self._path) as held:
                if held.book.id == self._known.book.id:
                    held.book = held.book.tell(self._returned)
        except BlockingIOError:  # a command holds it: the next look does it
            return
        except (OSError, InlandError) as error:
            self._complain(error)

    def _read(self, policy: Policy | None) -> None:
        """Look whether file or policy are others than before."""
        known, identity = self._known, file_identity(self._path)
        digest = policy.digest if policy is not None else None
        same_file = not self._first and known.readable and identity == known.identity
        if same_file and digest == known.policy:
            return
        if not same_file:
            known.identity = identity
            try:
                known.book, known.readable = consent_file.read(self._path), True
            except InlandError as error:
                known.book, known.readable = Book(), False
                self._complain(error)
            if known.book.id != self._returned_of:
                self._returned_of, self._returned = known.book.id, known.book.told
        if self._first or digest != known.policy:
            known.policy, known.wanted = digest, wants(policy)
        known.widened = known.book.widened(known.wanted)

    def _ends(self, book: Book, now_ns: int, drive: int) -> dict[str, State]:
        """Return the grants of a book that do not count, and why."""
        known = self._known
        found = {
            category: self._held[category, grant.serial, grant.since_ns]
            for category, grant in book.grants.items()
            if (category, grant.serial, grant.since_ns) in self._held
        }
        return book.due(now_ns, drive=drive, wanted=known.wanted, widened=known.widened) | found

    def _update(self, now_ns: int, *, drive: int, driving: bool) -> None:
        """Mark in the file what has ended, and what time and drive it is for new grants."""
        book = self._known.book
        ends = self._ends(book, now_ns, drive)
        if not ends and book.see(now_ns, drive=drive, driving=driving) is book:
            return
        for category, state in ends.items():
            grant = book.grants[category]
            self._held[category, grant.serial, grant.since_ns] = state
        try:
            with consent_file.edit(self._path) as held:
                held.book = self._brought_up(held.book, now_ns, drive, driving=driving)
        except BlockingIOError:  # a command holds it: the next look does it
            return
        except (OSError, InlandError) as error:
            self._complain(error)
            return
        self._known.book, self._known.identity = held.book, file_identity(self._path)
        self._known.widened = held.book.widened(self._known.wanted)
        self._held.clear()

    def _brought_up(self, book: Book, now_ns: int, drive: int, *, driving: bool) -> Book:
        self._known.widened = book.widened(self._known.wanted)  # it may be newer than what we read
        book = book.see(now_ns, drive=drive, driving=driving)
        for category, state in self._ends(book, now_ns, drive).items():
            book = book.end(category, state, now_ns=now_ns)
            log.warning("consent to %s: %s", category, state.value.replace("_", " "))
        return book

    def _step(self, now_ns: int, drive: int) -> ConsentStep | None:
        book, wanted = self._known.book, self._known.wanted
        unmarked = self._ends(book, now_ns, drive)
        consented = frozenset(
            category
            for category in wanted
            if book.state(category) is State.GRANTED and category not in unmarked
        )
        silent = frozenset(wanted) - consented
        news = [one for one in book.changes if one.serial > self._returned]
        told_of = {one.category for one in news}
        lost = (self._consented & silent) - told_of - set(unmarked)  # with the file
        ended = (silent - self._silent) | {
            one.category for one in news if one.state is not State.GRANTED
        }
        same = silent == self._silent and consented == self._consented
        if same and not news and not self._first:
            return None
        self._first, self._silent, self._consented = False, silent, consented
        self._returned = book.serial
        entries = [ConsentChange(category=name) for name in sorted(lost)]  # NEVER_ASKED
        for category in sorted(self._lost & consented - told_of):  # the file can be read again
            grant = book.grants[category]
            entries.append(_entry(change_of(category, grant)))
        self._lost = (self._lost | lost) - consented
        return ConsentStep(silent, consented, (*entries, *map(_entry, news)), ended)

    def _complain(self, error: Exception) -> None:
        """Say what is wrong, once as long as it stays the same."""
        if str(error) != self._complained:
            self._complained = str(error)
            log.error("consent: %s", error)


def _entry(change: Change) -> ConsentChange:
    return ConsentChange(
        category=change.category, state=change.state.name,
        until_unix_ns=change.until_ns, terms=change.digest, each_drive=change.each_drive,
    )  # fmt: skip
