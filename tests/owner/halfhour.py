"""Thirty minutes of a full 500 kbit/s bus, sealed as a car seals it, in a bundle."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from agent.frames import FRAME, SIGNAL, FrameBatch, SignalBatch
from agent.pb import policy_pb2, sealed_pb2
from tests.evidence import making

SECONDS = 1_800
FRAMES_S = 4_000
SAMPLES_S = 500  # ten signals at 50 Hz
IDS = np.arange(0x100, 0x150)
DICTIONARY = policy_pb2.Dictionary(
    signal=[
        policy_pb2.Signal(name=f"Signal{number}", unit="km/h", factor=0.01, kind=1)
        for number in range(10)
    ]
)


def make(folder: Path, seconds: int = SECONDS) -> Path:
    """Write the bundle; a segment holds a second, as with the flush of the bars."""
    car = making.new_car(bytes(range(16)))
    car.genesis()
    car.set_policy(DICTIONARY)
    car.begin_sealed(sealed_pb2.SHARED)
    rng = np.random.default_rng(1)
    for second in range(seconds):
        start_ns = making.START_NS + second * making.S
        car.seal(frames(rng, start_ns), samples(rng, start_ns))
    car.sign()
    return making.make(folder / "half.inland", car)


def frames(rng: np.random.Generator, start_ns: int) -> FrameBatch:
    """A second: counters, slow values and noise, as on a bus."""
    batch = np.zeros(FRAMES_S, FRAME)
    batch["timestamp_ns"] = start_ns + np.arange(FRAMES_S) * 250_000
    batch["arbitration_id"], batch["length"] = IDS[np.arange(FRAMES_S) % len(IDS)], 8
    batch["data"][:, 0] = np.arange(FRAMES_S) // len(IDS) % 16
    batch["data"][:, 1:3] = (start_ns // making.S) % 251
    batch["data"][:, 3] = rng.integers(0, 256, FRAMES_S)
    return batch


def samples(rng: np.random.Generator, start_ns: int) -> SignalBatch:
    """A second of ten signals."""
    batch = np.zeros(SAMPLES_S, SIGNAL)
    batch["timestamp_ns"] = start_ns + np.arange(SAMPLES_S) * 2_000_000
    batch["signal"] = np.arange(SAMPLES_S) % 10
    batch["raw"] = rng.integers(0, 20_000, SAMPLES_S)
    return batch
