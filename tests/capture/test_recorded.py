"""Recorded time equals one-stamp-at-a-time Python, however the frames are cut into batches."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from hypothesis import given, settings

from agent.capture import recorded
from agent.capture.recorded import GAP_NS, LATE_NS, Axis
from tests.policy import making

S = 10**9


STEPS = (0, 1, S // 10, S, GAP_NS, GAP_NS + 1, 100 * S,
         -S // 10, -LATE_NS // 2, -LATE_NS, -LATE_NS - 1, -GAP_NS)  # fmt: skip


def straightforward(stamps: list[int], end: int = 0) -> list[int]:
    """Where each stamp stands, by the words of the module."""
    places: list[int] = []
    high = last = None
    for stamp in stamps:
        if high is None:
            high = stamp
        elif stamp < last - LATE_NS:
            high = stamp  # the clock was set back
        elif stamp > high:
            end += stamp - high if stamp - high <= GAP_NS else 0
            high = stamp
        last = stamp
        places.append(end)
    return places


def stamps_of(rng: Random) -> list[int]:
    stamp, stamps = 10**18, []
    for _ in range(rng.randrange(1, 60)):
        stamp += rng.choice(
            (
                0,
                1,
                S // 10,
                S // 10,
                S,
                GAP_NS,
                GAP_NS + 1,
                -S // 10,
                -LATE_NS - 1,
                -GAP_NS,
                100 * S,
            )
        )
        stamps.append(stamp)
    return stamps


def check(rng: Random) -> None:
    stamps, end = stamps_of(rng), rng.randrange(2) * 12345
    axis, places = Axis(end), []
    for piece in np.split(np.array(stamps), sorted(rng.choices(range(len(stamps)), k=3))):
        if len(piece):
            places += axis.take(piece).tolist()
    assert places == straightforward(stamps, end)
    assert axis.end_ns == places[-1]


@settings(max_examples=150, deadline=None)
@given(making.RANDOMS)
def test_the_axis_is_what_the_words_say(rng: Random):
    check(rng)


@pytest.mark.parametrize("bug", ["gap", "late"])
def test_planted_bugs_are_found(bug: str, monkeypatch):
    monkeypatch.setattr(recorded, "GAP_NS" if bug == "gap" else "LATE_NS", 0)
    with pytest.raises(AssertionError):
        making.over_seeds(check)


def test_a_parked_car_adds_nothing_and_a_clock_that_is_set_takes_nothing():
    axis = Axis()
    axis.take(np.arange(0, 30 * S, S))
    assert axis.end_ns == 29 * S
    axis.take(np.arange(8 * 3600 * S, 8 * 3600 * S + 5 * S, S))  # the next morning
    assert axis.end_ns == 33 * S
    axis.take(np.array([S, 2 * S]))  # 1970
    assert axis.end_ns == 34 * S


def test_moments_of_the_last_batches_are_found():
    axis = Axis(100)
    axis.take(np.array([10, 20, 30]))
    axis.take(np.array([40, 55]))
    assert [axis.at(one) for one in (5, 10, 15, 30, 40, 54, 55, 99)] == [
        100, 100, 105, 120, 130, 144, 145, 145
    ]  # fmt: skip
    assert axis.at(35) == 120  # between two batches: no frame says that time went on
    assert Axis(7).at(123) == 7


def test_an_axis_goes_on_where_it_was_stored():
    axis = Axis(5 * S)
    assert axis.take(np.array([10**18, 10**18 + S])).tolist() == [5 * S, 6 * S]
