"""The sockets are bound before anything slow is imported, and never decide what is wrong."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from agent import config
from agent.errors import BusError
from agent.service import sockets

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

    def open_socket(channel: str, **flags: bool) -> socket.socket:
        calls.append((channel, flags))
        if channel == "can9":
            raise BusError("no such CAN interface", where=channel)
        return socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)

    monkeypatch.setattr(sockets, "open_socket", open_socket)
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
    # -S: what an editable installation imports to find its packages is not ours.
    code = "import sys, agent.cli.__main__, agent.service.sockets; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    slow = {"click", "numpy", "dataclasses", "inspect", "pathlib", "logging", "difflib"}
    slow |= {"google", "sqlite3", "can", "agent.config"}
    slow |= {"socket", "tomllib", "typing", "enum", "re", "collections", "signal"}
    assert not slow & set(done.stdout.split())
