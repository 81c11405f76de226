"""The owner's export, on the vault's own spool: whole, read only, and never in the agent's way."""

from __future__ import annotations

import errno
import functools
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.errors import ConfigError, SpoolError, SpoolFullError, UndecidedError
from agent.evidence import bundle as bundle_module
from agent.evidence.bundle import Asked
from agent.evidence.bundle_source import BundleSource
from agent.evidence.disclosure import Disclosure
from agent.evidence.leaving_out import LEFT_OUT
from agent.evidence.opening import REGIONS, open_segments
from agent.evidence.selection import AFTER_NS, Request, find
from agent.evidence.verifier import verify
from agent.owner.export import Order, Progress, export
from agent.owner.spool_ledger import SpoolLedger, open_ledgers
from agent.owner.witness import Witness
from agent.pb import ledger_pb2, sealed_pb2
from agent.policy.build import build_policy
from agent.region import RegionCard
from agent.vault import keys, tree
from tests.owner.long import START_NS, STEP_NS, VEHICLE, WITNESS, make_spool
from tests.vault import world
from tests.vault.world import MIB, NOW_NS, Car, Region, draft

MADE = "2026-12-01T08:00:00Z"
S = 10**9
CARD = RegionCard(
    "urn:inland:region:x", "h", 1, (), (), (),
    (world.RECEIPT.public_key().public_bytes_raw(),), (world.WITNESS.text(),), world.REGION[1],
)  # fmt: skip


def rule(name: str, category: str, recipients: str) -> str:
    return f"""
[[collect]]
id = "{name}"
category = "{category}"
purpose = "diagnostics_repair"
basis = "law:GB/T 32960"
necessity = "a test"
frames = ["can0:0x100"]
keep = "1d"
recipients = "{recipients}"
"""


HEAD = 'policy = "p"\nversion = 1\nregion = "x"\nnot_after = 2099-12-31\n'
TEXT = (
    HEAD + rule("a", "vehicle.state", "region") + rule("b", "powertrain", "shared")
    + rule("c", "vehicle.state", "shared") + rule("d", "powertrain", "owner")
)  # fmt: skip


@functools.cache
def policy() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "p.toml"
        path.write_text(TEXT)
        return build_policy(path)


def decide(car: Car) -> None:
    car.vault.decide_by(ledger_pb2.PolicyInForce(name="p", version=1, why="installed"), policy())


@pytest.fixture
def car(folder: Path) -> Iterator[Car]:
    made = Car(folder)
    decide(made)
    yield made
    if not made.vault._is_closed:
        made.shut()


def fill(
    car: Car, count: int = 6, recipients: int = sealed_pb2.SHARED, **more: object
) -> list[int]:
    found = []
    for number in range(count):
        one = draft(300, recipients=recipients, seed=number, **more)
        one = replace(one, policy=tree.sha256(policy()))
        found.append(car.vault.seal(one))
        car.tick(10)
    return found  # type: ignore[return-value]


def witness(car: Car, region: Region):  # type: ignore[no-untyped-def]
    """As the running agent and a region do, at once."""

    def ask(_: SpoolLedger) -> Witness:
        car.vault._scribe.sign()
        if (upload := car.vault.checkpoint()) is not None:
            note = region.cosign(upload)
            assert car.vault.receipt(region.receipt([], cosigned=note))[1]
        size = car.vault._log.size
        return Witness(size, size, "")

    return ask


def nobody(_: SpoolLedger) -> Witness:
    return Witness(None, 0, "the agent does not run")


def order(car: Car, out: Path, asked: Asked = Asked()) -> Order:  # noqa: B008 - frozen
    return Order(car.folder, out, CARD, world.VEHICLE, asked, MADE)


def written(out: Path) -> Path:
    [folder] = out.iterdir()
    return folder


