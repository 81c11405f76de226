"""The way of one frame on real parts: log, capture, hatch, uplink, Mosquitto, station, open."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from agent.capture.logs import read_log
from agent.evidence.selection import Request
from agent.frames import FRAME, ChannelTable, concatenate
from agent.policy.build import build_policy
from agent.policy.store import install
from agent.station.authority import RegionFolder, load_region
from agent.station.disclose import Order, disclose
from agent.station.enrollment import enroll_vehicle
from agent.station.store import Store
from tests import candump
from tests.bench.synth import synth
from tests.rig import EVERYTHING, INLAND, Rig, needs_mosquitto, rig, wait_for

DATA = Path(os.environ.get("INLAND_DATA", Path(__file__).resolve().parents[2] / "shared/data"))
needs_data = pytest.mark.skipif(
    not DATA.is_dir(), reason="needs recorded logs: set INLAND_DATA to their folder"
)


def mixed_log(frames: int, seed: int) -> list[str]:
    """Every kind of frame on two buses: equal stamps, stamps that run back, 0 to 64 bytes."""
    rng = random.Random(seed)
    now_us, found = 1_700_000_000_000_000, []
    for _ in range(frames):
        now_us += rng.choice((0, 0, 37, 250, 250, 1000, -400))
        stamp = f"({now_us // 10**6}.{now_us % 10**6:06d})"
        channel = rng.choice(("can0", "can1"))
        extended = rng.random() < 0.4
        identifier = (
            f"{rng.randrange(1 << 29):08X}" if extended else f"{rng.randrange(1 << 11):03X}"
        )
        kind = rng.random()
        if kind < 0.6:
            text = f"{identifier}#{rng.randbytes(rng.randrange(9)).hex().upper()}"
        elif kind < 0.85:
            size = rng.choice((0, 1, 7, 8, 12, 16, 20, 24, 32, 48, 64))
            text = f"{identifier}##{rng.randrange(4)}{rng.randbytes(size).hex().upper()}"
        elif kind < 0.95:
            text = f"{identifier}#R{rng.choice(('', '1', '8'))}"
        else:
            text = f"{0x20000000 | rng.randrange(0x200):08X}#{rng.randbytes(8).hex().upper()}"
        found.append(f"{stamp} {channel} {text}")
    return found


@needs_mosquitto
@pytest.mark.timeout(170)
def test_frames_in_equal_frames_out(tmp_path: Path):
    """Every kind of frame, byte for byte, in order, with its recorded stamp."""
    with rig(tmp_path) as made:
        made.policy()
        expected = mixed_log(5_000, seed=1)
        (tmp_path / "in.log").write_text("\n".join(expected) + "\n", "ascii")
        made.play(tmp_path / "in.log")
        assert made.opened() == expected
        ledger = json.loads(made.inland("station", "ls", str(made.region), "--json"))
        assert json.dumps(ledger)
        # Playing it again is another run of the same car: it comes after the first.
        made.play(tmp_path / "in.log")
        assert made.opened() == expected * 2


@needs_mosquitto
@pytest.mark.timeout(170)
def test_marker_is_found_in_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """P2: a marker put on the bus stands in no file of the car, while it runs and afterwards.

    16 random bytes in CAN FD frames, and each half of them in classic frames. Looked at are all
    files of car and region: spool, write-ahead log, logs, and whatever went to TMPDIR.
    """
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    marker = os.urandom(16)
    markers = [marker, marker[:8], marker[8:]]
    texts = [f"##1{marker.hex()}", f"#{marker[:8].hex()}", f"#{marker[8:].hex()}"]
    with rig(tmp_path) as made:
        made.policy()
        lines = [
            f"({1700000000 + i / 1000:.6f}) can0 123{texts[i % 3].upper()}" for i in range(9000)
        ]
        log = tmp_path / "in.log"
        log.write_text("\n".join(lines) + "\n", "ascii")
        made.bus(name="log", interface="log", channel=str(log), speed="max")
        made.start("capture", "capture", "--config", str(made.config), "--verbose")
        wait_for(
            lambda: (s := made.status()) and s["frames"]["kept"] == 9000, 60, "all frames kept"
        )
        wait_for(lambda: found_in(made, markers, log) == [], 1, "no marker while running")
        made.start("uplink", "uplink", "--config", str(made.config), "--verbose")
        wait_for(
            lambda: (
                (s := made.status()) and s["receipts"] and not sum(s["spool"]["pending"].values())
            ),
            60,
            "everything receipted",
        )
        assert found_in(made, markers, log) == []
        made.kill("capture", 15)
        assert found_in(made, markers, log) == []
        assert made.opened() == lines
        # What the region has opened stands in a file, and there the search does find it.
        assert found_in(made, markers, log) == [str(tmp_path / "opened.log")]


@needs_mosquitto
@pytest.mark.timeout(170)
def test_nanoseconds_and_stamps_before_1970(tmp_path: Path):
    """What the text of `open` rounds to microseconds is stored to the nanosecond."""
    rng = random.Random(4)
    stamps = [rng.randrange(-3 * 10**9, 3 * 10**9) for _ in range(3000)]
    lines = [
        f"({'-' * (ns < 0)}{abs(ns) // 10**9}.{abs(ns) % 10**9:09d}) can0 123#{i:08X}"
        for i, ns in enumerate(stamps)
    ]
    (tmp_path / "in.log").write_text("\n".join(lines) + "\n", "ascii")
    with rig(tmp_path) as made:
        made.policy(EVERYTHING.replace('"1us"', '"1ns"'))
        made.play(tmp_path / "in.log")
        region = load_region(made.region)
        order = Order(
            Request(made.vehicle), None, None, who="a test", reason="exact stamps", at="now"
        )
        opened = disclose(region, order)
        assert opened.problems == []
        got = np.concatenate([batch["timestamp_ns"] for _, batch in opened.frames])
        assert got.tolist() == stamps
        text = made.opened()
    seconds = [float(line[1:].split(")")[0]) for line in text]
    assert seconds == [ns // 1000 / 1e6 for ns in stamps]


def found_in(made: Rig, markers: list[bytes], *known: Path) -> list[str]:
    """Files below the rig's folder, but for the known ones, that hold a marker, raw or in hex."""
    needles = [form for m in markers for form in (m, m.hex().encode(), m.hex().upper().encode())]
    files = [path for path in made.folder.rglob("*") if path.is_file() and path not in known]
    assert any("spool" in path.name for path in files)
    return [str(p) for p in files if any(needle in p.read_bytes() for needle in needles)]


