"""Links that die, on the kernel's own TCP: swallowed packets, no network at all.

Real processes; the uplink runs in a network of its own (tests/road.py). Whatever the road does,
everything arrives once in effect. Loss, delay and a backlog: tests/vehicle/test_network.py.
"""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.errors import HatchError
from agent.hatch import HatchClient
from tests.rig import INLAND, Rig, needs_mosquitto, rig, wait_for
from tests.road import Road, needs_road

pytestmark = [needs_mosquitto, needs_road, pytest.mark.slow, pytest.mark.timeout(600)]

RATE = 500  # frames a second


class Car:
    """A car at the other end of a road."""

    def __init__(self, made: Rig, road: Road) -> None:
        self.made, self.road = made, road
        made.policy()
        card = made.car / "region.toml"
        text = card.read_text("utf-8")
        assert '"127.0.0.0/8"' in text
        card.write_text(text.replace('"127.0.0.0/8"', f'"{road.prefix}"'), "utf-8")
        self.hatch = HatchClient(made.car / "run" / "hatch.sock", timeout_s=5)

    def play(self, seconds: int) -> list[str]:
        """Give it a drive in real time; return its frames."""
        lines = [
            f"({1_800_000_000 + i // RATE}.{i % RATE * 1_000_000 // RATE:06d}) can0 "
            f"{0x100 + i % 7:03X}#{i:016X}"
            for i in range(seconds * RATE)
        ]
        log = self.made.folder / "in.log"
        log.write_text("\n".join(lines) + "\n", "ascii")
        self.made.bus(name="can0", interface="log", channel=str(log), speed=1.0)
        return lines

    def start(self) -> None:
        self.made.start("capture", "capture", "--config", str(self.made.config), "--verbose")
        uplink = [*INLAND, "uplink", "--config", str(self.made.config), "--verbose"]
        self.made.start("uplink", command=self.road.inside(uplink, self.made.folder))

    def status(self) -> dict[str, Any]:
        try:
            return dict(json.loads(self.hatch.status()))
        except HatchError:
            nothing = {"received": 0, "waiting": 1}
            return {"link": {"connected": False, "connects": 0}, "frames": nothing, "receipts": 0,
                    "spool": {"pending": {"?": 1}}}  # fmt: skip

    def connected(self) -> bool:
        return bool(self.status()["link"]["connected"])

    def pending(self) -> int:
        return sum(self.status()["spool"]["pending"].values())

    def settled(self, frames: int) -> bool:
        found = self.status()["frames"]
        return found["received"] >= frames and not found["waiting"] and not self.pending()

    def whole(self, lines: list[str]) -> None:
        """Everything has arrived, once in effect, and the region has no complaint."""
        wait_for(lambda: self.settled(len(lines)), 400, "everything receipted")
        self.made.kill("capture", 15)
        assert self.made.opened() == lines
        listing = json.loads(self.made.inland("station", "ls", str(self.made.region), "--json"))
        (vehicle,) = listing["vehicles"]
        assert [log["missing"] for log in vehicle["logs"]] == [[]]
        assert [log["conflicts"] for log in vehicle["logs"]] == [0]


@pytest.fixture
def car(tmp_path: Path) -> Iterator[Car]:
    with rig(tmp_path) as made, Road() as road:
        found = Car(made, road)
        yield found
        found.hatch.close()


def test_a_road_that_swallows_everything_is_noticed_within_thirty_seconds(car: Car):
    """No reset, no unreachable: silence. The same for a car that has nothing to send meanwhile."""
    lines = car.play(12)
    car.start()
    wait_for(lambda: car.connected() and car.status()["receipts"] > 5, 60, "receipts")
    car.road.open = False
    assert wait_for(lambda: not car.connected(), 40, "the link is known to be dead") <= 30
    car.road.open = True
    wait_for(lambda: car.settled(len(lines)), 120, "drained")
    car.road.open = False
    assert wait_for(lambda: not car.connected(), 40, "a quiet link is known to be dead") <= 30
    car.road.open = True
    car.whole(lines)


def test_an_interface_that_goes_and_comes(car: Car):
    rng = random.Random(5)
    lines = car.play(20)
    car.start()
    wait_for(lambda: car.status()["receipts"] > 3, 60, "receipts")
    pause = threading.Event()
    for _ in range(5):
        car.road.down()
        pause.wait(rng.uniform(0.2, 3))
        car.road.up()
        pause.wait(rng.uniform(0.5, 2))
    car.whole(lines)
