"""The vault as a whole: seal, upload, confirm, restart, refuse."""

import sqlite3

import pytest

from agent.clock import FLOOR, REGION, WALL
from agent.errors import SealError, SpoolError
from agent.pb import ledger_pb2, sealed_pb2
from agent.vault import checkpoint, opening, tree
from agent.vault.shelves import Shelf
from tests.vault import world
from tests.vault.world import Car, Region, draft

LANES = (sealed_pb2.RECORDER, sealed_pb2.ROUTINE, sealed_pb2.EVENT, sealed_pb2.INCIDENT)


def test_the_way_of_one_segment(car):
    region = Region()
    assert car.vault.seal(draft(seed=1)) == 3  # genesis, boot, session, segment
    batch, pending = car.vault.take(10, world.MIB, {})
    assert pending == 4
    assert [(o.lane, o.upload.index) for o in batch] == [
        ("session", 0), ("session", 1), ("session", 2), ("routine", 3),
    ]  # fmt: skip
    done = region.take(batch)
    assert car.vault.receipt(region.receipt(done)) == (4, True)
    assert car.vault.take(10, world.MIB, {}) == ([], 0)
    assert car.vault.receipt(region.receipt(done)) == (0, True)  # again: nothing new
    status = car.vault.status()
    assert (status.size, status.confirmed, sum(status.pending.values())) == (4, 4, 0)
    assert car.vault._spool.one("SELECT count(*) FROM body") == 2  # kept while there is room


def test_order_and_limits(car):
    for lane in LANES:
        car.vault.seal(draft(lane=lane))
    batch, _ = car.vault.take(100, world.MIB, {})
    assert [o.lane for o in batch] == [*["session"] * 3, "incident", "event", "routine", "routine"]
    recorder = batch[-1].upload
    entry = ledger_pb2.Entry.FromString(recorder.entry)
    assert entry.segment.lane == sealed_pb2.RECORDER
    assert recorder.body == b""  # the black box stays in the car; its leaf goes home
    log = batch[0].upload.log
    skipped, pending = car.vault.take(100, world.MIB, {log: {0, 2, 6}})
    assert [o.upload.index for o in skipped] == [1, 5, 4, 3]
    assert pending == 7
    assert len(car.vault.take(2, world.MIB, {})[0]) == 2
    assert len(car.vault.take(100, 1, {})[0]) == 1  # the first may be larger than the limit
    assert car.vault.take(0, world.MIB, {})[0] == []
    Region().drain(car.vault)
    assert car.vault._spool.tally.entries[Shelf.HELD] == 1


def test_a_restart_begins_a_new_session_and_keeps_the_log(car):
    """T83: new secret, no step reused, every kept segment opens at the region."""
    region = Region()
    for clean in (True, False, True):
        for _ in range(3):
            assert car.vault.seal(draft()) is not None
        car.shut() if clean else car.crash()
        car.start()
    assert [b.clean for b in car.what("boot")] == [True, True, False, True]
    assert car.vault._log.tree.root() == world.root_of(car.vault)
    region.drain(car.vault)
    assert len(region.payloads) == 9
    assert len(region.sessions) == 3


def test_sessions_roll_over_by_the_hour_and_by_recipients(car):
    """T84."""
    car.vault.seal(draft())
    car.vault.seal(draft(recipients=sealed_pb2.SHARED))
    car.tick(3599)
    car.vault.seal(draft())
    assert len(car.what("session")) == 2
    car.tick(2)
    assert car.vault._scribe._sessions == {}
    car.vault.seal(draft())
    assert len(car.what("session")) == 3
    car.wall_ns += 10**15  # the wall clock is no reason for a new one
    car.vault.seal(draft())
    assert len(car.what("session")) == 3


def test_a_set_without_owner_keeps_nothing_and_says_so(folder):
    """T30."""
    car = Car(folder, owner=False)
    for _ in range(5):
        for recipients in (sealed_pb2.OWNER, sealed_pb2.SHARED, sealed_pb2.BOTH):
            assert car.vault.seal(draft(800, recipients=recipients)) is None
    losses = car.what("loss")
    assert [(x.count, x.cause, x.channel) for x in losses] == [
        (100, ledger_pb2.Loss.NO_RECIPIENT, "can0")
    ]
    car.tick(61)
    assert [x.count for x in car.what("loss")] == [100, 1400]
    assert car.what("session") == []
    car.shut()


def test_receipts_that_are_none_change_nothing_and_are_counted(car):
    """T64."""
    region = Region()
    car.vault.seal(draft())
    done = region.take(car.vault.take(10, world.MIB, {})[0])
    other = world.Ed25519PrivateKey.generate()
    forged = region.receipt(done, key=other)
    signed = region.receipt(done)
    lies = {
        "key": forged,
        "signature": signed[:-1] + bytes([signed[-1] ^ 1]),
        "vehicle": region.receipt(done, vehicle="car-00000002"),
        "malformed": region.receipt(done, log=b"x"),
    }
    for code, payload in lies.items():
        for _ in range(3):
            assert car.vault.receipt(payload) == (0, False), code
    swapped = [(log, i, done[(n + 1) % len(done)][2]) for n, (log, i, _) in enumerate(done)]
    assert car.vault.receipt(region.receipt(swapped)) == (0, False)
    ahead = [(log, i + 1000, leaf) for log, i, leaf in done]
    assert car.vault.receipt(region.receipt(ahead)) == (0, False)
    huge = [(done[0][0], 2**64 - 1, done[0][2])]
    assert car.vault.receipt(region.receipt(huge)) == (0, False)
    for junk in (b"", b"\xff" * 50, b"x" * 300_000):
        assert car.vault.receipt(junk) == (0, False)
    assert car.vault._spool.tally.waiting() == 4
    assert car.vault._spool.one("SELECT count(*) FROM body") == 2
    car.tick()
    codes = {r.code: r.count for r in car.what("refusal")}
    assert codes.pop("key") == 4
    assert codes == {"signature": 3, "vehicle": 3, "malformed": 5, "leaf": 9}


def test_a_receipt_teaches_the_time_and_the_floor_survives(car):
    region = Region()
    assert car.vault.trusted()[1] == WALL
    done = region.take(car.vault.take(10, world.MIB, {})[0])
    ahead = world.NOW_NS + 400 * 86_400 * 10**9
    car.vault.receipt(region.receipt(done, unix_ns=ahead))
    assert car.vault.trusted() == (ahead, REGION)
    car.vault.receipt(region.receipt(done, unix_ns=world.NOW_NS))  # an old one, sent again
    assert car.vault.trusted() == (ahead, REGION)
    car.vault.receipt(region.receipt(done, unix_ns=2**63 + 5))
    assert car.vault.trusted() == (ahead, REGION)
    car.shut()
    car.wall_ns, car.boot_ns = 0, 5
    car.start()
    assert car.vault.trusted() == (ahead, FLOOR)


def test_a_car_that_stands_notes_the_time_every_ten_minutes(car):
    """Nothing is written, so no checkpoint is signed; the region's time still goes on."""
    region = Region()
    region.drain(car.vault)
    car.tick()
    for _ in range(50):
        car.tick(60)
    car.crash()
    car.wall_ns, car.boot_ns = 0, 5
    car.start()
    assert car.vault.trusted()[0] >= world.NOW_NS + 40 * 60 * 10**9


def test_clock_steps_are_entries(car):
    car.tick()
    car.wall_ns += 3600 * 10**9
    car.tick()
    car.tick()
    (step,) = car.what("clock")
    assert step.to_unix_ns - step.from_unix_ns == 3600 * 10**9


def test_checkpoints_are_signed_proved_and_cosigned(car):
    region = Region()
    assert car.vault.checkpoint() is None
    for _ in range(4):
        for _ in range(70):
            car.vault.record(ledger_pb2.Loss(count=1))
        car.tick(61)
        upload = car.vault.checkpoint()
        assert car.vault.checkpoint() == upload  # until it is co-signed
        cosigned = region.cosign(upload)
        forged = checkpoint.cosign(upload.note, name="region/x", key=world.LEDGER, unix_s=1)
        car.vault.receipt(region.receipt([], cosigned=forged))
        assert car.vault.checkpoint() == upload
        assert car.vault.receipt(region.receipt([], cosigned=cosigned))[1]
        assert car.vault.checkpoint() is None
    assert car.vault._spool.one("SELECT count(*) FROM tile") == 1
    assert car.vault._spool.one("SELECT count(*) FROM checkpoint WHERE cosigned NOT NULL") == 4
    node = car.vault._spool.node
    size, root = car.vault._log.size, car.vault._log.tree.root()
    for i, raw in car.vault._spool.rows("SELECT i, entry FROM ledger WHERE i%13=0"):
        proof = tree.inclusion_proof(i, size, node)
        assert tree.verify_inclusion(tree.leaf_hash(raw), i, size, proof, root)


def test_bit_rot_is_reported_and_never_uploaded(car):
    """T70: one flipped byte of a body; the leaf goes home, the body never."""
    region = Region()
    good, bad = car.vault.seal(draft()), car.vault.seal(draft())
    blob = bytearray(car.vault._spool.one("SELECT blob FROM body WHERE i=?", (bad,)))
    blob[700] ^= 4
    with car.vault._spool.write() as transaction:
        transaction.run("UPDATE body SET blob=? WHERE i=?", (bytes(blob), bad))
    batch, _ = car.vault.take(10, world.MIB, {})
    assert [o.upload.index for o in batch] == [0, 1, 2, good]
    car.tick()
    (drop,) = car.what("drop")
    assert drop.reason == ledger_pb2.Drop.ROTTEN
    assert [(r.first, r.last) for r in drop.range] == [(bad, bad)]
    region.drain(car.vault)
    assert region.store[car.vault._log.log, bad][1] == b""
    assert car.vault.take(10, world.MIB, {}) == ([], 0)


def rot_entry(car, i, at=-1, bit=4) -> bytes:
    """Flip a bit of an entry on the disk; return what was written."""
    was = car.vault._spool.one("SELECT entry FROM ledger WHERE i=?", (i,))
    now = bytearray(was)
    now[at] ^= bit
    with car.vault._spool.write() as transaction:
        transaction.run("UPDATE ledger SET entry=? WHERE i=?", (bytes(now), i))
    return was


def ledger_of(car) -> dict[tuple[bytes, int], bytes]:
    """Every entry as it is now, by its identity."""
    rows = car.vault._spool.rows("SELECT i, entry FROM ledger")
    return {(car.vault._log.log, i): entry for i, entry in rows}


@pytest.mark.parametrize("kind", ["bodiless", "body", "session"])
def test_an_entry_that_rots_is_never_uploaded_and_begins_a_new_log(car, kind):
    """A flipped bit would look forged to the region; all that is as it was goes home."""
    sealed = [car.vault.seal(draft(seed=n)) for n in range(4)]
    bus = car.vault.record(ledger_pb2.BusState(channel="can0", state="up"))
    written, log = ledger_of(car), car.vault._log.log
    rotten = {"bodiless": bus, "body": sealed[1], "session": sealed[0] - 1}[kind]
    rot_entry(car, rotten)
    region = Region()
    for _ in range(3):
        for out in car.vault.take(50, world.MIB, {})[0]:
            up = out.upload
            assert up.entry == written.get((up.log, up.index), up.entry)
            leaf = tree.leaf_hash(up.entry)
            region.store[up.log, up.index] = (up.entry, up.body, out.lane)
            assert car.vault.receipt(region.receipt([(up.log, up.index, leaf)]))[1]
        car.tick()
        written |= ledger_of(car)
    assert car.vault.take(50, world.MIB, {}) == ([], 0)
    (gap,) = car.what("gap")
    assert (gap.log, gap.why) == (log, "corrupt")
    home = {i for at, i in region.store if at == log}
    assert home == {i for at, i in written if at == log} - {rotten}
    bodies = {i for i in home & set(sealed) if region.store[log, i][1]}
    # Whoever lost the session's entry cannot open its segments: the entries go, the bodies not.
    assert bodies == (set() if kind == "session" else set(sealed) - {rotten})
    assert car.vault._log.tree.root() == world.root_of(car.vault)


