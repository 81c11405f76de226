"""The car in its region: a frame on vcan0 arrives opened at the station, over the real network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rig import EVERYTHING, wait_for
from tests.vehicle.car import Car, car
from tests.vehicle.watching import plain


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, image: Path, payload: Path) -> Iterator[Car]:
    with car(tmp_path_factory.mktemp("region"), image, payload) as made:
        made.region.publish(EVERYTHING, 1)
        made.start("capture", "uplink")
        wait_for(lambda: made.told()["policy"]["version"] == 1, 60, "the policy over the air")
        # A silent bus gets a new policy's filter a moment later.
        made.guest.until("grep -q 'vcan0 .*raw' /proc/net/can/rcvlist_all")
        yield made


def test_a_frame_on_the_bus_arrives_opened_at_the_station(made: Car):
    """Classic, extended without data, CAN FD; each once."""
    sent = ["123#DEADBEEF01", "18FF0102#", "7FF##3AA55"]
    made.guest.sh("; ".join(f"cansend vcan0 {frame}" for frame in sent))

    def seen() -> list[str]:
        frames = [line.split(" ")[2] for line in made.region.opened()]
        return [frame for frame in frames if frame.split("#")[0] in ("123", "18FF0102", "7FF")]

    wait_for(lambda: len(seen()) >= len(sent), 30, "three frames")
    assert [plain(frame) for frame in seen()] == sent


def test_services_end_in_order_and_come_back_after_a_kill(made: Car):
    made.kill("capture")
    wait_for(lambda: made.status() is not None, 30, "capture again")
    made.stop("uplink", "capture")
    assert made.status() is None
    assert "Traceback" not in made.said("capture") + made.said("uplink")
    made.start("capture", "uplink")
    made.drive("cangen vcan0 -g 2 -I 321 -L 8 -D i")
    wait_for(lambda: made.told()["frames"]["kept"] >= 500, 30, "a drive")
    made.park()
    sent = [f"{n.to_bytes(8, 'little').hex().upper()}" for n in range(500)]

    def seen() -> list[str]:
        lines = made.region.opened()
        return [line.partition("321#")[2] for line in lines if " 321#" in line]

    wait_for(lambda: len(seen()) >= 500, 30, "the drive at the station")
    assert seen()[:500] == sent
