"""Rising edges: which are new events, which belong to the last one, and what the signals said."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings

from agent.policy import watching
from agent.policy.clauses import SignalSelector
from agent.policy.conditions import Latest
from agent.policy.events import Events, Fired, Merged
from agent.policy.model import Policy
from tests.policy.conditioning import (
    MS,
    SECOND,
    Frame,
    car,
    condition,
    event,
    policy_of,
    random_frames,
    random_text,
    samples_of,
    watched,
)
from tests.policy.making import RANDOMS, over_seeds
from tests.policy.straightforward import Plain

START = 1_700_000_000 * SECOND
SPEED, TORQUE, GEAR, COUNT = 0, 1, 2, 5
FRESH_NS = 120 * SECOND


def policy_with(text: str = "Speed > 3", **more: object) -> Policy:
    infos, layouts = car()
    return policy_of(infos, layouts, [event("e", condition(text, infos), **more)])


def speed(at: float, raw: int) -> Frame:
    return START + round(at * 1000) * MS, 0, {SPEED: raw, TORQUE: -5}


def happened(policy: Policy, frames: list[Frame], **more) -> list[tuple[str, float]]:
    found = Events(policy).update(watched(frames, policy), **more)
    return [(type(one).__name__, (one.stamp_ns - START) / SECOND) for one in found]


def values_of(fired: Fired) -> list[tuple]:
    return [(v.signal, v.channel, v.raw, v.age_ms, v.missing) for v in fired.snapshot]


def test_an_edge_is_an_instant_at_which_it_became_true():
    up_and_down = [speed(at, raw) for at, raw in enumerate((0, 10, 10, 0, 10, 0))]
    assert happened(policy_with(), up_and_down) == [("Fired", 1), ("Fired", 4)]


def test_true_from_the_first_instant_on_is_an_edge():
    assert happened(policy_with(), [speed(0, 10), speed(1, 10)]) == [("Fired", 0)]


def test_edges_within_retrigger_belong_to_the_event():
    """The time counts from the event, not from the last edge: a storm does not go on for ever."""
    storm = [speed(at / 2, 10 * (at % 2)) for at in range(50)]
    found = happened(policy_with(retrigger_ns=10 * SECOND), storm)
    assert [at for what, at in found if what == "Fired"] == [0.5, 10.5, 20.5]
    assert len(found) == 25


def test_after_a_step_back_an_edge_is_a_new_event():
    policy = policy_with(retrigger_ns=3600 * SECOND)
    frames = [speed(1000, 10), speed(999.5, 0), speed(999, 10), speed(0, 0), speed(1, 10)]
    assert happened(policy, frames) == [("Fired", 1000), ("Merged", 999), ("Fired", 1)]


def test_edges_during_an_open_incident_belong_to_it():
    policy = policy_with(before_ns=SECOND)
    twice = [speed(at, 10 * (at % 2)) for at in range(4)]
    assert happened(policy, twice) == [("Fired", 1), ("Merged", 3)]
    assert happened(policy, twice, open_incidents={"e"}) == [("Merged", 1), ("Merged", 3)]
    assert happened(policy, twice, open_incidents={"other"})[0] == ("Fired", 1)


def test_a_rule_that_holds_nothing_is_never_open_by_itself():
    twice = [speed(at, 10 * (at % 2)) for at in range(4)]
    assert happened(policy_with(), twice) == [("Fired", 1), ("Fired", 3)]


def test_events_of_several_rules_come_in_the_order_of_the_frames():
    infos, layouts = car()
    rules = [event("a", condition("Gear == 1", infos)), event("b", condition("Speed > 3", infos))]
    policy = policy_of(infos, layouts, rules)
    frames = [speed(0, 10), (START + 1, 0, {GEAR: 1})]
    found = Events(policy).update(watched(frames, policy))
    assert [one.rule.id for one in found] == ["b", "a"]


def test_a_policy_without_events_says_nothing():
    infos, layouts = car()
    policy = policy_of(infos, layouts, [])
    assert Events(policy).update(watched([speed(0, 1)], policy)) == []


# --- snapshots --------------------------------------------------------------------------------


def test_the_snapshot_shows_what_was_at_the_trigger_not_later():
    gear, count = SignalSelector("*", GEAR), SignalSelector("can1", COUNT)
    policy = policy_with("Speed > 3 and Speed < 50", snapshot=(gear, count))
    frames = [
        (START, 0, {GEAR: 3}),
        speed(0.25, 10),
        (START + SECOND, 0, {GEAR: 1}),
        speed(2, 20),
    ]
    (fired,) = Events(policy).update(watched(frames, policy))
    assert isinstance(fired, Fired)
    assert values_of(fired) == [
        (SPEED, "*", 10, 0, False), (GEAR, "*", 3, 250, False), (COUNT, "can1", 0, 0, True),
    ]  # fmt: skip


def test_signals_of_the_frame_that_made_it_true_are_in_the_snapshot():
    policy = policy_with(snapshot=(SignalSelector("*", TORQUE),))
    (fired,) = Events(policy).update(watched([speed(0, 10)], policy))
    assert isinstance(fired, Fired)
    assert [(one.raw, one.missing) for one in fired.snapshot] == [(10, False), (-5, False)]


def test_a_sample_is_missing_once_it_is_too_old():
    policy = policy_with(snapshot=(SignalSelector("*", GEAR),))
    for later, missing in ((FRESH_NS, False), (FRESH_NS + 1, True)):
        frames = [(START, 0, {GEAR: 1}), (START + later, 0, {SPEED: 10, TORQUE: 0})]
        (fired,) = Events(policy).update(watched(frames, policy))
        assert isinstance(fired, Fired)
        assert fired.snapshot[1].missing is missing
        assert fired.snapshot[1].raw == (0 if missing else 1)


@pytest.mark.parametrize(
    ("signal", "raw", "kept"), [(SPEED, 1234, 1200), (TORQUE, -5, -100), (COUNT, -1, -16)]
)
def test_a_snapshot_is_no_finer_than_its_grain(signal: int, raw: int, kept: int):
    """Even where the condition looks at the same signal as it comes."""
    grained = SignalSelector("*", signal, 100)
    policy = policy_with(snapshot=(grained, SignalSelector("*", COUNT)))
    frames = [(START, 0, {COUNT: raw}), (START + 1, 0, {SPEED: 1234, TORQUE: raw})]
    (fired,) = Events(policy).update(watched(frames, policy))
    assert isinstance(fired, Fired)
    assert [one.raw for one in fired.snapshot if one.signal == signal] == [kept]


def test_latest_answers_at_the_end_of_a_batch_too():
    policy = policy_with(snapshot=(SignalSelector("*", GEAR),))
    latest, selectors = Latest(policy), (SignalSelector("*", GEAR),)
    assert latest.snapshot(selectors, START)[0].missing
    latest.update(watched([(START, 0, {GEAR: 1}), (START, 0, {GEAR: 2})], policy))
    latest.update(watched([speed(1, 0)], policy))
    (value,) = latest.snapshot(selectors, START + SECOND)
    assert (value.raw, value.age_ms) == (2, 1000)


# --- against the straightforward evaluation ---------------------------------------------------


def expected(policy: Policy, frames: list[Frame]) -> list[tuple]:
    """(kind, rule, stamp, snapshot) frame by frame; no incident is ever open."""
    plains = [Plain(rule.when, policy) for rule in policy.events]
    was = [False] * len(plains)
    last: list[int | None] = [None] * len(plains)
    latest: dict[SignalSelector, tuple[int, int]] = {}
    found: list[tuple] = []
    for frame in frames:
        stamp, samples = frame[0], samples_of(frame, policy)
        latest |= {selector: (stamp, raw) for selector, raw in samples.items()}
        for at, (rule, plain) in enumerate(zip(policy.events, plains, strict=True)):
            truth = plain.frame(stamp, samples)
            if truth is None:
                continue
            if truth and not was[at]:
                since = None if last[at] is None else stamp - last[at]
                if since is not None and -SECOND <= since < rule.retrigger_ns:
                    found.append(("Merged", rule.id, stamp, None))
                else:
                    last[at] = stamp
                    found.append(("Fired", rule.id, stamp, snapshot(rule, stamp, latest)))
            was[at] = truth
    return found


def snapshot(rule, stamp: int, latest: dict[SignalSelector, tuple[int, int]]) -> list[tuple]:
    values = []
    for one in dict.fromkeys([*(one for _, one in rule.when.terms), *rule.snapshot]):
        then, raw = latest.get(one, (None, 0))
        if then is None or not -SECOND <= stamp - then <= FRESH_NS:
            values.append((one.signal, one.channel, 0, 0, True))
        else:
            values.append((one.signal, one.channel, raw, max(0, stamp - then) // MS, False))
    return values


def found_in(policy: Policy, frames: list[Frame], cuts: list[int]) -> list[tuple]:
    events = Events(policy)
    found: list[tuple] = []
    for begin, end in pairwise([0, *cuts, len(frames)]):
        for one in events.update(watched(frames[begin:end], policy)):
            values = None
            if isinstance(one, Fired):
                values = values_of(one)
            else:
                assert isinstance(one, Merged)
            found.append((type(one).__name__, one.rule.id, one.stamp_ns, values))
    return found


def check_random(rng: Random) -> None:
    infos, layouts = car()
    rules = [
        event(
            f"e{at}", condition(random_text(rng), infos),
            retrigger_ns=rng.choice((0, 100 * MS, 10 * SECOND)),
            snapshot=tuple(SignalSelector(rng.choice(("*", "can0")), signal)
                           for signal in rng.sample(range(len(infos)), 2)),
        )
        for at in range(rng.randint(1, 3))
    ]  # fmt: skip
    policy = policy_of(infos, layouts, rules)
    frames = random_frames(rng, rng.randint(1, 60))
    cuts = [at for at in range(1, len(frames)) if rng.random() < 0.3]
    theirs = expected(policy, frames)
    assert found_in(policy, frames, cuts) == theirs
    assert found_in(policy, frames, []) == theirs


@given(RANDOMS)
@settings(max_examples=60, deadline=None)
def test_events_of_any_rules_on_any_samples_equal_the_straightforward(rng: Random):
    check_random(rng)


def _end_of_batch(self, selectors, at_ns, *, row=None):
    return [self._value(one, at_ns, self._batch) for one in selectors]


def _never_was(self, number):
    return False


@pytest.mark.parametrize(
    ("owner", "name", "wrong"),
    [
        (watching.Latest, "snapshot", _end_of_batch),
        (Events, "_is_retrigger", lambda *_: False),
        (watching, "FRESH_NS", FRESH_NS - 1),
        (watching.Latest, "update", lambda self, batch: setattr(self, "_batch", batch)),
    ],
    ids=["snapshot at the end of the batch", "no retrigger", "stale too early", "no memory"],
)
def test_a_planted_bug_is_found(owner, name: str, wrong, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(owner, name, wrong)
    with pytest.raises(AssertionError):
        over_seeds(check_random)


def test_a_truth_that_is_forgotten_at_a_batch_border_is_found(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("agent.policy.events.Conditions.now", _never_was)
    with pytest.raises(AssertionError):
        over_seeds(check_random)
