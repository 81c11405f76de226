"""`recipients = "driver"`: what is for whoever drives, from the text to the notice."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from agent.errors import PolicyError
from agent.pb import sealed_pb2
from agent.policy.advice import advise
from agent.policy.build import build_policy
from agent.policy.compiled import load_policy, read_policy
from agent.policy.diff import diff
from agent.policy.model import Policy
from agent.policy.notice import as_text, notice
from agent.policy.terms import Clause
from tests.policy.making import DBC, HEAD, REGION, RULE
from tests.policy.test_notice import whole_policy

NOW_NS = 1_795_000_000 * 10**9
PLACE = DBC.replace("SG_ Torque ", "SG_ Latitude ").replace('"Nm"', '"deg"')
TRACK = """
[[consent]]
category = "location.track"
max_days = 30
"""


def built(folder: Path, text: str, dbc: str = DBC) -> Policy:
    (folder / "car.dbc").write_text(dbc)
    (folder / "policy.toml").write_text(HEAD + text)
    return load_policy(build_policy(folder / "policy.toml"), region=REGION, now_ns=NOW_NS)


def for_driver(text: str = RULE) -> str:
    return text.replace('recipients = "region"', 'recipients = "driver"')


def test_text_and_compiled_form_agree(tmp_path: Path):
    policy = built(tmp_path, for_driver())
    assert [one.recipients for one in policy.rules] == [sealed_pb2.DRIVER]
    assert [rule for rule in advise(policy, now_ns=NOW_NS) if "drives" in rule] == [
        "kept only while somebody who is enrolled drives: one"
    ]


def test_an_unknown_recipient_names_it_among_the_known(tmp_path: Path):
    with pytest.raises(PolicyError, match="driver"):
        built(tmp_path, RULE.replace('recipients = "region"', 'recipients = "drivers"'))


def test_a_compiled_policy_with_a_set_that_is_none_is_refused(tmp_path: Path):
    """5 is one, 6 is none."""
    from agent.pb import policy_pb2

    built(tmp_path, for_driver())
    wire = policy_pb2.Policy.FromString(build_policy(tmp_path / "policy.toml"))
    wire.collect[0].recipients = 6  # type: ignore[assignment]
    with pytest.raises(PolicyError, match="recipients"):
        read_policy(wire.SerializeToString())


def test_the_exact_place_is_for_who_drives_alone_and_for_no_set_with_the_region(tmp_path: Path):
    text = RULE.replace('category = "battery"', 'category = "location.track"')
    text = text.replace('basis = "law:GB/T 32960"', 'basis = "consent"').replace(
        "Speed", "Latitude"
    )
    text = text.replace("regulatory_monitoring", "navigation") + TRACK
    assert built(tmp_path, for_driver(text), PLACE).rules[0].space_m == 0
    for other in ("region", "shared", "both"):
        with pytest.raises(PolicyError, match="finer"):
            built(tmp_path, text.replace('= "region"', f'= "{other}"'), PLACE)


def test_a_parked_cars_cameras_stay_with_the_owner():
    from agent.policy.clauses import PARKED_OWNER
    from agent.policy.load_checks import parked_objection

    wrong = parked_objection(
        parked=PARKED_OWNER, recipients=sealed_pb2.DRIVER, consents={"exterior.parked"}
    )
    assert wrong is not None
    assert wrong.key == "recipients"


def changed(recipients: int) -> Policy:
    policy = whole_policy()
    first = dataclasses.replace(policy.rules[0], recipients=recipients)
    return dataclasses.replace(policy, rules=(first, *policy.rules[1:]))


@pytest.mark.parametrize(
    ("old", "new", "effect"),
    [
        (sealed_pb2.REGION, sealed_pb2.DRIVER, "wider"),  # somebody else than before
        (sealed_pb2.OWNER, sealed_pb2.DRIVER, "wider"),
        (sealed_pb2.DRIVER, sealed_pb2.OWNER, "wider"),
        (sealed_pb2.DRIVER, sealed_pb2.BOTH, "narrower"),
        (sealed_pb2.BOTH, sealed_pb2.DRIVER, "wider"),
    ],
)
def test_a_difference_is_weighed_by_who_opens_it(old: int, new: int, effect: str):
    found = diff(changed(old), changed(new))
    assert [one.effect for one in found] == [effect]
    assert "whoever is driving at the time, alone" in found[0].words or new != sealed_pb2.DRIVER


def test_the_notice_says_it_in_both_languages():
    policy = changed(sealed_pb2.DRIVER)
    assert "whoever is driving at the time, alone" in as_text(notice(policy, "en"))
    assert "仅当时驾驶车辆的人本人" in as_text(notice(policy, "zh"))


def test_who_agreed_to_another_reader_did_not_agree_to_the_driver():
    """And the other way round: they are different people."""
    driver = Clause("navigation", "driver", 60)
    for other in ("region", "owner", "shared", "both"):
        agreed = Clause("navigation", other, 60)
        assert not driver.is_within(agreed)
        assert not agreed.is_within(driver)
    assert driver.is_within(driver)
