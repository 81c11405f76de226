"""Damage: the file is put aside, a new log begins with a gap, and what is good is uploaded."""

import random
import sqlite3
import time

import pytest

from agent.errors import SpoolCorruptError, SpoolError
from agent.pb import ledger_pb2
from agent.vault import founding, salvage
from agent.vault.floor import spool_floor_ns
from agent.vault.log import set_meta
from agent.vault.shelves import Shelf
from tests.vault import world
from tests.vault.world import Car, Region, draft

PAGE = 4096


def scar(path, pages, seed=1):
    """Overwrite whole pages with noise."""
    noise = random.Random(seed)
    with path.open("r+b") as file:
        for page in pages:
            file.seek(page * PAGE)
            file.write(noise.randbytes(PAGE))


def backlog(car, count=30):
    return {car.vault.seal(draft(6000, seed=n)) for n in range(count)}


def test_a_destroyed_first_page_at_start(car, real_schema):
    """T71: header and schema are gone; log, entries and bodies are not."""
    sealed, log = backlog(car), car.vault._log.log
    car.shut()
    scar(car.database, [0])
    before = time.monotonic()
    car.start()
    assert time.monotonic() - before < 5
    gap = car.what("gap")[0]
    assert (gap.why, gap.log, gap.salvaged) == ("corrupt", log, len(sealed) + 1)
    assert [e.WhichOneof("what") for e in car.entries()] == ["genesis", "gap", "boot"]
    assert car.vault._log.log != log
    region = Region()
    region.drain(car.vault)
    assert {i for at, i in region.payloads if at == log} == sealed
    assert car.vault.take(10, world.MIB, {}) == ([], 0)
    assert car.vault.status().quarantined == 1


def test_a_new_log_names_the_policy_that_is_in_force(car):
    """Its segments must find their dictionary in their own log."""
    car.vault.decide_by(ledger_pb2.PolicyInForce(name="p", version=1, why="started"), b"compiled")
    log = car.vault._log.log
    car.vault._is_damaged = True
    car.vault.housekeep()
    assert car.vault._log.log != log
    assert [policy.name for policy in car.what("policy")] == ["p"]


def test_damage_while_running_costs_nothing_that_is_readable(car):
    """The draft that met the damage is sealed into the new log; capture goes on within 5 s."""
    sealed, log = backlog(car), car.vault._log.log
    car.vault._spool.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    for spool in (car.vault._spool, car.vault._second):
        spool.connection.execute("PRAGMA cache_size=0")
        spool.connection.execute("PRAGMA shrink_memory")
    pages = car.database.stat().st_size // PAGE
    scar(car.database, range(1, pages, 9))
    before = time.monotonic()
    index = None
    for n in range(200):
        index = car.vault.seal(draft(6000, seed=1000 + n))
        car.vault.take(50, world.MIB, {})
        car.tick()
        if car.vault._log.log != log:
            break
    assert time.monotonic() - before < 5
    assert car.vault._log.log != log
    assert index is not None
    region = Region()
    car.vault.seal(draft())
    for out in iter(lambda: car.vault.take(64, world.MIB, {})[0], []):
        done = []
        for up in out:
            try:
                done += region.take([up])
            except KeyError:  # its session was on a damaged page: stored, not openable
                done += [(up.upload.log, up.upload.index, world.tree.leaf_hash(up.upload.entry))]
        for at in {d[0] for d in done}:
            assert car.vault.receipt(region.receipt([d for d in done if d[0] == at]))[1]
    carried = {i for at, i in region.store if at == log and region.store[at, i][1]}
    assert len(sealed & carried) > len(sealed) / 3
    assert car.vault._log.tree.root() == world.root_of(car.vault)


