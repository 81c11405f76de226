"""Bad input through the real commands: one line, the right exit code, and nothing lost."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.vault.scribe import REPEAT_NS
from tests.rig import (
    EVERYTHING,
    INLAND,
    Rig,
    Said,
    ledger_of,
    needs_mosquitto,
    rig,
    typed,
    wait_for,
)

pytestmark = pytest.mark.timeout(120)
MARK = "INLAND_TEST_RUN"
DBC = """\
VERSION ""
BU_: Car
BO_ 291 Drive: 8 Car
 SG_ Speed : 0|16@1+ (0.5,0) [0|0] "公里" Car
CM_ SG_ 291 Speed "车速";
"""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A region without a broker; each test enrolls a car of its own."""
    with rig(tmp_path_factory.mktemp("rig"), broker=False) as made:
        yield made


@pytest.fixture
def made(shared: Rig, request: pytest.FixtureRequest) -> Iterator[Rig]:
    """The region with a new car."""
    shared.new_car(f"car-{uuid.uuid4().hex[:8]}")
    yield shared
    for name in list(shared.processes):
        shared.kill(name)


def refused(*arguments: object, code: int, apart: bool = False) -> str:
    """Run a command that has to fail, here or in a process of its own; return its one line."""
    if apart:
        done = subprocess.run(
            [*INLAND, *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False
        )
        said = Said(done.returncode, done.stdout, done.stderr)
    else:
        said = typed(*arguments)
    assert said.code == code, said.err
    lines = said.err.strip().splitlines()
    assert len(lines) == 1, said.err
    assert lines[0].startswith("error: ")
    return lines[0]


def write_log(path: Path, frames: int, *, seed: int = 1) -> list[str]:
    rng = random.Random(seed)
    lines = [
        f"({1_700_000_000 + i // 1000}.{i % 1000:03d}000) can0 123#{rng.randbytes(8).hex().upper()}"
        for i in range(frames)
    ]
    path.write_text("\n".join(lines) + "\n", "ascii")
    return lines


def said(made: Rig, name: str) -> list[str]:
    """The lines that a started command wrote."""
    return (made.folder / f"{name}.txt").read_text("utf-8").splitlines()


def test_policy_with_an_unknown_signal(made: Rig, tmp_path: Path):
    (tmp_path / "car.dbc").write_text(DBC, "utf-8")
    text = EVERYTHING.replace('frames = ["*:*"]', 'signals = ["Sped"]')
    text = text.replace("\n\n[[", '\ndbc = ["car.dbc"]\n\n[[', 1)
    (tmp_path / "p.toml").write_text(text, "utf-8")
    line = refused("policy", "build", tmp_path / "p.toml", code=1)
    assert "'Sped'" in line
    assert "Speed" in line
    assert f"p.toml:{text[: text.index('signals')].count(chr(10)) + 1}" in line
    assert not (tmp_path / "p.policy").exists()


@pytest.mark.parametrize(
    ("settings", "typo", "hint"),
    [
        ({"interface": "log", "channel": "in.log", "sped": "max"}, "sped", "speed"),
        ({"interface": "slcan", "channel": "in.log", "bitrat": 500000}, "bitrat", "bitrate"),
        ({"interface": "socketcan", "channel": "nocan9", "bitrat": 5}, "bitrat", "bitrate"),
        ({"interface": "virtual", "channel": "x", "preserve_timestamp": True},
         "preserve_timestamp", "preserve_timestamps"),
        ({"interface": "udp_multicast", "channel": "239.0.0.1", "prt": 1}, "prt", "port"),
    ],
)  # fmt: skip
def test_misspelt_key_of_a_bus(made: Rig, settings: dict[str, object], typo: str, hint: str):
    write_log(made.folder / "in.log", 10)
    if settings["channel"] == "in.log":
        settings = {**settings, "channel": str(made.folder / "in.log")}
    made.bus(name="one", **settings)
    line = refused("capture", "--config", made.config, code=2, apart=True)
    assert f"one: unknown key '{typo}'" in line
    assert f"nearest valid key is '{hint}'" in line


def test_malformed_configuration(made: Rig):
    def spoilt(old: str, new: str, *, apart: bool = False) -> str:
        assert old in made.enrolled
        made.config.write_text(made.enrolled.replace(old, new), "utf-8")
        lines = {
            refused(command, "--config", made.config, code=2, apart=apart)
            for command in ("run", "capture", "uplink", "status")
        }
        (line,) = lines
        assert str(made.config) in line
        return line

    assert "not TOML" in spoilt("[vehicle]", "[vehicle", apart=True)
    assert "nearest valid key is 'state'" in spoilt("state =", "stat =")
    assert "'spool' must be at least" in spoilt("[vehicle]", '[limits]\nspool = "1MiB"\n[vehicle]')
    assert "unit" in spoilt("[vehicle]", '[limits]\nspool = "1 parsec"\n[vehicle]')
    assert "'id' is missing" in spoilt("id =", "#")
    made.config.unlink()
    assert "no configuration" in refused("run", "--config", made.config, code=2)


def test_missing_log(made: Rig):
    made.bus(name="one", interface="log", channel="nowhere/in.log", speed="max")
    line = refused("capture", "--config", made.config, code=2, apart=True)
    assert "nowhere/in.log" in line


def test_missing_card_and_keys(made: Rig):
    card, ledger, key = (made.car / n for n in ("region.toml", "ledger.key", "vehicle.key"))
    made.bus(name="one", interface="virtual", channel="x")
    for command, path in (("capture", ledger), ("uplink", key)):
        path.chmod(0o640)
        line = refused(command, "--config", made.config, code=2)
        assert f"chmod 600 {path}" in line
        path.chmod(0o600)
        path.rename(path.with_suffix(".away"))
        assert str(path) in refused(command, "--config", made.config, code=2)
        path.with_suffix(".away").rename(path)
    card.unlink()
    for command in ("capture", "uplink"):
        assert "no region card" in refused(command, "--config", made.config, code=2)


def test_policy_for_another_region_is_refused_and_keeps_nothing(made: Rig, tmp_path: Path):
    (tmp_path / "p.toml").write_text(EVERYTHING.replace('"cn"', '"eu"'), "utf-8")
    made.inland("policy", "build", str(tmp_path / "p.toml"), "-o", str(tmp_path / "p.pb"))
    line = refused("policy", "install", tmp_path / "p.pb", "--config", made.config, code=1)
    assert "region" in line
    # Put there by hand it passes no other door either.
    (made.car / "state/policy").mkdir(parents=True)
    (made.car / "state/policy/active.policy").write_bytes((tmp_path / "p.pb").read_bytes())
    write_log(tmp_path / "in.log", 50)
    made.bus(name="one", interface="log", channel=str(tmp_path / "in.log"), speed="max")
    made.start("capture", "capture", "--config", str(made.config))
    wait_for(
        lambda: (s := made.status()) and s["policy"]["why"] != "starting", 30, "capture has begun"
    )
    status = made.status()
    assert status
    assert status["policy"]["name"] is None
    assert status["policy"]["why"] == "unreadable"
    assert status["frames"]["kept"] == 0


@needs_mosquitto
def test_broker_of_another_region_gets_nothing(tmp_path: Path):
    with rig(tmp_path) as other:
        mine = tmp_path / "mine"
        other.inland("station", "init", str(mine), "--region", "eu", "--host", "localhost",
                     "--port", str(other.port), "--prefix", "127.0.0.0/8")  # fmt: skip
        other.inland("station", "enroll", str(mine), str(tmp_path / "stranger"))
        other.config = tmp_path / "stranger" / "agent.toml"
        other.start("capture", "capture", "--config", str(other.config))
        other.start("uplink", "uplink", "--config", str(other.config))
        wait_for(
            lambda: (s := other.status()) and s["link"]["refused"].get("issuer"), 30, "a refusal"
        )
        status = other.status()
        assert status
        assert (status["link"]["connects"], status["link"]["sent"]) == (0, 0)
        assert "region refused (issuer)" in status["link"]["last_error"]
        listing = json.loads(other.inland("station", "ls", str(other.region), "--json"))
        assert [v["logs"] for v in listing["vehicles"]] == [[]]


def broken_log(path: Path) -> list[str]:
    """A log whose middle has a broken line and whose end is cut off; the good lines."""
    lines = write_log(path, 100)
    bad = [*lines[:50], "(17000", *lines[50:]]
    path.write_text("\n".join(bad) + "\n(1700000000.5 can0 12", "ascii")
    return lines


@needs_mosquitto
def test_truncated_log_is_named_counted_and_shown(tmp_path: Path):
    with rig(tmp_path) as made:
        made.policy()
        log = tmp_path / "in.log"
        lines = broken_log(log)
        made.bus(name="can0", interface="log", channel=str(log), speed="max")
        made.start("run", "run", "--config", str(made.config))
        wait_for(
            lambda: (
                (s := made.status()) and s["frames"]["lost"] == 2 and s["frames"]["kept"] == 100
            ),
            40,
            "two broken lines in the status",
        )
        status = [*INLAND, "status", "--config", str(made.config)]  # once as it is typed
        assert "2 lost" in subprocess.run(status, capture_output=True, text=True, check=True).stdout
        wait_for(lambda: region_has(made, losses=2), 30, "the loss in the region's ledger")
        named = [line for line in said(made, "run") if str(log) in line]
        assert [f"{log}:51" in named[0], f"{log}:102" in named[1], len(named)] == [True, True, 2]
        made.kill("run", signal.SIGTERM)
        assert made.opened() == lines


def region_has(made: Rig, *, losses: int) -> bool:
    listing = json.loads(made.inland("station", "ls", str(made.region), "--json"))
    logs = [log for vehicle in listing["vehicles"] for log in vehicle["logs"]]
    return bool(logs) and logs[0]["losses"] == losses and not logs[0]["missing"]


@needs_mosquitto
def test_strict_log_stops_with_one_line_and_keeps_what_came_before(tmp_path: Path):
    with rig(tmp_path) as made:
        made.policy()
        log = tmp_path / "in.log"
        lines = write_log(log, 50_000)
        log.write_text("\n".join([*lines[:40_000], "(17000", *lines[40_000:]]), "ascii")
        made.bus(name="can0", interface="log", channel=str(log), speed="max", strict=True)
        line = refused("capture", "--config", made.config, "--once", code=1, apart=True)
        assert f"{log}:40001: " in line
        # Another log of the same car carries home what was read before that block of the file.
        more = write_log(tmp_path / "more.log", 10, seed=2)
        made.play(tmp_path / "more.log")
        opened = made.opened()
        assert len(opened) > 10_000
        assert opened == lines[: len(opened) - 10] + more


@pytest.mark.slow
@needs_mosquitto
def test_dbc_in_gbk(tmp_path: Path):
    with rig(tmp_path) as made:
        (tmp_path / "car.dbc").write_bytes(DBC.replace("Speed", "Speed_cn").encode("gbk"))
        text = EVERYTHING.replace('frames = ["*:*"]', 'signals = ["Speed_cn"]\non = "change"')
        made.policy(text.replace("\n\n[[", '\ndbc = ["car.dbc"]\n\n[[', 1))
        (tmp_path / "in.log").write_text("(1700000000.000000) can0 123#0A00000000000000\n")
        made.play(tmp_path / "in.log")
        made.inland("station", "open", str(made.region), "--vehicle", made.vehicle,
                    "--signals", str(tmp_path / "s.csv"))  # fmt: skip
        row = (tmp_path / "s.csv").read_text("utf-8").splitlines()[1]
        assert row.endswith(",1700000000.000000,Speed_cn,5,公里,,can0")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "inland-test", str(place)]
    if os.geteuid() or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@needs_mosquitto
