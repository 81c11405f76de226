"""The file itself: schema, pragmas, error translation, tiles."""

import shutil
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from agent.errors import SpoolCorruptError, SpoolError, SpoolFullError
from agent.pb import ledger_pb2, sealed_pb2
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


def test_a_new_file_is_made_in_one_go_whatever_lies_there(tmp_path):
    """Its tables stand where they stand in every other; an old WAL of its name is not its own."""
    for name in ("spool.db", "spool.db-wal", "spool.db.new", "spool.db.new-wal"):
        (tmp_path / name).write_bytes(b"" if name == "spool.db" else b"half")
    schema.migrate(tmp_path / "spool.db")
    assert [path.name for path in tmp_path.iterdir()] == ["spool.db"]
    with sqlite3.connect(tmp_path / "spool.db") as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (schema.VERSION,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
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
    assert set(sealed) == {i for _, i in region.payloads}
    assert car.vault._spool.tally.waiting() == 0


class Between:
    """Lets the sealer commit between two queries of one `take`: before the N-th."""

    def __init__(self, spool, number, work):
        self._rows, self._one = spool.rows, spool.one
        self.number, self.work, self.asked = number, work, 0
        spool.rows, spool.one = self.rows, self.one

    def rows(self, sql, values=()):
        self._ask()
        return self._rows(sql, values)

    def one(self, sql, values=()):
        self._ask()
        return self._one(sql, values)

    def _ask(self):
        if self.asked == self.number:
            self.work()
        self.asked += 1


def takes_with_commits(car, region, before, work):
    """One take for each of its queries: `before` puts entries there, `work` commits in between.

    Yields what each take returned, nothing of it delivered yet.
    """
    for number in range(100):
        region.drain(car.vault, 1000)
        before()
        between = Between(car.vault._second, number, work)
        batch, _ = car.vault.take(1000, world.MIB, {})
        del car.vault._second.rows, car.vault._second.one
        if between.asked <= number:
            assert number > 5
            return
        yield batch


def test_a_session_is_offered_before_its_segments_whenever_they_are_committed(car):
    """A new session and its first segments come between any two queries of a take."""
    region = world.Region()

    def seal():
        car.vault._scribe.end_sessions()  # what is sealed next begins one
        for lane in (sealed_pb2.INCIDENT, sealed_pb2.ROUTINE, sealed_pb2.RECORDER):
            assert car.vault.seal(world.draft(300, lane=lane)) is not None

    for batch in takes_with_commits(car, region, seal, seal):
        region.take(batch)  # opens what it gets in the order in which it comes
        region.drain(car.vault, 1000)
        assert car.vault._spool.tally.waiting() == 0


def test_an_entry_whose_body_goes_while_it_is_taken_is_not_offered_without_it(car):
    region, sealed = world.Region(), []

    def seal():
        sealed.append(car.vault.seal(world.draft(300, lane=sealed_pb2.INCIDENT)))
        car.vault.seal(world.draft(300))

    def evict():
        car.vault._log.append([], dropped={ledger_pb2.Drop.QUOTA: [sealed[-1]]})

    seen = set()
    for batch in takes_with_commits(car, region, seal, evict):
        mine = [one for one in batch if one.upload.index == sealed[-1]]
        seen.add(tuple((one.lane, bool(one.upload.body)) for one in mine))
    # With its body on its own lane, or as what it is by then: an entry whose body is gone.
    whole, hollow = ("incident", True), ("routine", False)
    assert {(hollow,), (whole, hollow)} <= seen <= {(), (hollow,), (whole, hollow), (whole,)}, seen


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


def test_a_receipt_waits_for_the_disk_if_its_time_is_news(car):
    """A command may read that time a moment later; what else a receipt says comes again."""
    region = world.Region()
    for unix_ns, synchronous in ((world.NOW_NS + 10**12, 2), (world.NOW_NS, 1)):
        assert car.vault.receipt(region.receipt([], unix_ns=unix_ns))[1]
        assert car.vault._second.one("PRAGMA synchronous") == synchronous
