"""Stamps without the settings of the clock: each on its own side of a setting."""

from __future__ import annotations

import numpy as np
import pytest

from agent.capture.steady import KEPT_NS, NOISE_NS, Steady
from agent.frames import SIGNAL

S = 10**9
MS = 10**6
WALL = 1_800_000_000 * S


def looked(*looks: tuple[int, int]) -> Steady:
    """One that has looked at these (CLOCK_BOOTTIME, wall clock less it)."""
    steady = Steady()
    for boot_ns, offset_ns in looks:
        steady.look(boot_ns + offset_ns, boot_ns)
    return steady


def test_nobody_looks_and_nothing_changes():
    stamps = np.array([5, -(2**62), 2**62])
    assert Steady().stamps(stamps) is stamps
    assert looked((S, WALL)).stamps(stamps) is stamps


def test_a_setting_is_taken_out_on_its_own_side():
    for by in (3600 * S, -3600 * S, 50 * 365 * 86_400 * S, -WALL, 400 * MS, -400 * MS):
        steady = looked((10 * S, WALL), (10 * S + 100 * MS, WALL + by))
        before, after = 10 * S + 40 * MS, 10 * S + 60 * MS
        stamps = np.array([before + WALL, after + WALL + by])
        assert steady.stamps(stamps).tolist() == [before + WALL, after + WALL]
        assert steady.stamp(after + WALL + by) == after + WALL


def test_frames_that_waited_long_before_they_were_taken_keep_their_side():
    steady = looked((10 * S, WALL), (11 * S, WALL + 600 * S), (25 * S, WALL + 600 * S))
    assert steady.stamp(9 * S + WALL) == 9 * S + WALL


def test_a_setting_and_back_between_two_frames():
    steady = looked((S, WALL), (2 * S, WALL + 60 * S), (3 * S, WALL))
    stamps = [S + WALL, 2 * S + WALL + 60 * S - MS, 3 * S + WALL - MS]
    told = [S + WALL, 2 * S + WALL - MS, 3 * S + WALL - MS]
    assert steady.stamps(np.array(stamps)).tolist() == told


@pytest.mark.parametrize("by", [400 * MS, 8 * S, -8 * S, 3600 * S, -3600 * S, -WALL + S])
def test_a_setting_that_was_undone_before_anybody_looked(by: int):
    steady = looked((60 * S, WALL), (60 * S + 100 * MS, WALL))
    at = 60 * S + np.arange(5) * 20 * MS
    stamps = at + WALL
    stamps[2] += by
    steady.follow(0, stamps)
    told = steady.stamps(stamps)
    assert (np.diff(told) > 0).all()
    assert np.abs(told - at - WALL).max() <= 10 * MS
    assert (np.delete(told, 2) == np.delete(at, 2) + WALL).all()
    assert abs(steady.stamp(int(at[2]) + 3 * MS + WALL + by) - int(at[2]) - WALL) < 20 * MS
    # A frame beside which nothing came.
    steady.look(60 * S + 200 * MS + WALL, 60 * S + 200 * MS)
    alone = np.array([60 * S + 150 * MS + WALL + by])
    steady.follow(0, alone)
    assert abs(int(steady.stamps(alone)[0]) - int(alone[0]) + by) <= 150 * MS


def test_a_clock_that_comes_by_itself_to_where_it_was_set_for_a_moment():
    steady = looked((60 * S, WALL), (60 * S + 100 * MS, WALL))
    stamps = 60 * S + WALL + np.array([0, 8 * S, 40 * MS])
    steady.follow(0, stamps)
    assert steady.stamp(int(stamps[1])) < int(stamps[2])
    steady.look(68 * S + 30 * MS + WALL, 68 * S + 30 * MS)
    assert steady.stamp(int(stamps[1])) == int(stamps[1])


def test_two_settings_that_were_undone_before_anybody_looked():
    steady = looked((60 * S, WALL), (60 * S + 100 * MS, WALL))
    at = 60 * S + np.arange(5) * 20 * MS
    stamps = at + WALL + np.array([0, 50 * S, 50 * S, -900 * S, 0])
    steady.follow(0, stamps)
    told = steady.stamps(stamps)
    assert np.abs(told - at - WALL).max() <= 40 * MS


def test_nobody_follows_an_adapter_with_a_clock_of_its_own():
    steady = looked((60 * S, WALL), (60 * S + 100 * MS, WALL))
    stamps = 5 * S + np.arange(50) * 20 * MS
    steady.follow(0, stamps)
    assert steady.stamps(stamps) is stamps


def test_what_was_undone_is_forgotten_and_never_much():
    steady = Steady()
    for at in range(60 * S, 61 * S, 100 * MS):
        steady.look(at + WALL, at)
        stamps = at + WALL - 20 * MS + np.arange(5000)
        stamps[1::2] += 8 * S
        steady.follow(0, stamps)
        assert len(steady._undone) <= 16
    steady.look(61 * S + KEPT_NS + WALL, 61 * S + KEPT_NS)
    assert not steady._undone


def test_stamps_of_another_clock_stay_as_they_are():
    steady = looked((10 * S, WALL), (11 * S, WALL + 3600 * S))
    of_a_log = np.array([0, 123 * S, WALL - 86_400 * S, WALL + 2 * 86_400 * S])
    assert steady.stamps(of_a_log).tolist() == of_a_log.tolist()


def test_noise_is_no_setting_and_adds_up_to_one():
    steady = looked((10 * S, WALL), (11 * S, WALL + NOISE_NS - 1))
    assert steady.stamp(11 * S + WALL) == 11 * S + WALL
    steady.look(12 * S + WALL + 2 * NOISE_NS, 12 * S)
    assert steady.stamp(12 * S + WALL + 2 * NOISE_NS) == 12 * S + WALL


def test_what_is_kept_of_settings_is_bounded():
    steady = Steady()
    for at in range(10_000):
        steady.look(at * MS + WALL + at % 2 * S, at * MS)
    assert len(steady._settings) <= 17
    steady.look(WALL + KEPT_NS + 60 * S, KEPT_NS + 60 * S)
    assert len(steady._settings) <= 2


def test_samples_are_copied_only_if_something_changes():
    samples = np.zeros(2, SIGNAL)
    samples["timestamp_ns"] = [10 * S + WALL, 11 * S + WALL + 60 * S]
    assert Steady().samples(samples) is samples
    told = looked((10 * S, WALL), (11 * S, WALL + 60 * S)).samples(samples)
    assert told["timestamp_ns"].tolist() == [10 * S + WALL, 11 * S + WALL]
    assert samples["timestamp_ns"].tolist() == [10 * S + WALL, 11 * S + WALL + 60 * S]
