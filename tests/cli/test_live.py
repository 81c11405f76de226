"""`inland owner live`, as it is typed: what it prints, and how it ends."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from agent.cli.main import inland
from agent.errors import ConfigError, HatchError, OwnerError
from agent.hatch import HatchServer
from agent.owner import keyfile
from agent.pb.hatch_pb2 import HatchReply
from tests.owner.looking import Watched, serving
from tests.owner.people import ANNA, BELA, enroll
from tests.rig import INLAND, wait_for
from tests.test_scenarios import log_of

PHRASE = "four words of nothing"
TIME = r"\d\d:\d\d:\d\d\.\d\d\d"


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """Anna's key file, as quick to open as a test may have it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keyfile, "_N", 2**10)
        keyfile.save(tmp_path / "owner.key", ANNA, PHRASE, os.urandom)
    (tmp_path / "phrase").write_text(PHRASE + "\n")
    return tmp_path / "owner.key"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyfile, "_N", 2**10)


def run(key: Path, path: Path, *more: str) -> Result:
    words = ["owner", "live", "--socket", path, "--key", key,
             "--passphrase-file", key.with_name("phrase"), *more]  # fmt: skip
    return CliRunner().invoke(
        inland, list(map(str, words)), catch_exceptions=False, standalone_mode=False
    )


def place(folder: Path, kind: str) -> Path:
    """A path at which no car answers."""
    path = folder / "live.sock"
    if kind == "a file":
        path.write_text("no socket")
    elif kind == "a folder":
        path.mkdir()
    elif kind == "in no folder":
        path = folder / "none" / "live.sock"
    elif kind == "nobody behind it":
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(str(path))
    return path


@pytest.mark.parametrize(
    "kind", ["nothing", "a file", "a folder", "in no folder", "nobody behind it"]
)
def test_no_car_is_one_sentence(quick: None, key: Path, tmp_path: Path, kind: str):
    path = place(tmp_path, kind)
    with pytest.raises(HatchError, match=r"no car answers here: .*; is `inland capture` running"):
        run(key, path)


def test_a_key_that_cannot_be_opened_asks_no_car(quick: None, key: Path, tmp_path: Path):
    nowhere = tmp_path / "live.sock"
    with pytest.raises(ConfigError, match=r"no such key; name it with --key"):
        run(tmp_path / "none.key", nowhere)
    (tmp_path / "phrase").write_text("another one\n")
    with pytest.raises(OwnerError, match="the passphrase is another one"):
        run(key, nowhere)


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "link to nothing"])
@pytest.mark.parametrize("which", ["key", "passphrase"])
def test_odd_files_are_one_sentence_and_not_waited_for(
    quick: None, key: Path, tmp_path: Path, kind: str, which: str
):
    odd = tmp_path / "odd"
    if kind == "pipe":
        os.mkfifo(odd, 0o600)
    elif kind == "device":
        odd.symlink_to("/dev/zero")
    elif kind == "folder":
        odd.mkdir()
    else:
        odd.symlink_to(tmp_path / "none")
    words = ["owner", "live", "--socket", tmp_path / "s", "--key", odd if which == "key" else key,
             "--passphrase-file", tmp_path / "phrase" if which == "key" else odd]  # fmt: skip
    with pytest.raises((ConfigError, click.UsageError)):
        CliRunner().invoke(
            inland, list(map(str, words)), catch_exceptions=False, standalone_mode=False
        )


@pytest.mark.parametrize("more", [("--json",), ("--signal", "Gear")])
def test_raw_frames_have_neither_names_nor_json(quick: None, key: Path, more: tuple[str, ...]):
    with pytest.raises(ConfigError, match="raw frames have neither names nor JSON"):
        run(key, key.with_name("live.sock"), "--frames", *more)


def test_another_s_car_says_no(quick: None, key: Path, tmp_path: Path):
    """Bela's: one sentence that names the car."""
    car = Watched(tmp_path)
    enroll(car.people, BELA)
    car.stand(1)
    with serving(tmp_path, car.feed) as served:
        what = r"the car car-00000001 says no: nobody with this key is enrolled here"
        with pytest.raises(OwnerError, match=what):
            run(key, served.path)
    car.vault.close()


def test_an_unknown_signal_names_the_nearest(quick: None, key: Path, tmp_path: Path):
    car = Watched(tmp_path)
    enroll(car.people, ANNA)
    car.stand(1)
    with serving(tmp_path, car.feed) as served:
        what = "--signal: unknown signal 'VehicleSped'; .*VehicleSpeed"
        with pytest.raises(ConfigError, match=what):
            run(key, served.path, "--signal", "VehicleSped")
    car.vault.close()


