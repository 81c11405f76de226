"""The lookout sees of its watch points what the engine sees of all."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from hypothesis import given, settings

from agent.frames import SIGNAL, ChannelTable
from agent.policy.engine import Engine
from agent.policy.lookout import Lookout
from agent.policy.model import event_points, gate_points, watch_points
from agent.policy.wants import Sampler
from tests.capture import driving
from tests.policy import making
from tests.policy.test_engine import cut, random_policy


def check_the_same_samples(rng: Random) -> None:
    policy, batch = random_policy(rng), making.random_batch(rng)
    count = len(watch_points(policy))
    points = rng.sample(range(count), rng.randint(0, count))
    every = Engine(policy, ChannelTable(making.NAMES))
    some = Engine(policy, ChannelTable(making.NAMES), points=points)
    lookout = Lookout(policy, ChannelTable(making.NAMES), points)
    for piece in cut(rng, batch):
        watched = every.decide(piece).watched
        expected = watched[np.isin(watched["signal"], points)].tobytes()
        assert lookout.see(piece).tobytes() == expected
        assert some.decide(piece).watched.tobytes() == expected


@settings(max_examples=80, deadline=None)
@given(making.RANDOMS)
def test_the_lookout_and_the_engine_see_the_same(rng: Random):
    check_the_same_samples(rng)


def _first_channel(self, batch, slots):
    samples, bounds = _all(self, batch, slots)
    samples["channel"] = 0
    return samples, bounds


_all = Sampler._all


def test_samples_of_another_bus_are_found(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Sampler, "_all", _first_channel)
    with pytest.raises(AssertionError):
        making.over_seeds(check_the_same_samples)


def test_nothing_is_seen_of_an_empty_batch():
    lookout = Lookout(driving.policy(), ChannelTable(), (0,))
    assert lookout.see(making.frames([])).dtype == SIGNAL
    assert len(lookout.see(making.frames([]))) == 0


def test_each_clause_has_its_points():
    policy = driving.policy(camera=driving.camera())
    names = [driving.NAMES[point.signal] for point in watch_points(policy)]
    gate = {names[number] for number in gate_points(policy)}
    assert gate == {"Speed", "Latitude", "Longitude", "Camera", "Reason", "State", "Clip"}
    assert {names[number] for number in event_points(policy)} == {"Speed", "Brake"}
