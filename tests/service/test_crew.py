"""Threads live and die together, and the watchdog is fed only while all of them turn."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from agent.service import crew as crew_module
from agent.service.crew import Crew
from agent.service.notify import Watchdog, notify, watchdog_period_s


def test_failure_in_one_thread_stops_all_and_is_raised():
    crew = Crew()
    crew.start("steady", lambda: 0.01)

    def fail() -> float:
        raise RuntimeError("planted")

    crew.start("failing", fail)
    assert crew.stop.wait(10)
    with pytest.raises(RuntimeError, match="planted"):
        crew.join()


def test_stalled_loop_is_not_healthy(monkeypatch: pytest.MonkeyPatch):
    crew = Crew()
    monkeypatch.setattr(crew_module, "STALLED_S", -1.0)
    crew.start("slow", lambda: 10.0)
    while not crew._turned:
        crew.stop.wait(0.001)
    assert not crew.healthy()
    crew.join()


def test_notify_speaks_to_the_managers_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        assert notify("READY=1")
        assert manager.recv(100) == b"READY=1"


def test_without_a_manager_nothing_is_said(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not notify("READY=1")


def test_watchdog_period_is_half_its_limit(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WATCHDOG_USEC", "10000000")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    assert watchdog_period_s() == 5.0
    monkeypatch.setenv("WATCHDOG_PID", "1")
    assert watchdog_period_s() is None


@pytest.mark.parametrize(("limit_us", "fed"), [("0", 3), ("3600000000", 0)])
def test_watchdog_is_fed_as_often_as_it_wants(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit_us: str, fed: int
):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", limit_us)
        monkeypatch.delenv("WATCHDOG_PID", raising=False)
        watchdog = Watchdog()
        for _ in range(3):
            watchdog.beat()
        assert [manager.recv(100) for _ in range(fed)] == [b"WATCHDOG=1"] * fed
        with pytest.raises(BlockingIOError):
            manager.recv(100)


def test_without_a_watchdog_none_is_fed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    monkeypatch.setenv("NOTIFY_SOCKET", "/nowhere")
    Watchdog().beat()