@pytest.mark.parametrize("kind", ["bodiless", "body"])
def test_planted_upload_of_any_entry_is_found(car, kind, monkeypatch):
    for place in ("outbound", "salvage"):
        monkeypatch.setattr(f"agent.vault.{place}.is_leaf", lambda *_: True)
    with pytest.raises(AssertionError):
        test_an_entry_that_rots_is_never_uploaded_and_begins_a_new_log(car, kind)


def test_planted_salvage_of_a_rotten_entry_is_found(car, monkeypatch):
    monkeypatch.setattr("agent.vault.salvage.is_leaf", lambda *_: True)
    with pytest.raises(AssertionError):
        test_an_entry_that_rots_is_never_uploaded_and_begins_a_new_log(car, "bodiless")


def test_an_entry_that_rots_after_it_was_carried_over_is_given_up(car):
    sealed, log = [car.vault.seal(draft(seed=n)) for n in range(3)], car.vault._log.log
    car.vault._is_damaged = True
    car.tick()
    with car.vault._spool.write() as transaction:
        transaction.run(
            "UPDATE salvage SET entry=CAST(entry||x'00' AS BLOB) WHERE i=?", (sealed[1],)
        )
    region = Region()
    region.drain(car.vault)
    assert {i for at, i in region.payloads if at == log} == {sealed[0], sealed[2]}
    assert (log, sealed[1]) not in region.store
    assert car.vault.take(50, world.MIB, {}) == ([], 0)
    assert car.vault._spool.one("SELECT count(*) FROM salvage") == 0
    assert len(car.what("gap")) == 1


def test_heads_that_a_rotten_entry_parts_are_not_sent(car):
    """The proof between them would be wrong: to the region, a car that rewrote its history."""
    region = Region()
    car.vault.seal(draft())
    car.tick(61)
    region.drain(car.vault)
    cosigned = region.cosign(car.vault.checkpoint())
    assert car.vault.receipt(region.receipt([], cosigned=cosigned))[1]
    log = car.vault._log.log
    index = [car.vault.seal(draft()) for _ in range(3)][1]
    car.vault._scribe.sign()
    rot_entry(car, index)
    assert car.vault.checkpoint() is None
    car.tick()
    assert [gap.log for gap in car.what("gap")] == [log]


def test_planted_proof_over_a_rotten_entry_is_found(car, monkeypatch):
    monkeypatch.setattr("agent.vault.outbound._leads", lambda *_: True)
    with pytest.raises(AssertionError):
        test_heads_that_a_rotten_entry_parts_are_not_sent(car)


def test_expiry_follows_the_regions_time_alone(car):
    region = Region()
    for keep_s in (0, 60, 3600):
        car.vault.seal(draft(keep_s=keep_s))
    car.wall_ns += 10**9 * 86_400 * 300  # a wall clock that is wrong deletes nothing
    car.tick(120)
    assert car.what("drop") == []
    log = car.vault._log.log
    car.vault.receipt(region.receipt([(log, 0, b"x" * 32)], unix_ns=world.NOW_NS))
    car.tick(61)  # retention counts from when the time is known
    assert car.what("drop") == []
    car.tick(61)
    (drop,) = car.what("drop")
    assert (drop.reason, drop.range[0].first) == (ledger_pb2.Drop.EXPIRED, 4)
    index = car.vault.seal(draft(keep_s=10))
    car.tick(61)
    assert car.what("drop")[-1].range[0].first == index
    assert car.vault._spool.one("SELECT count(*) FROM body") == 3


