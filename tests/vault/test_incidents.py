"""What an event holds: under pressure, over damage, over versions, with a full disk."""

import itertools
import sqlite3
from dataclasses import replace

import pytest

from agent.errors import SpoolCorruptError, SpoolError
from agent.pb import ledger_pb2, sealed_pb2
from agent.pb.record_pb2 import Record
from agent.vault import founding, incidents, memory, schema
from agent.vault.segment import Piece
from agent.vault.shelves import Shelf
from tests.vault import world
from tests.vault.test_room import QUOTA, Failing, explained, fill, kept
from tests.vault.world import Car, Region, draft, hold

S = 10**9
COMPLETE, INTERRUPTED = ledger_pb2.Incident.COMPLETE, ledger_pb2.Incident.INTERRUPTED


def drive(car, seconds, *, size=300, consent=""):
    """Let the recorder seal a segment a second; returns their indices."""
    out = []
    for _ in range(seconds):
        end = car.vault.recorded_ns()
        out.append(car.vault.seal(draft(
            size, lane=sealed_pb2.RECORDER, recorded=(end, end + S), consent=consent
        )))  # fmt: skip
    return out


def bodies(region, log):
    return {i for at, i in region.payloads if at == log}


def spans(held):
    return [(part.first, part.last) for part in held]


def test_a_hollow_entry_that_was_confirmed_waits_again_with_its_body(car):
    region, sealed = Region(), drive(car, 10)
    region.drain(car.vault)
    assert car.vault.take(9, world.MIB, {}) == ([], 0)
    hold(car.vault, 99, 4 * S + 1, 6 * S + 1, upload=True)
    batch, pending = car.vault.take(9, world.MIB, {})
    assert [(o.lane, o.upload.index, bool(o.upload.body)) for o in batch] == [
        ("incident", i, True) for i in sealed[4:7]
    ]  # fmt: skip
    assert pending == 3
    assert car.vault.receipt(region.receipt(region.take(batch))) == (3, True)
    assert car.vault.take(9, world.MIB, {}) == ([], 0)
    held, index = car.vault.release(99, state=COMPLETE)
    assert spans(held) == [(sealed[4], sealed[6])]
    entry = car.entries()[index].incident
    assert (entry.record, entry.upload, entry.log) == (99, True, b"")
    assert car.vault.holds() == []


def test_a_receipt_for_a_hollow_entry_does_not_confirm_the_body(car):
    """It was on its way when the event came; an uplink may keep it for ever and bring it then."""
    region, (segment,) = Region(), drive(car, 1)
    batch, _ = car.vault.take(9, world.MIB, {})
    hollow = region.receipt(region.take(batch))
    hold(car.vault, 99, 0, S, upload=True)
    for _ in range(3):
        assert car.vault.receipt(hollow)[1]
    ((out,), _) = car.vault.take(9, world.MIB, {})
    assert (out.upload.index, bool(out.upload.body)) == (segment, True)
    assert car.vault.receipt(region.receipt(region.take([out]))) == (1, True)
    assert car.vault.receipt(hollow) == (0, True)


def test_without_upload_the_body_stays_and_the_entry_goes(car):
    region, sealed = Region(), drive(car, 3)
    hold(car.vault, 99, 0, 9 * S, upload=False)
    sealed += drive(car, 3)
    batch, _ = car.vault.take(20, world.MIB, {})
    assert {o.upload.index for o in batch if o.lane == "routine"} == set(sealed)
    assert not any(o.upload.body for o in batch if o.lane == "routine")
    region.drain(car.vault)
    car.tick(60)
    assert car.vault.roll(-1) == 0
    assert set(sealed) <= kept(car)
    assert car.vault._spool.tally.entries[Shelf.KEPT] == 6
    assert bodies(region, car.vault._log.log) == set()