def test_all_that_is_kept_is_exported_intact(car: Car, tmp_path: Path):
    fill(car)
    done = export(order(car, tmp_path), ask_witness=witness(car, Region()))
    assert done.folder.name == "car-00000001-20261201T080000Z.inland"
    assert (done.result["verdict"], done.result["missing"], done.unread) == (0, [], 0)
    assert done.result["presence"] == {"shared, routine": {"here": 6}}
    assert done.result["card"]
    assert verify(done.folder)["verdict"] == 0


def test_the_owner_opens_what_was_exported(car: Car, tmp_path: Path):
    fill(car, 3)
    fill(car, 2, sealed_pb2.REGION)
    fill(car, 2, sealed_pb2.OWNER)
    folder = export(order(car, tmp_path), ask_witness=witness(car, Region())).folder
    source = BundleSource(folder)
    request = Request(source.vehicle)
    opened = open_segments(
        source, find(source, request), request,
        {keys.kid(world.OWNER[1]): world.OWNER[0]}, others=REGIONS,
    )  # fmt: skip
    assert (opened.segments, opened.others, opened.problems) == (5, {"region": 2}, [])


def test_a_time_is_exported_and_nothing_of_another(car: Car, tmp_path: Path):
    fill(car, 60)
    asked = Asked(NOW_NS + 200 * S, NOW_NS + 300 * S)
    done = export(order(car, tmp_path, asked), ask_witness=witness(car, Region()))
    assert (done.result["verdict"], done.result["missing"]) == (0, [])
    [log] = done.result["logs"]
    entries = {e.index: e for e in car.entries()}
    inside = [i for i, e in entries.items()
              if 200 * S <= e.at.unix_ns - NOW_NS <= 300 * S + AFTER_NS]  # fmt: skip
    assert (log["first"], log["last"]) == (inside[0], inside[-1])
    assert log["entries"] < len(entries) / 2


def test_a_time_that_is_not_over_goes_to_the_end(car: Car, tmp_path: Path):
    fill(car, 20)
    asked = Asked(NOW_NS, car.wall_ns)
    done = export(order(car, tmp_path, asked), ask_witness=witness(car, Region()))
    assert done.result["verdict"] == 0
    assert done.result["logs"][0]["last"] == len(car.entries()) - 1


def test_what_nobody_has_witnessed_is_undecided(car: Car, tmp_path: Path):
    """The agent has stopped, and the region has not seen the end."""
    region = Region()
    fill(car, 3)
    witness(car, region)(None)  # type: ignore[arg-type]
    fill(car, 3)
    car.crash()
    done = export(order(car, tmp_path), ask_witness=nobody)
    assert done.result["verdict"] == 3
    assert all("no signature of the" in line for line in done.result["missing"])
    assert done.witness.why == "the agent does not run"
    assert done.result["presence"] == {"shared, routine": {"here": 6}}


def test_bodies_that_left_are_explained(car: Car, tmp_path: Path):
    fill(car, 4)
    fill(car, 4, lane=sealed_pb2.RECORDER, recorded=(0, 1))
    assert car.vault.roll(-1) == 4
    done = export(order(car, tmp_path), ask_witness=witness(car, Region()))
    assert done.result["verdict"] == 0
    assert done.result["presence"] == {
        "shared, recorder": {"removed: rolled": 4}, "shared, routine": {"here": 4},
    }  # fmt: skip


def test_what_leaves_in_the_middle_of_an_export_is_explained(car: Car, tmp_path: Path):
    fill(car, 2)
    fill(car, 4, lane=sealed_pb2.RECORDER, recorded=(0, 1))
    rolled = []
    progress = Progress(writing=lambda _: rolled.append(car.vault.roll(-1)))
    done = export(order(car, tmp_path), ask_witness=witness(car, Region()), progress=progress)
    assert rolled == [4]
    assert (done.result["verdict"], done.result["missing"]) == (0, [])
    assert done.result["presence"]["shared, recorder"] == {"removed: rolled": 4}


