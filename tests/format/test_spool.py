"""A spool that the agent wrote, read by the stranger: frames, samples, history, receipts."""

from __future__ import annotations

import random
import re
import sqlite3
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from agent import frames as f
from agent.capture.queue import Arrival, FrameQueue
from agent.capture.sealer import Sealer
from agent.capture.slot import PolicySlot
from agent.pb.record_pb2 import Record
from agent.policy import store
from agent.policy.build import build_policy
from agent.vault import keys
from agent.vault.segment import Piece
from tests.capture.world import surroundings
from tests.format import make_vectors, stranger, stranger_notes, stranger_records
from tests.vault import world

FORMAT = Path(__file__).parents[2] / "proto" / "FORMAT.md"
DBC = """\
VERSION ""
BU_: Car
BO_ 288 DriveStatus: 8 Car
 SG_ VehicleSpeed : 0|16@1+ (0.01,0) [0|320] "km/h" Car
BO_ 304 BrakeStatus: 8 Car
 SG_ BrakePressure : 15|16@0- (0.1,0) [-10|250] "bar" Car
"""
RULE = """
[[collect]]
id = "{id}"
category = "vehicle.state"
purpose = "diagnostics_repair"
basis = "law:GB/T 32960"
necessity = "a stranger reads it"
keep = "1d"
{what}
"""
POLICY = """
policy = "stranger"
version = 3
region = "x"
not_after = 2098-12-31
dbc = ["car.dbc"]
""" + "".join(
    RULE.format(id=f"r{number}", what=what)
    for number, what in enumerate(
        (
            'frames = ["*:*"]\nrecipients = "region"',
            'recipients = "shared"\nframes = ["can1:*"]\norder=true\ntimestamp_resolution = "1ms"',
            'frames = ["can0:*"]\nrecipients = "owner"',
            'frames = ["can0:*"]\nrecipients = "both"\ntimestamp_resolution = "100us"',
            'signals = ["VehicleSpeed", "BrakePressure"]\nrecipients = "region"\nflush = "2s"',
        )
    )
)
REGION_ALONE = {keys.kid(world.REGION[1]): world.REGION[0]}
RECEIPTS = {keys.kid(key): key for key in (world.RECEIPT.public_key().public_bytes_raw(),)}
Row = tuple[int, str, int, int, int, bytes]


def traffic(rng: random.Random, count: int) -> f.FrameBatch:
    """Frames of every kind on two channels; stamps repeat and step back."""
    kinds = (0, 0, f.EXTENDED, f.REMOTE, f.ERROR, f.FD, f.FD | f.BRS, f.FD | f.ESI | f.EXTENDED)
    rows, stamp = [], world.NOW_NS
    for _ in range(count):
        stamp += rng.choice((0, 0, 1_000, 250_000, 777_777, -3_000, -40_000_000))
        flags = rng.choice(kinds)
        number = rng.choice((0x120, 0x130, 0x131, 0x7FF))
        if flags & f.EXTENDED:
            number |= 0x18FE0000
        length = rng.choice((12, 48, 64)) if flags & f.FD else rng.randrange(9)
        if number in (0x120, 0x130):
            length = 8 if not flags & f.FD else 64
        data = b"" if flags & f.REMOTE else rng.randbytes(length)
        rows.append((stamp, number, rng.randrange(2), flags, length, data))
    return make_vectors.frames(rows, wide=True)


