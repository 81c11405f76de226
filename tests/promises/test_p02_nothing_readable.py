"""P2: nothing readable on the disk, and no key that opens what is stored."""

import random

import pytest

from agent.pb import ledger_pb2, sealed_pb2, segment_pb2
from agent.vault import scribe
from tests.vault import world
from tests.vault.world import Car, Region, draft


class Watch:
    """Reads every file below a folder and knows what must be in none of them."""

    def __init__(self, folder):
        self.folder, self.secrets = folder, {}

    def rng(self, count):
        data = random.SystemRandom().randbytes(count)
        if count == 32:  # session secrets and salts
            self.secrets[data] = "a session secret or a salt"
        return data

    def look(self):
        files = [path for path in self.folder.rglob("*") if path.is_file()]
        assert {"spool.db", "spool.db-wal"} <= {path.name for path in files} or self.closed
        for path in files:
            raw = path.read_bytes()
            for secret, what in self.secrets.items():
                assert secret not in raw, f"{what} in {path.name}"

    closed = False


@pytest.fixture
def watched(tmp_path, empty_spool, monkeypatch):
    """A car whose payloads hold a marker as it is, 40 times, so that no codec hides it."""
    folder = world.fresh(tmp_path / "state", empty_spool)
    watch = Watch(tmp_path)
    marker = random.SystemRandom().randbytes(16)
    watch.secrets[marker] = "a frame's data"
    monkeypatch.setattr(
        scribe,
        "encode_payload",
        lambda draft, *, salt, boot_id: segment_pb2.SegmentPayload(
            salt=salt, boot_id=boot_id, frames=marker * 40
        ).SerializeToString(),
    )
    monkeypatch.setattr("tests.vault.world.random.randbytes", watch.rng)
    for name in ("TMPDIR", "SQLITE_TMPDIR"):
        monkeypatch.setenv(name, str(tmp_path))
    return Car(folder, quota=4 * world.MIB), watch, marker


def run(car, watch):
    """A life with everything in it: lanes, sessions, evictions, restarts, quarantine."""
    region = Region()
    for n in range(120):
        lane, recipients = n % 4, (sealed_pb2.REGION, sealed_pb2.SHARED, sealed_pb2.BOTH)[n % 3]
        car.vault.seal(draft(40, lane=lane, recipients=recipients))
        if n % 30 == 29:
            watch.look()
            car.tick(1900)
            region.drain(car.vault)
    car.crash()
    car.start()
    car.vault.seal(draft(40))
    watch.look()
    assert len(region.payloads) >= 60
    car.shut()
    watch.closed = True
    watch.look()
    raw = bytearray(car.database.read_bytes())
    raw[:4096] = bytes(4096)
    car.database.write_bytes(raw)
    car.start()  # quarantine and salvage
    assert car.what("gap")
    watch.look()
    car.shut()
    watch.look()


def test_markers_and_secrets_are_in_no_file(watched):
    car, watch, _ = watched
    run(car, watch)
    assert len(watch.secrets) > 120


@pytest.mark.parametrize("leak", ["payload", "secret"])
def test_planted_leaks_are_found(watched, monkeypatch, leak):
    car, watch, _ = watched
    real = scribe.seal.seal_segment

    def careless(session, header, payload):
        spilt = payload if leak == "payload" else next(s for s in watch.secrets if len(s) == 32)
        return real(session, header, payload) + spilt

    monkeypatch.setattr(scribe.seal, "seal_segment", careless)
    with pytest.raises(AssertionError, match=r" in spool\.db"):
        run(car, watch)
    car.shut()


def test_the_ledger_tells_no_content(watched):
    """Entries say when, whose session, how many bytes; the plain hash is salted."""
    car, _, marker = watched
    car.vault.seal(draft(40))
    car.vault.seal(draft(40))
    segments = car.what("segment")
    assert segments[0].plain != segments[1].plain
    assert {f.name for f in ledger_pb2.SegmentSealed.DESCRIPTOR.fields} == {
        "body", "plain", "session", "lane", "bytes",
    }  # fmt: skip
    assert marker not in b"".join(e.SerializeToString() for e in car.entries())
    car.shut()


def test_the_daemon_cannot_open_what_it_sealed():
    """Nothing that capture imports can open: opening.py is the station's."""
    import subprocess
    import sys

    code = "import agent.vault.vault, sys; print('agent.vault.opening' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr
