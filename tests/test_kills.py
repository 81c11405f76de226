"""P4 under the worst: each part killed ten times at random moments while frames flow.

Everything that was committed arrives, once in effect; what was open in memory is the end of a run
and nothing else; the ledger has no holes.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from tests.rig import Rig, needs_mosquitto, rig, wait_for

KILLS = 10
RATE = 2_000  # frames a second

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), needs_mosquitto]


def drive(run: int, frames: int) -> list[str]:
    """A log whose frames tell which run they belong to, and which they are."""
    return [
        f"({1_700_000_000 + i // RATE}.{i % RATE * 1_000_000 // RATE:06d}) can0 "
        f"{0x100 + i % 7:03X}#{run:08X}{i:08X}"
        for i in range(frames)
    ]


def write_log(made: Rig, run: int, frames: int) -> list[str]:
    lines = drive(run, frames)
    (made.folder / "in.log").write_text("\n".join(lines) + "\n", "ascii")
    return lines


def start(made: Rig, name: str) -> None:
    made.start(name, name, "--config", str(made.config), "--verbose")


def settled(made: Rig, frames: int) -> bool:
    status = made.status()
    if not status or status["frames"]["received"] < frames or status["frames"]["waiting"]:
        return False
    return not sum(status["spool"]["pending"].values()) and status["segments"] > 0


def whole(made: Rig) -> None:
    """The region has every entry of the car's ledger, without holes, and opens every body."""
    listing = json.loads(made.inland("station", "ls", str(made.region), "--json"))
    (vehicle,) = [v for v in listing["vehicles"] if v["vehicle"] == made.vehicle]
    for log in vehicle["logs"]:
        assert log["missing"] == 0, log


@pytest.mark.parametrize("victim", ["uplink", "station", "broker"])
def test_killed_outside_the_vault_loses_nothing(tmp_path: Path, victim: str):
    rng = random.Random(victim)
    seconds = 25
    with rig(tmp_path) as made:
        made.policy()
        lines = write_log(made, 0, seconds * RATE)
        made.bus(name="can0", interface="log", channel=str(tmp_path / "in.log"), speed=1.0)
        start(made, "capture")
        start(made, "uplink")
        restart = {
            "uplink": lambda: start(made, "uplink"),
            "station": made.start_station,
            "broker": made.start_broker,
        }[victim]
        pause = __import__("threading").Event()
        for _ in range(KILLS):
            pause.wait(rng.uniform(0.2, 2.5))
            made.kill(victim)
            pause.wait(rng.uniform(0, 0.3))
            restart()
        wait_for(lambda: settled(made, len(lines)), 240, "everything receipted")
        made.kill("capture", 15)
        assert made.opened() == lines
        whole(made)


def test_killed_capture_loses_only_what_was_open(tmp_path: Path):
    rng = random.Random("capture")
    with rig(tmp_path) as made:
        made.policy()
        made.bus(name="can0", interface="log", channel=str(tmp_path / "in.log"), speed=1.0)
        start(made, "uplink")
        pause = __import__("threading").Event()
        sealed: list[int] = []
        for run in range(KILLS):
            write_log(made, run, 60 * RATE)
            start(made, "capture")
            wait_for(lambda: (s := made.status()) and s["segments"] > 0, 60, "first segment")
            pause.wait(rng.uniform(0, 2))
            status = made.status()
            sealed.append(status["segments"] if status else 1)
            made.kill("capture")
        write_log(made, KILLS, RATE)
        start(made, "capture")
        wait_for(lambda: settled(made, RATE), 120, "everything receipted")
        made.kill("capture", 15)
        opened = made.opened()
        for run in range(KILLS):
            mine = [line for line in opened if f"#{run:08X}" in line]
            assert mine == drive(run, len(mine)), f"run {run}: not an unbroken start of the drive"
            # Segments close every second: those that the status counted had this much at least.
            assert len(mine) >= (sealed[run] - 1) * RATE * 0.9
        whole(made)