class Reader:
    """A bus that has ended."""

    name, ended = "can0", True

    def losses(self) -> list[tuple[str, int, int]]:
        return [("can1", 5, 1)]

    def set_filters(self, filters: object) -> None:
        pass


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A state folder through capture, policy and vault; receipted and co-signed in parts."""
    folder = tmp_path_factory.mktemp("spool")
    (folder / "policy.toml").write_text(POLICY, "utf-8")
    (folder / "car.dbc").write_text(DBC, "utf-8")
    car, region = world.Car(folder / "state"), world.Region()
    store.install(car.folder / "policy", build_policy(folder / "policy.toml"))
    queue, batches, rng = FrameQueue(100_000), [], random.Random(20)
    sealer = Sealer(
        vault=car.vault,
        queue=queue,
        readers=[Reader()],
        channels=f.ChannelTable(("can0", "can1")),
        slot=PolicySlot(car.folder / "policy", "urn:inland:region:x"),
        moment=car.vault.moment,
        around=surroundings(car.folder),
    )
    receipts = []
    for _ in range(4):
        batches.append(traffic(rng, 300))
        queue.put(Arrival(0, batches[-1]))
        sealer.step()
        sealer.finish()
        car.tick(61)
        done = region.take(car.vault.take(5, world.MIB, {})[0])
        receipts.append(region.receipt(done))
        assert car.vault.receipt(receipts[-1]) == (5, True)
        car.tick(61)
        if (upload := car.vault.checkpoint()) is not None and len(batches) % 2:
            receipts.append(region.receipt([], cosigned=region.cosign(upload)))
            assert car.vault.receipt(receipts[-1]) == (0, True)
    yield SimpleNamespace(
        car=car, receipts=receipts, batches=batches, path=car.folder / "spool" / "spool.db"
    )
    car.shut()


def expected_frames(batches: list[f.FrameBatch], channels: set[str], grid_ns: int) -> list[Row]:
    rows = []
    for row in np.concatenate(batches):
        stamp, channel, number, flags, length, data = make_vectors.listed(
            "frames", row, ("can0", "can1")
        )
        if channel in channels:
            rows.append(
                (stamp // grid_ns * grid_ns, channel, number, flags, length, bytes.fromhex(data))
            )
    return rows


def by_rule(payloads: list[stranger.Message]) -> tuple[dict[frozenset[str], list[Row]], list]:
    """Return the frames by the channels that a rule names, and the samples."""
    frames: dict[frozenset[str], list[Row]] = {}
    samples = []
    for payload in payloads:
        if 7 in payload:
            rows = stranger.frames(payload[7][0])
            assert len(rows) == payload[5][0]
            frames.setdefault(frozenset(row[1] for row in rows), []).extend(rows)
        if 8 in payload:
            samples += stranger.samples(payload[8][0])
    return frames, samples


def expected_samples(batches: list[f.FrameBatch]) -> list[tuple[int, str, str, int]]:
    """The DBC by hand: speed is bytes 0-1, little endian; pressure bytes 1-2, big, signed."""
    out = []
    for stamp, channel, number, flags, _, data in expected_frames(batches, {"can0", "can1"}, 1000):
        if flags & (f.REMOTE | f.ERROR | f.EXTENDED) or number not in (0x120, 0x130):
            continue
        if number == 0x120:
            out.append((stamp, channel, "VehicleSpeed", int.from_bytes(data[:2], "little")))
        else:
            pressure = int.from_bytes(data[1:3], "big", signed=True)
            out.append((stamp, channel, "BrakePressure", pressure))
    return out


def dictionary(path: Path) -> list[str]:
    """Return the names of the signals, from the policy's body in the spool."""
    spool = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    rows = spool.execute("SELECT entry, blob FROM ledger JOIN body USING (i)").fetchall()
    spool.close()
    policy = next(stranger.parse(body) for entry, body in rows if 14 in stranger.parse(entry))
    signals = stranger.parse(policy[5][0])[1]
    return [stranger.parse(signal)[1][0].decode() for signal in signals]


def test_the_region_reads_exactly_what_was_on_the_bus(written: SimpleNamespace) -> None:
    """With the region's key alone, from the live file with its WAL."""
    payloads = [payload for _, payload in stranger.read_spool(written.path, REGION_ALONE)]
    frames, samples = by_rule(payloads)
    both, second = frozenset({"can0", "can1"}), frozenset({"can1"})
    assert set(frames) == {both, second}
    assert frames[both] == expected_frames(written.batches, {"can0", "can1"}, 1000)
    assert frames[second] == expected_frames(written.batches, {"can1"}, 1_000_000)
    names = dictionary(written.path)
    got = [(stamp, channel, names[number], raw) for stamp, channel, number, raw in samples]
    assert got == expected_samples(written.batches)
    assert len(got) > 50


def test_the_owner_reads_what_is_sealed_to_the_owner(written: SimpleNamespace) -> None:
    owner = {keys.kid(world.OWNER[1]): world.OWNER[0]}
    payloads = [payload for _, payload in stranger.read_spool(written.path, owner)]
    frames, samples = by_rule(payloads)
    assert frames[frozenset({"can0"})] == expected_frames(written.batches, {"can0"}, 1000)
    assert set(frames) == {frozenset({"can0"}), frozenset({"can1"})}
    assert samples == []
    together = list(stranger.read_spool(written.path, owner | REGION_ALONE))
    assert len(together) == 5 * len(written.batches)