def test_full_disk(tmp_path: Path, small_disk: Path):
    """A file system smaller than the quota: capture goes on, the oldest go, each with an entry."""
    with rig(tmp_path) as made:
        on_disk(made, small_disk)
        made.policy()
        lines = write_log(tmp_path / "in.log", 400_000)
        made.bus(name="can0", interface="log", channel=str(tmp_path / "in.log"), speed="max")
        capture = made.start("capture", "capture", "--config", str(made.config))
        wait_for(
            lambda: (s := made.status()) and s["frames"]["received"] == len(lines), 60, "all read"
        )
        assert capture.poll() is None
        made.kill("capture", signal.SIGTERM)
        assert capture.returncode == 0
        assert said(made, "capture") == []  # its own quota evicts, each time with an entry
        assert account(made, small_disk, tmp_path) > 0


@needs_mosquitto
@pytest.mark.slow
def test_disk_that_others_filled(tmp_path: Path, small_disk: Path):
    """One warning, capture goes on, and what finds no room is counted in the ledger."""
    with rig(tmp_path) as made:
        on_disk(made, small_disk)
        made.policy()
        made.bus(name="can0", interface="virtual", channel="x")
        made.start("before", "capture", "--config", str(made.config))
        wait_for(lambda: (s := made.status()) and s["policy"]["name"], 30, "a policy")
        made.kill("before", signal.SIGTERM)
        left = os.statvfs(small_disk)
        (small_disk / "others").write_bytes(bytes(left.f_bavail * left.f_frsize - 200_000))
        lines = write_log(tmp_path / "in.log", 100_000)
        made.bus(name="can0", interface="log", channel=str(tmp_path / "in.log"), speed="max")
        began_s = time.monotonic()
        capture = made.start("capture", "capture", "--config", str(made.config))
        wait_for(lambda: (s := made.status()) and s["frames"]["lost"] > 0, 60, "a loss")
        wait_for(
            lambda: (s := made.status()) and s["frames"]["received"] == len(lines), 60, "all read"
        )
        assert capture.poll() is None
        (small_disk / "others").unlink()
        wait_for(lambda: losses_in_car(small_disk) > 0, 60, "the loss in the ledger")
        made.kill("capture", signal.SIGTERM)
        assert capture.returncode == 0
        words = said(made, "capture")
        assert 1 <= len(words) <= 1 + (time.monotonic() - began_s) * 1e9 // REPEAT_NS, words
        assert all("no room for the spool" in one for one in words)
        assert account(made, small_disk, tmp_path) > 0