def test_the_hatch_that_meets_damage_leaves_it_to_the_sealer(car):
    log, region = car.vault._log.log, Region()
    ahead = world.NOW_NS + 10**15
    car.vault.receipt(region.receipt([], unix_ns=ahead))

    def broken(*_, **__):
        raise SpoolCorruptError("damaged")

    car.vault._outbound.take = car.vault._outbound.receipt = broken
    car.vault._outbound.checkpoint = broken
    assert car.vault.take(1, 1, {})[0] == []
    assert car.vault.receipt(b"") == (0, True)
    assert car.vault.checkpoint() is None
    assert car.vault._log.log == log
    car.tick()
    assert car.vault._log.log != log
    assert car.vault.take(1, 1, {})[0]
    assert car.vault.trusted()[0] >= ahead  # what is known of the time stays known


@pytest.mark.parametrize("seed", range(6))
def test_any_damage_ends_with_a_working_vault(car, seed):
    """T70: whatever bytes change, nothing wrong is uploaded and the next start works."""
    noise = random.Random(seed)
    backlog(car, 12)
    car.shut() if seed % 2 else car.crash()
    raw = bytearray(car.database.read_bytes())
    for _ in range(noise.choice((1, 30, 300))):
        raw[noise.randrange(len(raw))] ^= 1 << noise.randrange(8)
    if seed == 5:
        raw = raw[: len(raw) // 2]
    car.database.write_bytes(raw)
    car.start()
    assert car.vault.seal(draft()) is not None
    region = Region()
    for _ in range(4):
        for out in car.vault.take(500, 8 * world.MIB, {})[0]:
            up, entry = out.upload, ledger_pb2.Entry.FromString(out.upload.entry)
            if up.body:  # never sent as truth
                kind = getattr(entry, entry.WhichOneof("what"))
                assert world.hashlib.sha256(up.body).digest() == kind.body
            car.vault.receipt(region.receipt([(up.log, up.index, world.tree.leaf_hash(up.entry))]))
        car.tick()
    assert car.vault.seal(draft()) is not None


def test_a_crash_between_quarantine_and_salvage_is_finished_at_the_next_start(car):
    sealed, log = backlog(car, 5), car.vault._log.log
    car.shut()
    salvage.put_aside(car.folder)  # and then the power went
    car.start()
    assert car.what("gap")[0].log == log
    assert car.what("gap")[0].salvaged == len(sealed) + 1
    car.shut()
    car.start()
    assert len(car.what("gap")) == 1
    assert car.vault._spool.tally.salvaged == 5 + 3


def test_segments_whose_session_is_lost_do_not_wait_for_ever(car):
    """Nobody can open them; the region would never receipt them."""
    sealed = backlog(car, 4)
    car.shut()
    with sqlite3.connect(car.database) as connection:
        connection.execute(
            "UPDATE body SET blob=zeroblob(length(blob)) WHERE i=?", (min(sealed) - 1,)
        )
    connection.close()
    scar(car.database, [0])
    car.start()
    outgoing = car.vault.take(50, world.MIB, {})[0]
    lost = [out.upload for out in outgoing if out.upload.index in sealed]
    assert len(lost) == 4
    assert not any(upload.body for upload in lost)
    Region().drain(car.vault)
    assert not sum(car.vault.status().pending.values())


def test_confirmed_entries_are_not_carried_over(car):
    Region().drain(car.vault)
    log = car.vault._log.log
    new = car.vault.seal(draft())
    car.shut()
    scar(car.database, [0])
    car.start()
    batch = [o.upload for o in car.vault.take(50, world.MIB, {})[0]]
    assert {u.index for u in batch if u.log == log} == {new - 1, new}
    assert car.vault.take(50, world.MIB, {log: {new}})[1] == 5
    forged = [(log, new, b"x" * 32)]
    assert car.vault.receipt(Region().receipt(forged)) == (0, False)
    assert car.vault._spool.tally.salvaged == 2


def children(path, table):
    """The pages right below the root of a table WITHOUT ROWID: sqlite.org/fileformat2.html."""
    connection = sqlite3.connect(path)
    (root,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name=?", (table,))
    connection.close()
    page = path.read_bytes()[(root[0] - 1) * PAGE : root[0] * PAGE]
    assert page[0] == 2  # an interior page
    cells = [int.from_bytes(page[at : at + 2]) for at in
             range(12, 12 + 2 * int.from_bytes(page[3:5]), 2)]  # fmt: skip
    return [int.from_bytes(page[at : at + 4]) - 1 for at in (*cells, 8)]


def test_entries_are_held_against_the_rows_of_a_damaged_list_that_can_be_read(car):
    """The list of what waits lost a page in its middle: what comes after it is reached."""
    sealed = sorted(car.vault.seal(draft(50, seed=n, keep_s=7)) for n in range(200))
    log, last = car.vault._log.log, sealed[-1]
    (raw,) = car.vault._spool.rows("SELECT entry FROM ledger WHERE i=?", (last,))
    entry = ledger_pb2.Entry.FromString(raw[0])
    entry.at.unix_ns += 1  # its index and its body's hash are what they were
    with car.vault._spool.write() as transaction:
        transaction.run("UPDATE ledger SET entry=? WHERE i=?", (entry.SerializeToString(), last))
    car.shut()
    pages = children(car.database, "item")
    assert len(pages) > 2
    scar(car.database, [0, pages[len(pages) // 2]])
    car.start()
    assert [gap.log for gap in car.what("gap")] == [log]
    rows = dict(car.vault._spool.rows("SELECT i, keep FROM salvage WHERE shelf>=0"))
    assert last not in rows
    assert set(sealed[:-1]) <= set(rows)
    unknown = {i for i in sealed[:-1] if not rows[i]}  # on the page that is gone
    assert 0 < len(unknown) < 100


def test_only_the_newest_file_is_kept(car):
    for _ in range(3):
        car.vault.seal(draft())
        car.shut()
        scar(car.database, [0, 1])
        car.start()
    assert [p.name for p in salvage.aside(car.folder)] == ["0003"]


def test_a_spool_that_does_not_know_its_log_is_put_aside(car):
    """Found late, with the file open: it is closed before another takes its name."""
    index, log = car.vault.seal(draft()), car.vault._log.log
    with car.vault._spool.write() as transaction:
        transaction.run("UPDATE meta SET v=x'00' WHERE k='log'")
    car.shut()
    car.start()
    assert (car.what("gap")[0].log, car.what("gap")[0].salvaged) == (log, 2)
    new = car.vault.seal(draft())
    car.crash()
    car.start()
    assert car.vault._spool.one("SELECT count(*) FROM body WHERE i=?", (new,)) == 1
    region = Region()
    region.drain(car.vault)
    assert {(log, index), (car.vault._log.log, new)} == set(region.payloads)


def test_a_rewritten_ledger_is_not_continued(car):
    """The newest signed head must fit: an entry exchanged on the disk is damage."""
    car.vault.seal(draft())
    car.shut()
    other = Car(car.folder)
    entry = ledger_pb2.Entry(index=1, loss=ledger_pb2.Loss(count=1)).SerializeToString()
    with other.vault._spool.write() as transaction:
        transaction.run("UPDATE ledger SET entry=? WHERE i=1", (entry,))
    other.crash()
    car.start()
    assert car.what("gap")[0].why == "corrupt"


def test_a_damaged_schema_that_is_no_text_is_damage(car):
    """SQLite quotes it in its error, and Python's module cannot decode that: still an error."""
    sealed, log = backlog(car, 3), car.vault._log.log
    car.shut()
    raw = bytearray(car.database.read_bytes())
    at = raw.index(b"CREATE TABLE", 0, PAGE)
    for place in range(at - 16, at + 8):
        raw[place] ^= 0x80
    car.database.write_bytes(raw)
    assert spool_floor_ns(car.folder) == 0  # a command only knows less
    car.start()
    assert [gap.log for gap in car.what("gap")] == [log]
    assert car.what("gap")[0].salvaged == len(sealed) + 1


def test_damaged_text_in_a_row_is_damage(car):
    backlog(car, 3)
    log = car.vault._log.log
    with car.vault._spool.write() as transaction:
        transaction.run("UPDATE item SET consent=CAST(x'ff' AS TEXT)")
    assert car.vault.take(5, world.MIB, {})[0] == []
    car.tick()
    assert [gap.log for gap in car.what("gap")] == [log]


def test_a_new_log_knows_what_time_it_was(car):
    ahead = world.NOW_NS + 400 * 86_400 * 10**9
    car.vault.receipt(Region().receipt([], unix_ns=ahead))
    backlog(car, 3)
    car.shut()
    scar(car.database, [0])
    car.wall_ns, car.boot_ns = 0, 5
    car.start()
    assert len(car.what("gap")) == 1
    assert car.vault.trusted()[0] >= ahead
    assert spool_floor_ns(car.folder) >= ahead
    car.crash()
    car.start()
    assert car.vault.trusted()[0] >= ahead


def test_a_damaged_floor_does_not_put_the_time_years_ahead(car):
    """No policy and no certificate would be valid any more, for ever."""
    backlog(car, 3)
    with car.vault._spool.write() as transaction:
        set_meta(transaction, "floor", (world.NOW_NS + 2**57).to_bytes(8, "big"))
    car.crash()
    scar(car.database, [0])
    car.start()
    assert len(car.what("gap")) == 1
    assert car.vault.trusted()[0] < world.NOW_NS + 86_400 * 10**9


def test_a_cut_in_the_middle_of_salvage_changes_nothing_in_what_is_told(car, monkeypatch):
    sealed = backlog(car, 5)
    car.shut()
    scar(car.database, [0])

    def power_goes(*_):
        raise SpoolError("the power went")

    with monkeypatch.context() as patch:
        patch.setattr(founding, "axis_end", power_goes)  # what comes after the bodies
        with pytest.raises(SpoolError, match="the power went"):
            car.start()
    car.start()
    assert [gap.salvaged for gap in car.what("gap")] == [len(sealed) + 1]


def sessions_of(car, log):
    rows = car.vault._spool.rows("SELECT shelf, entry, blob FROM salvage WHERE log=?", (log,))
    kinds = [(shelf, ledger_pb2.Entry.FromString(e).WhichOneof("what"), b) for shelf, e, b in rows]
    return [shelf for shelf, kind, blob in kinds if kind == "session" and blob]


def test_a_confirmed_session_goes_along_with_the_bodies_that_need_it(car, real_schema):
    """Else nobody who has the car alone could open what was carried over."""
    region = Region()
    backlog(car, 2)
    region.drain(car.vault)
    sealed, log = backlog(car, 3), car.vault._log.log
    car.shut()
    scar(car.database, [0])
    car.start()
    assert car.what("gap")[0].salvaged == len(sealed)
    assert sessions_of(car, log) == [int(Shelf.PINNED)]
    car.vault._scribe.forgetting.sweep(())
    assert sessions_of(car, log) == [int(Shelf.PINNED)]  # it is still needed
    assert {i for at, i in region.payloads if at == log}.isdisjoint(sealed)
    region.drain(car.vault)
    assert {i for at, i in region.payloads if at == log} >= sealed
    car.vault._scribe.forgetting.sweep(())
    assert sessions_of(car, log) == []


def test_planted_salvage_of_what_waits_alone_leaves_the_session(car, real_schema, monkeypatch):
    monkeypatch.setattr(salvage.Salvage, "_add_sessions", lambda *_: None)
    region = Region()
    backlog(car, 2)
    region.drain(car.vault)
    backlog(car, 3)
    log = car.vault._log.log
    car.shut()
    scar(car.database, [0])
    car.start()
    assert sessions_of(car, log) == []
