"""What each process has loaded: neither half has in its memory what belongs to the other."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

# What a running capture process holds, with its buses open; the vault and the policy included.
CAPTURE = """
import sys
from pathlib import Path
import agent.service.capture, agent.service.answers
from agent.capture import queue, reader, sealer, slot
from agent.frames import ChannelTable
from agent.capture.bus import open_bus
from agent.vault import vault
log = open_bus({"name": "a", "interface": "log", "channel": sys.argv[1]}, ChannelTable())
while not log.ended:
    log.recv_batch(0.1)
log.close()
import agent.capture.socketcan
"""
UPLINK = """
import sys
import agent.service.uplink
from agent import hatch, region
from agent.service import crew
from agent.uplink import run
"""
# A half as its unit starts it, up to where it would begin to work.
HALF = """
import sys
from agent.service import {half}
def stop(config, *sockets, once=False):
    print("{half}", config.path)
{half}.run_{half} = stop
sys.argv = ["inland", "{half}", "--config", sys.argv[1], *sys.argv[2:]]
from agent.cli.__main__ import start
try:
    start()
except SystemExit as end:
    print(end.code)
"""
LOADED = """
names = sorted(sys.modules)
print(" ".join(names))
"""
NOT_IN_CAPTURE = {"ssl", "paho", "can", "cantools", "sqlite_utils", "asyncio", "agent.uplink"}
NOT_IN_UPLINK = {
    "can", "numpy", "zstandard", "sqlite3", "serial", "asyncio", "cryptography", "click",
    "agent.vault", "agent.policy", "agent.capture", "agent.frames",
}  # fmt: skip


def loaded(program: str, *arguments: object) -> set[str]:
    """Run a program in a process of its own; return what it has imported."""
    done = subprocess.run(
        [sys.executable, "-c", program + LOADED, *map(str, arguments)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return set(done.stdout.split())


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "drive.log"
    path.write_text("(1.000000) can0 123#11\n(1.001000) can0 1234567#2233\n" * 3)
    return path


def test_capture_has_no_network_and_no_python_can(log: Path):
    """On SocketCAN and on a candump log; python-can alone would cost 13 MiB and its start."""
    names = loaded(CAPTURE, log)
    assert {"agent.capture.socketcan", "agent.capture.logbus", "agent.vault.spool"} <= names
    assert names & NOT_IN_CAPTURE == set()


def test_uplink_has_nothing_that_opens_stores_or_chooses():
    """A taken-over uplink finds the network, its TLS key and the hatch."""
    names = loaded(UPLINK)
    assert {"ssl", "paho.mqtt.client", "agent.uplink.link"} <= names
    assert names & NOT_IN_UPLINK == set()


@pytest.mark.parametrize("half", ["capture", "uplink"])
def test_a_half_that_its_unit_starts_does_without_click(half: str, tmp_path: Path):
    """It would hold 1.5 MiB for a command line that it never looks at again."""
    path = tmp_path / "agent.toml"
    keys = 'certificate = "a"\nkey = "b"\nledger_key = "c"\n'
    car = f'region_card = "region.toml"\n[vehicle]\nid = "car-1234"\n{keys}'
    path.write_text(f'state = "state"\nrun = "run"\n{car}', "utf-8")
    program = HALF.format(half=half)
    names = loaded(program, path)
    assert {half, str(path), "0"} <= names
    assert "click" not in names
    names = loaded(program, path, "-v")
    assert {half, str(path), "0", "click"} <= names  # anything out of the ordinary is click's


def test_a_daemon_does_not_hold_what_it_needs_for_mistakes_and_new_policies_alone(log: Path):
    assert loaded(CAPTURE, log) & {"difflib", "fractions", "shutil", "lzma"} == set()


def test_a_planted_import_is_seen():
    """The check can see what it forbids."""
    assert "sqlite3" in loaded("import sys, sqlite3\n") & NOT_IN_UPLINK
