"""Which entries of a log a bundle discloses, and which bodies go with them.

- Every entry of the asked time, of all kinds: from the first to the last that was written in it,
  and the neighbours of both, which show that there are no more.
- What they need, wherever it is: the genesis, the session and policy entries of the segments among
  them, gap entries (they name the log before), the drop and incident entries about their bodies.
- Bodies of the segments of that time, but for those that the caller leaves out, and of the sessions
  and policies.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from google.protobuf.message import DecodeError

from agent.errors import ConfigError, SpoolCorruptError
from agent.evidence.selection import AFTER_NS
from agent.pb import ledger_pb2
from agent.vault.opening import place

MAX_ENTRIES: Final = 500_000  # of one log, held in memory: 125 MB
BODY_KINDS: Final = ("session", "segment", "policy")
Stored = tuple[int, bytes]  # index, entry

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
    def __init__(self, stored: dict[int, bytes]) -> None:
        self._stored = stored

    def __getitem__(self, index: int) -> ledger_pb2.Entry:
        return ledger_pb2.Entry.FromString(self._stored[index])

    def __iter__(self) -> Iterator[int]:
        return iter(sorted(self._stored))

    def __len__(self) -> int:
        return len(self._stored)


@dataclass(slots=True)
class Disclosure:
    """What a bundle discloses of one log.

    Attributes:
        first: of the asked time, the first entry.
        last: and the last; first - 1: none.
        stored: what is disclosed, by index: bytes of the Entry.
        bodies: entries whose body goes into the bundle, as far as it is there.
        left_out: entries whose body does not, by reason.
        size: entries that the log had when it was looked at; what came later only explains.
        recipients: of each session, by its id.
    """

    first: int
    last: int
    size: int
    stored: dict[int, bytes] = field(default_factory=dict)
    bodies: list[int] = field(default_factory=list)
    left_out: dict[str, list[int]] = field(default_factory=dict)
    recipients: dict[bytes, int] = field(default_factory=dict)

    @property
    def entries(self) -> Mapping[int, ledger_pb2.Entry]:
        """What is disclosed, by rising index; parsed at each look, because there may be many."""
        return _Parsed(self.stored)


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
        ConfigError: more entries than are held in memory; the time has to be shorter.
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
    found = Disclosure(first, scan.before if scan.first is None else scan.last, size)
    if found.last - first > MAX_ENTRIES:
        raise ConfigError(
            f"more than {MAX_ENTRIES:,} entries", where=f"log {ledger.log.hex()[:16]}",
            todo="narrow it with --from and --to: several bundles prove as much as one",
        )  # fmt: skip
    for index, stored in ledger.entries(max(0, first - 1), min(size, found.last + 2)):
        found.stored[index] = stored
    scan.needs(found)
    _explain(ledger, found, size)
    _choose_bodies(found, leave_out)
    return found


def explain(ledger: Ledger, found: Disclosure, absent: list[int]) -> bool:
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
    before = len(found.stored)
    for index, stored in ledger.entries(found.size, ledger.size()):
        entry = parse(ledger.log, index, stored)
        if entry.HasField("drop") and any(_meets(one, absent) for one in entry.drop.range):
            found.stored[index] = stored
    return len(found.stored) > before


def _explain(ledger: Ledger, found: Disclosure, size: int) -> None:
    """Disclose the drop and incident entries about what is disclosed and has a body."""
    wanted = [i for i, entry in found.entries.items() if entry.WhichOneof("what") in BODY_KINDS]
    for index, stored in ledger.entries(wanted[0] if wanted else size, size):
        entry = parse(ledger.log, index, stored)
        if any(_meets(one, wanted) for one in (*entry.drop.range, *entry.incident.held)):
            found.stored[index] = stored


def parse(log: bytes, index: int, stored: bytes) -> ledger_pb2.Entry:
    """Return a stored entry.

    Raises:
        SpoolCorruptError: it is none.
    """
    try:
        return ledger_pb2.Entry.FromString(stored)
    except DecodeError:
        raise SpoolCorruptError("an entry that is damaged", where=place(log, index)) from None


def _meets(one: ledger_pb2.Range, indices: list[int]) -> bool:
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

    def take(self, index: int, entry: ledger_pb2.Entry, stored: bytes) -> None:
        self.entries += 1
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

    def needs(self, found: Disclosure) -> None:
        """Disclose what the entries in `found` need."""
        needed, policies = {0, *self._gaps}, self._policies
        for index, entry in found.entries.items():
            if entry.HasField("segment"):
                session = self._sessions.get(entry.segment.session)
                needed |= set() if session is None else {session}
                # The policy in force, and the one before it: a segment may be closed by a change.
                needed |= set(policies[max(0, bisect_left(policies, index) - 2) :][:2])
        found.stored |= {index: self._needed[index] for index in needed & self._needed.keys()}
        found.recipients |= self._recipients


def _choose_bodies(found: Disclosure, leave_out: LeaveOut) -> None:
    for index, entry in found.entries.items():
        kind = entry.WhichOneof("what")
        if kind not in BODY_KINDS or not getattr(entry, str(kind)).body:
            continue
        why = ""
        if kind == "segment":
            if not found.first <= index <= found.last:
                continue  # a neighbour
            why = leave_out(found, index)
        if why:
            found.left_out.setdefault(why, []).append(index)
        else:
            found.bodies.append(index)
