"""Bounds decide conditions as the numbers between them would: planted bugs in them are found."""

from __future__ import annotations

import math
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from agent.policy import meaning
from agent.policy.instants import NO_SAMPLES, Instants, samples_of
from agent.policy.model import UNSIGNED, SignalInfo
from agent.policy.windows import Track
from tests.policy.making import RANDOMS, over_seeds
from tests.policy.test_conditions import check_random

MS = 10**6
SECOND = 1000 * MS


def ramp(rng: Random, at_ns: int, count: int) -> Any:
    """Some samples, a random while apart."""
    stamps = at_ns + np.cumsum([rng.choice((1, 40, 200)) * MS for _ in range(count)])
    raw = np.array([rng.randrange(50) for _ in range(count)], np.int64)
    return samples_of(stamps, raw, raw * 0.5)


def check_numbers_lie_within(rng: Random) -> int:
    """Return how many bounds were known."""
    track = Track(SignalInfo("x", "M", "", 0.5, 0.0, UNSIGNED, ()), 16, 2 * SECOND)
    at_ns, known = 10**18, 0
    for _ in range(rng.randint(1, 40)):
        samples = ramp(rng, at_ns, rng.randint(1, 5))
        instants = Instants([samples], lambda: pytest.fail("one signal makes all instants"))
        at_ns = samples.last_ns + rng.choice((1, 50, 3000, 130_000)) * MS
        track.take(instants, 0)
        for function in ("value", "rate", "min", "max", "mean"):
            span_ns = 0 if function == "value" else rng.choice((1, 100, 2000)) * MS
            least, most = track.bounds(function, span_ns)
            if math.isnan(least):
                continue
            known += 1
            numbers = track.value() if function == "value" else track.over(function, span_ns)
            assert all(least <= one <= most for one in numbers.tolist()), function
    return known


@given(RANDOMS)
@settings(max_examples=60, deadline=None)
def test_numbers_lie_within_their_bounds(rng: Random):
    check_numbers_lie_within(rng)


def test_most_bounds_are_known():
    assert sum(check_numbers_lie_within(Random(seed)) for seed in range(20)) > 500


def _newest_only(self: Track, span_ns: int) -> Any:
    return self._new.least, self._new.most


def _without_held(self: Track) -> Any:
    return self._new.least, self._new.most


def _any_rate(self: Track, span_ns: int) -> Any:
    least, most = self.bounds("max", span_ns)
    return -(most - least) / (span_ns / 1e9), (most - least) / (span_ns / 1e9)


def _across_zero(sign: str, ours: Any, theirs: Any) -> Any:
    ends = [ours[0] / (theirs[0] or 1.0), ours[1] / (theirs[1] or 1.0)]
    return _between(sign, ours, theirs) if sign != "/" else (min(ends), max(ends))


_between, _decided = meaning._between, meaning._decided


def _touching(sign: str, ours: Any, theirs: Any) -> Any:
    """Bounds that touch decide nothing for `<` and `>`, but are taken to."""
    if sign in ("<", ">") and ours[1] == theirs[0]:
        return meaning.YES if sign == "<" else meaning.NO
    return _decided(sign, ours, theirs)


BUGS = {
    "a window that sees its newest samples alone": (Track, "_bounds_since", _newest_only),
    "a held value that is forgotten": (Track, "_bounds_now", _without_held),
    "a rate between samples that may be close": (Track, "_bounds_of_rate", _any_rate),
    "a quotient of what may be zero": (meaning, "_between", _across_zero),
    "bounds that touch": (meaning, "_decided", _touching),
    "a signal that never changes": (Track, "is_steady", lambda self: True),
    "a run that goes on from its begin": (meaning.Run, "goes_on", lambda self, first_ns: True),
    "a run that did not end": (meaning.Run, "end", lambda self: meaning.NO),
}


@pytest.mark.parametrize("bug", BUGS)
def test_bounds_that_say_too_much_are_found(bug: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(*BUGS[bug])
    with pytest.raises(AssertionError):
        over_seeds(check_random, 900)


def test_an_instant_without_samples_is_none():
    instants = Instants([NO_SAMPLES, ramp(Random(1), 0, 2)], lambda: pytest.fail("nobody asks"))
    assert instants.alone == 1
    assert instants.at(1) is None
    assert len(instants.at(0)) == 0  # type: ignore[arg-type]