def test_the_agent_never_waits_for_an_export(car: Car, tmp_path: Path):
    """At every step of it the agent can write, and put its whole write-ahead log away."""
    fill(car, 40)
    checks = []

    def write(_: int) -> None:
        fill(car, 1)
        busy, *_ = car.vault._spool.rows("PRAGMA wal_checkpoint(TRUNCATE)")[0]
        checks.append(busy)

    progress = Progress(reading=write, read=write, writing=write, wrote=write)
    done = export(order(car, tmp_path), ask_witness=witness(car, Region()), progress=progress)
    assert len(checks) > 40
    assert set(checks) == {0}
    assert done.result["presence"] == {"shared, routine": {"here": 40}}
    assert done.result["verdict"] == 0


def test_the_spool_is_not_touched(car: Car, tmp_path: Path):
    fill(car, 5)
    witness(car, Region())(None)  # type: ignore[arg-type]
    car.shut()
    before = {p: p.read_bytes() for p in sorted(car.folder.rglob("*")) if p.is_file()}
    done = export(order(car, tmp_path), ask_witness=nobody)
    assert done.result["presence"] == {"shared, routine": {"here": 5}}
    after = {p: p.read_bytes() for p in sorted(car.folder.rglob("*"))
             if p.is_file() and not p.name.endswith(("-wal", "-shm"))}  # fmt: skip
    assert after == {p: data for p, data in before.items() if p in after}


@pytest.mark.parametrize(
    ("wanted", "left"),
    [
        # What is shared is of rules of both.
        (("powertrain",), {"region, routine": 2, "shared, recorder": 2}),
        (("vehicle.state",), {"owner, routine": 2, "shared, recorder": 2}),
        (("event.record",), {"region, routine": 2, "shared, routine": 2, "owner, routine": 2}),
        (("vehicle.state", "powertrain"), {"shared, recorder": 2}),
    ],
)
def test_categories_leave_out_what_can_only_be_of_others(
    car: Car, tmp_path: Path, wanted: tuple[str, ...], left: dict[str, int]
):
    for recipients in (sealed_pb2.REGION, sealed_pb2.SHARED, sealed_pb2.OWNER):
        fill(car, 2, recipients)
    fill(car, 2, lane=sealed_pb2.RECORDER, recorded=(0, 1))
    done = export(
        order(car, tmp_path, Asked(categories=wanted)), ask_witness=witness(car, Region())
    )
    assert done.result["verdict"] == 0
    found = {
        name: states[f"left out: {LEFT_OUT}"]
        for name, states in done.result["presence"].items()
        if f"left out: {LEFT_OUT}" in states
    }
    assert found == left


def test_a_category_that_is_none_is_refused(car: Car, tmp_path: Path):
    with pytest.raises(ConfigError, match="no category 'engine'"):
        export(order(car, tmp_path, Asked(categories=("engine",))), ask_witness=nobody)
    assert list(tmp_path.iterdir()) == []


