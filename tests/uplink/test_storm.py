"""A hundred thousand cars come back after an outage of their broker. Virtual time, numpy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.uplink.backoff import next_wait_s

CARS = 100_000
OUTAGE_S = 1800
ADMITTED_PER_S = 400
ATTEMPT_S = 5  # a failed attempt takes so long
HORIZON_S = 7200

Waits = Callable[[np.ndarray, np.ndarray], np.ndarray]


def jitter(previous: np.ndarray, random: np.ndarray) -> np.ndarray:
    """The rule of backoff.py for many cars at once; a test below holds the two together."""
    high = np.minimum(600.0, 3 * np.maximum(2.0, previous))
    return 2.0 + (high - 2.0) * random


def no_jitter(previous: np.ndarray, random: np.ndarray) -> np.ndarray:
    """The planted bug: paho's own rule, doubling from 1 to 120 s."""
    return np.clip(previous * 2, 1.0, 120.0)


def storm(waits: Waits) -> tuple[int, int]:
    """Return the peak of connections a second after the outage, and the second of the last car."""
    rng = np.random.default_rng(1)
    due = rng.random(CARS) * 2  # they all lost the broker within two seconds: the worst case
    wait = np.zeros(CARS)
    peak = last = 0
    for second in range(HORIZON_S):
        now = np.flatnonzero(due < second + 1)
        if second >= OUTAGE_S and now.size:
            peak = max(peak, int(now.size))
            served, now = now[:ADMITTED_PER_S], now[ADMITTED_PER_S:]
            due[served] = np.inf
            last = second
        wait[now] = waits(wait[now], rng.random(now.size))
        due[now] = second + ATTEMPT_S + wait[now]
    return peak, last - OUTAGE_S if np.isinf(due).all() else HORIZON_S


def check(waits: Waits) -> None:
    peak, back_s = storm(waits)
    assert peak < 2 * ADMITTED_PER_S, f"{peak} connections in one second"
    assert back_s < 20 * 60, f"all back after {back_s} s"


def test_fleet_comes_back_below_twice_the_admission_rate() -> None:
    check(jitter)


def test_storm_finds_the_planted_back_off_without_jitter() -> None:
    with pytest.raises(AssertionError, match="connections in one second"):
        check(no_jitter)


@given(previous=st.floats(0, 600), random=st.floats(0, 1, exclude_max=True))
def test_model_and_rule_are_the_same(previous: float, random: float) -> None:
    one = next_wait_s(previous, low_s=2, cap_s=600, rng=lambda: random)
    many = jitter(np.array([previous]), np.array([random]))
    assert one == pytest.approx(float(many[0]))
    assert 2 <= one <= 600
