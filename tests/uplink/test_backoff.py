"""The table of backoff.py, row by row."""

from __future__ import annotations

from random import Random

import pytest

from agent.uplink.backoff import START_S, Backoff
from agent.uplink.timing import LONG_WAIT_S, MAX_HANG_UPS, MAX_REGROUP_S, Timing

TIMING = Timing()


def backoff(random: float = 0.999) -> Backoff:
    return Backoff(TIMING, lambda: random)


def grown() -> Backoff:
    """One whose wait has reached its cap."""
    one = backoff()
    for _ in range(10):
        one.failed(0.0)
    assert one.failed(0.0) > 599
    return one


def test_waits_grow_to_ten_minutes_and_a_receipt_resets_them():
    one = backoff()
    waits = [one.failed(0.0) for _ in range(8)]
    assert waits == sorted(waits)
    assert waits[0] == pytest.approx(6, abs=0.1)
    assert waits[-1] == pytest.approx(600, abs=1)
    one.confirmed(0)
    assert one.failed(0.0) == pytest.approx(6, abs=0.1)


def test_every_wait_has_jitter():
    rng = Random(1)
    one = Backoff(TIMING, rng.random)
    waits = [one.failed(0.0) for _ in range(200)]
    assert min(waits) >= TIMING.backoff_low_s
    assert len(set(waits)) == len(waits)
    assert max(waits) > 300


def test_a_sleep_lets_one_attempt_come_at_once_and_the_next_waits_as_before():
    one = grown()
    assert one.slept(10, 1000.0)
    assert one.failed(1000.0, at_once=True) == 0
    assert one.failed(1000.0) > 599


def test_a_car_that_wakes_all_the_time_comes_at_once_every_half_minute_at_most():
    one, at_once = grown(), []
    for second in range(0, 600, 5):
        if one.slept(4, float(second)):
            at_once.append(second)
    assert len(at_once) == 20


def test_a_long_sleep_is_a_start():
    one = grown()
    one.slept(START_S, 1000.0)
    assert one.failed(1000.0) == pytest.approx(6, abs=0.1)


def test_what_the_region_ends_is_spread_over_what_it_says_and_silence_wider():
    for by_peer, wide_s in ((True, 300), (False, 450)):
        one = backoff()
        one.confirmed(300)
        assert one.failed(0.0, by_peer=by_peer) == pytest.approx(wide_s, abs=1)
        assert one.in_crowd
        least = backoff(0.0)
        least.confirmed(300)
        assert least.failed(0.0, by_peer=by_peer) == TIMING.backoff_low_s


@pytest.mark.parametrize("by_peer", [True, False])
def test_who_tried_in_vain_lets_all_others_have_their_turn(by_peer: bool):
    for random, again_s in ((0.0, 450), (0.999, 600)):
        one = backoff(random)
        one.confirmed(300)
        one.failed(0.0, by_peer=by_peer)
        waits = [one.failed(0.0, by_peer=by_peer) for _ in range(5)]
        assert waits == pytest.approx([again_s] * 5, abs=1)
        one.confirmed(300)
        assert one.failed(0.0, by_peer=True) <= 300


def test_a_very_large_fleet_is_still_spread_when_it_tries_again():
    """Also where what the region says is longer than the longest wait."""
    for random, again_s in ((0.0, 1500), (0.999, 1800)):
        one = backoff(random)
        one.confirmed(1000)
        one.failed(0.0)
        assert one.failed(0.0) == pytest.approx(again_s, abs=2)


def test_what_the_cars_own_network_does_is_spread_over_nothing():
    one = backoff()
    one.confirmed(300)
    assert one.failed(0.0, by_car=True) == pytest.approx(6, abs=0.1)
    assert not one.in_crowd
    assert one.failed(0.0, by_car=True) == pytest.approx(18, abs=0.1)
    assert one.failed(0.0) == pytest.approx(450, abs=1)


def test_a_car_that_wakes_before_its_network_has_a_second_try_soon():
    for by_peer, second_s in ((False, 6), (True, 300)):
        one = backoff()
        one.confirmed(300)
        assert one.slept(START_S, 1000.0)
        assert one.failed(1000.0, at_once=True) == 0
        assert one.failed(1010.0, by_peer=by_peer) == pytest.approx(second_s, abs=0.5)
        assert one.failed(1020.0) > 400


def test_a_small_fleet_is_no_crowd():
    one = backoff()
    one.confirmed(0)
    waits = [one.failed(0.0) for _ in range(6)]
    assert waits == pytest.approx([6, 18, 54, 162, 485, 600], abs=2)
    assert not one.in_crowd


def test_after_a_long_absence_nobody_is_in_a_crowd():
    one = backoff()
    one.confirmed(300)
    one.failed(0.0)
    assert one.slept(START_S, 1000.0)
    assert not one.in_crowd
    assert one.failed(1000.0, by_peer=True) == pytest.approx(300, abs=1)


def test_a_region_that_says_nothing_or_too_much():
    """A small fleet, an older station, a start; and a number that would silence a car."""
    assert backoff().failed(0.0, by_peer=True) < 6
    one = backoff()
    one.confirmed(10**9)
    assert one.failed(0.0, by_peer=True) <= MAX_REGROUP_S


def test_what_a_person_has_to_mend_waits_whatever_else():
    one = backoff(0.0)
    assert one.failed(0.0, by_hand=True, at_once=True) == LONG_WAIT_S
    assert one.is_long
    assert one.failed(0.0) < LONG_WAIT_S
    assert not one.is_long


def test_a_fight_ends_in_a_long_wait_and_hang_ups_far_apart_are_none():
    one = backoff(0.0)
    waits = [one.failed(at * 10.0, hung_up=True) for at in range(MAX_HANG_UPS)]
    assert waits[-1] == LONG_WAIT_S
    assert max(waits[:-1]) < LONG_WAIT_S
    other = backoff(0.0)
    assert max(other.failed(at * 200.0, hung_up=True) for at in range(50)) < LONG_WAIT_S