def on_disk(made: Rig, disk: Path) -> None:
    """Have the car keep its state on a disk."""
    made.enrolled = "".join(
        f"state = {json.dumps(str(disk / 'state'))}\n" if line.startswith("state =") else line
        for line in made.enrolled.splitlines(keepends=True)
    )
    made.bus(name="can0", interface="virtual", channel="x")


def losses_in_car(disk: Path) -> int:
    """Frames that the car's own ledger counts as lost."""
    return sum(entry.loss.count for entry in ledger_of(disk / "state"))


def account(made: Rig, disk: Path, folder: Path) -> int:
    """Send home what is there; every frame arrived, in order, or was counted. Returns the loss."""
    sent = (folder / "in.log").read_text("ascii").splitlines()
    dropped = dropped_bodies(disk)
    lost = losses_in_car(disk)
    subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
    more = write_log(folder / "more.log", 10, seed=2)
    made.play(folder / "more.log")
    listing = json.loads(made.inland("station", "ls", str(made.region), "--json"))
    (log,) = listing["vehicles"][0]["logs"]
    assert log["missing"] == []
    assert log["losses"] == lost
    assert log["drops"].get("quota", 0) == dropped
    opened = made.opened()
    there = set(opened)
    assert [line for line in sent if line in there] + more == opened
    missing = len(sent) + len(more) - len(opened)
    # A dropped segment held 16,384 frames at most; what was not sealed is counted to the frame.
    assert lost <= missing <= lost + dropped * 16_384
    assert bool(dropped) or missing == lost
    return missing