def damage(path: Path, what: bytes) -> None:
    """Put noise over the page in which something stands, as a bad block does."""
    data = path.read_bytes()
    with path.open("r+b") as file:
        file.seek(data.index(what) // 4096 * 4096)
        file.write(b"\xa5" * 4096)


def test_a_log_in_quarantine_comes_along(car: Car, tmp_path: Path):
    """A damaged file was put aside; what is still good of it, and the log that goes on."""
    region = Region()
    ask = witness(car, region)
    fill(car, 10)
    ask(None)  # type: ignore[arg-type]
    car.shut()
    with sqlite3.connect(car.database) as database:  # one row of it is another's
        database.execute("UPDATE checkpoint SET note = 'none' WHERE cosigned IS NULL")
        database.execute("INSERT INTO checkpoint VALUES(999, 'x', NULL)")
    database.close()
    car.start()
    decide(car)
    fill(car, 3)
    done = export(order(car, tmp_path), ask_witness=witness(car, region))
    assert len(done.result["logs"]) == 2
    assert sum(log["entries"] for log in done.result["logs"]) > 13
    assert done.result["presence"]["shared, routine"]["here"] == 13
    assert (done.result["verdict"], done.result["missing"]) == (0, [])


def test_a_file_full_of_noise_is_a_log_that_cannot_be_read(car: Car, tmp_path: Path):
    fill(car, 3)
    (car.folder / "quarantine" / "0001").mkdir(parents=True)
    (car.folder / "quarantine" / "0001" / "spool.db").write_bytes(os.urandom(40_000))
    done = export(order(car, tmp_path), ask_witness=witness(car, Region()))
    assert done.result["presence"] == {"shared, routine": {"here": 3}}
    assert len(open_ledgers(car.folder)) == 1


@pytest.mark.parametrize("table", ["ledger", "body"])
def test_holes_of_a_damaged_log_are_named(car: Car, tmp_path: Path, table: str):
    """The agent went on with another log. A body that is gone with its log is explained by that."""
    region = Region()
    fill(car, 300)
    witness(car, region)(None)  # type: ignore[arg-type]
    column = "entry" if table == "ledger" else "blob"
    [row] = car.vault._spool.rows(f"SELECT {column} FROM {table} WHERE i = 150")
    car.vault._spool.checkpoint_wal()
    car.crash()
    damage(car.database, row[0][-40:])
    car.start()
    decide(car)
    fill(car, 3)
    done = export(order(car, tmp_path), ask_witness=witness(car, region))
    old = car.what("gap")[0].log.hex()[:16]
    problems = done.result["altered"] + done.result["missing"]
    states = done.result["presence"]["shared, routine"]
    assert states["here"] > 200
    assert (done.result["verdict"] == 0) == (table == "body")
    assert all(f"log {old}" in line for line in problems)
    if table == "body":
        assert states["lost with its log"] > 0
        assert states["lost with its log"] + states["here"] == 303
    else:
        assert any("neither here nor covered" in line for line in done.result["missing"])
    assert verify(done.folder)["verdict"] == done.result["verdict"]


def spoil(car: Car) -> None:
    """Damage the newest entries of the agent's file, and let it go on with another."""
    car.vault._spool.checkpoint_wal()
    [row] = car.vault._spool.rows("SELECT blob FROM body ORDER BY i DESC LIMIT 1")
    car.crash()
    damage(car.database, row[0][-40:])
    car.start()
    decide(car)


@pytest.fixture
def damaged(car: Car, region: Region) -> tuple[Car, bytes]:
    """A car whose spool was damaged twice, and the first of its logs: its file is gone."""
    fill(car, 1)
    region.drain(car.vault)  # the session is confirmed, and waits no more
    fill(car, 40)
    witness(car, region)(None)  # type: ignore[arg-type]
    spoil(car)
    first = car.what("gap")[0].log
    fill(car, 40)
    witness(car, region)(None)  # type: ignore[arg-type]
    spoil(car)
    fill(car, 3)
    return car, first


@pytest.fixture
def region() -> Region:
    return Region()


def test_what_was_carried_over_of_a_log_before_comes_along(
    damaged: tuple[Car, bytes], region: Region, tmp_path: Path
):
    """Its file is gone, so nothing proves it, and that is said of it; the rest is proved."""
    car, first = damaged
    assert first not in [ledger.log for ledger in open_ledgers(car.folder)]
    done = export(order(car, tmp_path), ask_witness=witness(car, region))
    stem = first[:8].hex()
    told = json.loads((done.folder / "bundle.json").read_text())["logs"][stem]
    assert told["carried"]
    assert told["bodies"] > 30
    assert (done.result["verdict"], done.result["altered"]) == (3, [])
    [line] = [line for line in done.result["missing"] if "carried over" in line]
    assert f"log {stem}" in line
    assert "nothing here proves them" in line
    assert all(f"log {stem}" in line for line in done.result["missing"])
    # What waited for the region has its session with it, and opens.
    source = BundleSource(done.folder)
    request = Request(source.vehicle, log=stem)
    opened = open_segments(
        source, find(source, request), request, {keys.kid(world.OWNER[1]): world.OWNER[0]},
        others=REGIONS,
    )  # fmt: skip
    assert opened.segments > 30
    assert (opened.frame_count > 1000, opened.problems) == (True, [])


def test_what_was_carried_over_and_altered_is_named(
    damaged: tuple[Car, bytes], region: Region, tmp_path: Path
):
    car, first = damaged
    done = export(order(car, tmp_path), ask_witness=witness(car, region))
    path = done.folder / f"{first[:8].hex()}.bodies"
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    path.write_bytes(data)
    result = verify(done.folder)
    assert result["verdict"] == 1
    assert any("its body is not the one" in line for line in result["altered"])


def test_a_bundle_that_calls_a_log_carried_over_is_never_intact(car: Car, tmp_path: Path):
    """bundle.json is not believed: the word can only take away from what is proved."""
    fill(car, 3)
    done = export(order(car, tmp_path), ask_witness=witness(car, Region()))
    [stem] = [path.stem for path in done.folder.glob("*.entries")]
    told = json.loads((done.folder / "bundle.json").read_text())
    told["logs"][stem]["carried"] = True
    (done.folder / "bundle.json").write_text(json.dumps(told))
    result = verify(done.folder)
    assert (result["verdict"], result["altered"]) == (3, [])
    assert "nothing here proves them" in result["missing"][0]


def grown(folder: Path, count: int) -> float:
    """Bytes of memory at the most that a bundle takes to write, check and read."""
    state = folder / str(count)
    make_spool(state, count)
    card = replace(CARD, cosign_keys=(WITNESS.text(),))
    one = Order(state, state, card, VEHICLE, Asked(), MADE)
    tracemalloc.start()
    try:
        done = export(one, ask_witness=lambda _: Witness(count, count, ""))
        assert (done.result["verdict"], done.result["missing"]) == (0, [])
        source = BundleSource(done.folder)
        last_ns = START_NS + count * STEP_NS
        found = find(source, Request(VEHICLE, from_ns=last_ns - 10 * STEP_NS, to_ns=last_ns))
        assert len(found) == 10
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def per_entry(folder: Path) -> float:
    few, many = (grown(folder, count) for count in (2_000, 8_000))
    return (many - few) / 6_000


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """To write verify.py takes more memory than some thousand entries."""
    monkeypatch.setattr(bundle_module, "verify_py", lambda: b"")


@pytest.mark.slow
@pytest.mark.usefixtures("bare")
def test_a_log_may_be_longer_than_memory(tmp_path: Path):
    """What is held for an entry is a place in a file, not the entry."""
    assert per_entry(tmp_path) < 200


@pytest.mark.slow
@pytest.mark.usefixtures("bare")
def test_holding_the_entries_would_be_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The planted bug: what is disclosed is held while it is written."""
    streaming = Disclosure.stored
    monkeypatch.setattr(Disclosure, "stored", lambda self: iter(list(streaming(self))))
    assert per_entry(tmp_path) > 200


def test_no_ledger_is_undecided(tmp_path: Path):
    with pytest.raises(UndecidedError, match="no ledger"):
        export(Order(tmp_path, tmp_path, CARD, "v", Asked(), MADE), ask_witness=nobody)


@pytest.mark.parametrize(
    ("number", "kind", "words"),
    [
        (errno.ENOSPC, SpoolFullError, "no room for the bundle: nothing was written"),
        (errno.EIO, SpoolError, "cannot be written"),
        (errno.EROFS, SpoolError, "cannot be written"),
    ],
)
@pytest.mark.parametrize("after", [0, 3, 9])
def test_a_stick_that_fails_leaves_nothing_half(
    car: Car, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    number: int, kind: type[SpoolError], words: str, after: int,
):  # fmt: skip
    fill(car)
    left = [after]

    def failing(*arguments: object) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(number, os.strerror(number))
        real(*arguments)

    real = bundle_module._record
    monkeypatch.setattr(bundle_module, "_record", failing)
    with pytest.raises(kind, match=words):
        export(order(car, tmp_path), ask_witness=witness(car, Region()))
    assert list(tmp_path.iterdir()) == []


def test_a_stick_that_is_really_full(car: Car, tmp_path: Path):
    stick = tmp_path / "stick"
    stick.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", stick], check=False,
        capture_output=True,
    )  # fmt: skip
    if mounted.returncode:
        pytest.skip("may not mount here")
    try:
        fill(car, 40)
        with pytest.raises(SpoolFullError, match="no room"):
            export(order(car, stick), ask_witness=witness(car, Region()))
        assert list(stick.iterdir()) == []
    finally:
        subprocess.run(["umount", stick], check=True)


def test_an_export_that_is_cut_short_is_swept_by_the_next(car: Car, tmp_path: Path):
    fill(car, 2)
    (tmp_path / ".car-00000001-20261201T080000Z.inland.part").mkdir()
    export(order(car, tmp_path), ask_witness=witness(car, Region()))
    assert len(list(tmp_path.iterdir())) == 1


AS_ANOTHER = """
import os, sys
from functools import partial
from pathlib import Path
from agent.evidence.bundle import Asked
from agent.owner.export import export
from agent.service.acting import Owner, acting_as
from tests.owner.test_export import CARD, MADE, Order, nobody, world
owner = Owner(65534, 65534)
order = Order(Path(sys.argv[1]), Path(sys.argv[2]), CARD, world.VEHICLE, Asked(), MADE)
seen = []
done = export(order, ask_witness=nobody, acting=partial(acting_as, owner))
assert os.geteuid() == 0 and os.getegid() == 0
print(done.folder)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root acts for others")
def test_root_reads_as_the_owner_of_the_folder_and_writes_as_root(car: Car, tmp_path: Path):
    """The agent's folder gets no file of root's, and the stick is root's to write."""
    fill(car, 3)
    car.crash()
    for path in (car.folder, *car.folder.rglob("*")):
        os.chown(path, 65534, 65534)
    car.folder.parent.chmod(0o711)
    out = tmp_path / "stick"
    out.mkdir(mode=0o700)
    done = subprocess.run(
        [sys.executable, "-c", AS_ANOTHER, car.folder, out],
        capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert written(out).owner() == "root"
    assert {path.stat().st_uid for path in (car.folder, *car.folder.rglob("*"))} == {65534}


@pytest.mark.slow
def test_half_an_hour_of_a_full_bus_is_exported_within_a_minute(folder: Path, tmp_path: Path):
    """7.2 million frames through the vault as capture gives them to it, 4,000 in a segment."""
    import time

    import numpy as np

    from tests.bench.synth import synth

    car = Car(folder, quota=512 * MIB)
    decide(car)
    frames, region = synth(16 * 4000, seed=3), Region()
    for second in range(1800):
        part = frames[second % 16 * 4000 : second % 16 * 4000 + 4000].copy()
        part["timestamp_ns"] += np.int64(second) * S
        car.vault.seal(replace(draft(8), frames=part, policy=tree.sha256(policy()),
                               recipients=sealed_pb2.SHARED))  # fmt: skip
        car.tick(1)
        if second % 60 == 59:
            witness(car, region)(None)  # type: ignore[arg-type]
    begun = time.process_time()  # of CPU, as in test_half_an_hour.py
    done = export(order(car, tmp_path), ask_witness=witness(car, region))
    exported = time.process_time()
    assert verify(done.folder)["verdict"] == 0
    verified = time.process_time()
    assert done.result["presence"] == {"shared, routine": {"here": 1800}}
    print(f"exported {exported - begun:.2f} s, verified {verified - exported:.2f} s")
    assert exported - begun < 60
    assert verified - exported < 5
    car.shut()