def test_two_holds_that_overlap_list_what_each_wants(car):
    sealed = drive(car, 10)
    hold(car.vault, 1, 0, 5 * S - 1, upload=False, keep_s=60)
    hold(car.vault, 2, 3 * S + 1, 12 * S, upload=True, keep_s=600)
    between = car.vault.seal(draft())
    sealed += drive(car, 4)
    assert sealed[9] < between < sealed[10]
    assert spans(car.vault.release(1, state=COMPLETE)[0]) == [(sealed[0], sealed[4])]
    sealed += drive(car, 1)
    assert spans(car.vault.release(2, state=INTERRUPTED)[0]) == [(sealed[3], sealed[12])]
    region = Region()
    region.drain(car.vault)
    assert bodies(region, car.vault._log.log) == {*sealed[3:13], between}
    assert [e.state for e in car.what("incident")] == [COMPLETE, INTERRUPTED]
    with pytest.raises(ValueError, match="no hold"):
        car.vault.release(2, state=COMPLETE)


def test_a_range_holds_no_segment_that_is_not_held(car):
    sealed = drive(car, 6)
    hold(car.vault, 1, 0, S - 1, upload=False)
    hold(car.vault, 1, 4 * S + 1, 5 * S - 1, upload=False)  # the hold grows
    assert spans(car.vault.release(1, state=COMPLETE)[0]) == [(sealed[0], sealed[4])]
    ends = incidents._spans([3, 4, 9, 12, 20], [10, 11, 15])
    assert [(r.first, r.last) for r in ends] == [(3, 9), (12, 12), (20, 20)]


def test_held_bodies_expire_with_the_incident(car):
    region = Region()
    sealed = drive(car, 6)
    region.drain(car.vault)
    hold(car.vault, 1, 0, 3 * S - 1, upload=False, keep_s=600)
    hold(car.vault, 2, 2 * S + 1, 5 * S - 1, upload=False, keep_s=3600)
    car.tick(661)
    assert explained(car) == set(sealed[:2])
    car.tick(3000)
    assert explained(car) == set(sealed[:5])
    assert {d.reason for d in car.what("drop")} == {ledger_pb2.Drop.EXPIRED}


def test_the_longer_term_counts_whatever_clock_it_is_by(car):
    later = car.vault._scribe.incidents._later
    now_s = car.vault.trusted()[0] // 10**9
    for one, other, longest in (
        (0, 5, 0), (-60, 0, 0), (7, 9, 9), (-60, -90, -90), (now_s + 50, -60, -60),
        (now_s + 70, -60, now_s + 70),
    ):  # fmt: skip
        assert later(one, other) == later(other, one) == longest


@pytest.mark.parametrize("upload", [True, False])
def test_a_flood_never_costs_what_an_event_holds(folder, upload):
    """Routine data and the recorder itself push out each other, never the incident."""
    car = Car(folder, quota=QUOTA)
    drive(car, 40, size=15_000)
    sealed = drive(car, 20, size=15_000)
    end = car.vault.recorded_ns()
    hold(car.vault, 1, end - 20 * S + 1, end + 5 * S, upload=upload)
    sealed += drive(car, 5, size=15_000)
    for n in range(6):
        assert None not in fill(car, 40, seed=n)
        assert None not in drive(car, 20, size=15_000)
    assert set(sealed) <= kept(car)
    assert set(sealed) <= {
        i for part in car.vault.release(1, state=COMPLETE)[0]
        for i in range(part.first, part.last + 1)
    }  # fmt: skip
    fresh, tally = world.tally_of(car.vault), car.vault._spool.tally
    assert (fresh.entries, fresh.bytes) == (tally.entries, tally.bytes)
    # Past their share, the oldest of all incidents go first, and only for another one.
    more = fill(car, 170, sealed_pb2.INCIDENT, seed=9)
    assert None not in more
    gone = set(sealed + more) & explained(car)
    assert gone == set(sorted(sealed + more)[: len(gone)])
    assert gone
    car.shut()


def test_planted_eviction_of_held_bodies_is_found(folder, monkeypatch):
    monkeypatch.setattr("agent.vault.incidents.held_shelf", lambda shelf, **_: shelf)
    with pytest.raises(AssertionError):
        test_a_flood_never_costs_what_an_event_holds(folder, upload=False)