def test_confirmed_sessions_go_with_their_last_segment(car):
    """T85, the other end: nothing is kept for ever."""
    region = Region()
    car.vault.seal(draft(keep_s=60))
    region.drain(car.vault)
    car.tick(700)
    assert car.vault._spool.one("SELECT count(*) FROM body WHERE i=2") == 1  # still the live one
    car.tick(3600)
    car.tick(700)
    assert car.vault._spool.one("SELECT count(*) FROM body") == 0


def test_a_policy_is_uploaded_with_its_bytes(car):
    index = car.vault.record(ledger_pb2.PolicyInForce(name="p", version=3), b"compiled")
    upload = car.vault.take(10, world.MIB, {})[0][index].upload
    assert upload.body == b"compiled"
    assert len(ledger_pb2.Entry.FromString(upload.entry).policy.body) == 32


def test_starting_again_under_one_policy_stores_it_once(car):
    """A car is started ten thousand times; its policy is not stored ten thousand times."""
    started, installed = (
        ledger_pb2.PolicyInForce(name="p", version=3, why=why) for why in ("started", "installed")
    )
    car.vault.decide_by(started, b"compiled")
    for _ in range(3):
        car.shut()
        car.start()
        car.vault.decide_by(started, b"compiled")
    assert [policy.why for policy in car.what("policy")] == ["started"]
    car.vault.decide_by(installed, b"another")
    car.shut()
    car.start()
    car.vault.decide_by(started, b"compiled")  # the one before, put back
    assert [policy.why for policy in car.what("policy")] == ["started", "installed", "started"]


def test_two_agents_do_not_share_a_folder(car):
    with pytest.raises(SpoolError, match="another agent"):
        Car(car.folder)


def test_a_quota_that_cannot_work_is_refused(folder):
    with pytest.raises(SpoolError, match="too small"):
        Car(folder, quota=world.MIB)


def test_a_newer_spool_is_left_alone(car):
    car.shut()
    with sqlite3.connect(car.database) as connection:
        connection.execute("PRAGMA user_version=99")
    connection.close()
    with pytest.raises(SpoolError, match="newer agent"):
        car.start()


def test_a_header_is_bound_to_its_place(car):
    """A body moved to another index opens nowhere: the ledger names its hash and it names i."""
    car.vault.seal(draft())
    car.vault.seal(draft())
    bodies = [car.vault._spool.one("SELECT blob FROM body WHERE i=?", (i,)) for i in (2, 3, 4)]
    reader = opening.open_session(bodies[0], world.PRIVATES)
    assert opening.parse_segment(bodies[2])[1].index == 4
    with pytest.raises(SealError):
        reader.open_segment(bodies[1][:40] + bodies[2][40:])
    with car.vault._spool.write() as transaction:
        transaction.run("UPDATE body SET blob=? WHERE i=3", (bodies[2],))
    assert [o.upload.index for o in car.vault.take(10, world.MIB, {})[0]] == [0, 1, 2, 4]


def test_pragmas_took(car):
    for spool in (car.vault._spool, car.vault._second):
        for name, value in (
            ("journal_mode", "wal"), ("synchronous", 2), ("page_size", 4096), ("secure_delete", 0),
            ("cell_size_check", 1), ("trusted_schema", 0), ("temp_store", 2),
        ):  # fmt: skip
            assert spool.one(f"PRAGMA {name}") == value
    with pytest.raises(SpoolError, match="keeps page_size"):
        car.vault._spool._pragma("page_size", 8192)
