"""A car, a road to the north and a fence across it, for the tests of places and cameras."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from random import Random
from typing import Any

import numpy as np

from agent.frames import SIGNAL, SignalBatch
from agent.policy.camera import CameraGate, GateStep
from agent.policy.clauses import (
    DRIVING_METADATA,
    PARKED_OFF,
    Camera,
    Condition,
    Position,
    SignalSelector,
    Trigger,
    Why,
)
from agent.policy.model import SIGNED, UNSIGNED, Policy, SignalInfo, SignalLayout, watch_points
from agent.policy.zones import METRES_PER_DEGREE, Zone, Zones

S = 10**9
START_NS = 1_800_000_000 * S
KMH = 1 / 3.6
LATITUDE, LONGITUDE = 40.0, 116.0  # where the fence crosses the road
SIGNALS = {
    # name: (arbitration id, start bit, bits, factor, kind)
    "Latitude": (0x100, 0, 32, 1e-7, SIGNED),
    "Longitude": (0x100, 32, 32, 1e-7, SIGNED),
    "FixQuality": (0x101, 0, 8, 1.0, UNSIGNED),
    "Speed": (0x102, 0, 16, 0.01, UNSIGNED),
    "CameraId": (0x3A0, 0, 4, 1.0, UNSIGNED),
    "TriggerReason": (0x3A0, 4, 4, 1.0, UNSIGNED),
    "TriggerState": (0x3A0, 8, 2, 1.0, UNSIGNED),
    "ClipId": (0x3A0, 16, 16, 1.0, UNSIGNED),
}
NAMES = tuple(SIGNALS)
PARKED = "exterior.parked"


def selector(name: str) -> SignalSelector:
    return SignalSelector("*", NAMES.index(name))


def square(north_m: float, east_m: float, side_m: float, zone_class: str = "military") -> Zone:
    """A square whose south-west corner is so far from where the fence crosses the road."""
    corners = [(0.0, 0.0), (0.0, side_m), (side_m, side_m), (side_m, 0.0)]
    return Zone(
        zone_class,
        tuple(
            (
                round((LATITUDE + (north_m + y) / METRES_PER_DEGREE) * 1e6),
                round((LONGITUDE + (east_m + x) / METRES_PER_DEGREE / _cosine()) * 1e6),
            )
            for y, x in corners
        ),
    )


def _cosine() -> float:
    return math.cos(math.radians(LATITUDE))


def place(north_m: float, east_m: float = 0.0) -> tuple[float, float]:
    """Latitude and longitude so far north of the fence; negative: before it."""
    return (
        LATITUDE + north_m / METRES_PER_DEGREE,
        LONGITUDE + east_m / METRES_PER_DEGREE / _cosine(),
    )


FENCE = Zones([square(0, -2000, 4000)])  # 4 km wide and deep
CAMERA = Camera(
    parked=PARKED_OFF,
    driving=DRIVING_METADATA,
    trigger=Trigger(*(selector(name) for name in NAMES[4:])),
    position=Position(
        selector("Latitude"), selector("Longitude"), selector("Speed"),
        Condition("FixQuality >= 1", (("FixQuality", selector("FixQuality")),)),
    ),
    zones=b"sealed",
    margin_m=500,
    exit_ns=60 * S,
    no_fix_ns=10 * S,
    keep_s=3600,
    at_most=60,
    why=Why("safety_event", "safety", "a test", 0),
)  # fmt: skip


def make_policy(camera: Camera | None = CAMERA, **more: Any) -> Policy:
    """A policy with the signals above, and [camera] as it is or with other values."""
    if camera is not None:
        camera = replace(camera, **more)
    return Policy(
        "test", 1, "urn:inland:region:cn", 2**62, b"",
        tuple(SignalInfo(name, "M", "", one[3], 0.0, one[4], ()) for name, one in SIGNALS.items()),
        tuple(SignalLayout(one[0], False, one[1], one[2], False, one[4])
              for one in SIGNALS.values()),
        (), b"", camera=camera,
    )  # fmt: skip


def fails(check: Callable[[Random], None], seeds: Iterable[int]) -> bool:
    """Whether a check fails for one of the seeds: what it is given has a planted bug."""
    for seed in seeds:
        try:
            check(Random(seed))
        except AssertionError:
            return True
    return False


def points_of(policy: Policy) -> tuple[str, ...]:
    """The names of the watch points, by number."""
    return tuple(NAMES[point.signal] for point in watch_points(policy))


def frame(points: tuple[str, ...], stamp_ns: int, **values: float) -> SignalBatch:
    """The samples of one frame, physical values, as the engine hands them out."""
    rows = sorted((points.index(name), name) for name in values)
    samples = np.zeros(len(rows), SIGNAL)
    samples["timestamp_ns"] = stamp_ns
    samples["signal"] = [number for number, _ in rows]
    samples["raw"] = [round(values[name] / SIGNALS[name][3]) for _, name in rows]
    return samples


class Drive:
    """Drives a gate along the road; its clock is the stamps of the frames.

    Attributes:
        now_ns: the clock.
        steps: what the gate said, in order.
    """

    def __init__(
        self, zones: Zones | None = FENCE, policy: Policy | None = None, **more: Any
    ) -> None:
        self.policy = make_policy(**more) if policy is None else policy
        self.gate = CameraGate(self.policy, zones)
        self.points = points_of(self.policy)
        self.now_ns = START_NS
        self.driving = True
        self.consented: frozenset[str] = frozenset()
        self.steps: list[GateStep] = []

    def say(self, *frames: SignalBatch) -> GateStep:
        """Hand some frames to the gate, now."""
        batch = np.concatenate(frames) if frames else np.zeros(0, SIGNAL)
        step = self.gate.update(batch, self.now_ns, driving=self.driving, consented=self.consented)
        self.steps.append(step)
        return step

    def frame(self, **values: float) -> SignalBatch:
        return frame(self.points, self.now_ns, **values)

    def at(
        self, where: tuple[float, float], kmh: float | None = 50.0, fix: int | None = 2
    ) -> GateStep:
        """Pass 100 ms and say where the car is; None: that frame does not come."""
        self.now_ns += S // 10
        frames = [] if fix is None else [self.frame(FixQuality=fix)]
        frames += [] if kmh is None else [self.frame(Speed=kmh)]
        return self.say(*frames, self.frame(Latitude=where[0], Longitude=where[1]))

    def stand(self, where: tuple[float, float], seconds: float, **more: Any) -> GateStep:
        """Stay at a place."""
        for _ in range(round(seconds * 10)):
            step = self.at(where, **({"kmh": 0.0} | more))
        return step

    def along(
        self, begin_m: float, end_m: float, kmh: float = 120.0
    ) -> Iterable[tuple[float, GateStep]]:
        """Drive from a distance north of the fence to another; yields (distance, step)."""
        step_m = math.copysign(kmh * KMH / 10, end_m - begin_m)
        for number in range(int((end_m - begin_m) / step_m) + 1):
            north_m = begin_m + number * step_m
            yield north_m, self.at(place(north_m), kmh)

    def wait(self, seconds: float) -> GateStep:
        """Let time pass without a frame, 100 ms at a time."""
        for _ in range(round(seconds * 10)):
            self.now_ns += S // 10
            step = self.say()
        return step

    def trigger(self, camera: int = 0, clip: int = 1, state: int = 1, reason: int = 1) -> GateStep:
        """A camera's trigger, now."""
        return self.say(
            self.frame(CameraId=camera, ClipId=clip, TriggerState=state, TriggerReason=reason)
        )
