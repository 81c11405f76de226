"""The status says what the clauses of the policy in force are doing."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from agent.pb.hatch_pb2 import HatchRequest
from agent.policy import consent_file
from agent.policy.consent import State
from agent.policy.terms import terms
from agent.service.answers import Answers
from agent.service.places import Places
from tests.capture import driving
from tests.capture.driving import TRACK, Car


class NoFetch:
    """No policy is offered over the air."""

    def status(self) -> dict[str, Any]:
        return {"bundle": ""}

    def wanted(self) -> None:
        return None


def answers(car: Car) -> Answers:
    config = SimpleNamespace(vehicle=SimpleNamespace(id="car"), state=car.folder)
    return Answers(
        config, "urn:inland:region:cn", vault=car.vault, sealer=car.sealer,  # type: ignore[arg-type]
        queue=car.queue, readers=[], fetch=NoFetch(),  # type: ignore[arg-type]
    )  # fmt: skip


def test_without_a_policy_the_gate_is_closed_and_nothing_is_agreed_to(tmp_path: Path):
    car = Car(tmp_path)
    car.stand(1)
    status = answers(car).status()
    assert status["gate"] == {"decision": "closed", "reason": "policy"}
    assert status["consents"] == {}
    assert status["recorder"] == {"recorded_s": 0.0}
    car.vault.close()


def test_events_the_gate_and_consents_are_told(tmp_path: Path):
    car = Car(tmp_path)
    one = driving.consenting(camera=driving.camera())
    one = driving.again(one, events=(driving.event(),), recorder=driving.policy().recorder)
    car.slot.put(one)
    car.drive(5)
    assert answers(car).status()["consents"] == {TRACK: "never_asked"}
    with consent_file.edit(car.folder / "consent.json", wait=True) as held:
        held.book = held.book.grant(
            terms(one, TRACK), now_ns=car.unix_ns, until_ns=car.unix_ns + 10**15, each_drive=False
        )
    assert answers(car).status()["consents"] == {TRACK: "changing"}  # the agent has not looked yet
    car.drive(15, place=True)
    car.drive(0.1, brake=200, place=True)
    car.drive(1, place=True)
    status = answers(car).status()
    assert status["events"] == {"recorded": 1, "merged": 0, "suppressed": 0, "open": 1}
    assert status["gate"] == {"decision": "open", "reason": ""}
    assert status["consents"] == {TRACK: "granted"}
    assert 20 < status["recorder"]["recorded_s"] < 22
    with consent_file.edit(car.folder / "consent.json", wait=True) as held:
        held.book = held.book.end(TRACK, State.WITHDRAWN, now_ns=car.unix_ns)
    assert answers(car).status()["consents"] == {TRACK: "changing"}  # it still keeps frames
    car.drive(1, place=True)
    assert answers(car).status()["consents"] == {TRACK: "withdrawn"}
    (car.folder / "consent.json").write_text("?")
    assert answers(car).status()["consents"] == {TRACK: "unreadable"}
    car.vault.close()


def test_a_policy_that_is_not_wanted_is_not_asked_for(tmp_path: Path):
    car = Car(tmp_path)
    request = HatchRequest()
    request.policy.SetInParent()
    assert answers(car)(request).policy.bundle == b""
    car.vault.close()


def test_zones_without_a_key_or_with_a_bad_seal_are_none(tmp_path: Path, caplog):
    assert Places(None, "urn:inland:region:cn")(b"sealed") is None
    key = tmp_path / "zones.key"
    key.write_bytes(bytes(32))
    key.chmod(0o600)
    assert Places(key, "urn:inland:region:cn")(b"sealed") is None
    key.chmod(0o644)
    assert Places(key, "urn:inland:region:cn")(b"sealed") is None
    assert [record.message.count("every place") for record in caplog.records] == [1, 1, 1]
