"""A frame that was kept on two lanes is one frame, whatever became of its stamp."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.evidence.arrival import Span
from agent.evidence.opening import Opened
from agent.frames import FRAME, SIGNAL, FrameBatch
from agent.owner import copies
from agent.owner.copies import frames_once, samples_once
from tests.evidence.making import START_NS, S

ROUTINE, RECORDER = 2, 3


def span(lane: int) -> Span:
    return Span((bytes(16), lane, bytes(16)), 0, 1, lane)


def batch(stamps: list[int], ids: list[int]) -> FrameBatch:
    rows = np.zeros(len(stamps), FRAME)
    rows["timestamp_ns"], rows["arbitration_id"] = stamps, ids
    return rows


def opened(*parts: tuple[int, FrameBatch]) -> Opened:
    found = Opened()
    found.frames = [(span(lane), rows) for lane, rows in parts]
    return found


moments = st.lists(
    st.tuples(st.integers(-3 * S, 100 * S), st.integers(0, 4)), min_size=1, max_size=60, unique=True
)


@given(all_of=moments, data=st.data(), grain=st.sampled_from([1, 1000, S // 100, S]))
def test_a_rule_that_keeps_a_part_of_what_the_recorder_keeps_adds_nothing(
    all_of: list[tuple[int, int]], data: st.DataObject, grain: int
):
    """The property: the recorder has all, the rule some with coarser stamps, in pieces."""
    stamps, ids = (list(one) for one in zip(*all_of, strict=True))
    recorder = batch([START_NS + at for at in stamps], ids)
    some = recorder[data.draw(st.lists(st.sampled_from(range(len(stamps))), unique=True))].copy()
    some["timestamp_ns"] -= some["timestamp_ns"] % grain
    cut = data.draw(st.integers(0, len(recorder)))
    pieces = [(RECORDER, recorder[:cut]), (RECORDER, recorder[cut:]), (ROUTINE, some)]
    assert frames_once(opened(*[one for one in pieces if len(one[1])])) == len(recorder)


def test_planted_count_of_all_that_was_opened_is_twice_as_high(monkeypatch: pytest.MonkeyPatch):
    rows = batch([START_NS, START_NS + 1], [1, 2])
    both = opened((ROUTINE, rows), (RECORDER, rows))
    assert frames_once(both) == 2
    monkeypatch.setattr(copies, "_once", lambda lanes, _: sum(
        len(one) for some in lanes.values() for one in some))  # fmt: skip
    assert frames_once(both) == 4


def test_what_only_one_lane_has_counts(monkeypatch: pytest.MonkeyPatch):
    early, late = batch([START_NS], [1]), batch([START_NS + 5 * S], [1])
    assert frames_once(opened((ROUTINE, early), (RECORDER, late))) == 2
    assert frames_once(opened((ROUTINE, early), (ROUTINE, early))) == 2  # one lane: no copies
    assert frames_once(Opened()) == 0


def test_other_buses_kinds_and_ids_are_other_frames():
    one = batch([START_NS], [1])
    other = one.copy()
    other["channel"] = 1
    wide = one.copy()
    wide["flags"] = 1
    for rows in (other, wide, batch([START_NS], [2])):
        assert frames_once(opened((ROUTINE, one), (RECORDER, rows))) == 2


def test_stamps_years_apart_are_counted_the_slow_way():
    rows = batch([START_NS, START_NS + 10**17], [1, 1])
    assert frames_once(opened((ROUTINE, rows), (RECORDER, rows))) == 2


def test_samples_count_by_signal_and_dictionary():
    rows = np.zeros(3, SIGNAL)
    rows["timestamp_ns"], rows["signal"] = START_NS, [1, 1, 2]
    found = Opened()
    found.samples = [(span(ROUTINE), b"a", rows[:2]), (span(RECORDER), b"a", rows),
                     (span(RECORDER), b"b", rows)]  # fmt: skip
    found.dictionaries = dict.fromkeys((b"a", b"b"))  # type: ignore[arg-type]
    assert samples_once(found) == 6
