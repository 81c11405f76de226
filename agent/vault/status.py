"""The vault's figures, for `inland status`. Reads the tally: nothing is counted for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from agent.pb import ledger_pb2
from agent.vault import salvage
from agent.vault.log import Log
from agent.vault.scribe import Scribe
from agent.vault.shelves import TOPIC, WAITING


@dataclass(frozen=True, slots=True)
class VaultStatus:
    """What `inland status` says of the vault.

    Attributes:
        log: hex id of the log.
        size: entries in it.
        pending: entries that the region has not confirmed, by lane.
        stored_bytes: of bodies.
        file_bytes: of the file and its WAL on the disk.
        quota_bytes: that the spool may take.
        confirmed: entries confirmed since the start.
        dropped: bodies that went without being confirmed, since the start.
        session_started_ns: CLOCK_BOOTTIME of the latest session; 0: none yet.
        quarantined: damaged files put aside, as far as they are still there.
        holds: events that hold a part of the recorder and are not over.
        recorded_ns: end of the axis of recorded time.
    """

    log: str
    size: int
    pending: dict[str, int]
    stored_bytes: int
    file_bytes: int
    quota_bytes: int
    confirmed: int
    dropped: int
    session_started_ns: int
    quarantined: int
    holds: int
    recorded_ns: int


def read_status(
    log: Log, scribe: Scribe, path: Path, *, quota_bytes: int, confirmed: int
) -> VaultStatus:
    """Return the figures.

    Args:
        log: in use.
        scribe: in use.
        path: of the spool file, in its folder in the state folder.
        quota_bytes: that the spool may take.
        confirmed: entries confirmed since the start.
    """
    tally, pending = log.spool.tally, dict.fromkeys(TOPIC.values(), 0)
    for shelf in WAITING:
        pending[TOPIC[shelf]] += tally.entries[shelf]
    pending["session"] += tally.salvaged
    files = (p for p in path.parent.iterdir() if p.is_file())
    unconfirmed = (n for r, n in dict(log.dropped).items() if r != ledger_pb2.Drop.CONFIRMED)
    return VaultStatus(
        log=log.log.hex(), size=log.size, pending=pending,
        stored_bytes=sum(tally.bytes.values()),
        file_bytes=sum(p.stat().st_size for p in files), quota_bytes=quota_bytes,
        confirmed=confirmed, dropped=sum(unconfirmed),
        session_started_ns=scribe.session_started_ns,
        quarantined=len(salvage.aside(path.parent.parent)),
        holds=len(scribe.incidents.holds()), recorded_ns=log.recorded_ns,
    )  # fmt: skip