def test_rolling_is_cheap_and_in_groups(car):
    sealed = drive(car, 300)
    assert car.vault.roll(10 * S) == 256
    assert car.vault.roll(10 * S) == 33
    size = car.vault._log.size
    drive(car, 5)
    assert car.vault.roll(10 * S) == 0  # once a minute: one drop entry and not five
    assert car.vault._log.size == size + 5
    car.tick(60)
    assert car.vault.roll(10 * S) == 5
    assert car.vault.roll(2 * S) == 8  # another window is looked at at once
    assert set(sealed) <= explained(car)
    assert {d.reason for d in car.what("drop")} == {ledger_pb2.Drop.ROLLED}
    assert car.vault.recorded_ns() == 305 * S


def test_a_draft_without_a_place_stands_at_the_end_of_the_axis(car):
    drive(car, 3)
    index = car.vault.seal(draft(lane=sealed_pb2.RECORDER))
    drive(car, 10)
    assert car.vault.roll(9 * S) == 4
    assert index in explained(car)


def test_a_withdrawal_takes_all_that_was_kept_under_it(car):
    region = Region()
    first = [car.vault.seal(draft(300, consent="places")) for _ in range(300)]
    other = car.vault.seal(draft(300, consent="cabin"))
    region.drain(car.vault)
    later = [car.vault.seal(draft(300, consent="places")), *drive(car, 2, consent="places")]
    hold(car.vault, 1, 0, 9 * S, upload=True)
    assert car.vault.withdraw("places") == 303
    assert car.vault.withdraw("places") == 0
    assert explained(car) == {*first, *later}
    assert {d.reason for d in car.what("drop")} == {ledger_pb2.Drop.WITHDRAWN}
    assert not any(o.upload.body for o in car.vault.take(99, world.MIB, {})[0])
    assert other in kept(car)
    again = car.vault.seal(draft(300, consent="places"))  # consent was given anew
    assert again in {o.upload.index for o in car.vault.take(99, world.MIB, {})[0] if o.upload.body}


def test_a_withdrawal_that_was_cut_off_goes_on(car):
    """The power goes between two groups."""
    sealed = [car.vault.seal(draft(300, consent="places")) for _ in range(300)]
    real, calls = car.vault._log.append, itertools.count()

    def second_fails(*args, **more):
        if next(calls):
            raise KeyboardInterrupt
        return real(*args, **more)

    car.vault._log.append = second_fails
    with pytest.raises(KeyboardInterrupt):
        car.vault.withdraw("places")
    car.crash()
    car.start()
    assert set(sealed) & kept(car)
    sent = {o.upload.index for o in car.vault.take(400, world.MIB, {})[0] if o.upload.body}
    assert not sent & set(sealed)
    car.tick()
    assert not set(sealed) & kept(car)
    again = car.vault.seal(draft(300, consent="places"))
    car.crash()
    car.start()
    car.tick()
    assert again in kept(car)


@pytest.mark.parametrize("left", range(14))
def test_a_full_disk_delays_and_forgets_nothing(car, left):
    """Wherever SQLite says that the disk is full: nothing raises, and all is done in the end."""
    sealed = drive(car, 3)
    labelled = car.vault.seal(draft(consent="places"))
    hold(car.vault, 1, 0, S, upload=True)
    real = car.vault._spool.connection
    car.vault._spool.connection = Failing(real, sqlite3.SQLITE_FULL, "SQLITE_FULL", left)
    hold(car.vault, 2, 2 * S, 9 * S, upload=True)
    held, _ = car.vault.release(1, state=COMPLETE)
    car.vault.remember("k", b"v")
    car.vault.withdraw("places")
    assert labelled not in {o.upload.index for o in car.vault.take(99, world.MIB, {})[0]
                            if o.upload.body}  # fmt: skip
    car.vault._spool.connection = real
    sealed += drive(car, 2)
    car.tick()
    assert spans(held) == [(sealed[0], sealed[1])]
    assert [e.record for e in car.what("incident")] == [1]
    assert explained(car) == {labelled}
    car.crash()
    car.start()
    assert [h.record for h in car.vault.holds()] == [2]
    assert car.vault.remembered("k") == b"v"
    assert spans(car.vault.release(2, state=COMPLETE)[0]) == [(sealed[1], sealed[4])]


