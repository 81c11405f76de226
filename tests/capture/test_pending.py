"""What is decided together is what would be decided one by one."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from agent.capture import force
from agent.capture.pending import Pending
from agent.frames import FRAME
from agent.pb.moment_pb2 import Moment
from agent.policy.place import OPEN, PROTECTED, Place, PlaceGuard
from tests.capture import driving
from tests.capture.driving import BRAKE, CAM, LATITUDE, SPEED, Car, S


def at(boottime_ns: int) -> Moment:
    return Moment(boottime_ns=boottime_ns)


def frames(*stamps: int) -> Any:
    batch = np.zeros(len(stamps), FRAME)
    batch["timestamp_ns"] = stamps
    return batch


def test_batches_are_joined_unless_one_hides_its_place():
    pending = Pending()
    assert pending.take() == []
    pending.add(frames(1, 2), at(10), hidden=False)
    pending.add(frames(3), at(20), hidden=False)
    pending.add(frames(), at(25), hidden=True)  # nothing to hide
    pending.add(frames(4), at(30), hidden=True)
    pending.add(frames(5), at(40), hidden=False)
    assert (pending.rows, pending.last) == (5, at(40))
    found = [
        (batch["timestamp_ns"].tolist(), since.boottime_ns, hidden)
        for batch, since, hidden in pending.take()
    ]
    assert found == [([1, 2, 3], 10, False), ([4], 30, True), ([5], 40, False)]
    assert (pending.rows, pending.last, pending.take()) == (0, None, [])


def _place_now_and_then(self: PlaceGuard, now_ns: int, speed: float | None) -> Place:
    """Protected two of every five tenths of a second, whatever the position is."""
    return Place(PROTECTED if now_ns // (S // 10) % 5 < 2 else OPEN)


def drive(folder: Path, seed: int) -> dict[str, Any]:
    """What is kept of a drive through places that are protected now and then."""
    rng = Random(seed)
    car = Car(folder)
    rules = (
        driving.rule("all", frames=(driving.EVERY,)),
        driving.rule("some", signals=(driving.SignalSelector("*", SPEED),), every_ns=S, keep_s=9),
        driving.rule("brakes", signals=(driving.SignalSelector("*", BRAKE),), on_change=True),
        driving.rule("place", signals=(driving.SignalSelector("*", LATITUDE),), flush_ns=S // 2),
    )
    car.vault.close()
    car.start(zones=lambda sealed: None)
    camera = driving.camera(zones=b"sealed")
    # Which segments an event holds depends on where they end: none of them is uploaded here.
    events = (driving.event(after_ns=S, upload=False),)
    car.slot.put(driving.policy(rules=rules, camera=camera, events=events))
    car.step()
    for number in range(60):
        rows = [(driving.DRIVE, bytes([rng.randrange(1, 4), rng.choice((0, 0, 0, 200))]))]
        rows += [(driving.PLACE, bytes([number, 9]))] * rng.randrange(3)
        rows += [(CAM, bytes([1, 1, rng.randrange(2), number // 7]))] * (rng.random() < 0.2)
        car.step(rows)
    car.sealer.finish()
    opened = car.opened().values()
    tally = car.sealer.counters.events
    found = {
        "frames": sorted(row.tobytes() for one in opened for row in one.frames),
        "samples": sorted(row.tobytes() for one in opened for row in one.signals),
        "triggers": [one.SerializeToString() for one in car.triggers()],
        "events": (tally.recorded, tally.merged),
        "kept": [(rule.id, rule.frames, rule.samples) for rule in car.told("kept")[0].rule],
    }
    car.vault.close()
    return found


def check_together_and_one_by_one(folder: Path, seed: int) -> None:
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PlaceGuard, "look", _place_now_and_then)
        together = drive(folder / "together", seed)
        patch.setattr(force, "DECIDE_NS", 0)
        assert together == drive(folder / "alone", seed)


@pytest.mark.parametrize("seed", range(3))
def test_a_drive_decided_together_is_one_decided_batch_by_batch(tmp_path: Path, seed: int):
    check_together_and_one_by_one(tmp_path / "car", seed)


def _mixed(self: Pending, batch: Any, now: Moment, *, hidden: bool) -> None:
    """Planted bug: what is decided together is hidden if the first batch is."""
    _add(self, batch, now, hidden=self._runs[0][2] if self._runs else hidden)


_add = Pending.add


def test_places_that_are_mixed_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Pending, "add", _mixed)
    with pytest.raises(AssertionError):
        check_together_and_one_by_one(tmp_path / "car", 0)
