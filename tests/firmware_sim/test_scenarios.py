"""The drives are plausible, and the camera controller follows them."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache
from itertools import pairwise
from random import Random

import cantools
import pytest

from firmware_sim import layout, signals
from firmware_sim.camera import CameraController
from firmware_sim.car import Car, Options
from firmware_sim.scenarios import EARTH_RADIUS, OFF, ON, SCENARIOS, Place, legs_of
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


# --- what surrounds the car -------------------------------------------------------------------


CAMERAS, REASONS = ("front", "rear"), {1: "dashcam", 2: "hard_brake", 4: "parked_motion"}


def told(name: str, seconds: float) -> tuple[list[dict], list[tuple[str, str, str]]]:
    """Return what the units have to say, ten times a second, and the camera's triggers."""
    scenario = SCENARIOS[name]
    car, camera = Vehicle(scenario, brake_at_s=0, rng=Random(7)), CameraController(scenario.clip_s)
    rows, triggers = [], []
    for step in range(round(seconds * 100)):
        car.step()
        leg = car.leg
        for one in camera.step(
            step / 100, car.acceleration, awake=leg.ignition != OFF, motion=leg.motion
        ):
            state = {1: "started", 2: "ended"}[int(one["TriggerState"])]
            triggers.append(
                (CAMERAS[int(one["CameraId"])], REASONS[int(one["TriggerReason"])], state)
            )
        if step % 10 == 0:
            rows.append(signals.values(car, camera))
    return rows, triggers


def test_parked_watch_is_a_parked_car_whose_cameras_notice_people():
    rows, triggers = told("parked-watch", 60)
    for one in rows:
        assert (one["Gear"], one["Ignition"], one["ParkingBrake"]) == (0, OFF, 1)
        assert (one["VehicleSpeed"], one["DriverBelt"], one["LowBeam"]) == (0, 0, 0)
    assert triggers == 2 * [
        ("front", "parked_motion", "started"),
        ("rear", "parked_motion", "started"),
        ("front", "parked_motion", "ended"),
        ("rear", "parked_motion", "ended"),
    ]


def test_parked_watch_on_the_bus():
    database = cantools.database.load_file(DBC)
    decoded = [
        database.decode_message(frame.arbitration_id, frame.data, decode_choices=True)
        for frame in Car(Options("parked-watch", seed=7)).frames_until(5_000_000_000)
        if frame.arbitration_id in (416, 928)
    ]
    gears = [one for one in decoded if "Gear" in one]
    assert {(str(one["Gear"]), str(one["Ignition"])) for one in gears} == {("P", "off")}
    clips = [
        (str(one["CameraId"]), str(one["TriggerReason"])) for one in decoded if "ClipId" in one
    ]
    assert clips == [("front", "parked_motion"), ("rear", "parked_motion")]


def is_inside(place: Place, latitude: float, longitude: float) -> bool:
    (south, west), _, (north, east), _ = place.corners
    return south <= latitude <= north and west <= longitude <= east


def inside_from_to(place: Place, seed: int = 7) -> tuple[float, float]:
    """When the car is in a place, s; (0, 0) if never."""
    car = Vehicle(SCENARIOS["military-zone"], brake_at_s=0, rng=Random(seed))
    inside = [0.0]
    for step in range(12_000):
        car.step()
        assert 115 < car.speed * 3.6 < 125
        if is_inside(place, car.latitude, car.longitude):
            inside.append(step / 100)
    return inside[min(1, len(inside) - 1)], inside[-1]


@pytest.mark.parametrize("seed", range(3))
def test_military_zone_leads_through_its_place(seed):
    place = SCENARIOS["military-zone"].place
    assert place is not None
    assert inside_from_to(place, seed) == (pytest.approx(60, abs=1), pytest.approx(90, abs=2))


def test_place_beside_the_road_would_be_missed():
    """What the test above can see: a square that is not where the road leads."""
    place = SCENARIOS["military-zone"].place
    assert place is not None
    assert inside_from_to(replace(place, latitude=place.latitude + 0.006)) == (0, 0)


