"""What a new policy widens is said, whatever else it changes."""

import dataclasses

import pytest

from agent.pb import sealed_pb2
from agent.policy.clauses import SignalSelector
from agent.policy.diff import diff
from tests.policy.test_notice import whole_policy


def effects(found):
    return {(one.item, one.effect) for one in found}


def changed_rule(policy, **changes):
    first = dataclasses.replace(policy.rules[0], **changes)
    return dataclasses.replace(policy, rules=(first, *policy.rules[1:]))


def test_nothing_differs_from_itself():
    assert diff(whole_policy(), whole_policy()) == ()


def test_against_no_policy_everything_is_new():
    found = diff(None, whole_policy())
    assert {one.effect for one in found} == {"new"}
    assert [one.item for one in found] == ["speed", "track", "recorder", "hard-brake", "camera"]


@pytest.mark.parametrize(
    ("changes", "effect"),
    [
        ({"keep_s": 10**9}, "wider"),
        ({"keep_s": 60}, "narrower"),
        ({"recipients": sealed_pb2.SHARED}, "wider"),
        ({"recipients": sealed_pb2.BOTH}, "narrower"),
        ({"purpose": "insurance"}, "wider"),
        ({"basis": "safety"}, "other"),
        ({"every_ns": 10**9}, "narrower"),
        ({"on_change": True}, "narrower"),
        ({"signals": (SignalSelector("can1", 0),)}, "wider"),
        ({"space_m": 1000}, "narrower"),
        ({"necessity": "another reason"}, "other"),
    ],
)
def test_each_change_of_a_rule_is_named_and_weighed(changes, effect):
    old = whole_policy()
    found = diff(old, changed_rule(old, **changes))
    assert ("speed", effect) in effects(found)
    assert {one.item for one in found} == {"speed"}


def test_a_finer_place_is_wider():
    old = changed_rule(whole_policy(), space_m=1000)
    assert ("speed", "wider") in effects(diff(old, changed_rule(old, space_m=100)))
    assert ("speed", "wider") in effects(diff(old, changed_rule(old, space_m=0)))


def test_giving_up_consent_is_wider():
    old = whole_policy()
    track = dataclasses.replace(old.rules[1], basis="law:something")
    found = diff(old, dataclasses.replace(old, rules=(old.rules[0], track)))
    assert ("track", "wider") in effects(found)


def test_a_rename_is_no_news():
    old = whole_policy()
    assert effects(diff(old, changed_rule(old, id="velocity"))) == {("velocity", "other")}


def test_what_is_gone_and_what_is_new():
    old = whole_policy()
    new = dataclasses.replace(changed_rule(old, id="velocity", keep_s=99), events=())
    assert effects(diff(old, new)) == {
        ("velocity", "new"), ("speed", "gone"), ("hard-brake", "gone"),
    }  # fmt: skip


def test_the_gate_and_the_consents_are_weighed():
    old = whole_policy()
    camera = dataclasses.replace(old.camera, margin_m=100, exit_ns=120 * 10**9)
    term = dataclasses.replace(old.consents[0], each_drive=False)
    found = diff(old, dataclasses.replace(old, camera=camera, consents=(term,)))
    assert effects(found) == {("camera", "wider"), ("camera", "narrower"), ("policy", "wider")}


def test_a_comparison_that_ignores_recipients_would_be_caught():
    old = whole_policy()
    blind = changed_rule(old, recipients=old.rules[0].recipients)
    assert diff(old, blind) == ()
    assert diff(old, changed_rule(old, recipients=sealed_pb2.SHARED)) != ()