@pytest.mark.parametrize("first_page", [True, False])
@pytest.mark.parametrize("running", [True, False])
def test_damage_does_not_end_an_incident(car, first_page, running):
    """Held bodies go home or stay, as they were to; the hold goes on in the new log."""
    sealed, log = drive(car, 8), car.vault._log.log
    hold(car.vault, 50, 0, 3 * S - 1, upload=False, keep_s=60)
    hold(car.vault, 60, 5 * S + 1, 20 * S, upload=True)
    car.vault.remember("count", b"7")
    if running:
        car.vault._is_damaged = True
        car.tick()
    else:
        car.shut()
        if first_page:
            with car.database.open("r+b") as file:
                file.write(bytes(4096))
        else:
            with sqlite3.connect(car.database) as connection:
                connection.execute("UPDATE meta SET v=x'00' WHERE k='log'")
            connection.close()
        car.start()
    assert car.vault._log.log != log
    assert {(h.record, h.log) for h in car.vault.holds()} == {(50, log), (60, log)}
    assert (car.vault.recorded_ns(), car.vault.remembered("count")) == (8 * S, b"7")
    new = drive(car, 2)
    region = Region()
    region.drain(car.vault)
    assert bodies(region, log) == set(sealed[5:])
    assert bodies(region, car.vault._log.log) == set(new)
    rows = car.vault._spool.rows("SELECT i FROM salvage WHERE blob IS NOT NULL AND shelf=11")
    assert [i for (i,) in rows] == sealed[:3]
    held, index = car.vault.release(60, state=INTERRUPTED)
    assert spans(held) == [(new[0], new[1])]
    assert car.entries()[index].incident.log == log
    car.shut()
    car.start()
    assert car.vault._spool.tally.salvaged == 0
    car.vault.receipt(region.receipt([]))
    car.tick(61)
    car.tick(121)
    assert car.vault._spool.one("SELECT count(*) FROM salvage") == 0


def test_what_an_incident_sent_home_is_salvaged_though_the_shelves_are_lost(car):
    sealed, log = drive(car, 8), car.vault._log.log
    Region().drain(car.vault)
    hold(car.vault, 50, 2 * S + 1, 5 * S - 1, upload=True)
    car.vault.release(50, state=COMPLETE)
    page = car.vault._spool.one("SELECT rootpage FROM sqlite_master WHERE name='item'")
    car.shut()
    with car.database.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xff" * 4096)
    car.start()
    assert car.vault._log.log != log
    region = Region()
    region.drain(car.vault)
    assert bodies(region, log) == set(sealed[2:5])


def test_a_hold_of_the_log_before_gives_way_to_one_of_the_same_number(car):
    log = car.vault._log.log
    hold(car.vault, 5, 0, S, upload=True)
    car.vault._is_damaged = True
    car.tick()
    hold(car.vault, 5, 2 * S, 3 * S, upload=False)
    (entry,) = car.what("incident")
    assert (entry.record, entry.log, entry.state) == (5, log, INTERRUPTED)
    assert [(h.from_ns, h.upload, h.log) for h in car.vault.holds()] == [(2 * S, False, b"")]


def test_a_record_whose_number_a_hold_of_the_log_before_has_closes_that_hold(car):
    log = car.vault._log.log
    car.vault.seal(event(Piece(0, S, upload=True)))
    car.vault._is_damaged = True
    car.tick()
    (old,) = car.vault.holds()
    assert (old.record, old.log) == (3, log)
    hold(car.vault, car.vault._log.size + 1, 0, S, upload=True)  # behind the session's entry
    record = car.vault.seal(event(Piece(2 * S, 3 * S, upload=False)))
    assert {(h.record, h.from_ns, h.log) for h in car.vault.holds()} >= {(record, 2 * S, b"")}
    (closed,) = car.what("incident")
    assert (closed.record, closed.state, list(closed.held)) == (record - 1, INTERRUPTED, [])
    held, _ = car.vault.release(record, state=COMPLETE)
    assert held == []


