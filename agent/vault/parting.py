"""What a transfer takes out of a spool, and what stays for the region.

A body stays only if the region is still to get it: on its way (incident, event, routine), sealed to
the region alone or to either, and under no consent. Everything else was the former owner's, or is
with the region already: owner, driver and both together, the recorder's window, what events have
held, what is kept under a consent, what is confirmed, what was salvaged. With the last body of a
session goes the session's own, so that its secret is wrapped to nobody any more. Entries stay: the
ledger goes on. Policies stay.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from agent.errors import SpoolFullError
from agent.pb import ledger_pb2, sealed_pb2
from agent.vault.incidents import Attempt
from agent.vault.log import Log, New, set_meta
from agent.vault.shelves import INCIDENTS, Shelf
from agent.vault.spool import Transaction

Rows = Callable[..., list[tuple[Any, ...]]]
GROUP: Final = 256  # bodies that leave in one transaction
_PAGE: Final = 4096
_ON_ITS_WAY: Final = (Shelf.INCIDENT, Shelf.EVENT, Shelf.ROUTINE)
_REGIONS: Final = (sealed_pb2.REGION, sealed_pb2.SHARED)
_MARK: Final = "transfer"  # key in meta: the epoch that the last transfer began, and its entry


@dataclass(frozen=True, slots=True)
class Survey:
    """What a transfer would take out.

    Attributes:
        gone: indices of the entries whose bodies go, ascending.
        erased: how many bodies and bytes, by lane and recipients; sessions are not counted.
        held: bodies among them of incidents, also of those that the region has; and events that are
            not over.
    """

    gone: tuple[int, ...]
    erased: tuple[ledger_pb2.Erased, ...]
    held: int


def survey(rows: Rows) -> Survey:
    """Look at all bodies of a spool; `rows` runs a statement."""
    recipients = _recipients(rows)
    gone: list[int] = []
    needed: set[int] = set()
    counts: Counter[tuple[int, int]] = Counter()
    sizes: Counter[tuple[int, int]] = Counter()
    held = int(rows("SELECT count(*) FROM hold")[0][0]) + _salvaged(rows)
    for shelf, i, size, session, consent in _items(rows):
        if session == i or not session:
            continue  # a session, see below; or a policy
        who = recipients.get(session, sealed_pb2.RECIPIENTS_UNSPECIFIED)
        if shelf in _ON_ITS_WAY and who in _REGIONS and not consent:
            needed.add(session)
            continue
        gone.append(i)
        key = _lane(rows, i), who
        held += _is_held(shelf, key[0])
        counts[key] += 1
        sizes[key] += size
    gone += [i for _, i, _, session, _ in _items(rows) if session == i and i not in needed]
    erased = tuple(
        ledger_pb2.Erased(
            lane=sealed_pb2.Lane.Name(key[0]), recipients=sealed_pb2.Recipients.Name(key[1]),
            bodies=counts[key], bytes=sizes[key],
        )
        for key in sorted(counts)
    )  # fmt: skip
    return Survey(tuple(sorted(gone)), erased, held)


def _is_held(shelf: int, lane: int) -> bool:
    """Return whether a body is of an incident. The recorder's is sent only if an event holds it."""
    sent = shelf == Shelf.CONFIRMED and lane in (sealed_pb2.INCIDENT, sealed_pb2.RECORDER)
    return shelf in INCIDENTS or sent


def _salvaged(rows: Rows) -> int:
    """Return how many bodies of incidents were carried over from a damaged file."""
    shelves = ",".join(str(int(shelf)) for shelf in INCIDENTS)
    sql = f"SELECT count(*) FROM salvage WHERE blob IS NOT NULL AND shelf IN ({shelves})"  # noqa: S608
    return int(rows(sql)[0][0])


def _items(rows: Rows) -> list[tuple[int, int, int, int, str]]:
    return rows("SELECT shelf, i, bytes, session, consent FROM item WHERE bytes>0")


def _recipients(rows: Rows) -> dict[int, int]:
    """Return whom each session is for, by the index of its entry."""
    found = {}
    for i, stored in rows(
        "SELECT i, entry FROM ledger WHERE i IN"
        " (SELECT DISTINCT session FROM item WHERE bytes>0 AND session>0)"
    ):
        found[i] = int(ledger_pb2.Entry.FromString(stored).session.recipients)
    return found


def _lane(rows: Rows, i: int) -> int:
    stored = rows("SELECT entry FROM ledger WHERE i=?", (i,))[0][0]
    return int(ledger_pb2.Entry.FromString(stored).segment.lane)


def part(log: Log, attempt: Attempt, what: ledger_pb2.Transfer, gone: Sequence[int]) -> int:
    """Drop the bodies and enter the transfer, once; return the index of its entry.

    Raises:
        SpoolFullError: there is no room for the entries; what went has gone, and the rest can.
        SpoolError: see `spool.translate`.
    """
    done = log.spool.one("SELECT v FROM meta WHERE k=?", (_MARK,)) or b""
    if int.from_bytes(done[:8], "big") == what.to_epoch:
        return int.from_bytes(done[8:], "big")
    _drop_salvaged(log)
    here = [i for at in range(0, len(gone), _PAGE) for i in _here(log, gone[at : at + _PAGE])]
    for at in range(0, len(here), GROUP):
        group = here[at : at + GROUP]
        _sure(attempt([], dropped={ledger_pb2.Drop.TRANSFERRED: group}))

    def mark(transaction: Transaction, index: int) -> None:
        value = what.to_epoch.to_bytes(8, "big") + index.to_bytes(8, "big")
        set_meta(transaction, _MARK, value)

    return _sure(attempt([New(what)], also=mark))


def _here(log: Log, indices: Sequence[int]) -> list[int]:
    first, last = (indices[0], indices[-1]) if indices else (0, -1)
    asked = set(indices)
    rows = log.spool.rows("SELECT i FROM body WHERE i BETWEEN ? AND ? ORDER BY i", (first, last))
    return [row[0] for row in rows if row[0] in asked]


def _drop_salvaged(log: Log) -> None:
    """Let go of what a damaged spool had: whose it was is not known without its sessions."""
    if not log.spool.one("SELECT 1 FROM salvage WHERE blob IS NOT NULL LIMIT 1"):
        return
    with log.spool.write() as transaction:
        gone = int(Shelf.KEPT), int(Shelf.PINNED)
        transaction.run("DELETE FROM salvage WHERE shelf IN (?,?)", gone)
        transaction.run(
            "UPDATE salvage SET blob=NULL, shelf=? WHERE blob IS NOT NULL", (int(Shelf.HOLLOW),)
        )


def _sure(index: int | None) -> int:
    if index is None:
        raise SpoolFullError("no room to enter the transfer", todo="make room on the disk")
    return index
