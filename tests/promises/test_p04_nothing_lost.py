"""P4: what seal() acknowledged is there after any kill, and no loss is silent."""

import os
import random
import signal
import struct
import threading

import pytest

from agent.pb import ledger_pb2
from agent.vault import tree
from tests.vault import world
from tests.vault.world import Car, Region, draft

ACK = struct.Struct(">Q32s")


def child(folder, pipe, seed, bug):
    """The agent under load: one thread seals and acknowledges, one uploads and confirms."""
    random.seed(seed)
    car = Car(folder)
    if bug:
        car.vault._spool.connection.execute("PRAGMA synchronous=OFF")
        car.vault._spool.connection.execute("BEGIN")  # "one commit at the end is faster"
        real = car.vault._spool.connection

        class Lazy:
            def __getattr__(self, name):
                return getattr(real, name)

            def execute(self, sql, values=()):
                if sql in ("BEGIN IMMEDIATE", "COMMIT") or "synchronous" in sql:
                    sql, values = "SELECT 1", ()
                return real.execute(sql, values)

        car.vault._spool.connection = Lazy()
    region = Region()

    def hatch():
        while True:
            batch, _ = car.vault.take(5, world.MIB, {})
            done = region.take(batch)
            car.vault.receipt(region.receipt(done))

    if not bug:
        threading.Thread(target=hatch, daemon=True).start()
    while True:
        index = car.vault.seal(draft(random.randrange(100, 20_000), lane=random.randrange(4)))
        entry = car.vault._spool.one("SELECT entry FROM ledger WHERE i=?", (index,))
        os.write(pipe, ACK.pack(index, tree.leaf_hash(entry)))
        car.tick(20)


def life(folder, seed, bug=False):
    """Start it, read so many acknowledgements, kill -9 it; returns all that it acknowledged."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            child(folder, write, seed, bug)
        finally:
            os._exit(1)
    os.close(write)
    raw, wanted = b"", random.Random(seed).randrange(1, 40) * ACK.size
    while len(raw) < wanted:
        got = os.read(read, 4096)
        assert got, "the agent ended by itself"
        raw += got
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    while got := os.read(read, 65536):
        raw += got
    os.close(read)
    return [ACK.unpack_from(raw, at) for at in range(0, len(raw) - ACK.size + 1, ACK.size)]


def check_life(folder, acknowledged):
    car = Car(folder)
    try:
        assert car.what("gap") == []
        assert car.what("boot")[-1].clean is False
        leaves = [tree.leaf_hash(raw) for (raw,) in car.vault._spool.rows(
            "SELECT entry FROM ledger ORDER BY i"
        )]  # fmt: skip
        bodies = {i for (i,) in car.vault._spool.rows("SELECT i FROM body")}
        for index, leaf in acknowledged:
            assert leaves[index] == leaf
            assert index in bodies
        assert car.vault._log.tree.root() == world.root_of(car.vault)
        assert car.vault._spool.one("PRAGMA integrity_check") == "ok"
        car.tick()
        steps = [
            (row.session, step) for row, step in zip(car.what("segment"), _steps(car), strict=True)
        ]
        assert len(steps) == len(set(steps))  # T28: no step of a session is there twice
    finally:
        car.crash()


def _steps(car):
    for (blob,) in car.vault._spool.rows(
        "SELECT blob FROM body WHERE substr(blob,1,4)=x'69534731' ORDER BY i"
    ):
        yield world.opening.parse_segment(blob)[1].step


def test_kill_9_ten_times_under_load(folder):
    acknowledged = []
    for seed in range(10):
        acknowledged += life(folder, seed)
        check_life(folder, acknowledged)
    assert len(acknowledged) > 50


def test_planted_late_commit_is_found(folder):
    Car(folder).shut()
    acknowledged = life(folder, 0, bug=True)
    with pytest.raises((AssertionError, IndexError)):
        check_life(folder, acknowledged)


def test_every_number_is_accounted_for(folder):
    """Sealed = confirmed + waiting + evicted, over a life with a small quota and a small link."""
    car, region, chosen = Car(folder, quota=3 * world.MIB), Region(), random.Random(4)
    sealed = []
    for _ in range(250):
        sealed.append(
            car.vault.seal(draft(chosen.randrange(100, 30_000), lane=chosen.randrange(4)))
        )
        if chosen.random() < 0.2:
            batch, _ = car.vault.take(6, world.MIB, {})
            if done := region.take(batch):
                car.vault.receipt(region.receipt(done))
        car.tick()
    lost = sum(x.count for x in car.what("loss") if x.cause == ledger_pb2.Loss.SEAL)
    assert (lost > 0) == (None in sealed)
    here = {i for (i,) in car.vault._spool.rows("SELECT i FROM body")}
    gone = {
        i for d in car.what("drop") if d.reason != ledger_pb2.Drop.CONFIRMED
        for r in d.range for i in range(r.first, r.last + 1)
    }  # fmt: skip
    for index in filter(None, sealed):
        arrived = (car.vault._log.log, index) in region.payloads
        assert arrived or index in here or index in gone
    region.drain(car.vault)
    assert len(region.store) == car.vault._log.size  # every leaf went home
    car.shut()
