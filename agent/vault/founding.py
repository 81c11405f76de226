"""Opening the state folder: lock, schema, is this file sound, whose log is it, what is left over.

- One agent a folder: an flock that ends with the process.
- A file whose last run did not end in order is looked through by quick_check, within a time.
- The newest signed head must be a head of the ledger that is here; if not, the file is damaged.
- A new file gets a new random log id, so a restored or re-made file never reuses an identity.
"""

from __future__ import annotations

import fcntl
import logging
import os
import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from agent.errors import SealError, SpoolCorruptError, SpoolError
from agent.files import make_folder
from agent.pb import ledger_pb2
from agent.vault import checkpoint, keys, salvage, tree
from agent.vault.identity import Identity
from agent.vault.log import Log, New, axis_end, set_meta
from agent.vault.schema import VERSION, migrate_apart
from agent.vault.shelves import Shelf
from agent.vault.spool import Size, Spool, Transaction
from agent.vault.sqlite_errors import UNREADABLE, translate
from agent.vault.timekeeper import Timekeeper

QUICK_CHECK_S: Final = 1.5
LOG_BYTES: Final = 16

_log = logging.getLogger(__name__)


def lock_folder(folder: Path) -> int:
    """Make the folder if need be and lock it; returns the handle that holds the lock.

    Raises:
        SpoolError: another agent holds it, or it cannot be made.
    """
    try:
        make_folder(folder)
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SpoolError(
            f"cannot use the state folder: {error.strerror}", where=str(folder)
        ) from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise SpoolError(
            "another agent uses this state folder", where=str(folder),
            todo="stop it, or choose another folder",
        ) from None  # fmt: skip
    return lock


def open_file(path: Path, size: Size) -> tuple[Spool, bool]:
    """Return the spool, its schema in place, and whether its last run ended in order.

    Raises:
        SpoolCorruptError: the file is damaged, or not what was signed.
        SpoolError: it is of a newer agent, or the storage failed.
    """
    make_folder(path.parent)
    version = _schema_version(path)
    if version > VERSION:
        raise SpoolError(
            f"the spool is of a newer agent (schema {version})", where=str(path),
            todo="install that version again",
        )  # fmt: skip
    if version < VERSION:
        _migrate(path)
    spool = Spool(path, size)
    try:
        clean = spool.one("SELECT v FROM meta WHERE k='clean'") == b"1"
        if not clean and not spool.is_sound(QUICK_CHECK_S):
            raise SpoolCorruptError("quick_check found damage", where=str(path))
        _check_tree(spool)
    except BaseException:
        spool.close()
        raise
    return spool, clean


def _migrate(path: Path) -> None:
    try:
        migrate_apart(path)
    except SpoolError as error:
        if path.exists() and not _is_sound(path):
            raise SpoolCorruptError(
                "a file of an older version is damaged", where=str(path)
            ) from error
        raise


def _is_sound(path: Path) -> bool:
    connection = sqlite3.connect(path)
    try:
        return bool(connection.execute("PRAGMA quick_check(1)").fetchone()[0] == "ok")
    except UNREADABLE as error:
        # Out of room or locked is no damage: that one may be tried again.
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)
        return code & 0xFF not in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
    finally:
        connection.close()


def _schema_version(path: Path) -> int:
    if not path.exists() or path.stat().st_size == 0:
        return 0
    with translate(path):
        connection = sqlite3.connect(path)
        try:
            return int(connection.execute("PRAGMA user_version").fetchone()[0])
        finally:
            connection.close()


def _check_tree(spool: Spool) -> None:
    size = spool.load_tree().size
    row = spool.rows("SELECT size, note FROM checkpoint ORDER BY size DESC LIMIT 1")
    if not row:
        return
    try:
        signed = checkpoint.parse(row[0][1]).checkpoint
        fits = 0 < signed.size <= size
        fits = fits and tree.span_hash(0, signed.size, spool.node) == signed.root
    except (SealError, AttributeError):  # no note, no text: altered as well
        fits = False
    if not fits:
        raise SpoolCorruptError(
            f"the ledger is not the one that was signed at {row[0][0]}", where=str(spool.path)
        )


def begin_log(
    spool: Spool, identity: Identity, time: Timekeeper, rng: Callable[[int], bytes]
) -> tuple[Log, bool]:
    """Return the spool's log, begun with a genesis entry if it is new, and whether it is.

    From here on the file counts as not closed in order.

    Raises:
        SpoolError: see `spool.translate`.
    """
    fresh = spool.one("SELECT 1 FROM ledger LIMIT 1") is None
    log_id = spool.one("SELECT v FROM meta WHERE k='log'")
    if not fresh and (log_id is None or len(log_id) != LOG_BYTES):
        raise SpoolCorruptError("the spool does not know its log", where=str(spool.path))
    with spool.write() as transaction:
        if fresh:
            log_id = rng(LOG_BYTES)
            set_meta(transaction, "log", log_id)
        set_meta(transaction, "clean", b"0")
    log = Log(spool, log_id, time)
    if fresh:
        genesis = ledger_pb2.Genesis(
            region=identity.region, vehicle=identity.vehicle, log=log_id,
            ledger_key=keys.raw_public(identity.ledger_key),
        )  # fmt: skip
        log.append([New(genesis)])
    return log, fresh


def carry_over(log: Log, folder: Path, why: str) -> None:
    """Read what is in quarantine and was not read yet, and say so in the log.

    Raises:
        SpoolError: see `spool.translate`.
    """
    spool = log.spool
    for path in salvage.aside(folder):
        mark = f"salvaged {path.name}"
        if spool.one("SELECT 1 FROM meta WHERE k=?", (mark,)) is not None:
            continue
        spool.checkpoint_wal()  # the first page of a new file is wanted in the file
        old = salvage.Salvage(path, spool.path)
        try:
            old.carry_over(spool, spool.size.quota // 4)
        finally:
            old.close()
        log.recorded_ns = axis_end(spool)
        log.time.not_before(old.floor_ns)
        # Counted here: a run that was cut short may have carried some of them over before.
        bodies = "SELECT count(*) FROM salvage WHERE log=? AND blob IS NOT NULL AND shelf<>?"
        salvaged = spool.one(bodies, (old.log, int(Shelf.PINNED)))
        gap = ledger_pb2.Gap(why=why or "corrupt", log=old.log, size=old.size, salvaged=salvaged)
        # In one transaction: a gap is told once.
        log.append([New(gap)], also=partial(_mark, mark))
        _log.warning("spool put aside as %s, %d bodies salvaged", path.name, salvaged)
    salvage.forget_older(folder)


def _mark(key: str, transaction: Transaction, _: int) -> None:
    set_meta(transaction, key, b"1")