def test_what_cannot_be_sealed_holds_nothing(folder):
    """Its recipients are not there, or there is no room."""
    car = Car(folder, owner=False)
    sealed = drive(car, 3)
    owners = replace(event(Piece(0, 9 * S, upload=True)), recipients=sealed_pb2.OWNER)
    assert car.vault.seal(owners) is None
    car.vault._spool.connection = Failing(
        car.vault._spool.connection, sqlite3.SQLITE_FULL, "SQLITE_FULL", 0
    )
    assert car.vault.seal(event(Piece(0, 9 * S, upload=True))) is None
    car.vault._spool.connection = car.vault._spool.connection._connection
    assert car.vault.holds() == []
    assert car.vault.roll(-1) == len(sealed)
    car.shut()


def event(piece, **more):
    """The draft of a record that holds something."""
    return draft(8, lane=sealed_pb2.INCIDENT, records=(Record(),), holds=piece, **more)


def test_bounds(car):
    for first, last in ((-1, 5), (6, 5), (0, 2**63)):
        with pytest.raises(ValueError, match="recorded from"):
            hold(car.vault, 1, first, last, upload=True)
    with pytest.raises(ValueError, match="keep"):
        hold(car.vault, 1, 0, 1, upload=True, keep_s=-1)
    for n in range(incidents.MAX_OPEN):
        car.vault._scribe.incidents._open[n] = incidents.Hold(n, 0, 1, upload=False)
    with pytest.raises(ValueError, match="are open"):
        hold(car.vault, 999, 0, 1, upload=True)
    with pytest.raises(ValueError, match="are open"):
        car.vault.seal(event(Piece(0, 1, upload=True)))
    with pytest.raises(ValueError, match="keep"):
        Piece(0, 1, upload=True, keep_s=-1)
    with pytest.raises(ValueError, match="record of an event"):
        draft(holds=Piece(0, 1, upload=True))
    with pytest.raises(ValueError, match="axis"):
        draft(recorded=(0, 1))
    with pytest.raises(ValueError, match="category"):
        draft(consent="x" * 65)


def test_memory_is_small_and_durable(car):
    for n in range(memory.MAX_KEYS):
        car.vault.remember(f"k{n}", b"v")
    with pytest.raises(ValueError, match="remembered already"):
        car.vault.remember("one more", b"v")
    for key, value in (("", b"v"), ("k" * 65, b"v"), ("k", b"v" * 65_537)):
        with pytest.raises(ValueError, match="cannot remember"):
            car.vault.remember(key, value)
    car.vault.remember("k0", b"")
    car.vault.remember("never there", b"")
    car.vault.remember("k1", b"w" * 4096)
    car.crash()
    car.start()
    assert [car.vault.remembered(k) for k in ("k0", "k1", "k2")] == [None, b"w" * 4096, b"v"]
    car.vault.remember("one more", b"v")


