"""Stretches of time, against sets of seconds."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.owner import stretches
from agent.owner.stretches import Stretches, common, joined, total_ns, without

PAIRS = st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), max_size=6)


def seconds(some: Stretches) -> set[int]:
    return {second for begin, end in some for second in range(begin, end)}


def check(one: list[tuple[int, int]], other: list[tuple[int, int]]) -> None:
    first, second = joined(one), joined(other)
    plain = {s for begin, end in one for s in range(begin, end)}
    assert seconds(first) == plain
    assert total_ns(first) == len(plain)
    assert seconds(common(first, second)) == seconds(first) & seconds(second)
    assert seconds(without(first, second)) == seconds(first) - seconds(second)
    for made in (first, common(first, second), without(first, second)):
        assert all(begin < end for begin, end in made)
        assert all(a.end_ns < b.begin_ns for a, b in itertools.pairwise(made))


@given(one=PAIRS, other=PAIRS)
def test_they_are_sets_of_time(one: list[tuple[int, int]], other: list[tuple[int, int]]):
    check(one, other)


def test_a_join_that_forgets_the_longer_end_is_found(monkeypatch: pytest.MonkeyPatch):
    """The planted bug: a stretch inside another one shortens it."""
    check([(0, 9), (1, 2)], [])
    monkeypatch.setattr(stretches, "max", lambda *both: both[-1], raising=False)
    with pytest.raises(AssertionError):
        check([(0, 9), (1, 2)], [])
