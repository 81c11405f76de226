"""The agent sleeps and wakes: both processes are stopped and go on, on real parts.

Stopped processes stand in for a suspended computer here. That CLOCK_MONOTONIC stands still while
CLOCK_BOOTTIME goes on is looked at where the clock can be virtual (tests/uplink/test_wake.py).
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.errors import HatchError
from agent.hatch import HatchClient
from tests.chaos import Network
from tests.rig import Rig, needs_mosquitto, rig, wait_for

pytestmark = [needs_mosquitto, pytest.mark.timeout(170)]

SLEEP_S = 4.0  # longer than Timing.gap_s, so that it is told from a slow turn
WITHIN_S = 2.0  # after waking: frames are kept again, entries are receipted again


class Car:
    """A car on a serial bus, with a network between it and its region."""

    def __init__(self, made: Rig, network: Network) -> None:
        self.made, self.network = made, network
        card = made.car / "region.toml"
        made.policy()
        text = card.read_text("utf-8")
        assert f"port = {made.port}\n" in text
        card.write_text(text.replace(f"port = {made.port}\n", f"port = {network.port}\n"), "utf-8")
        self.hatch = HatchClient(made.car / "run" / "hatch.sock", timeout_s=2)

    def start(self) -> None:
        link = self.made.folder / "can0"
        self.made.bus(name="can0", interface="slcan", channel=str(link), bitrate=500000)
        self.made.start("car", command=[
            sys.executable, "-m", "firmware_sim", "--pty-link", str(link), "--seconds", "0",
        ])  # fmt: skip
        wait_for(link.exists, 20, "the serial line")
        for name in ("capture", "uplink"):
            self.made.start(name, name, "--config", str(self.made.config), "--verbose")
        wait_for(lambda: self.status()["receipts"] > 4, 40, "the first receipts")

    def status(self) -> dict[str, Any]:
        """What capture says of itself; it may not be there yet."""
        try:
            return json.loads(self.hatch.status())
        except HatchError:
            return {"receipts": 0, "frames": {"kept": 0}, "link": {"connects": 0}, "segments": 0}

    def pids(self) -> list[int]:
        return [self.made.processes[name].pid for name in ("capture", "uplink")]

    @contextmanager
    def asleep(self) -> Iterator[None]:
        """Both processes stand still for as long as the block takes, and SLEEP_S at least."""
        until_s = time.monotonic() + SLEEP_S
        for pid in self.pids():
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
            wait_for(lambda: time.monotonic() > until_s, SLEEP_S + 1, "it has slept")
        finally:
            for pid in self.pids():
                os.kill(pid, signal.SIGCONT)


def seconds_until(there: Callable[[], bool], what: str) -> float:
    """How long it took at least: whoever looks may be as late as whoever is looked at."""
    return wait_for(there, 40, what)


def wake(car: Car, while_asleep: Callable[[], object]) -> tuple[float, float]:
    """Sleep once; return how long after waking frames are kept and entries receipted again."""
    before = car.status()
    with car.asleep():
        while_asleep()
    begun_s = time.monotonic()
    kept_s = seconds_until(
        lambda: car.status()["frames"]["kept"] > before["frames"]["kept"], "frames are kept again"
    )
    kept_in_s = time.monotonic() - begun_s
    receipts_s = seconds_until(
        lambda: car.status()["receipts"] > before["receipts"] + 1, "receipts come again"
    )
    return kept_s, (kept_in_s + receipts_s if receipts_s else kept_s)


def check_awake(car: Car, while_asleep: Callable[[], object]) -> None:
    """Both take two seconds at most, on a machine that has the time to run us once in three."""
    found = []
    for _ in range(3):
        found.append(wake(car, while_asleep))
        if max(found[-1]) <= WITHIN_S:
            return
        car.made.kill("uplink")  # else its next attempt at once would be half a minute away
        car.made.start("uplink", "uplink", "--config", str(car.made.config), "--verbose")
        before = car.status()["receipts"]
        wait_for(lambda before=before: car.status()["receipts"] > before, 40, "receipts")
    pytest.fail(f"(frames, receipts) after waking, in seconds: {found}")


class Manager:
    """Hears what a service manager would."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.socket.bind(str(path))

    def heard(self) -> list[str]:
        """Every message since the last call."""
        found = []
        while True:
            try:
                found.append(self.socket.recv(4096).decode())
            except BlockingIOError:
                return found


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    """A service manager that wants a sign of life every two seconds, for what is started next."""
    with tempfile.TemporaryDirectory() as short:  # a socket's name has 107 bytes at most
        found = Manager(Path(short) / "notify")
        monkeypatch.setenv("NOTIFY_SOCKET", str(Path(short) / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "2000000")
        yield found
        found.socket.close()


@pytest.fixture
def car(tmp_path: Path) -> Iterator[Car]:
    with rig(tmp_path) as made, Network(made.port) as network:
        found = Car(made, network)
        found.start()
        yield found
        found.hatch.close()


@pytest.mark.slow
def test_a_link_that_was_forgotten_while_the_car_slept_is_made_anew_at_once(car: Car):
    """Nobody tells: a router on the way has let go of it. Waiting would take 28 s."""
    check_awake(car, car.network.forget)
    assert car.network.connections > 1


@pytest.mark.slow
def test_a_link_that_lives_is_kept(car: Car):
    connections = car.network.connections
    wake(car, lambda: None)
    assert car.network.connections == connections
    check_awake(car, lambda: None)


@pytest.mark.slow
def test_a_broker_that_restarts_while_the_car_sleeps_is_met_at_once(car: Car):
    """What the broker said when it went is read when the car wakes."""

    def restart() -> None:
        before = connections_of_the_station(car)
        car.made.kill("broker")
        car.made.start_broker()
        wait_for(lambda: connections_of_the_station(car) > before, 30, "the station is back")

    check_awake(car, restart)


def connections_of_the_station(car: Car) -> int:
    """How often it has connected so far."""
    said = (car.made.folder / "station.txt").read_text("utf-8").splitlines()
    return sum(line.startswith("connected") for line in said)


@pytest.mark.slow
def test_the_watchdog_is_fed_as_soon_as_the_agent_is_awake(manager: Manager, car: Car):
    """And only once its threads have turned: one that hangs shall not be covered by a sleep."""
    found = []
    while not found or (found[-1] > 1.5 and len(found) < 3):  # as in `check_awake`
        wait_for(lambda: "WATCHDOG=1" in manager.heard(), 10, "the watchdog is fed")
        with car.asleep():
            wait_for(lambda: not manager.heard(), 1, "silence")
        found.append(seconds_until(lambda: "WATCHDOG=1" in manager.heard(), "it is fed again"))
    assert found[-1] <= 1.5, found
