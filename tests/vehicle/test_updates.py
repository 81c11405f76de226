"""Policies reach the car over MQTT and in a folder while frames flow; nothing restarts for them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rig import EVERYTHING, wait_for
from tests.vehicle.car import STATE, Car, serviced_car
from tests.vehicle.test_service import UNITS, shown

NARROW = EVERYTHING.replace('["*:*"]', '["can0:0x321"]')


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, image: Path, payload: Path) -> Iterator[Car]:
    with serviced_car(tmp_path_factory.mktemp("region"), image, payload) as made:
        yield made


def folder(made: Car, text: str, version: int) -> str:
    """Publish a policy while the car is offline; return its signed folder in the guest."""
    made.region.publish(text, version)
    drop = made.region.folder / f"drop{version}"
    made.region.inland(
        "station", "policy", "export", str(drop), "--region", str(made.region.region)
    )
    made.guest.push(drop, f"/root/drop{version}")
    return f"/root/drop{version}"


def counted(made: Car, identifier: str) -> list[int]:
    """The numbers that the frames of an id carry, as the region opened them."""
    marks = (line.partition(f" {identifier}#") for line in made.region.opened())
    return [int.from_bytes(bytes.fromhex(data), "little") for _, mark, data in marks if mark]


def test_policies_come_both_ways_while_frames_flow_and_none_is_lost(made: Car):
    before = [shown(made, unit, "MainPID") for unit in UNITS]
    made.drive("cangen vcan0 -g 1 -I 321 -L 8 -D i")
    wait_for(lambda: made.told()["frames"]["kept"] > 500, 30, "a drive")
    made.region.publish(EVERYTHING, 2)
    wait_for(lambda: made.policy_version() == 2, 120, "the policy over MQTT")
    made.guest.link(False)  # what comes now can only come in the folder
    drop = folder(made, NARROW, 3)
    assert "version 3" in made.inland(f"policy install {drop}", timeout=120)
    wait_for(lambda: made.policy_version() == 3, 30, "the policy of the folder")
    so_far = made.told()["frames"]["kept"]
    wait_for(lambda: made.told()["frames"]["kept"] > so_far + 500, 30, "more of the drive")
    made.park()
    made.guest.link(True)
    wait_for(lambda: not sum(made.told()["spool"]["pending"].values()), 120, "all receipted")

    frames, numbers = made.told()["frames"], counted(made, "321")
    print(f"{frames['kept']} frames under three policies, {frames['lost']} lost")
    assert numbers == list(range(len(numbers)))
    assert (frames["kept"], frames["lost"]) == (len(numbers), 0)
    assert [shown(made, unit, "MainPID") for unit in UNITS] == before
    assert [shown(made, unit, "NRestarts") for unit in UNITS] == ["0", "0"]


def test_what_the_new_policy_does_not_name_is_kept_no_more(made: Car):
    made.guest.sh("cansend vcan0 111#AA; cansend vcan0 321#00000000000000FF")
    wait_for(lambda: counted(made, "321")[-1] == 0xFF << 56, 60, "a frame that it names")
    assert not counted(made, "111")


def test_root_left_nothing_of_its_own_in_the_state_folder(made: Car):
    owners = made.guest.sh(f"find {STATE} -printf '%u %p\\n' | grep -v '^inland-capture ' || :")
    assert not owners.strip(), owners


def test_a_folder_that_says_nothing_new_or_is_broken_changes_nothing(made: Car):
    assert "already" in made.inland("policy install /root/drop3", timeout=120)
    made.guest.sh("cp -r /root/drop3 /root/broken")
    made.guest.sh("truncate -s 9 /root/broken/metadata/timestamp.json")
    assert "error:" in made.inland("policy install /root/broken", code=1, timeout=120)
    assert made.policy_version() == 3
