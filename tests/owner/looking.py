"""A car whose live socket is served, and people who look: real threads, sockets, keys and vault."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from agent.capture.live import LiveFeed
from agent.capture.slot import Change
from agent.errors import InlandError
from agent.owner.keyfile import OwnerKey
from agent.owner.live import Part, Stream, connect
from agent.pb.moment_pb2 import Moment
from agent.policy.build import build_text
from agent.policy.compiled import load_policy
from agent.service.live import LiveServer
from agent.service.live_reader import Car
from tests.owner.people import PeopledCar
from tests.policy.making import EXAMPLES
from tests.test_scenarios import REGION, Drive, fleet

VEHICLE = "car-00000001"
BOOT = bytes(16)
SOME_S = 20.0  # for what takes some ms


def policy() -> str:
    """The China fleet's policy, each of its clauses for somebody else."""
    text = fleet()
    for begins, recipients in (
        ('id = "cells"', "both"), ('id = "drive"', "shared"), ('id = "gear"', "owner"),
        ('id = "battery-frames"', "shared"), ("[recorder]", "shared"),
        ('id = "hard-brake"', "shared"), ('id = "belt-open"', "driver"),
    ):  # fmt: skip
        before, name, after = text.partition(begins)
        assert name, begins
        mine, next_, rest = after.partition('recipients = "region"')
        text = before + name + mine + next_.replace("region", recipients) + rest
    drive = text.index('id = "drive"')
    text = text[:drive] + text[drive:].replace('every = "10s"', 'every = "200ms"', 1)
    return text + DRIVER


DRIVER = """
[[collect]]
id = "steering"
category = "vehicle.state"
purpose = "owner_access"
basis = "safety"
necessity = "who drives sees how"
signals = ["SteeringAngle"]
every = "100ms"
keep = "1d"
recipients = "driver"
timestamp_resolution = "1ms"
"""


class Watched(PeopledCar):
    """A driven car with people, a real policy and a live feed."""

    play = Drive.play

    def __init__(self, folder: Path, text: str = "") -> None:
        self.feed = LiveFeed()
        super().__init__(folder)
        data = build_text(text or policy(), where="the test's policy", folder=EXAMPLES)
        self.policy = load_policy(data, region=REGION, now_ns=0)
        self.slot.next = Change(self.policy, data, "installed")

    def start(self, boot_id: bytes = BOOT, **more: object) -> None:
        super().start(boot_id, live=self.feed, **more)


@contextmanager
def serving(
    folder: Path, feed: LiveFeed, *, rng: Callable[[int], bytes] = os.urandom
) -> Iterator[LiveServer]:
    """The live socket of a car, until the end of the block."""
    car = Car(VEHICLE, REGION, 1, BOOT, 1)
    server = LiveServer(
        folder / "live.sock", feed, car, rng=rng,
        moment=lambda: Moment(unix_ns=time.time_ns()),
    )  # fmt: skip
    stop = threading.Event()
    thread = threading.Thread(target=server.run, args=(stop,), name="live")
    thread.start()
    try:
        yield server
        assert thread.is_alive()
    finally:
        stop.set()
        thread.join(SOME_S)


class Looker:
    """Somebody who looks, in a thread of their own, until the car ends it or they go."""

    def __init__(self, path: Path, key: OwnerKey, *, frames: bool = True) -> None:
        self.parts: list[Part] = []
        self.error: InlandError | None = None
        self._gone, self._news = threading.Event(), threading.Condition()
        found = connect(path, key, frames=frames, is_over=self._gone.is_set)
        assert found is not None
        self.stream: Stream = found
        self._thread = threading.Thread(target=self._look, name="looker")
        self._thread.start()
        self.wait(lambda: self.parts)

    def _look(self) -> None:
        try:
            for part in self.stream.parts():
                with self._news:
                    self.parts.append(part)
                    self._news.notify_all()
        except InlandError as error:
            self.error = error
        finally:
            self.stream.close()
            with self._news:
                self._news.notify_all()

    def wait(self, so: Callable[[], object]) -> None:
        """Wait until something is so of what has come."""
        with self._news:
            assert self._news.wait_for(so, SOME_S), self.error

    @property
    def ended(self) -> str:
        """Why the car has ended it; empty: it has not."""
        return self.parts[-1].ended if self.parts else ""

    def end(self) -> None:
        """Wait until the stream is over."""
        self._thread.join(SOME_S)
        assert not self._thread.is_alive()

    def go(self) -> None:
        """Close the connection."""
        self._gone.set()
        self.end()


@contextmanager
def knock(path: Path) -> Iterator[socket.socket]:
    """A bare connection to a live socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.connect(str(path))  # which waits for room in the backlog, as no timeout would
        sock.settimeout(SOME_S)
        yield sock
