"""Rows come out as they arrived, whatever their stamps say; side by side they merge by stamp."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.evidence import arrival
from agent.evidence.arrival import Span, arrival_order


def ordered(*parts: tuple[int, int, list[int]], stream: str = "a") -> list[int]:
    segments = [(Span(stream, o, c), np.array(stamps, np.int64)) for o, c, stamps in parts]
    joined = np.concatenate([stamps for _, stamps in segments])
    return joined[arrival_order(segments)].tolist()  # type: ignore[no-any-return]


def test_side_by_side_merges_by_stamp_and_keeps_each_ones_order():
    assert ordered((0, 10, [1, 5, 3, 9]), (0, 10, [2, 4, 5])) == [1, 2, 4, 5, 3, 5, 9]


def test_one_after_the_other_stays_so():
    assert ordered((0, 10, [50, 60]), (10, 20, [1, 2]), (20, 30, [-7])) == [50, 60, 1, 2, -7]


def test_other_streams_merge_by_stamp():
    one = (Span("a", 0, 10), np.array([50, 60]))
    other = (Span("b", 10, 20), np.array([1, 55]))
    assert arrival_order([one, other]).tolist() == [2, 0, 3, 1]


def test_nothing_gives_nothing():
    assert arrival_order([]).tolist() == []


def drives(seed: int) -> tuple[list[list[int]], list[tuple[Span, np.ndarray]]]:  # type: ignore[type-arg]
    """Rule sets with any stamps, cut into segments, as the recorder closes them."""
    rng = random.Random(seed)
    now, made, segments = 0, [], []
    for rule_set in range(rng.randint(1, 3)):
        stamps = [rule_set * 1000 + rng.randrange(-500, 500) for _ in range(rng.randint(1, 30))]
        made.append(stamps)
        at = 0
        while at < len(stamps):
            size, begun = rng.randint(1, 9), now
            now += rng.randint(0, 5)
            segments.append((Span("a", begun, now), np.array(stamps[at : at + size])))
            at += size
    return made, segments


def holds(seed: int) -> None:
    made, segments = drives(seed)
    flat = [stamp for stamps in made for stamp in stamps]
    assert sorted(arrival_order(segments).tolist()) == list(range(len(flat)))
    joined = np.concatenate([stamps for _, stamps in segments])
    assert joined[arrival_order(segments)].tolist() == flat


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_arrival_is_kept(seed: int):
    holds(seed)


def test_a_forgotten_segment_before_is_caught(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(arrival, "bisect_right", lambda *_: 0)
    with pytest.raises(AssertionError):
        all(holds(seed) is None for seed in range(20))
