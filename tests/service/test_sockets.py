"""The sockets are bound before anything slow is imported, and never decide what is wrong."""

from __future__ import annotations

import errno
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from agent import config
from agent.service import sockets
from agent.service.bytecode import START

ROOT = Path(__file__).parents[2]
BUSES = """
[[bus]]
name = "body"
interface = "socketcan"
channel = "can0"
fd = true

[[bus]]
name = "gone"
interface = "socketcan"
channel = "can9"

[[bus]]
name = "log"
interface = "log"
channel = "a.log"
"""


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, bool]]]:
    calls: list[tuple[str, dict[str, bool]]] = []

    def bind_socket(channel: str, **flags: bool) -> socket.socket:
        calls.append((channel, flags))
        if channel == "can9":
            raise OSError(errno.ENODEV, "No such device")
        return socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)

    monkeypatch.setattr(sockets, "bind_socket", bind_socket)
    return calls


@pytest.mark.parametrize("way", ["--config {}", "--config={}", "--once --config {} -v"])
def test_socketcan_buses_are_bound_and_no_other(way: str, tmp_path: Path, asked) -> None:
    path = tmp_path / "agent.toml"
    path.write_text(BUSES, "utf-8")
    bound = sockets.bind_sockets(way.format(path).split())
    assert list(bound) == ["body"]
    assert [channel for channel, _ in asked] == ["can0", "can9"]
    flags = {"fd": True, "receive_own_messages": False, "ignore_rx_error_frames": False}
    assert asked[0][1] == flags
    for sock in bound.values():
        sock.close()


@pytest.mark.parametrize(
    "text", ["", "not TOML", "bus = 3", "bus = [1]", '[[bus]]\ninterface = "socketcan"', "\xff"]
)
def test_what_is_wrong_is_left_to_the_configuration(text: str, tmp_path: Path, asked) -> None:
    path = tmp_path / "agent.toml"
    path.write_text(text, "latin-1")
    assert sockets.bind_sockets(["--config", str(path)]) == {}
    assert sockets.bind_sockets(["--config"]) == {}
    assert sockets.bind_sockets([]) == {}
    assert asked == []


def test_default_path_is_the_one_of_the_configuration() -> None:
    assert str(config.DEFAULT_PATH) == sockets.CONFIG


def test_nothing_slow_is_imported_before_the_bind() -> None:
    # -S as the boot service: what an installation imports to find its packages is not ours.
    code = "import sys, agent.cli.__main__, agent.service.sockets; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    slow = {"click", "numpy", "dataclasses", "inspect", "pathlib", "logging", "difflib"}
    slow |= {"google", "sqlite3", "can", "agent.config", "agent.errors", "os", "site", "runpy"}
    slow |= {"socket", "tomllib", "typing", "enum", "re", "collections", "signal"}
    assert not slow & set(done.stdout.split())


def imported(tmp_path: Path, *start: str) -> list[str]:
    """Names of modules in the order in which `inland capture` has imported them."""
    config_path = tmp_path / "agent.toml"
    config_path.write_text(BUSES, "utf-8")
    command = [sys.executable, "-X", "importtime", *start, "capture", "--config", str(config_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr[-300:]  # no region card: all that comes first is done
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return [line.rpartition("|")[2].strip() for line in lines]


def check_order(names: list[str]) -> None:
    bound = names.index("agent.service.sockets")
    assert {"site", "os", "re", "runpy", "agent.errors"}.isdisjoint(names[:bound])
    assert {"site", "click", "agent.config"} <= set(names[bound:])


def test_the_boot_service_binds_before_anything_of_the_installation_runs(tmp_path: Path) -> None:
    """And finds its libraries afterwards."""
    check_order(imported(tmp_path, *START))


@pytest.mark.parametrize(
    "start", [[one for one in START if one != "-S"], ["-m", "agent.cli"]], ids=["site", "-m"]
)
def test_planted_imports_before_the_bind_are_found(tmp_path: Path, start: list[str]) -> None:
    with pytest.raises(AssertionError):
        check_order(imported(tmp_path, *start))
