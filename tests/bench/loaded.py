"""A policy that asks for much: 100 rules, 20 events, the black box, the camera gate."""

from __future__ import annotations

import struct
from itertools import cycle, islice

from firmware_sim.car import Car, Options
from tests.policy.making import EXAMPLES

SIGNALS = (
    "BrakePedal", "BrakePressure", "AbsActive", "SteeringAngle", "SteeringRate", "SteeringTorque",
    "WheelSpeedFrontLeft", "WheelSpeedFrontRight", "WheelSpeedRearLeft", "WheelSpeedRearRight",
    "VehicleSpeed", "LongitudinalAcceleration", "LateralAcceleration", "YawRate",
    "AcceleratorPedal", "MotorTorque", "MotorSpeed", "MotorTemperature", "DrivePower.DrivePower",
    "RegenerationPower", "InverterTemperature", "SuspensionTravelFrontLeft",
    "SuspensionTravelRearRight", "Gear", "Ignition", "DriverBelt", "TurnIndicator", "LowBeam",
    "BatterySoc", "PackVoltage", "PackCurrent", "BatteryStatus.PackTemperature", "Odometer",
    "TripDistance", "AmbientTemperature", "TyrePressureFrontLeft", "TyrePressureRearRight",
)  # fmt: skip
WHEN = (
    "VehicleSpeed > {n} and rate(VehicleSpeed, 0.5s) < -{n} for 150ms",
    "max(BrakePressure, 2s) > {n} and not AbsActive == 1",
    "mean(LongitudinalAcceleration, 1s) < -{n} / 10",
    "min(PackVoltage, 10s) < {n} or changed(Gear)",
    "(SteeringRate > {n} or SteeringRate < -{n}) and LateralAcceleration > 3 for 200ms",
)
WHY = 'purpose = "safety_event"\nbasis = "safety"\nnecessity = "a load"\nrecipients = "region"\n'


def policy() -> str:
    """The text; it stands where the examples do."""
    head, camera = _parts()
    names = cycle(SIGNALS)
    rules = [
        f'[[collect]]\nid = "rule-{number}"\ncategory = "vehicle.state"\nkeep = "1d"\n{WHY}'
        f"signals = {[*islice(names, 3)]!r}\n{pace}\n".replace("'", '"')
        for number, pace in zip(
            range(100), cycle(('every = "1s"', 'on = "change"', 'every = "100ms"')), strict=False
        )
    ]
    events = [
        f'[[event]]\nid = "event-{number}"\nwhen = "{WHEN[number % 5].format(n=200 + number)}"\n'
        f'keep = "1d"\n{WHY}hold = {{ before = "30s", after = "5s" }}\n'
        for number in range(20)
    ]
    box = f'[recorder]\nwindow = "30min"\nframes = ["*:0x000-0x7FF"]\n{WHY}'
    return "\n".join([head, *rules, box, *events, camera])


def drive(seconds: float) -> list[bytes]:
    """What the simulated car sends on a full bus, each frame as a struct can_frame."""
    car = Car(Options("commute", load="full"))
    return [
        struct.pack(
            "<IB3x8s", frame.arbitration_id | frame.extended << 31, frame.length, bytes(frame.data)
        )
        for frame in car.frames_until(int(seconds * 1e9))
    ]


def _parts() -> tuple[str, str]:
    """Head and camera clause of the China fleet's policy, with the DBC's whole path."""
    text = (EXAMPLES / "cn-fleet.toml").read_text("utf-8")
    dbc = (EXAMPLES.parents[2] / "firmware_sim" / "car.dbc").resolve()
    head = text[: text.index("[[collect]]")].replace("../../../firmware_sim/car.dbc", str(dbc))
    return head, text[text.index("[camera]") :]