def test_history_and_receipts_hold(written: SimpleNamespace) -> None:
    entries, heads = stranger_notes.check_log(written.path, world.WITNESS.text())
    witnessed = [head for head in heads if head.time]
    assert len(witnessed) == 2
    assert {head.time for head in witnessed} == {world.NOW_NS // 10**9}
    for receipt in written.receipts:
        assert stranger_notes.check_receipt(receipt, RECEIPTS, entries) == world.NOW_NS


def test_the_tables_are_those_of_the_document(written: SimpleNamespace) -> None:
    section = FORMAT.read_text("utf-8").split("## 12.")[1].split("- **To read it**")[0]
    told = re.findall(r"^\| `(\w+)`²? \| (.*) \|$", section, re.MULTILINE)
    spool = sqlite3.connect(f"file:{written.path}?mode=ro", uri=True)
    names = {row[0] for row in spool.execute("SELECT name FROM sqlite_master WHERE type='table'")}
    assert {name for name, _ in told} == {n for n in names if not n.startswith(("_", "sqlite_"))}
    for name, columns in told:
        real = [row[1] for row in spool.execute(f"PRAGMA table_info({name})")]
        assert re.findall(r"`(\w+)`", columns)[: len(real)] == real
    assert spool.execute("PRAGMA user_version").fetchone() == (3,)
    spool.close()
    folder = written.path.parents[1]
    assert {path.name for path in folder.iterdir()} == {"lock", "ballast", "spool", "policy"}


def test_an_incident_reads_as_it_happened(tmp_path: Path) -> None:
    """The stranger finds the record, what it holds, and that its bodies went home late."""
    car, region = world.Car(tmp_path / "state"), world.Region()
    vault, second = car.vault, 10**9
    sealed = [
        vault.seal(world.draft(99, lane=3, recorded=(n * second, (n + 1) * second)))
        for n in range(6)
    ]
    batch, _ = vault.take(99, world.MIB, {})
    early = region.receipt(region.take(batch))
    assert vault.receipt(early) == (9, True)
    event = Record(event=make_vectors.EVENT)
    record = vault.seal(replace(
        world.draft(8, lane=1), frames=make_vectors.frames([]), records=(event,),
        holds=Piece(second + 1, 3 * second - 1, upload=True),
    ))  # fmt: skip
    _, entry = vault.release(record, state=0)
    batch, _ = vault.take(99, world.MIB, {})
    late = region.receipt(region.take(batch))
    assert set(stranger_records.hollow(early)) == set(sealed)
    assert stranger_records.hollow(late) == []
    entries, _ = stranger_notes.check_log(car.database, world.WITNESS.text())
    assert stranger_records.incident(entries[entry]) == (record, [(sealed[1], sealed[2])], True, 0)
    payloads = dict(stranger.read_spool(car.database, REGION_ALONE))
    [told] = stranger_records.records(payloads[record])
    assert (told["rule"], told["stamp"]) == ("hard-brake", make_vectors.EVENT.stamp_ns)
    spool = sqlite3.connect(f"file:{car.database}?mode=ro", uri=True)
    places = dict(spool.execute("SELECT i, recorded_to FROM item WHERE shelf = 1"))
    spool.close()
    assert places == {sealed[1]: 2 * second, sealed[2]: 3 * second}
    car.shut()


def test_what_waits_is_what_no_receipt_named(written: SimpleNamespace) -> None:
    spool = sqlite3.connect(f"file:{written.path}?mode=ro", uri=True)
    waiting = {row[0] for row in spool.execute("SELECT i FROM item WHERE shelf <= 7")}
    entries = {row[0] for row in spool.execute("SELECT i FROM ledger")}
    spool.close()
    confirmed: set[int] = set()
    for receipt in written.receipts:
        signed = stranger.parse(stranger.parse(receipt)[1][0])
        confirmed |= set(stranger.repeated(signed, 3))
    assert waiting == entries - confirmed
    assert confirmed


def altered(path: Path, to: Path, sql: str) -> Path:
    """Return a copy of the spool in which one statement was run."""
    with sqlite3.connect(path) as source, sqlite3.connect(to) as copy:
        source.backup(copy)
        assert copy.execute(sql).rowcount >= 1
    source.close()
    copy.close()
    return to


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE ledger SET entry = CAST(entry || x'5a00' AS BLOB) WHERE i = 1",
        "DELETE FROM ledger WHERE i = 3",
        "UPDATE checkpoint SET note = replace(note, '/', '-') WHERE cosigned IS NOT NULL",
        "UPDATE checkpoint SET cosigned = note WHERE size = (SELECT min(size) FROM checkpoint)",
    ],
)
def test_altered_history_is_found(written: SimpleNamespace, tmp_path: Path, sql: str) -> None:
    copy = altered(written.path, tmp_path / "copy.db", sql)
    with pytest.raises((stranger.FormatError, ValueError)):
        stranger_notes.check_log(copy, world.WITNESS.text())


def test_altered_bodies_and_receipts_are_found(written: SimpleNamespace, tmp_path: Path) -> None:
    sql = "UPDATE body SET blob = CAST(blob || x'00' AS BLOB) WHERE i = (SELECT max(i) FROM body)"
    copy = altered(written.path, tmp_path / "copy.db", sql)
    with pytest.raises(stranger.FormatError, match="hash of body"):
        list(stranger.read_spool(copy, REGION_ALONE))
    entries, _ = stranger_notes.check_log(written.path, world.WITNESS.text())
    receipt = written.receipts[0]
    for place in (20, len(receipt) - 1):
        with pytest.raises(stranger.FormatError):
            stranger_notes.check_receipt(make_vectors.changed(receipt, place), RECEIPTS, entries)
    with pytest.raises(stranger.FormatError, match="leaf of a receipt"):
        stranger_notes.check_receipt(receipt, RECEIPTS, entries[::-1])
