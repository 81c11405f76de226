"""Quota, eviction, full disks: what goes, in which order, and that nothing goes silently."""

import contextlib
import random
import sqlite3
import subprocess

import pytest

from agent.errors import SpoolFullError
from agent.pb import ledger_pb2, sealed_pb2
from agent.vault import room, spool
from agent.vault.shelves import Shelf
from tests.vault import world
from tests.vault.world import Car, Region, draft

QUOTA = 4 * world.MIB
INCIDENT, EVENT, ROUTINE, RECORDER = range(4)


def explained(car) -> set[int]:
    """Every index that a drop entry names."""
    return {
        i for drop in car.what("drop") for r in drop.range for i in range(r.first, r.last + 1)
    }  # fmt: skip


def kept(car) -> set[int]:
    return {i for (i,) in car.vault._spool.rows("SELECT i FROM body")}


def on_disk(car) -> int:
    return sum(p.stat().st_size for p in car.folder.rglob("*") if p.is_file())


def fill(car, count, lane=ROUTINE, size=20_000, seed=0):
    return [car.vault.seal(draft(size, lane=lane, seed=seed * 1000 + n)) for n in range(count)]


@pytest.fixture
def small(folder):
    car = Car(folder, quota=QUOTA)
    yield car
    car.shut()


def check_books(car, sealed) -> None:
    """Each sealed body is here or explained; the tally is what the tables say."""
    assert set(sealed) <= kept(car) | explained(car)
    assert not set(sealed) & kept(car) & explained(car)
    fresh = spool.Tally()
    for shelf, count, size in car.vault._spool.rows(
        "SELECT shelf, count(*), total(bytes) FROM item GROUP BY shelf"
    ):
        fresh.apply([(Shelf(shelf), count, int(size))], 0)
    tally = car.vault._spool.tally
    assert (fresh.entries, fresh.bytes) == (tally.entries, tally.bytes)
    assert car.vault._log.tree.root() == world.root_of(car.vault)


def test_the_quota_holds_and_every_eviction_is_explained(small):
    sealed = fill(small, 260)
    assert None not in sealed
    check_books(small, sealed)
    assert explained(small)
    assert max(sealed) in kept(small)
    assert on_disk(small) <= QUOTA
    assert {d.reason for d in small.what("drop")} == {ledger_pb2.Drop.QUOTA}
    region = Region()
    region.drain(small.vault)  # hollow entries go home too: the tree is complete
    assert len(region.store) == small.vault._log.size


def test_planted_silent_eviction_is_found(small, monkeypatch):
    monkeypatch.setattr("agent.vault.log.drop_entries", lambda dropped: [])
    with pytest.raises(AssertionError):
        check_books(small, fill(small, 200))


def test_confirmed_go_first(small):
    region = Region()
    first = fill(small, 30)
    region.drain(small.vault)
    later = fill(small, 140, seed=1)
    gone = explained(small)
    assert set(first) & gone
    assert {d.reason for d in small.what("drop")[:1]} == {ledger_pb2.Drop.CONFIRMED}
    assert not set(later[-100:]) & gone
    assert small.vault.status().dropped == len(gone & set(later))


def test_recorder_goes_before_routine_before_event(small):
    recorder = fill(small, 40, RECORDER, seed=1)
    routine = fill(small, 40, ROUTINE, seed=2)
    event = fill(small, 40, EVENT, seed=3)
    more = fill(small, 45, EVENT, seed=4)
    assert set(recorder) & explained(small)
    assert not set(routine + event + more) & explained(small)
    fill(small, 40, EVENT, seed=5)
    assert set(routine) & explained(small)
    assert not set(event + more) & explained(small)


def test_a_routine_flood_never_costs_an_incident(small):
    """T69, and more incidents than their share meet nothing but more incidents."""
    incidents = fill(small, 20, INCIDENT, seed=1)
    flood = fill(small, 170, ROUTINE, seed=2)
    late = fill(small, 20, INCIDENT, seed=3)
    assert None not in late + flood
    assert set(incidents + late) <= kept(small)
    all_of_it = fill(small, 170, INCIDENT, seed=4)
    assert None not in all_of_it
    held = small.vault._spool.tally.bytes[Shelf.INCIDENT]
    assert held > room.INCIDENT_SHARE * small.vault._size.max_pages * 4096
    before = kept(small) & set(all_of_it)
    tail = fill(small, 20, ROUTINE, seed=5)  # these only push each other out
    assert len(set(tail) & kept(small)) < 8
    assert fill(small, 1, ROUTINE, 500_000, seed=6) == [None]
    assert before <= kept(small)  # no incident goes for routine data
    small.tick()
    assert {x.cause for x in small.what("loss")} == {ledger_pb2.Loss.SEAL}
    check_books(small, [i for i in incidents + late + flood + all_of_it + tail if i is not None])
    assert small.vault.record(ledger_pb2.Loss(count=1)) > 0  # the ledger always goes on


def test_sessions_outlive_their_segments(small):
    """T85: whatever is evicted, each body that is left opens with a session that is left."""
    generator, region = random.Random(7), Region()
    for n in range(300):
        lane, recipients = generator.randrange(4), generator.choice((1, 3, 4))
        small.vault.seal(draft(generator.randrange(500, 30_000), lane=lane, recipients=recipients))
        if n % 40 == 0:
            small.tick(1800)
            region.drain(small.vault) if n % 80 else None
    bodies = kept(small)
    rows = small.vault._spool.rows("SELECT i, session FROM item WHERE bytes>0 AND session<>0")
    assert {session for _, session in rows} <= bodies
    assert len(rows) > 50


def test_a_body_larger_than_the_spool_is_a_counted_loss(folder):
    car = Car(folder, quota=2 * world.MIB)
    assert car.vault.seal(draft(3 * world.MIB // 2)) is None
    car.tick()
    (loss,) = car.what("loss")
    assert (loss.count, loss.cause) == (3 * world.MIB // 16, ledger_pb2.Loss.SEAL)
    assert car.vault.seal(draft()) is not None
    car.shut()


@pytest.fixture
def tiny_disk(tmp_path, empty_spool):
    """A disk of 6 MiB of its own."""
    disk = tmp_path / "disk"
    disk.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(disk)],
        check=False,
        capture_output=True,
    )
    if done.returncode:
        pytest.skip("no right to mount a tmpfs")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def take_all(hog) -> None:
    """Somebody else takes what room there is."""
    with hog.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 4096)


def test_a_start_on_a_full_disk(tiny_disk, empty_spool):
    """The WAL goes with the end of a run; others get its room before the next start does."""
    car = Car(world.fresh(tiny_disk / "state", empty_spool), quota=5 * world.MIB)
    sealed = fill(car, 60)
    take_all(tiny_disk / "hog")
    sealed += fill(car, 60, seed=1)  # the ballast is given up
    take_all(tiny_disk / "hog")
    for _ in range(3):
        car.vault.close()
        take_all(tiny_disk / "hog")
        car.start()
        assert not car.vault._scribe._ballast.is_held
        assert fill(car, 1, INCIDENT) != [None]
    assert [boot.clean for boot in car.what("boot")] == [True] * 4
    check_books(car, [i for i in sealed if i is not None])
    car.shut()


def test_planted_start_without_what_was_kept_back_is_found(tiny_disk, empty_spool, monkeypatch):
    monkeypatch.setattr(room.Ballast, "keep", lambda _: None)
    with pytest.raises(SpoolFullError):
        test_a_start_on_a_full_disk(tiny_disk, empty_spool)


@pytest.fixture
def young(tiny_disk, empty_spool):
    """A car with nothing to evict: on a full disk not even a loss finds room."""
    car = Car(world.fresh(tiny_disk / "state", empty_spool), quota=5 * world.MIB)
    yield car
    car.shut()


def test_a_loss_is_told_as_soon_as_there_is_room(young, tiny_disk):
    take_all(tiny_disk / "hog")
    lost = 2500 * fill(young, 80).count(None)
    for _ in range(3):
        young.tick()
    assert lost
    assert young.vault._scribe.unwritten() == lost
    assert young.what("loss") == []
    (tiny_disk / "hog").unlink()
    young.tick()
    assert [x.count for x in young.what("loss")] == [lost]


def test_planted_minute_after_a_loss_that_found_no_room_is_found(young, tiny_disk):
    class Stubborn(dict):
        """Holds on to the time of an attempt that failed."""

        def pop(self, *_):
            """Keep it."""

    young.vault._scribe._last = Stubborn()
    with pytest.raises(AssertionError):
        test_a_loss_is_told_as_soon_as_there_is_room(young, tiny_disk)
    young.tick(60)
    assert len(young.what("loss")) == 1  # a minute later it was told


def test_a_really_full_disk_never_stops_capture(tiny_disk, empty_spool):
    """T68: somebody else fills the disk; the spool evicts inside itself and says what it lost."""
    car = Car(world.fresh(tiny_disk / "state", empty_spool), quota=5 * world.MIB)
    sealed = fill(car, 60)
    hog = tiny_disk / "hog"
    take_all(hog)
    incidents = fill(car, 10, INCIDENT, seed=2)
    sealed += fill(car, 200, seed=1)
    car.tick()
    assert [i for i in sealed[60:] if i is not None]
    assert None not in incidents
    assert set(incidents) <= kept(car)
    check_books(car, [i for i in sealed + incidents if i is not None])
    lost = sum(x.count for x in car.what("loss") if x.cause == ledger_pb2.Loss.SEAL)
    assert lost == sealed.count(None) * 2500
    hog.unlink()
    car.tick()
    assert car.vault._scribe._ballast.is_held
    assert None not in fill(car, 20, seed=3)
    assert car.vault._spool.is_sound(5)
    car.shut()


