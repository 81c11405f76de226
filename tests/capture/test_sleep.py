"""The computer is suspended for a night: CLOCK_BOOTTIME goes on, frames do not."""

from __future__ import annotations

from itertools import pairwise

import pytest

from agent.capture import recorder
from agent.pb.ledger_pb2 import Incident
from tests.capture import driving
from tests.capture.driving import DRIVE, Car, S

NIGHT_NS = 8 * 3600 * S


def sleep(car: Car, ns: int = NIGHT_NS) -> None:
    car.boot_ns += ns
    car.unix_ns += ns


def check_night(car: Car) -> None:
    rules = (driving.rule("all", frames=(driving.EVERY,), order=True),)
    car.slot.put(driving.policy(rules=rules, camera=driving.camera()))
    car.drive(20, place=True)
    assert driving.gate_of(car).open
    car.step([(DRIVE, bytes([50, 200]))])  # an event, whose `after` is not over
    car.drive(1)
    kept, drive, recorded_ns = car.sealer.counters.kept, car.sealer._drives.number, recorded(car)
    sleep(car)
    assert not driving.gate_of(car).open, "a file that a sleeping agent left opens a camera"
    car.step([(DRIVE, bytes([50, 0]))])
    assert car.sealer.counters.kept == kept + 1, "frames are not kept at once"
    assert not driving.gate_of(car).open, "open though nobody knows where the car is"
    assert recorded(car) - recorded_ns < S, "the night was recorded"
    assert car.sealer.counters.events.open == 0
    assert [one.state for one in car.told("incident")] == [Incident.COMPLETE]
    car.drive(15, place=True)  # a place that stood still while the car drove is doubted for 10 s
    assert driving.gate_of(car).open
    assert car.sealer._drives.number == drive  # a frame came in the very step that was the first
    car.drive(5)
    spans = [(p.opened.boottime_ns, p.closed.boottime_ns) for p in car.opened().values()]
    stamps = [p.frames["timestamp_ns"] for p in car.opened().values() if len(p.frames)]
    assert max(int(one.max() - one.min()) for one in stamps) < 2 * S, "a segment spans the night"
    assert len(spans) > 20
    assert not [pair for pair in pairwise(sorted(spans)) if pair[0][0] > pair[1][0]]


def recorded(car: Car) -> int:
    return car.sealer.recorded_ns


def test_a_night_leaves_no_trace_but_its_gap(car: Car):
    check_night(car)


def test_the_check_finds_a_segment_that_spans_the_night(car: Car, monkeypatch):
    put = recorder.Recorder._put

    def wrong(self, rule_set, channels, now, **more):
        is_open = self._open.get(rule_set)
        return put(self, rule_set, channels, is_open.opened if is_open else now, **more)

    monkeypatch.setattr(recorder.Recorder, "_put", wrong)
    with pytest.raises(AssertionError, match="spans the night"):
        check_night(car)


def test_a_consent_for_one_drive_does_not_outlive_a_night_without_a_bus(car: Car):
    """Two minutes of silence end a drive; a sleep is silence."""
    car.slot.put(driving.policy())
    car.drive(5)
    number = car.sealer._drives.number
    sleep(car)
    car.step()
    assert not car.sealer._drives.driving
    car.drive(5)
    assert car.sealer._drives.number == number + 1


def braking(car: Car) -> None:
    """An event happens now."""
    car.step([(DRIVE, bytes([50, 200]))])


def test_an_event_at_waking_has_its_after(car: Car):
    """The first frame after the night is one: what closes the evening's leaves it alone."""
    rules = (driving.rule("all", frames=(driving.EVERY,), order=True),)
    fast = driving.event(id="fast", when=driving.condition("Speed > 150", "Speed"))
    car.slot.put(driving.policy(rules=rules, events=(fast, driving.event())))
    car.drive(20)
    car.step([(DRIVE, bytes([200, 0]))])
    car.drive(1)
    sleep(car)
    braking(car)
    assert car.sealer.counters.events.open == 1
    car.drive(10)
    after_s = {one.rule: one.after_ns / S for one in car.events() if one.complete}
    assert after_s["fast"] < 2
    assert after_s["brake"] == 5


def test_a_stall_of_the_agent_is_no_sleep(car: Car):
    """The storage hung for twelve seconds: what waited meanwhile is the event's `after`."""
    rules = (driving.rule("all", frames=(driving.EVERY,), order=True),)
    car.slot.put(driving.policy(rules=rules, events=(driving.event(after_ns=30 * S),)))
    car.drive(20)
    braking(car)
    car.drive(1)
    for _ in range(120):
        car.boot_ns += S // 10
        car.unix_ns += S // 10
        car.rows.append((DRIVE, bytes([50, 0])))
        car.stamps.append(car.unix_ns)
    car.give()
    car.drive(25)
    (record,) = (one for one in car.events() if one.complete)
    assert record.after_ns == 30 * S
