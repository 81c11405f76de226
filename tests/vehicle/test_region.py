"""The whole way of a frame: a real CAN interface, the agent in the guest, the region outside it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.rig import needs_mosquitto, wait_for
from tests.vehicle.guest import Guest
from tests.vehicle.region import CAR, Region, region
from tests.vehicle.watching import watching

pytestmark = needs_mosquitto
CONFIG = f"--config {CAR}/agent.toml"


@pytest.fixture
def home(guest: Guest, tmp_path: Path) -> Iterator[Region]:
    """A region with the guest enrolled in it; everything on vcan0 may be kept."""
    with region(tmp_path, guest.net) as made:
        made.bus(name="can0", interface="socketcan", channel="vcan0")
        enrolled = made.config.read_text("utf-8")
        made.policy()
        made.config.write_text(enrolled, "utf-8")
        made.install_car(guest)
        yield made


def status(guest: Guest) -> dict[str, Any]:
    done = guest.run(f"inland status {CONFIG} --json")
    return json.loads(done.out) if done.code == 0 else {}


def test_frames_of_vcan0_are_opened_by_the_region_as_candump_saw_them(guest: Guest, home: Region):
    """To the microsecond: both tell the kernel's stamp. A cut network only delays them."""
    guest.sh("/payload/venv/bin/python -m firmware_sim --log /tmp/drive.log --seconds 2")
    guest.begin("agent", f"exec inland run {CONFIG}")
    wait_for(lambda: status(guest).get("link", {}).get("connected"), 60, "the link to the region")
    with watching(guest, "vcan0") as seen:
        guest.sh("canplayer -t -I /tmp/drive.log vcan0=can0")
        guest.link(False)
        guest.sh("canplayer -t -I /tmp/drive.log vcan0=can0")
        guest.link(True)
    sent = len(seen.lines) + 1  # and the frame that ended the watching

    def home_again() -> bool:
        now = status(guest)
        return now["frames"]["kept"] == sent and not sum(now["spool"]["pending"].values())

    wait_for(home_again, 120, "everything receipted")
    ended = guest.end("agent")
    assert ended.code == 0, ended.out
    assert home.opened()[:-1] == [line.replace(" vcan0 ", " can0 ") for line in seen.lines]