class Failing:
    """A connection whose statements fail from a chosen one on."""

    def __init__(self, connection, code, name, left):
        self._connection, self.code, self.name, self.left = connection, code, name, left

    def __getattr__(self, name):
        return getattr(self._connection, name)

    def execute(self, sql, values=()):
        if self.left <= 0 and sql.startswith(("INSERT", "COMMIT", "DELETE")):
            error = sqlite3.OperationalError("injected")
            error.sqlite_errorcode, error.sqlite_errorname = self.code, self.name
            raise error
        self.left -= sql.startswith(("INSERT", "COMMIT", "DELETE"))
        return self._connection.execute(sql, values)


@pytest.mark.parametrize("left", range(6))
def test_full_at_every_statement_is_a_counted_loss(car, left):
    first = car.vault.seal(draft())
    real = car.vault._spool.connection
    car.vault._spool.connection = Failing(real, sqlite3.SQLITE_FULL, "SQLITE_FULL", left)
    results = [car.vault.seal(draft(800)) for _ in range(3)]
    assert car.vault.record(ledger_pb2.BusState(channel="can0", state="up")) == -1
    assert car.vault.record(ledger_pb2.Loss(channel="can0", count=7)) == -1
    car.vault._spool.connection = real
    car.tick()
    lost = {x.cause: x.count for x in car.what("loss")}
    assert lost == {ledger_pb2.Loss.SEAL: 100 * results.count(None), 0: 7}
    assert [b.state for b in car.what("bus")] == ["up"]
    assert car.vault._log.tree.root() == world.root_of(car.vault)
    assert first in kept(car)
    region = Region()
    region.drain(car.vault)
    assert len(region.payloads) == 1 + 3 - results.count(None)


def test_an_end_that_finds_no_room_makes_some_once(car, monkeypatch):
    """The second time nothing is left to give up; the next start says that no end was noted."""
    made = []
    relieve = car.vault._scribe.relieve
    monkeypatch.setattr(car.vault._scribe, "relieve", lambda: made.append(relieve()))
    real = car.vault._spool.connection
    car.vault._spool.connection = Failing(real, sqlite3.SQLITE_FULL, "SQLITE_FULL", 0)
    car.vault.close()
    assert len(made) == 1
    car.start()
    assert car.what("boot")[-1].clean is False


@pytest.mark.parametrize("left", range(6))
def test_a_failed_fsync_ends_the_process(car, left):
    """The write is not tried again on this handle; what was acknowledged is there afterwards."""
    from agent.errors import SpoolError

    sealed = [car.vault.seal(draft())]
    real = car.vault._spool.connection
    fsync = Failing(real, sqlite3.SQLITE_IOERR_FSYNC, "SQLITE_IOERR_FSYNC", left)
    car.vault._spool.connection = fsync

    def until_it_fails():
        while True:
            sealed.append(car.vault.seal(draft()))

    with pytest.raises(SpoolError, match="storage failed") as caught:
        until_it_fails()
    assert caught.value.exit_code == 75
    assert not isinstance(caught.value, spool.SpoolFullError)
    fsync.left = 10**9
    with pytest.raises(SpoolError, match="failed before"):  # even if it would work again
        car.vault.record(ledger_pb2.Loss(count=1))
    car.vault._spool.connection = real
    car.vault.close(clean=False)
    car.start()
    assert set(sealed) <= kept(car)
    assert car.what("boot")[-1].clean is False


def test_a_receipt_that_meets_a_full_disk_comes_again(car):
    region = Region()
    car.vault.seal(draft())
    done = region.take(car.vault.take(10, world.MIB, {})[0])
    real = car.vault._second.connection
    for left in range(3):
        full = Failing(real, sqlite3.SQLITE_FULL, "SQLITE_FULL", left)
        car.vault._second.connection = full
        assert car.vault.receipt(region.receipt(done)) == (0, True)
    car.vault._second.connection = real
    assert car.vault._spool.tally.waiting() == 4
    assert car.vault.receipt(region.receipt(done)) == (4, True)


def test_ballast(tmp_path):
    ballast = room.Ballast(tmp_path / "ballast", 65536)
    assert ballast.hold()
    assert (tmp_path / "ballast").stat().st_blocks * 512 >= 65536
    ballast.release()
    ballast.release()
    assert not (tmp_path / "ballast").exists()
    assert not room.Ballast(tmp_path / "none" / "ballast", 65536).hold()
    room.Ballast(tmp_path / "none" / "ballast", 65536).keep()
    assert sealed_pb2.RECORDER == RECORDER