@pytest.mark.slow
@needs_mosquitto
@pytest.mark.timeout(170)
def test_second_agent_on_the_same_state_is_refused(tmp_path: Path):
    """One line, exit 75, and the first goes on."""
    with rig(tmp_path, broker=False) as made:
        made.policy()
        made.bus(name="can0", interface="virtual", channel="nobody")
        made.start("capture", "capture", "--config", str(made.config))
        wait_for(made.status, 30, "capture answers")
        said = made.inland("capture", "--config", str(made.config), code=75)
        assert "another agent" in said
        assert len(said.strip().splitlines()) == 1
        assert made.status()


@pytest.mark.timeout(170)
@pytest.mark.parametrize("broker", ["auto", pytest.param("iotcore", marks=pytest.mark.slow)])
def test_demo_loses_nothing(broker: str):
    """`inland demo` on the broker that is there, and on the one that comes with the extra."""
    pytest.importorskip("iotcore", reason="needs the extra inland[demo]")
    done = subprocess.run(
        [*INLAND, "demo", "--seconds", "4", "--json", "--broker", broker],
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["frames_sent"] == result["frames_kept"] == result["frames_opened"] > 1000
    assert result["frames_lost"] == 0
    assert result["frames_transmitted"] == 0  # the agent listens and never speaks
    assert result["segments"] > 3
    assert result["receipts"] > result["segments"]
    assert 0 < result["bytes_per_frame"] < 30


@needs_mosquitto
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_million_frames(tmp_path: Path):
    """A generated drive of a million frames arrives whole, in order."""
    with rig(tmp_path) as made:
        made.policy()
        expected = candump.lines(synth(1_000_000, seed=3), ("can0",))
        (tmp_path / "in.log").write_text("\n".join(expected) + "\n", "ascii")
        made.play(tmp_path / "in.log", timeout=500)
        assert made.opened() == expected


def recorded_logs() -> list[Path]:
    """Every file of the data that a reader gives frames for."""
    manifest = DATA / "MANIFEST.tsv"
    if not manifest.exists():
        return []
    rows = [row.split("\t") for row in manifest.read_text("utf-8").splitlines()[1:]]
    return [DATA / row[0] for row in rows if len(row) > 4 and row[4] not in ("", "0")]


def drive_through(folder: Path, region: RegionFolder, policy: bytes, log: Path) -> str:
    """Play one log through a car of its own; return how what came out differs, if it does."""
    with closing(Store(region.path / "station.db")) as store:
        vehicle = enroll_vehicle(
            region, store, folder, vehicle=None, now=datetime.now(UTC), rng=os.urandom
        )
    install(folder / "state" / "policy", policy)
    with (folder / "agent.toml").open("a", encoding="utf-8") as config:
        bus = {"name": "log", "interface": "log", "channel": str(log), "speed": "max"}
        config.write("[[bus]]\n" + "".join(f"{k} = {json.dumps(v)}\n" for k, v in bus.items()))
    out = folder / "opened.log"
    for command in (
        ["run", "--config", str(folder / "agent.toml"), "--once"],
        ["station", "open", str(region.path), "--vehicle", vehicle, "--frames", str(out)],
    ):
        done = subprocess.run(
            [*INLAND, *command], capture_output=True, text=True, timeout=200, check=False
        )
        if done.returncode:
            return f"{command[0]}: {done.returncode}: {done.stdout}{done.stderr}"
    channels = ChannelTable()
    batches = list(read_log(log, channels, strict=False, on_broken=lambda *_: None))
    batch = concatenate(batches) if batches else np.zeros(0, FRAME)
    expected, opened = candump.lines(batch, channels.names), out.read_text("ascii").splitlines()
    assert expected
    if opened == expected:
        return ""
    first = next((pair for pair in zip(expected, opened, strict=False) if pair[0] != pair[1]), "")
    return f"{len(expected)} in, {len(opened)} out, first difference {first}"


@needs_mosquitto
@needs_data
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_recorded_log(tmp_path: Path):
    """Real cars and a truck, two buses, stamps out of order: in equals out for each log."""
    pytest.importorskip("asammdf", reason="needs the extra inland[mf4]: some logs are MF4")
    logs = recorded_logs()
    with rig(tmp_path) as made:
        region = load_region(made.region)
        (tmp_path / "policy.toml").write_text(EVERYTHING, "utf-8")
        policy = build_policy(tmp_path / "policy.toml")
        with ThreadPoolExecutor(2) as pool:
            found = pool.map(
                lambda job: drive_through(tmp_path / f"car{job[0]}", region, policy, job[1]),
                enumerate(logs),
            )
            different = {
                str(log.relative_to(DATA)): why for log, why in zip(logs, found, strict=True) if why
            }
    assert different == {}
    assert len(logs) > 20


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