VERSION_1 = """
CREATE TABLE _sqlite_migrations(
  id INTEGER PRIMARY KEY, migration_set TEXT, name TEXT, applied_at TEXT);
CREATE UNIQUE INDEX idx__sqlite_migrations_migration_set_name
  ON _sqlite_migrations(migration_set, name);
CREATE TABLE ledger(i INTEGER PRIMARY KEY, entry BLOB NOT NULL);
CREATE TABLE body(i INTEGER PRIMARY KEY, blob BLOB NOT NULL);
CREATE TABLE checkpoint(size INTEGER PRIMARY KEY, note TEXT NOT NULL, cosigned TEXT);
CREATE TABLE meta(k TEXT PRIMARY KEY, v BLOB);
CREATE TABLE salvage(n INTEGER PRIMARY KEY, log BLOB NOT NULL, i INTEGER NOT NULL,
  shelf INTEGER NOT NULL, entry BLOB NOT NULL, blob BLOB);
CREATE UNIQUE INDEX idx_salvage_log_i ON salvage(log, i);
CREATE INDEX idx_salvage_shelf ON salvage(shelf);
CREATE TABLE item(shelf INTEGER NOT NULL, i INTEGER NOT NULL, bytes INTEGER NOT NULL,
  session INTEGER NOT NULL, keep INTEGER NOT NULL, PRIMARY KEY(shelf, i)) WITHOUT ROWID;
CREATE TABLE tile(level INTEGER NOT NULL, n INTEGER NOT NULL, hash BLOB NOT NULL,
  PRIMARY KEY(level, n)) WITHOUT ROWID;
INSERT INTO _sqlite_migrations(migration_set, name, applied_at)
  VALUES('inland.spool', 'begin', '2026-11-20');
PRAGMA user_version=1;
"""
TABLES = ("ledger", "body", "checkpoint", "meta", "tile", "salvage")


def make_version_1(car):
    """Write the spool anew as the version before would have it; the car is shut."""
    old = car.database.with_suffix(".old")
    car.database.rename(old)
    connection = sqlite3.connect(car.database, isolation_level=None)
    connection.execute("PRAGMA page_size=4096")
    connection.execute("PRAGMA journal_mode=WAL").fetchone()
    connection.executescript(VERSION_1)
    connection.execute("ATTACH ? AS old", (str(old),))
    for table in TABLES:
        names = ",".join(row[1] for row in connection.execute(f"PRAGMA main.table_info({table})"))
        connection.execute(f"INSERT INTO main.{table}({names}) SELECT {names} FROM old.{table}")
    connection.execute("INSERT INTO main.item SELECT shelf, i, bytes, session, keep FROM old.item")
    connection.close()
    old.unlink()


def test_a_spool_of_the_version_before_is_taken_over(car, real_schema):
    region = Region()
    routine = [car.vault.seal(draft(2000, keep_s=60)) for _ in range(3)]
    held = drive(car, 2)
    region.drain(car.vault)
    waiting = [car.vault.seal(draft(2000)), *drive(car, 2)]
    log = car.vault._log.log
    car.shut()
    make_version_1(car)
    car.start()
    assert (car.vault._log.log, car.what("gap")) == (log, [])
    assert {*routine, *held, *waiting} <= kept(car)
    hold(car.vault, 1, 0, 0, upload=True)  # what has no place stands at the beginning
    assert spans(car.vault.release(1, state=COMPLETE)[0]) == [(held[0], waiting[-1])]
    region.drain(car.vault)
    assert bodies(region, log) == {*routine, *held, *waiting}
    new = drive(car, 5)
    assert car.vault.roll(S) == 3
    assert explained(car) == set(new[:3])


def test_a_damaged_spool_of_the_version_before_is_put_aside(car, real_schema):
    sealed, log = [car.vault.seal(draft(6000)) for _ in range(6)], car.vault._log.log
    car.shut()
    make_version_1(car)
    with car.database.open("r+b") as file:
        file.seek(100)  # behind the header: the version can still be read, the schema cannot
        file.write(b"\xff" * 300)
    car.start()
    assert car.what("gap")[0].log == log
    region = Region()
    region.drain(car.vault)
    assert bodies(region, log) == set(sealed)


def test_a_migration_that_fails_for_another_reason_is_no_damage(car, monkeypatch):
    car.shut()

    def fails(_):
        raise SpoolError("no room")

    with sqlite3.connect(car.database) as connection:
        connection.execute("PRAGMA user_version=1")
    connection.close()
    monkeypatch.setattr("agent.vault.founding.migrate_apart", fails)
    with pytest.raises(SpoolError, match="no room") as caught:
        founding.open_file(car.database, car.vault._size)
    assert not isinstance(caught.value, SpoolCorruptError)
    monkeypatch.undo()
    with sqlite3.connect(car.database) as connection:
        connection.execute(f"PRAGMA user_version={schema.VERSION}")
    connection.close()
    car.start()
