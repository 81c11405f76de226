"""The file itself: schema, pragmas, error translation, tiles."""

import shutil
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from agent.errors import SpoolCorruptError, SpoolError, SpoolFullError
from agent.vault import schema, tree
from agent.vault.shelves import Shelf, evictable_for, ranges
from agent.vault.spool import Size, Spool, translate
from tests.vault import world


def test_migrating_twice_changes_nothing(tmp_path):
    path = tmp_path / "spool.db"
    schema.migrate_apart(path)
    with sqlite3.connect(path) as connection:
        before = list(connection.iterdump())
        connection.execute("PRAGMA user_version=0")  # as if the power went before the last line
    connection.close()
    schema.migrate_apart(path)
    with sqlite3.connect(path) as connection:
        assert list(connection.iterdump()) == before
        assert connection.execute("PRAGMA user_version").fetchone() == (schema.VERSION,)
    connection.close()


def test_a_schema_that_cannot_be_made_says_why(tmp_path):
    with pytest.raises(SpoolError, match=r"cannot prepare the spool: .*unable to open"):
        schema.migrate_apart(tmp_path / "none" / "spool.db")


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (sqlite3.SQLITE_FULL, SpoolFullError),
        (sqlite3.SQLITE_IOERR_SHMSIZE, SpoolFullError),
        (sqlite3.SQLITE_CORRUPT_INDEX, SpoolCorruptError),
        (sqlite3.SQLITE_NOTADB, SpoolCorruptError),
        (sqlite3.SQLITE_IOERR_FSYNC, SpoolError),
        (sqlite3.SQLITE_IOERR_WRITE, SpoolError),
        (sqlite3.SQLITE_BUSY, SpoolError),
        (sqlite3.SQLITE_ERROR, sqlite3.DatabaseError),
    ],
)
def test_every_error_has_one_meaning(tmp_path, code, kind):
    error = sqlite3.OperationalError("x")
    error.sqlite_errorcode, error.sqlite_errorname = code, "X"
    with pytest.raises(kind) as caught, translate(tmp_path):
        raise error
    assert type(caught.value) is kind or kind is sqlite3.DatabaseError


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 700, 65535, 65536, 65537])
def test_the_right_edge_is_rebuilt_from_tiles(folder, size):
    """Tiles of both levels, written as Log writes them; the entries between them are read."""
    spool = Spool(folder / "spool" / "spool.db", Size(64 * world.MIB))
    compact = tree.CompactRange()
    with spool.write() as transaction:
        for i in range(size):
            entry = i.to_bytes(4, "big")
            if i >= size // 256 * 256:
                transaction.run("INSERT INTO ledger VALUES(?,?)", (i, entry))
            compact, done = compact.append(tree.leaf_hash(entry))
            for s in done:
                if s.height in (8, 16):
                    row = (s.height // 8 - 1, s.position, s.hash)
                    transaction.run("INSERT INTO tile VALUES(?,?,?)", row)
        if size and size % 256 == 0:  # the last entry tells the size
            transaction.run("INSERT INTO ledger VALUES(?,?)", (size - 1, b"last"))
    assert spool.load_tree() == compact
    if size > 256:
        with spool.write() as transaction:
            transaction.run("DELETE FROM tile WHERE n=0")
        with pytest.raises(SpoolCorruptError, match="missing"):
            spool.load_tree()
    spool.close()


def test_nothing_evicts_what_is_more_urgent():
    assert evictable_for(Shelf.RECORDER)[-1] == Shelf.RECORDER
    assert Shelf.EVENT not in evictable_for(Shelf.ROUTINE)
    assert Shelf.INCIDENT not in evictable_for(Shelf.EVENT)
    assert evictable_for(Shelf.SESSION) == evictable_for(Shelf.INCIDENT)
    assert [(r.first, r.last) for r in ranges([5, 3, 4, 9, 9, 1])] == [(1, 1), (3, 5), (9, 9)]


@pytest.mark.parametrize("quota", [2, 4, 64, 1024])
def test_file_wal_and_ballast_share_the_quota(quota):
    size = Size(quota * world.MIB)
    wal = size.wal_pages * 4120 + 512 * 1024
    assert size.max_pages * 4096 + wal + size.ballast <= quota * world.MIB
    assert size.max_pages * 4096 > quota * world.MIB / 2.2


def test_sealer_and_hatch_threads_do_not_meet(car):
    """Both write at once, a few hundred times: no lock error, the books are right."""
    region, done = world.Region(), threading.Event()
    # A segment may be taken in the very look in which its session came too late; the station waits
    # for that one, this region does not.
    first = car.vault.seal(world.draft(300))

    def hatch():
        while not done.is_set():
            region.drain(car.vault, 7)
            car.vault.checkpoint()
            car.vault.status()

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(hatch)
        sealed = [car.vault.seal(world.draft(300)) for _ in range(300)]
        done.set()
        running.result()
    region.drain(car.vault)
    assert {first, *sealed} == {i for _, i in region.payloads}
    assert car.vault._spool.tally.waiting() == 0


def test_a_power_cut_takes_receipts_back_and_nothing_that_was_promised(car, tmp_path):
    """Receipts are not synced by themselves. Wherever the WAL ends, what came before is whole.

    A disk may forget what was written since the last sync: here the WAL is cut after each of its
    frames from the last promise on. An entry that the sealer appended after a receipt brings the
    receipt with it, and a body is never gone while its entry waits.
    """
    region, path = world.Region(), car.database
    region.drain(car.vault)
    car.vault.seal(world.draft(300))
    wal = path.with_name(path.name + "-wal")
    promised = wal.stat().st_size
    region.drain(car.vault)  # a receipt, not synced
    receipted = wal.stat().st_size
    last = car.vault.seal(world.draft(300))
    whole = wal.read_bytes()
    assert promised < receipted < len(whole)
    seen = set()
    for end in range(promised, len(whole) + 1, 4096 + 24):
        copy = tmp_path / f"{end}.db"
        shutil.copy(path, copy)
        copy.with_name(copy.name + "-wal").write_bytes(whole[:end])
        with closing(sqlite3.connect(copy)) as cut:
            assert cut.execute("PRAGMA quick_check").fetchone() == ("ok",)
            (top,) = cut.execute("SELECT max(i) FROM ledger").fetchone()
            waiting = {i for (i,) in cut.execute("SELECT i FROM item WHERE shelf<6")}
            bodies = {i for (i,) in cut.execute("SELECT i FROM body")}
        assert top >= last - 1
        assert last - 1 in bodies
        assert (top == last) is (last in waiting)
        assert not (top == last and last - 1 in waiting), "an entry without the receipt before it"
        seen.add((top == last, last - 1 in waiting))
    assert seen == {(False, True), (False, False), (True, False)}
