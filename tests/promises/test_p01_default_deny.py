"""P1, default deny: nothing is kept that the policy in force does not name.

Without a policy, with an expired one, with a broken one: nothing.
"""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings

from agent.errors import PolicyError
from agent.frames import EXTENDED, ChannelTable
from agent.policy import masks
from agent.policy.compiled import load_policy, read_policy
from agent.policy.engine import Engine
from agent.policy.model import rule_set_of
from agent.policy.store import active
from tests.policy import making


def check_nothing_unnamed_is_kept(rng: Random) -> None:
    """Ask of each kept frame and sample, one by one, which rule names it."""
    policy, batch = making.random_policy(rng), making.random_batch(rng)
    for kept in Engine(policy, ChannelTable(making.NAMES)).decide(batch).kept:
        rules = [rule for rule in policy.rules if rule_set_of(rule) == kept.rule_set]
        for row in kept.frames:
            where = making.NAMES[row["channel"]], int(row["arbitration_id"]), int(row["flags"])
            assert any(making.names_frame(one, *where) for rule in rules for one in rule.frames)
        for sample in kept.signals:
            assert _is_named(policy, rules, sample)
            assert _is_in_a_frame(policy, batch, sample)


def _is_named(policy, rules, sample) -> bool:
    return any(
        one.signal == sample["signal"] and one.channel in ("*", making.NAMES[sample["channel"]])
        for rule in rules
        for one in rule.signals
    )


def _is_in_a_frame(policy, batch, sample) -> bool:
    layout = policy.layouts[sample["signal"]]
    for row in batch:
        same = (row["timestamp_ns"], row["channel"]) == (sample["timestamp_ns"], sample["channel"])
        carrier = making.carries(layout, int(row["arbitration_id"]), int(row["flags"]))
        data = bytes(row["data"][: row["length"]])
        if same and carrier and making.value(data, layout) == sample["raw"]:
            return True
    return False


@settings(max_examples=150, deadline=None)
@given(making.RANDOMS)
def test_nothing_is_kept_that_no_rule_names(rng):
    check_nothing_unnamed_is_kept(rng)


@pytest.mark.parametrize("bug", ["neighbour", "twin", "channel"])
def test_the_check_finds_an_engine_that_keeps_more(bug, monkeypatch):
    original = masks.FrameMask.wanted

    def wanted(self, batch):
        changed = batch.copy()
        if bug == "neighbour":
            changed["arbitration_id"] &= 0x1FFFFFFE
        elif bug == "twin":
            changed["flags"] ^= EXTENDED
        else:
            changed["channel"] = 0
        return original(self, changed) | original(self, batch)

    monkeypatch.setattr(masks.FrameMask, "wanted", wanted)
    with pytest.raises(AssertionError):
        making.over_seeds(check_nothing_unnamed_is_kept)


def test_no_policy_is_found_where_none_was_installed(tmp_path):
    assert active(tmp_path) is None


def test_an_expired_policy_is_refused_at_the_door():
    data = making.compiled([])
    end_ns = read_policy(data).not_after_ns
    with pytest.raises(PolicyError, match="has expired"):
        load_policy(data, region=making.REGION, now_ns=end_ns)


def test_a_broken_policy_is_no_policy():
    rule = making.collect("a", frames=[])
    for data in (b"\xff", making.compiled([rule]), making.compiled([])[:-2]):
        with pytest.raises(PolicyError):
            load_policy(data, region=making.REGION, now_ns=0)


@settings(max_examples=30, deadline=None)
@given(making.RANDOMS)
def test_a_policy_without_rules_keeps_nothing(rng):
    engine = Engine(making.loaded(making.compiled([])), ChannelTable(making.NAMES))
    assert engine.decide(making.random_batch(rng)).kept == []
    assert engine.kernel_filters("can0") == []
