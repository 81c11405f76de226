"""Bus-off and storms of error frames are told once when they begin and once when they end."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from agent.capture.faults import BUS_OFF, RESTARTED, STORM_COUNT, WINDOW_NS, Faults
from agent.frames import ERROR, FRAME, FrameBatch


def errors(count: int, *, identifier: int = 0x4, channel: int = 0) -> FrameBatch:
    batch = np.zeros(count, FRAME)
    batch["flags"], batch["arbitration_id"], batch["channel"] = ERROR, identifier, channel
    return batch


def test_storm_is_told_when_it_begins_and_with_its_size_when_it_is_over():
    faults = Faults()
    faults.see(np.zeros(0, FRAME), WINDOW_NS)
    told = []
    for second in range(2, 6):
        told += faults.see(errors(5_000), second * WINDOW_NS)
    told += faults.see(np.zeros(50, FRAME), 6 * WINDOW_NS)
    assert told == [(0, "error-storm", 5_000), (0, "error-storm-over", 20_000)]
    assert faults.see(np.zeros(50, FRAME), 7 * WINDOW_NS) == []


def test_a_few_error_frames_are_no_storm():
    faults = Faults()
    told = [faults.see(errors(STORM_COUNT - 1), n * WINDOW_NS) for n in range(1, 9)]
    assert told == [[]] * 8


def test_bus_off_and_its_end_are_told_once_per_channel():
    faults = Faults()
    assert faults.see(errors(3, identifier=BUS_OFF | 4, channel=2), 1) == [(2, "bus-off", 0)]
    assert faults.see(errors(3, identifier=BUS_OFF, channel=2), 2) == []
    assert faults.see(errors(1, identifier=RESTARTED, channel=1), 3) == []
    assert faults.see(errors(1, identifier=RESTARTED, channel=2), 4) == [(2, "up", 0)]


def check_accounting(faults: Faults, counts: list[int]) -> None:
    """Every error frame of a storm is in the number that ends it; states alternate."""
    told, storm, expected = [], 0, []
    for number, count in enumerate([*counts, 0], 1):
        told += faults.see(errors(count), number * WINDOW_NS)
        if count >= STORM_COUNT:
            expected += [] if storm else [(0, "error-storm", count)]
            storm += count
        elif storm:
            expected.append((0, "error-storm-over", storm + count))
            storm = 0
    assert told == expected


COUNTS = st.lists(st.sampled_from((0, 1, STORM_COUNT - 1, STORM_COUNT, 700)), max_size=12)


@given(COUNTS)
def test_storms_add_up(counts: list[int]):
    check_accounting(Faults(), counts)


def test_planted_bug_is_found():
    class Forgetful(Faults):
        @staticmethod
        def _storm(number, channel):
            told = Faults._storm(number, channel)
            channel.storm = min(channel.storm, STORM_COUNT)  # forgets how large the storm was
            return told

    try:
        check_accounting(Forgetful(), [700, 700])
    except AssertionError:
        return
    raise AssertionError("the check cannot see a wrong total")
