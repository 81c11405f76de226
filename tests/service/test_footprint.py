"""What each process has loaded: neither half has in its memory what belongs to the other."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.rig import Rig

# What a running capture process holds, with its buses open; the vault and the policy included.
CAPTURE = """
import sys
from pathlib import Path
import agent.service.capture, agent.service.answers, agent.service.policy_fetch
import agent.service.places, agent.service.trial
from agent.owner import presence, register, slot as people
import agent.service.live, agent.capture.live
from agent.capture import gate, incoming, limits, queue, reader, sealer, slot
from agent.frames import ChannelTable
from agent.capture.bus import open_bus
from agent.vault import vault
log = open_bus({"name": "a", "interface": "log", "channel": sys.argv[1]}, ChannelTable())
while not log.ended:
    log.recv_batch(0.1)
log.close()
import agent.capture.socketcan
"""
# The same where no log is played, from its start to its first steps, in a car that is enrolled.
CAR = """
import sys
from pathlib import Path
from agent.config import load_config
from agent.service.capture import CaptureProcess
import agent.service.answers, agent.service.live, agent.capture.socketcan
from agent.policy.expression import parse
process = CaptureProcess(load_config(Path(sys.argv[1])), {}, askers=frozenset())
process.sealer.step()
process.sealer.finish()
process.vault.close()
parse("rate(Speed, 0.5s) < -20.5 for 150ms")
"""
UPLINK = """
import sys
import agent.service.uplink
from agent import hatch, region
from agent.service import crew
from agent.uplink import run
"""
LOADED = """
names = sorted(sys.modules)
print(" ".join(names))
"""
# TUF is for `inland policy install`, a process of its own that ends: 20 MiB and a large parser.
TUF = {"tuf", "securesystemslib", "urllib3", "requests", "agent.policy.update"}
NOT_IN_CAPTURE = TUF | {
    "_hashlib",  # a second OpenSSL beside that of `cryptography`: 4 MiB, by way of hmac too
    "ssl", "paho", "can", "cantools", "sqlite_utils", "asyncio", "agent.uplink", "agent.station",
    "agent.evidence", "agent.owner.keyfile", "agent.owner.sheet", "agent.owner.live",
}  # fmt: skip
# Of libraries: what only a mistake, a damage or another form of key needs. Together 2 MiB.
NOT_IN_CAR = NOT_IN_CAPTURE | {
    "bz2", "cryptography.hazmat.primitives.serialization", "decimal", "difflib", "fractions",
    "lzma", "shutil",
}  # fmt: skip
NOT_IN_UPLINK = TUF | {
    "can", "numpy", "zstandard", "sqlite3", "serial", "asyncio", "cryptography", "click",
    "agent.vault", "agent.policy", "agent.capture", "agent.frames", "agent.station",
    "agent.evidence",
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


@pytest.fixture(scope="module")
def enrolled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its agent.toml."""
    made = Rig(tmp_path_factory.mktemp("car"))
    made.policy()
    made.bus(name="can0", interface="socketcan", channel="none")
    return made.config


def test_capture_in_a_car_holds_no_more_than_it_uses(enrolled: Path):
    names = loaded(CAR, enrolled)
    assert {"agent.policy.engine", "agent.vault.salvage", "agent.service.live_reader"} <= names
    assert names & NOT_IN_CAR == set()


@pytest.mark.parametrize(
    ("planted", "seen"),
    [
        ("agent.vault.salvage.forget_older = lambda folder: __import__('shutil')", {"shutil"}),
        ("agent.vault.keys._PEM = b''", {"cryptography.hazmat.primitives.serialization"}),
    ],
)
def test_a_planted_import_on_the_way_is_seen(enrolled: Path, planted: str, seen: set[str]):
    planted = f"import agent.vault.salvage, agent.vault.keys\n{planted}\n"
    assert seen <= loaded(planted + CAR, enrolled) & NOT_IN_CAR


def test_uplink_has_nothing_that_opens_stores_or_chooses():
    """A taken-over uplink finds the network, its TLS key and the hatch."""
    names = loaded(UPLINK)
    assert {"ssl", "paho.mqtt.client", "agent.uplink.link"} <= names
    assert names & NOT_IN_UPLINK == set()


@pytest.mark.parametrize(
    ("planted", "seen"),
    [
        ("sqlite3", {"sqlite3"}), ("tuf.ngclient", {"tuf", "securesystemslib"}),
        ("agent.policy.update", {"agent.policy.update", "tuf"}),
    ],
)  # fmt: skip
def test_a_planted_import_is_seen(planted: str, seen: set[str]):
    """The check can see what it forbids."""
    assert seen <= loaded(f"import sys, {planted}\n") & (NOT_IN_UPLINK | NOT_IN_CAPTURE)
