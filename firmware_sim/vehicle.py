"""How the car moves: an electric car's longitudinal and lateral motion, brakes, battery, position.

One step is 10 ms. Rules:
- The driver presses the pedals to reach the speed of the leg; a leg may prescribe the brake.
- Longitudinal: motor force (limited by force and power) - regeneration - friction brakes - drag -
  rolling resistance, over the mass. The road holds FRICTION * g; beyond it the ABS regulates.
- The speed is never negative: brakes hold a standing car.
- Lateral: a bicycle without slip.
- Battery: open-circuit voltage by charge, inner resistance, coulomb counting.
- Position: dead reckoning on a sphere; without satellites the last fix stays and grows old.

The figures are those of a mid-size electric car (1.9 t, 150 kW, 150 Ah); they are plausible, not
those of any model. Pure; the noise comes from the generator that is given.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from random import Random
from typing import Final

from firmware_sim.scenarios import EARTH_RADIUS, KMH, OFF, Leg, Scenario, legs_of

STEP_NS: Final = 10_000_000
STEP_S: Final = STEP_NS / 1e9
GRAVITY: Final = 9.81
FRICTION: Final = 0.95  # dry asphalt
MASS: Final = 1_900.0  # kg
FORCE_MAX: Final = 7_000.0  # N at the wheels
POWER_MAX: Final = 150_000.0  # W
REGENERATION_MAX: Final = 1.6  # m/s2
DRAG: Final = 0.5 * 1.2 * 0.62  # N per (m/s)2
ROLLING: Final = 0.010
PRESSURE_MAX: Final = 160.0  # bar at a fully pressed pedal
PRESSURE_LAG_S: Final = 0.08
BRAKE_GAIN: Final = 0.075  # m/s2 per bar
WHEELBASE: Final = 2.85  # m
TRACK: Final = 1.6
STEERING_RATIO: Final = 15.0
STEERING_RATE_MAX: Final = 320.0  # deg/s
WHEEL_RADIUS: Final = 0.34
GEAR_RATIO: Final = 9.0
CAPACITY_AS: Final = 150 * 3600.0
RESISTANCE: Final = 0.07  # ohm
CELLS: Final = 96
AUXILIARY_W: Final = 650.0
EFFICIENCY: Final = 0.9
FIX_EVERY: Final = 20  # steps; the receiver computes five fixes a second

PARK, DRIVE = 0, 3


class Vehicle:
    """The car at one moment; `step` takes it 10 ms on.

    Args:
        scenario: what is driven.
        brake_at_s: when the scenario's braking begins.
        rng: source of all noise.
    """

    def __init__(self, scenario: Scenario, *, brake_at_s: float, rng: Random) -> None:
        self._rng = rng
        self._legs: Iterator[Leg] = legs_of(scenario, brake_at_s=brake_at_s)
        self.leg = next(self._legs)
        self._leg_left_s = self.leg.seconds
        self.steps = 0
        self.speed = scenario.start_kmh * KMH  # m/s
        self.acceleration = self.accelerator = self.brake = self.pressure = 0.0
        self.abs_active = False
        self.steering = self.steering_rate = self.yaw_rate = 0.0  # deg, deg/s, rad/s
        self.heading = math.radians(scenario.heading_deg)
        self.motor_force = self.regeneration_force = 0.0
        self.soc = scenario.soc_percent / 100
        self.voltage, self.current = self.open_voltage(), 0.0
        self.pack_temperature, self.disc_temperature = 24.0, 60.0
        self.motor_temperature = 45.0
        self.trip = 0.0  # m
        self.latitude, self.longitude = scenario.latitude, scenario.longitude
        self.fix_latitude, self.fix_longitude = scenario.latitude, scenario.longitude
        self.fix_age_s = 0.0

    @property
    def gear(self) -> int:
        """Park in a car that stands and shall be parked, else drive."""
        return PARK if self.speed == 0 and self.leg.parked else DRIVE

    @property
    def lateral_acceleration(self) -> float:
        """To the left positive, m/s2."""
        return self.speed * self.yaw_rate

    def open_voltage(self) -> float:
        """Return the pack's voltage without load: 3.30 V a cell empty, 4.15 V full."""
        return CELLS * (3.3 + 0.55 * self.soc + 0.3 * self.soc**3)

    def step(self) -> None:
        """Go 10 ms on."""
        self.steps += 1
        self._leg_left_s -= STEP_S
        while self._leg_left_s <= 1e-9:
            self.leg = next(self._legs)
            self._leg_left_s += self.leg.seconds
        if self.leg.ignition == OFF:
            self._leave_alone()
        else:
            self._press_pedals()
        self._move()
        if self.leg.ignition != OFF:
            self._turn()
        self._use_battery()
        self._receive_position()

    def _leave_alone(self) -> None:
        """Nobody is at the pedals or the wheel."""
        self.accelerator = self.brake = self.steering_rate = self.yaw_rate = 0.0

    def _press_pedals(self) -> None:
        """Steer by wish and feeling: a proportional driver with a slightly nervous foot."""
        wanted = self.leg.speed_kmh * KMH - self.speed
        pedal = 12 * wanted + 0.45 * self.speed + self._rng.gauss(0, 0.15)
        if wanted < -0.4 or (self.leg.speed_kmh == 0 and self.speed < 2):
            accelerator, brake = 0.0, min(22.0, 4 + 5 * max(0.0, -wanted - 0.4))
        else:
            accelerator, brake = min(max(pedal, 0.0), 85.0), 0.0
        if self.leg.brake_percent:
            accelerator, brake = 0.0, self.leg.brake_percent
        self.accelerator = _towards(self.accelerator, accelerator, 250 * STEP_S)
        fast = 900 if self.leg.brake_percent else 120  # %/s: a stamp, or a foot
        self.brake = _towards(self.brake, brake, fast * STEP_S)

    def _move(self) -> None:
        demand = PRESSURE_MAX * self.brake / 100
        self.pressure += (demand - self.pressure) * STEP_S / PRESSURE_LAG_S
        speed = self.speed
        limit = min(FORCE_MAX, POWER_MAX / max(speed, 1.0))
        self.motor_force = self.accelerator / 100 * limit
        coasting = self.accelerator == 0 and speed > 2 and not self.abs_active
        wanted = min(0.6 + 0.03 * self.brake, REGENERATION_MAX) if coasting else 0.0
        self.regeneration_force = MASS * wanted
        grip = FRICTION * GRAVITY
        demanded = self.pressure * BRAKE_GAIN
        braking = min(demanded, grip)
        self.abs_active = speed > 1.5 and demanded > grip
        if self.abs_active:
            # The regulation swings around the limit about eight times a second.
            braking = grip * (0.96 + 0.04 * math.sin(self.steps * STEP_S * 2 * math.pi * 8))
        resistance = DRAG * speed * speed + (ROLLING * MASS * GRAVITY if speed > 0 else 0.0)
        force = self.motor_force - self.regeneration_force - resistance
        after = max(0.0, speed + (force / MASS - braking) * STEP_S)
        self.acceleration = (after - speed) / STEP_S
        self.disc_temperature += braking * speed * 0.04 * STEP_S
        self.disc_temperature -= (self.disc_temperature - 20) * 0.01 * STEP_S
        self.motor_temperature += abs(self.motor_force) * 2e-5 * STEP_S
        self.motor_temperature -= (self.motor_temperature - 40) * 0.005 * STEP_S
        self.trip += (speed + after) / 2 * STEP_S
        self.speed = after

    def _turn(self) -> None:
        wanted = self.leg.steering_deg + self._rng.gauss(0, 0.3)
        step = max(-STEERING_RATE_MAX, min(STEERING_RATE_MAX, (wanted - self.steering) * 3))
        self.steering_rate = step
        self.steering += step * STEP_S
        angle = math.radians(self.steering / STEERING_RATIO)
        self.yaw_rate = self.speed / WHEELBASE * math.tan(angle)
        self.heading = (self.heading - self.yaw_rate * STEP_S) % (2 * math.pi)
        distance = self.speed * STEP_S / EARTH_RADIUS
        self.latitude += math.degrees(distance * math.cos(self.heading))
        across = math.cos(math.radians(self.latitude))
        self.longitude += math.degrees(distance * math.sin(self.heading) / across)

    def _use_battery(self) -> None:
        drive = self.motor_force * self.speed / EFFICIENCY
        power = drive - self.regeneration_force * self.speed * EFFICIENCY + AUXILIARY_W
        self.current = -power / self.voltage  # charging positive, as the pack counts
        self.voltage = self.open_voltage() + self.current * RESISTANCE
        self.soc = min(1.0, max(0.0, self.soc + self.current * STEP_S / CAPACITY_AS))
        heat = self.current * self.current * RESISTANCE * STEP_S / 400_000
        self.pack_temperature += heat - (self.pack_temperature - 22) * 2e-5 * STEP_S

    def _receive_position(self) -> None:
        self.fix_age_s += STEP_S
        if self.leg.fix and self.steps % FIX_EVERY == 0:
            self.fix_age_s = 0.0
            self.fix_latitude = self.latitude + self._rng.gauss(0, 4e-6)
            self.fix_longitude = self.longitude + self._rng.gauss(0, 6e-6)


def _towards(value: float, target: float, most: float) -> float:
    return value + max(-most, min(most, target - value))