def test_place_is_a_square_of_its_size():
    place = SCENARIOS["military-zone"].place
    assert place is not None
    (south, west), (_, east), (north, _), _ = place.corners
    assert math.radians(north - south) * EARTH_RADIUS == pytest.approx(1000)
    across = math.cos(math.radians(place.latitude))
    assert math.radians(east - west) * EARTH_RADIUS * across == pytest.approx(1000)


def test_no_fix_is_a_tunnel_of_half_a_minute():
    rows, _ = told("no-fix", 50)
    without = [at / 10 for at, one in enumerate(rows) if one["FixQuality"] == 0]
    assert (without[0], without[-1]) == (pytest.approx(15, abs=0.2), pytest.approx(45, abs=0.2))
    assert max(one["TimeSinceFix"] for one in rows) == pytest.approx(30, abs=0.5)
    assert len({(one["Latitude"], one["Longitude"]) for one in rows[153:447]}) == 1


def test_flood_fills_the_bus_with_ids_that_nobody_knows():
    known = {m.arbitration_id for m in layout.load()}
    frames = list(Car(Options("flood", seed=3)).frames_until(1_000_000_000))
    assert len(frames) >= 3900
    strange = {f.arbitration_id for f in frames if f.arbitration_id not in known}
    assert len(strange) > 1000
    assert not any(0x700 <= f.arbitration_id < 0x710 for f in frames)
    brakes = [f.timestamp_ns for f in frames if f.arbitration_id == 0xA2]
    assert all(abs(b - a - 10_000_000) < 500_000 for a, b in pairwise(brakes))
    assert frames == list(Car(Options("flood", seed=3)).frames_until(1_000_000_000))


def test_sold_is_two_drives_with_the_ignition_off_between():
    phases: list[str] = []
    fastest: list[float] = []
    for one in told("sold", 99)[0]:
        state = f"{('off', 'accessory', 'on')[one['Ignition']]} {'PRND'[one['Gear']]}"
        state += " door" if one["DriverDoorOpen"] else ""
        assert one["ParkingBrake"] == (one["Gear"] == 0)
        if not phases or phases[-1] != state:
            phases.append(state)
            fastest.append(0.0)
        fastest[-1] = max(fastest[-1], one["VehicleSpeed"])
    assert phases == [
        "on P", "on D", "on P", "off P", "off P door", "off P", "off P door", "accessory P", "on P",
        "on D", "on P", "off P",
    ]  # fmt: skip
    first, second = (fastest[at] for at, phase in enumerate(phases) if phase == "on D")
    assert 40 < first < 55 < 80 < second
    assert [fast for fast, phase in zip(fastest, phases, strict=True) if phase != "on D"] == [
        0
    ] * 10


def test_dash_cam_ends_with_the_ignition_and_begins_with_it():
    assert told("sold", 60)[1][:4] == [
        ("front", "dashcam", "started"),
        ("front", "dashcam", "ended"),
        ("front", "dashcam", "started"),
        ("front", "dashcam", "ended"),
    ]
    camera = CameraController(clip_s=1000)
    assert len(camera.step(0, 0)) == 1
    assert [one["TriggerState"] for one in camera.step(1, 0, awake=False)] == [2]
    assert camera.step(2, 0, awake=False) == []
    assert len(camera.step(3, 0, awake=False, motion=True)) == 2
    assert camera.step(4, 0, awake=False, motion=True) == []  # it runs
    assert [one["TriggerState"] for one in camera.step(13, 0, awake=False)] == [2, 2]


def test_car_that_waits_at_a_light_is_not_parked():
    rows, _ = told("commute", 120)
    waiting = [one["Gear"] for one in rows[30:] if one["VehicleSpeed"] == 0]
    assert len(waiting) > 30
    assert set(waiting) == {3}


@pytest.mark.parametrize("name", SCENARIOS)
def test_nobody_drives_without_ignition(name):
    car = Vehicle(SCENARIOS[name], brake_at_s=10, rng=Random(1))
    for _ in range(12_000):
        car.step()
        if car.leg.ignition != ON or car.leg.parked:
            assert car.speed == 0 or car.leg.speed_kmh == 0
        if car.leg.ignition == OFF:
            assert (car.speed, car.accelerator, car.brake) == (0, 0, 0)
