"""The dry run: a policy that our code cannot run is refused before it is in force."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings

from agent.errors import PolicyError
from agent.frames import ERROR, EXTENDED, REMOTE
from agent.policy import rehearsal
from agent.policy.build import build_policy
from agent.policy.compiled import load_policy, read_policy
from agent.policy.engine import Engine
from agent.policy.model import MAX_RULES, watch_points
from agent.policy.rehearsal import channels_of, frames, ids_of, rehearse
from tests.policy import making


@settings(max_examples=40)
@given(making.RANDOMS)
def test_every_policy_that_passes_the_door_runs(rng):
    rehearse(making.random_policy(rng))


def test_every_id_that_is_named_is_tried_in_every_shape_and_on_every_channel():
    policy = making.random_policy(Random(4))
    channels = channels_of(policy)
    seen = {
        (int(row["arbitration_id"]), bool(row["flags"] & EXTENDED))
        for batch in frames(policy, len(channels))
        for row in batch
        if not row["flags"] & (ERROR | REMOTE)
    }
    named = {(one.arbitration_id, one.extended) for one in policy.layouts}
    assert seen == set(ids_of(policy)) >= named
    assert channels[-1] == rehearsal.OTHER
    lengths = {int(n) for batch in frames(policy, len(channels)) for n in batch["length"]}
    assert lengths == {0, 1, 8, 64}


def test_the_largest_policy_takes_seconds_not_minutes():
    one = making.policy_pb2.FrameSelector
    rules = [
        making.collect(f"r{at}", frames=[one(channel="*", first_id=at, last_id=at)])
        for at in range(MAX_RULES)
    ]
    rehearse(load_policy(making.compiled(rules), region=making.REGION, now_ns=0))


@pytest.mark.parametrize(
    "fault", [ZeroDivisionError("x"), IndexError("x"), MemoryError(), RecursionError("x\ny")]
)
def test_a_part_that_fails_is_named_in_one_line(monkeypatch, fault):
    def fails(*_: object) -> None:
        raise fault

    policy = making.random_policy(Random(1))
    with monkeypatch.context() as patch:
        patch.setattr(Engine, "decide", fails)
        with pytest.raises(PolicyError, match=r"the dry run failed: engine") as error:
            rehearse(policy)
    assert "\n" not in str(error.value)
    assert type(fault).__name__ in str(error.value)
    fails.__name__ = "events"
    monkeypatch.setattr(rehearsal, "STEPS", (fails,))
    with pytest.raises(PolicyError, match=r"the dry run failed: events"):
        rehearse(policy)


EXAMPLES = sorted(making.EXAMPLES.glob("*.toml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_runs(path):
    rehearse(read_policy(build_policy(path)))


def test_every_part_sees_what_it_watches(monkeypatch):
    """The made-up frames reach conditions, events and the camera, not only the engine."""
    seen: dict[str, int] = {}

    def note(name: str):
        def step(policy, watched) -> None:
            seen[name] = sum(len(batch) for batch in watched)

        step.__name__ = name
        return step

    fleet = next(path for path in EXAMPLES if path.stem == "cn-fleet")
    monkeypatch.setattr(rehearsal, "STEPS", (note("events"), note("camera")))
    policy = read_policy(build_policy(fleet))
    assert policy.events
    assert policy.camera
    rehearse(policy)
    assert min(seen.values()) > len(watch_points(policy))