def test_the_hatch_is_no_live_socket(
    quick: None, key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """It waits for a question: nothing comes, and that is said in time."""
    monkeypatch.setattr("agent.owner.live.SILENT_S", 0.2)
    server = HatchServer(tmp_path / "hatch.sock", lambda _: HatchReply(), allowed_uids=frozenset())
    with pytest.raises(HatchError, match="the connection to the car broke: nothing for"):
        run(key, server.path)
    server.close()


class Typed:
    """The command in a process of its own."""

    def __init__(self, key: Path, path: Path, *more: str) -> None:
        self.out, self.err = key.with_name("out"), key.with_name("err")
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen(
                [*INLAND, "owner", "live", "--socket", str(path), "--key", str(key),
                 "--passphrase-file", str(key.with_name("phrase")), "--tz", "UTC", *more],
                stdout=out, stderr=err,
            )  # fmt: skip

    def said(self) -> tuple[list[str], list[str]]:
        return self.out.read_text().splitlines(), self.err.read_text().splitlines()


@contextmanager
def looking(tmp_path: Path, *more: str) -> Iterator[tuple[Watched, Typed]]:
    """A car that has braked hard while its owner looked."""
    home = tmp_path / "home"
    home.mkdir()
    keyfile.save(home / "owner.key", ANNA, PHRASE, os.urandom)
    (home / "phrase").write_text(PHRASE + "\n")
    car = Watched(tmp_path)
    enroll(car.people, ANNA)
    car.stand(1)
    frames = log_of(tmp_path, "hard-brake", 8, "--brake-at", "3", channels=car)
    with serving(tmp_path, car.feed) as served:
        typed = Typed(home / "owner.key", served.path, *more)
        wait_for(lambda: "you are the owner" in typed.err.read_text(), 30, "the stream")
        for _ in car.play(frames):
            pass
        wait_for(typed.out.read_text, 30, "lines")
        yield car, typed
    typed.process.wait(30)
    car.vault.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_person_reads_a_line_a_change_until_ctrl_c(tmp_path: Path, number: int):
    with looking(tmp_path) as (_, typed):
        wait_for(lambda: "event hard-brake" in typed.out.read_text(), 30, "the event")
        typed.process.send_signal(number)
        assert typed.process.wait(30) == 0
    lines, words = typed.said()
    speeds = [line for line in lines if "VehicleSpeed  " in line]
    assert all(re.fullmatch(TIME + r"  VehicleSpeed +[\d.]+ km/h", line) for line in speeds)
    values = [line.split()[2] for line in speeds]
    assert len(values) > 10
    assert all(one != after for one, after in pairwise(values))
    assert any(re.fullmatch(TIME + r"  Gear +\d+ \(D\)", line) for line in lines)
    assert words[0] == "car-00000001: you are the owner; policy cn-fleet, version 1"
    assert re.match(r"seen in [\d.]+ s: [\d,]+ samples, \d+ events and camera triggers;", words[1])
    assert len(words) == 2


def test_a_program_reads_what_open_writes(tmp_path: Path):
    """The fields of signals.jsonl and events.jsonl; the event is not of a ledger yet."""
    with looking(tmp_path, "--json") as (_, typed):
        wait_for(lambda: '"rule": "hard-brake"' in typed.out.read_text(), 30, "the event")
        typed.process.send_signal(signal.SIGINT)
        assert typed.process.wait(30) == 0
    lines, words = typed.said()
    found = [json.loads(line) for line in lines]
    [event] = [one for one in found if one.get("rule") == "hard-brake"]
    assert event["trigger"].startswith("VehicleSpeed > 30")
    assert not {"log", "entry"} & set(event)
    samples = [one for one in found if "signal" in one]
    assert all(list(one)[:6] == ["utc", "local", "unix_s", "signal", "value", "unit"]
               for one in samples)  # fmt: skip
    summary = json.loads(words[-1])
    assert summary["samples"] == len(samples)
    assert summary["lost"] == 0


def test_one_signal_alone(tmp_path: Path):
    with looking(tmp_path, "--signal", "VehicleSpeed") as (_, typed):
        typed.process.send_signal(signal.SIGINT)
        assert typed.process.wait(30) == 0
    assert {line.split()[1] for line in typed.said()[0]} == {"VehicleSpeed"}


def test_raw_frames_alone(tmp_path: Path):
    """As candump writes them, of the black box alone."""
    with looking(tmp_path, "--frames", "--lane", "recorder") as (_, typed):
        typed.process.send_signal(signal.SIGINT)
        assert typed.process.wait(30) == 0
    lines, words = typed.said()
    assert len(lines) > 1000
    assert all(re.fullmatch(r"\(\d+\.\d{6}\) can0 [0-9A-F]{3}#[0-9A-F]*", one) for one in lines)
    assert f"{len(lines):,} frames" in words[-1]


def test_an_agent_that_stops_is_said_and_may_come_back(tmp_path: Path):
    """What was seen, then one sentence; 75."""
    with looking(tmp_path) as (_, typed):
        pass
    assert typed.process.returncode == 75
    assert typed.said()[1][-1] == "error: car-00000001: the agent in the car has ended"


def test_an_agent_that_dies_is_said_too(tmp_path: Path, quick: None, key: Path):
    """The socket closes without a word."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "live.sock"))
        sock.listen()
        sock.settimeout(20)

        def die() -> None:
            sock.accept()[0].close()

        dying = threading.Thread(target=die)
        dying.start()
        with pytest.raises(HatchError, match="broke: the other end closed it; connect again"):
            run(key, tmp_path / "live.sock")
        dying.join(20)
