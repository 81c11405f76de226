"""The physical value of each signal of car.dbc for a state of the car. Pure."""

from __future__ import annotations

import math
from typing import Final

from firmware_sim.camera import CameraController
from firmware_sim.scenarios import KMH, ON
from firmware_sim.vehicle import CELLS, GEAR_RATIO, MASS, PARK, TRACK, WHEEL_RADIUS, Vehicle

ODOMETER_KM: Final = 18_204.6  # at the start of each drive
CELL_COUNT: Final = 12  # of those in the pack, the bus carries these
OBJECT_COUNT: Final = 3  # cars that the front camera follows
WHEELS: Final = ("FrontLeft", "FrontRight", "RearLeft", "RearRight")


def values(vehicle: Vehicle, camera: CameraController) -> dict[str, float]:
    """Return all physical values by signal name; counters, checksums and triggers are not here."""
    return (
        _motion(vehicle)
        | _wheels(vehicle)
        | _drive(vehicle)
        | _battery(vehicle)
        | _body(vehicle, camera)
        | _position(vehicle)
        | _objects(vehicle)
    )


def _motion(car: Vehicle) -> dict[str, float]:
    return {
        "BrakePedal": car.brake,
        "BrakePressure": car.pressure,
        "AbsActive": car.abs_active,
        "BrakeLight": car.brake > 1 or car.regeneration_force > MASS * 1.3,
        "BrakeDiscTemperature": car.disc_temperature,
        "SteeringAngle": car.steering,
        "SteeringRate": car.steering_rate,
        "SteeringTorque": 0.02 * car.steering + 0.2 * car.lateral_acceleration,
        "VehicleSpeed": car.speed / KMH,
        "LongitudinalAcceleration": car.acceleration,
        "LateralAcceleration": car.lateral_acceleration,
        "YawRate": math.degrees(car.yaw_rate),
    }


def _wheels(car: Vehicle) -> dict[str, float]:
    """Wheel speeds in a bend and under ABS slip; spring travel by the forces on the body."""
    found = {}
    bend = car.yaw_rate * TRACK / 2
    slip = 0.04 * (1 + math.sin(car.steps * 0.5)) if car.abs_active else 0.0
    for number, wheel in enumerate(WHEELS):
        front, left = number < 2, number % 2 == 0
        speed = max(0.0, car.speed + (-bend if left else bend))
        found[f"WheelSpeed{wheel}"] = speed * (1 - slip * (1.0 if front else 0.6)) / KMH
        dive = -4.0 * car.acceleration * (1 if front else -1)
        roll = 5.0 * car.lateral_acceleration * (-1 if left else 1)
        found[f"SuspensionTravel{wheel}"] = dive + roll
        found[f"TyrePressure{wheel}"] = 2.6 + 0.02 * number + min(car.trip / 1e6, 0.1)
    return found


def _drive(car: Vehicle) -> dict[str, float]:
    force = car.motor_force - car.regeneration_force
    return {
        "AcceleratorPedal": car.accelerator,
        "MotorTorque": force * WHEEL_RADIUS / GEAR_RATIO,
        "MotorSpeed": car.speed / WHEEL_RADIUS * GEAR_RATIO * 30 / math.pi,
        "MotorTemperature": car.motor_temperature,
        "DrivePower": force * car.speed / 1000,
        "RegenerationPower": car.regeneration_force * car.speed / 1000,
        "InverterTemperature": 0.8 * car.motor_temperature + 5,
    }


def _battery(car: Vehicle) -> dict[str, float]:
    found = {
        "BatterySoc": car.soc * 100,
        "PackVoltage": car.voltage,
        "PackCurrent": car.current,
        "PackTemperature": car.pack_temperature,
    }
    for cell in range(1, CELL_COUNT + 1):
        # No two cells are alike; the differences belong to the pack and stay.
        found[f"CellVoltage{cell:02d}"] = car.voltage / CELLS + 0.004 * math.sin(2.4 * cell)
    return found


def _body(car: Vehicle, camera: CameraController) -> dict[str, float]:
    return {
        "Gear": car.gear,
        "Ignition": car.leg.ignition,
        "ParkingBrake": car.gear == PARK,
        "DriverBelt": car.leg.belt,
        "DriverDoorOpen": car.leg.door,
        "TurnIndicator": car.leg.indicator,
        "LowBeam": car.leg.ignition == ON,
        "Odometer": ODOMETER_KM + car.trip / 1000,
        "TripDistance": car.trip / 1000,
        "AmbientTemperature": 17.5,
        "CamerasRecording": camera.recording,
        "CamerasOnline": 0b0011,
        "ClipCount": camera.count & 0xFFFF,
    }


def _position(car: Vehicle) -> dict[str, float]:
    seen = car.leg.fix
    return {
        "Latitude": car.fix_latitude,
        "Longitude": car.fix_longitude,
        "Heading": math.degrees(car.heading),
        "FixQuality": 2 if seen else 0,
        "SatelliteCount": 14 if seen else 0,
        "TimeSinceFix": car.fix_age_s,
        "PositionError": min(1.8 + 3 * car.fix_age_s, 102.0),
    }


def _objects(car: Vehicle) -> dict[str, float]:
    """Cars ahead, in the eyes of the front camera; those that are not there are zero."""
    count = OBJECT_COUNT if car.leg.ignition == ON else 0
    found: dict[str, float] = {"ObjectCount": count}
    time_s = car.steps / 100
    for number in range(1, 9):
        there = number <= count
        phase = 0.2 * time_s + number
        distance = 15 * number + 4 * math.sin(phase)
        found[f"ObjectDistance{number}"] = distance if there else 0.0
        found[f"ObjectOffset{number}"] = 1.8 * (number - 2) if there else 0.0
        found[f"ObjectRelativeSpeed{number}"] = 0.8 * math.cos(phase) if there else 0.0
        found[f"ObjectClass{number}"] = 1 + number % 2 if there else 0
    return found