def dropped_bodies(disk: Path) -> int:
    """Bodies that the car dropped for its quota."""
    entries = ledger_of(disk / "state")
    return sum(r.last - r.first + 1 for entry in entries for r in entry.drop.range)


def running_with(mark: str) -> list[str]:
    """Command lines of the processes that were started with a mark in their environment."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdecimal():
            try:
                if mark.encode() in (process / "environ").read_bytes():
                    found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
            except OSError:
                continue
    return found


@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("what", ["capture", "run", "uplink", "station", "demo", "sim"])
def test_interrupted_ends_in_order(made: Rig, tmp_path: Path, what: str, number: int):
    made.bus(name="can0", interface="virtual", channel="x")
    config = ["--config", str(made.config), "--verbose"]
    command = {
        "capture": [*INLAND, "capture", *config],
        "run": [*INLAND, "run", *config],
        "uplink": [*INLAND, "uplink", *config],
        "station": [*INLAND, "station", "serve", str(made.region)],
        "demo": [*INLAND, "demo", "--seconds", "30"],
        "sim": [sys.executable, "-m", "firmware_sim", "--seconds", "60"],
    }[what]
    mark = uuid.uuid4().hex
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    environment = {**os.environ, MARK: mark, "TMPDIR": str(temporary), "PYTHONUNBUFFERED": "1"}
    words = tmp_path / "words.txt"
    with words.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment
        )
    try:
        if what in ("capture", "run"):
            wait_for(made.status, 30, "capture answers")
        else:
            wait_for(lambda: words.read_text("utf-8").strip(), 30, "a first word")
        process.send_signal(number)
        code = process.wait(30)
    finally:
        process.kill()
        process.wait()
    text = words.read_text("utf-8")
    assert code == (130 if what == "demo" else 0), text
    assert "Traceback" not in text
    assert "File " not in text
    assert running_with(mark) == []
    assert list(temporary.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("more", [(), ("--story", "brake")], ids=["demo", "story"])
def test_demo_interrupted_half_way_leaves_nothing(tmp_path: Path, more: tuple[str, ...]):
    mark, words = uuid.uuid4().hex, tmp_path / "words.txt"
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    environment = {**os.environ, MARK: mark, "TMPDIR": str(temporary), "PYTHONUNBUFFERED": "1"}
    with words.open("wb") as output:
        process = subprocess.Popen(
            [*INLAND, "demo", "--seconds", "60", *more],
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment,
        )  # fmt: skip
    try:
        wait_for(
            lambda: "frames" in words.read_text("utf-8") or process.poll() is not None,
            60,
            "frames that flow",
        )
        assert process.poll() is None, words.read_text("utf-8")
        assert len(running_with(mark)) >= 5
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    finally:
        process.kill()
        process.wait()
    assert running_with(mark) == []
    assert list(temporary.iterdir()) == []
    assert words.read_text("utf-8").strip().splitlines()[-1] == "interrupted"
