"""The drives are plausible, and the camera controller follows them."""

from __future__ import annotations

import math
from functools import cache
from random import Random

import cantools
import pytest

from firmware_sim.camera import CameraController
from firmware_sim.car import Car, Options
from firmware_sim.scenarios import SCENARIOS, legs_of
from firmware_sim.vehicle import FRICTION, GRAVITY, Vehicle
from tests.firmware_sim.test_car import DBC


@cache
def trip(name: str, *, seconds: float, brake_at_s: float = 10, seed: int = 7) -> list[tuple]:
    """Return (time, speed, acceleration, pedal, accelerator, soc, voltage, ...) for each step."""
    car = Vehicle(SCENARIOS[name], brake_at_s=brake_at_s, rng=Random(seed))
    rows = []
    for step in range(round(seconds * 100)):
        car.step()
        rows.append(
            (step / 100, car.speed, car.acceleration, car.brake, car.accelerator, car.soc,
             car.voltage, car.current, car.lateral_acceleration, car.steering_rate)
        )  # fmt: skip
    return rows


@pytest.mark.parametrize("name", SCENARIOS)
def test_car_stays_within_physics(name):
    grip = FRICTION * GRAVITY
    for now, speed, acceleration, brake, throttle, soc, volt, amp, lateral, rate in trip(
        name, seconds=200
    ):
        assert 0 <= speed < 140 / 3.6, now
        assert -grip - 1.8 <= acceleration <= 4, now
        assert 0 <= brake <= 100, now
        assert 0 <= throttle <= 100, now
        assert not (brake > 15 and throttle > 15), now
        assert 0.5 < soc <= 1, now
        assert 300 < volt < 410, now
        assert -600 < amp < 250, now
        assert abs(lateral) < 4, now
        assert abs(rate) <= 320, now


def test_commute_is_gentle_and_moves():
    rows = trip("commute", seconds=200)
    assert min(row[2] for row in rows) > -5.5
    assert max(row[1] for row in rows) > 100 / 3.6
    assert rows[-1][5] < rows[0][5]  # it used energy
    assert any(row[7] > 20 for row in rows)  # and won some back


@pytest.mark.parametrize("brake_at_s", [0.5, 3, 10, 17.25, 55])
def test_hard_brake_is_hard_on_time_and_to_a_standstill(brake_at_s):
    rows = trip("hard-brake", seconds=brake_at_s + 5, brake_at_s=brake_at_s)
    hard = [row[0] for row in rows if row[2] < -7]
    assert brake_at_s <= hard[0] < brake_at_s + 0.4
    assert hard[-1] - hard[0] > 1.5
    assert all(row[2] > -5.5 for row in rows if row[0] < brake_at_s)
    assert any(row[1] == 0 for row in rows if row[0] > brake_at_s + 2)


def test_position_moves_as_far_as_the_wheels_roll():
    car = Vehicle(SCENARIOS["commute"], brake_at_s=0, rng=Random(1))
    way = 0.0
    for _ in range(6000):
        before = car.latitude, car.longitude
        car.step()
        north = math.radians(car.latitude - before[0])
        east = math.radians(car.longitude - before[1]) * math.cos(math.radians(car.latitude))
        way += math.hypot(north, east) * 6_371_000
    assert way == pytest.approx(car.trip, rel=0.001)
    assert abs(car.fix_latitude - car.latitude) < 1e-3


def test_tunnel_keeps_the_last_fix_and_lets_it_grow_old():
    car = Vehicle(SCENARIOS["commute"], brake_at_s=0, rng=Random(1))
    oldest, held = 0.0, set()
    for _ in range(13_000):
        car.step()
        oldest = max(oldest, car.fix_age_s)
        if not car.leg.fix:
            held.add((car.fix_latitude, car.fix_longitude))
    assert oldest == pytest.approx(12, abs=0.3)
    assert len(held) == 1


def test_legs_before_the_braking_last_as_long_as_asked():
    legs = legs_of(SCENARIOS["hard-brake"], brake_at_s=31)
    before = 0.0
    for leg in legs:
        if leg.brake_percent == 100:
            break
        before += leg.seconds
    assert before == 31


def test_hard_brake_triggers_both_cameras_on_the_bus():
    oracle = cantools.database.load_file(DBC).get_message_by_name("CameraTrigger")
    car = Car(Options("hard-brake", seed=7, brake_at_s=3))
    seen = [
        (round(f.timestamp_ns / 1e9, 1), oracle.decode(f.data))
        for f in car.frames_until(12_000_000_000)
        if f.arbitration_id == oracle.frame_id
    ]
    told = [(d["CameraId"], d["TriggerReason"], d["TriggerState"], d["ClipId"]) for _, d in seen]
    assert told == [
        ("front", "dashcam", "started", 1),
        ("front", "hard_brake", "started", 2),
        ("rear", "hard_brake", "started", 3),
        ("front", "hard_brake", "ended", 2),
        ("rear", "hard_brake", "ended", 3),
        ("front", "dashcam", "ended", 1),
        ("front", "dashcam", "started", 4),
    ]
    assert 3.1 <= seen[1][0] <= 3.5
    assert [d["TriggerCounter"] for _, d in seen] == list(range(7))


def test_commute_triggers_dash_cam_clips_alone():
    car = Car(Options("commute", seed=7))
    oracle = cantools.database.load_file(DBC).get_message_by_name("CameraTrigger")
    reasons = [
        oracle.decode(f.data)["TriggerReason"]
        for f in car.frames_until(31_000_000_000)
        if f.arbitration_id == oracle.frame_id
    ]
    assert reasons == ["dashcam"] * 3


def test_short_dip_does_not_trigger_and_a_running_clip_is_not_doubled():
    camera = CameraController(clip_s=1000)
    assert len(camera.step(0.0, 0.0)) == 1
    assert camera.step(0.01, -9.0) == []
    assert camera.step(0.10, -9.0) == []
    assert camera.step(0.11, 0.0) == []
    assert camera.step(1.0, -9.0) == []
    assert len(camera.step(1.1, -9.0)) == 2
    assert camera.recording == 0b11
    assert camera.step(2.0, -9.0) == []
    assert len(camera.step(6.1, 0.0)) == 2
    assert camera.recording == 0b01
