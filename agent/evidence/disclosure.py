"""Which entries of a log a bundle discloses, and which bodies go with them.

- Every entry of the asked time, of all kinds: from the first to the last that was written in it,
  and the neighbours of both, which show that there are no more.
- What they need, wherever it is: the genesis, the session and policy entries of the segments among
  them, gap entries (they name the log before), the drop and incident entries about their bodies.
- Bodies of the segments of that time, but for those that the caller leaves out, and of the sessions
  and policies.

A log may have more entries than memory: of the asked time it is remembered which there are, and
they are read again whenever they are wanted. A ledger never changes an entry.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from heapq import merge
from itertools import chain
from typing import Final, Protocol

from google.protobuf.message import DecodeError

from agent.errors import SpoolCorruptError
from agent.evidence.selection import AFTER_NS
from agent.pb import ledger_pb2
from agent.vault.opening import place

PAGE: Final = 512  # entries that are held when some of them are looked at one by one
BODY_KINDS: Final = ("session", "segment", "policy")
Stored = tuple[int, bytes]  # index, entry
indices_of: Final = partial(array, "Q")  # 8 bytes each, where there may be millions

LeaveOut = Callable[["Disclosure", int], str]
"""(what is disclosed, a segment of it) -> why its body stays out; empty: it does not."""


class Ledger(Protocol):
    """One log, as whoever holds it can read it. Each method raises SpoolError if it cannot.

    Attributes:
        log: its id, 16 bytes.
    """

    log: bytes

    def size(self) -> int:
        """Return how many entries the log has, as far as they are here."""

    def entries(self, first: int, end: int) -> Iterator[Stored]:
        """Yield the entries from `first` to before `end` that are here, by rising index."""

    def body(self, index: int) -> bytes | None:
        """Return the body of an entry; None if it is not here."""

    def node(self, height: int, position: int) -> bytes:
        """Return the hash of a complete subtree: `tree.Nodes`."""

    def notes(self) -> list[tuple[int, str, bool]]:
        """Return (size, note, whether it is co-signed) of the checkpoints, by rising size."""


class _Parsed(Mapping[int, ledger_pb2.Entry]):
    """Disclosed entries, read and parsed at each look; quick if they are looked at in order."""

    def __init__(self, found: Disclosure) -> None:
        self._found = found
        self._page, self._at = dict[int, bytes](), -1

    def __getitem__(self, index: int) -> ledger_pb2.Entry:
        return parse(self._found.ledger.log, index, self._stored(index))

    def _stored(self, index: int) -> bytes:
        if index in self._found.extra:
            return self._found.extra[index]
        if not self._found.has(index):
            raise KeyError(index)
        if index // PAGE != self._at:
            self._at = index // PAGE
            begin = self._at * PAGE
            self._page = dict(self._found.ledger.entries(begin, begin + PAGE))
        return self._page[index]

    def __iter__(self) -> Iterator[int]:
        return self._found.indices()

    def __len__(self) -> int:
        return sum(1 for _ in self._found.indices())


@dataclass(slots=True)
class Disclosure:
    """What a bundle discloses of one log.

    Attributes:
        ledger: the log.
        first: of the asked time, the first entry.
        last: and the last; first - 1: none.
        size: entries that the log had when it was looked at; what came later only explains.
        there: runs of entries that are disclosed because of the time: it and its neighbours.
        extra: what is disclosed beside them, by index: bytes of the Entry.
        bodies: entries whose body goes into the bundle, as far as it is there; rising.
        left_out: entries whose body does not, by reason; rising.
        recipients: of each session, by its id.
        entries: what is disclosed, by rising index; see `_Parsed`.
    """

    ledger: Ledger
    first: int
    last: int
    size: int
    there: tuple[range, ...] = ()
    extra: dict[int, bytes] = field(default_factory=dict)
    bodies: array[int] = field(default_factory=indices_of)
    left_out: dict[str, array[int]] = field(default_factory=dict)
    recipients: dict[bytes, int] = field(default_factory=dict)
    entries: Mapping[int, ledger_pb2.Entry] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.entries = _Parsed(self)

    @property
    def end(self) -> int:
        """One behind the last entry that is disclosed."""
        return max([*self.extra, *(run[-1] for run in self.there)], default=-1) + 1

    def has(self, index: int) -> bool:
        """Return whether an entry is disclosed."""
        at = bisect_right(self.there, index, key=lambda run: run.start) - 1
        return index in self.extra or (at >= 0 and index in self.there[at])

    def indices(self) -> Iterator[int]:
        """Yield what is disclosed, rising."""
        beside = sorted(i for i in self.extra if not any(i in run for run in self.there))
        return merge(beside, chain.from_iterable(self.there))

    def stored(self) -> Iterator[Stored]:
        """Yield what is disclosed with its bytes, by rising index."""
        beside = sorted(i for i in self.extra if not any(i in run for run in self.there))
        runs = (one for run in self.there for one in self.ledger.entries(run.start, run.stop))
        return merge(((i, self.extra[i]) for i in beside), runs)

    def disclose(self, index: int, stored: bytes) -> None:
        """Disclose one more."""
        if not self.has(index):
            self.extra[index] = stored


def disclose(
    ledger: Ledger,
    from_ns: int | None,
    to_ns: int | None,
    *,
    begin: int = 0,
    size: int | None = None,
    leave_out: LeaveOut = lambda *_: "",
    progress: Callable[[int], None] = lambda _: None,
) -> Disclosure | None:
    """Choose what a bundle discloses of a log; None if nothing of it can be read.

    Of a log that has nothing of that time, this is what shows it.

    Args:
        ledger: the log.
        from_ns: first moment asked for, ns since the Unix epoch; None: from the beginning.
        to_ns: last moment, inclusive; None: to the end.
        begin: what is before this entry is not of the time, whatever the clock said.
        size: entries to look at; None: all.
        leave_out: which segments' bodies stay out.
        progress: called with the number of entries that were read.

    Raises:
        SpoolError: it cannot be read.
    """
    scan = _Scan(from_ns, to_ns, begin)
    size = ledger.size() if size is None else min(size, ledger.size())
    for count, (index, stored) in enumerate(ledger.entries(0, size)):
        scan.take(index, parse(ledger.log, index, stored), stored)
        if count % 1024 == 1023:
            progress(1024)
    if scan.entries == 0:
        return None
    first = scan.before + 1 if scan.first is None else scan.first
    last = scan.before if scan.first is None else scan.last
    found = Disclosure(ledger, first, last, size, scan.within(first - 1, min(size, last + 2)))
    scan.needs(found)
    _explain(found, _choose_bodies(found, leave_out))
    return found


def explain(ledger: Ledger, found: Disclosure, absent: Sequence[int]) -> bool:
    """Disclose the drop entries that were written since, of bodies that went meanwhile.

    Args:
        ledger: the log.
        found: what is disclosed of it.
        absent: entries whose bodies are not here, rising.

    Returns:
        Whether there are any.

    Raises:
        SpoolError: it cannot be read.
    """
    before = len(found.extra)
    for index, stored in ledger.entries(found.size, ledger.size()):
        entry = parse(ledger.log, index, stored)
        if entry.HasField("drop") and any(_meets(one, absent) for one in entry.drop.range):
            found.disclose(index, stored)
    return len(found.extra) > before


def _explain(found: Disclosure, wanted: Sequence[int]) -> None:
    """Disclose the drop and incident entries about what is disclosed and may have a body."""
    ledger, size = found.ledger, found.size
    for index, stored in ledger.entries(wanted[0] if wanted else size, size):
        entry = parse(ledger.log, index, stored)
        if any(_meets(one, wanted) for one in (*entry.drop.range, *entry.incident.held)):
            found.disclose(index, stored)


def parse(log: bytes, index: int, stored: bytes) -> ledger_pb2.Entry:
    """Return a stored entry.

    Raises:
        SpoolCorruptError: it is none.
    """
    try:
        return ledger_pb2.Entry.FromString(stored)
    except DecodeError:
        raise SpoolCorruptError("an entry that is damaged", where=place(log, index)) from None


def _meets(one: ledger_pb2.Range, indices: Sequence[int]) -> bool:
    at = bisect_left(indices, one.first)
    return at < len(indices) and indices[at] <= one.last


class _Scan:
    """What one pass over a log gathers: its extent in time, and entries that others need."""

    def __init__(self, from_ns: int | None, to_ns: int | None, begin: int) -> None:
        self._begin = begin
        self._low = -1 if from_ns is None else from_ns
        self._high = 1 << 64 if to_ns is None else to_ns + AFTER_NS
        self.first: int | None = None
        self.last = self.before = -1
        self.entries = 0
        self._needed: dict[int, bytes] = {}
        self._recipients: dict[bytes, int] = {}
        self._sessions: dict[bytes, int] = {}
        self._policies: list[int] = []
        self._gaps: list[int] = []
        self._runs: list[range] = []

    def take(self, index: int, entry: ledger_pb2.Entry, stored: bytes) -> None:
        self.entries += 1
        if self._runs and self._runs[-1].stop == index:
            self._runs[-1] = range(self._runs[-1].start, index + 1)
        else:
            self._runs.append(range(index, index + 1))
        at_ns = entry.at.unix_ns
        if index < self._begin or at_ns < self._low:
            self.before = index
        elif at_ns <= self._high:
            self.first = index if self.first is None else self.first
            self.last = index
        kind = entry.WhichOneof("what")
        if kind in ("session", "policy", "genesis", "gap"):
            self._needed[index] = stored
        if kind == "session":
            self._sessions[entry.session.session] = index
            self._recipients[entry.session.session] = entry.session.recipients
        elif kind == "policy":
            self._policies.append(index)
        elif kind == "gap":
            self._gaps.append(index)

    def within(self, begin: int, end: int) -> tuple[range, ...]:
        """Return the runs of entries from `begin` to before `end` that can be read."""
        cut = (range(max(run.start, begin), min(run.stop, end)) for run in self._runs)
        return tuple(run for run in cut if run)

    def needs(self, found: Disclosure) -> None:
        """Disclose what the entries in `found` need."""
        needed, policies = {0, *self._gaps}, self._policies
        for index, entry in found.entries.items():
            if entry.HasField("segment"):
                session = self._sessions.get(entry.segment.session)
                needed |= set() if session is None else {session}
                # The policy in force, and the one before it: a segment may be closed by a change.
                needed |= set(policies[max(0, bisect_left(policies, index) - 2) :][:2])
        for index in needed & self._needed.keys():
            found.disclose(index, self._needed[index])
        found.recipients |= self._recipients


def _choose_bodies(found: Disclosure, leave_out: LeaveOut) -> Sequence[int]:
    """Choose, and return what is disclosed and may have a body, rising."""
    wanted = indices_of()
    for index, entry in found.entries.items():
        kind = entry.WhichOneof("what")
        if kind not in BODY_KINDS:
            continue
        wanted.append(index)
        if not getattr(entry, str(kind)).body:
            continue
        why = ""
        if kind == "segment":
            if not found.first <= index <= found.last:
                continue  # a neighbour
            why = leave_out(found, index)
        (found.left_out.setdefault(why, indices_of()) if why else found.bodies).append(index)
    return wanted
