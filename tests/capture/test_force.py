"""A policy in force: events hold their part of the drive, consents and places close in time."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from agent.capture.force import Force
from agent.capture.gate import read_gate
from agent.capture.incidents import Incidents
from agent.capture.recorded import Axis
from agent.capture.sealer import HOUR_NS, PROVEN_NS
from agent.pb import ledger_pb2
from agent.policy import consent_file
from agent.policy.engine import Engine
from agent.policy.terms import terms
from agent.policy.zones import Zones
from agent.vault.incidents import Hold
from agent.vault.vault import Vault
from tests.capture import driving
from tests.capture.driving import CAM, DRIVE, NOW_NS, PLACE, TRACK, Car, S

COMPLETE = ledger_pb2.Incident.COMPLETE
INTERRUPTED = ledger_pb2.Incident.INTERRUPTED
SUPPRESSED = ledger_pb2.Incident.SUPPRESSED
GRANTED = ledger_pb2.ConsentChange.GRANTED
WITHDRAWN = ledger_pb2.ConsentChange.WITHDRAWN


def brake(car: Car) -> int:
    """Brake hard for a moment; return the stamp of the frame that says so."""
    car.drive(0.1, brake=200)
    return car.unix_ns


def held_stamps(car: Car, held: Any) -> list[int]:
    """Stamps of the frames that the region gets of some ranges."""
    opened = car.opened()
    return sorted(
        int(stamp)
        for one in held
        for index in range(one.first, one.last + 1)
        if index in opened
        for stamp in opened[index].frames["timestamp_ns"]
    )


def check_an_event_holds_before_and_after(car: Car) -> None:
    car.slot.put(driving.policy())
    car.drive(40)
    stamp = brake(car)
    car.drive(30)
    (incident,) = car.told("incident")
    assert (incident.state, incident.upload) == (COMPLETE, True)
    first, last = car.events()
    assert (first.complete, last.complete) == (False, True)
    assert first.id == last.id
    assert first.stamp_ns == stamp
    assert (last.before_ns, last.after_ns) == (20 * S, 5 * S)
    assert [(r.first, r.last) for r in last.held] == [(r.first, r.last) for r in incident.held]
    stamps = held_stamps(car, incident.held)
    assert stamps[0] <= stamp - 20 * S < stamps[0] + 2 * S
    assert stamps[-1] >= stamp + 5 * S > stamps[-1] - 2 * S
    gaps = {b - a for a, b in pairwise(stamps)}
    assert gaps == {S // 10}  # nothing of it is missing
    # The rest of the window stays in the car.
    sent = held_stamps(car, [ledger_pb2.Range(first=0, last=10_000)])
    assert sent == stamps


def test_an_event_holds_before_and_after(car: Car):
    check_an_event_holds_before_and_after(car)


def end_early(force: Force, now: Any) -> None:
    """Planted bug: the axis as far as it is recorded and more, not as far as it is sealed."""
    force._sealed_ns = force._axis.end_ns + 4 * S
    original_turn(force, now)


def not_held(incidents: Incidents, event: Any, now: Any, *, holds: Any = None) -> Any:
    """Planted bug: the record without its hold."""
    return original_seal(incidents, event, now)


original_turn = Force.turn
original_seal = Incidents._seal
BUGS = {
    "early": (Force, "turn", end_early),
    "shifted": (Axis, "at", lambda self, stamp_ns: self.end_ns + 10 * S),
    "not held": (Incidents, "_seal", not_held),
}


@pytest.mark.parametrize("bug", BUGS)
def test_the_check_of_events_finds_planted_bugs(car: Car, bug: str, monkeypatch):
    monkeypatch.setattr(*BUGS[bug])
    with pytest.raises((AssertionError, ValueError)):
        check_an_event_holds_before_and_after(car)


def test_the_snapshot_and_the_policy_stand_in_the_record(car: Car):
    car.slot.put(driving.policy(3))
    car.drive(2)
    brake(car)
    car.drive(10)
    record = car.events()[-1]
    assert (record.rule, record.trigger, record.number) == ("brake", "Brake > 100", 1)
    assert (record.policy, record.policy_version, record.agent_version) == ("fleet", 3, "0")
    assert [(v.signal, v.raw) for v in record.snapshot] == [
        (driving.BRAKE, 200),
        (driving.SPEED, 50),
    ]
    assert 0 < record.before_ns < 3 * S  # there was no more
    assert len(record.id) == 16


def test_edges_of_an_open_event_belong_to_it(car: Car):
    car.slot.put(driving.policy())
    car.drive(5)
    for _ in range(3):
        brake(car)
        car.drive(1)
    car.drive(10)
    assert [one.triggers for one in car.events()] == [1, 3]
    assert len(car.told("incident")) == 1
    assert car.sealer.counters.events.merged == 2
    brake(car)
    car.drive(10)
    assert [(one.number, one.triggers) for one in car.events()] == [(1, 1), (1, 3), (2, 1), (2, 1)]
    assert car.events()[-1].since_previous_ms > 10_000


def test_an_event_without_a_hold_is_complete_at_once_and_its_edges_follow(car: Car):
    car.slot.put(driving.policy(events=(driving.event(before_ns=0, after_ns=0),)))
    car.drive(1)
    brake(car)
    car.drive(1)
    brake(car)
    assert [(one.complete, one.triggers) for one in car.events()] == [(True, 1)]
    car.drive(10)
    assert [(one.complete, one.triggers) for one in car.events()] == [(True, 1), (True, 2)]
    assert car.told("incident") == []
    lanes = [lane for entry, body, lane in car.entries() if entry.HasField("segment") and body]
    assert lanes == ["event", "event"]


def test_too_many_events_are_counted_and_not_recorded_over_a_restart_too(car: Car):
    car.slot.put(driving.policy(events=(driving.event(at_most=2, retrigger_ns=S),)))
    for _ in range(4):
        car.drive(10)
        brake(car)
    car.drive(70)
    assert car.sealer.counters.events.recorded == 2
    assert car.sealer.counters.events.suppressed == 2
    suppressed = [one.count for one in car.told("incident") if one.state == SUPPRESSED]
    assert sum(suppressed) == 2
    car.crash()
    car.drive(10)
    brake(car)
    car.drive(10)
    assert car.sealer.counters.events.recorded == 0
    car.unix_ns += 86_400 * S  # the next day
    car.drive(2)
    brake(car)
    car.drive(1)
    assert car.sealer.counters.events.recorded == 1
    assert car.events()[-1].number == 3


def test_a_reboot_of_the_computer_begins_the_counts_of_events_anew(car: Car):
    """What was counted by rule is in the computer's memory alone."""
    car.slot.put(driving.policy(events=(driving.event(at_most=1, retrigger_ns=S),)))
    car.drive(2)
    brake(car)
    car.drive(10)
    car.crash(boot_id=b"another boot id!")
    car.drive(10)
    brake(car)
    car.drive(10)
    brake(car)
    car.drive(10)
    assert (car.sealer.counters.events.recorded, car.sealer.counters.events.suppressed) == (1, 1)
    last = car.events()[-1]
    assert (last.number, last.since_previous_ms) == (2, 0)  # none before in this boot


def test_a_number_is_never_given_twice(car: Car, monkeypatch):
    """The power goes between the number and the record: one is left out."""
    car.slot.put(driving.policy())
    car.drive(2)

    def cut(*_: Any, **__: Any) -> None:
        raise PowerCutError

    monkeypatch.setattr(Incidents, "_seal", cut)
    brake(car)  # events are looked for a little later
    with pytest.raises(PowerCutError):
        car.drive(1)
    monkeypatch.undo()
    car.crash()
    car.drive(2)
    brake(car)
    car.drive(10)
    assert [one.number for one in car.events()] == [2, 2]


@pytest.mark.parametrize("how", ["policy", "end", "crash"])
def test_what_ends_a_run_or_a_policy_interrupts_an_open_event(car: Car, how: str):
    car.slot.put(driving.policy())
    car.drive(10)
    brake(car)
    car.drive(2)
    assert car.sealer.counters.events.open == 1
    if how == "policy":
        car.slot.put(driving.policy(2))
        car.drive(2)
        order = [e.WhichOneof("what") for e, _, _ in car.entries()]
        assert order.index("incident") < len(order) - 1 - order[::-1].index("policy")
    elif how == "end":
        car.sealer.finish()
    else:
        car.crash()
    (incident,) = car.told("incident")
    assert incident.state == INTERRUPTED
    assert incident.held
    assert car.vault.holds() == []
    if how != "crash":  # who crashes cannot seal what was known
        last = car.events()[-1]
        assert not last.complete
        assert 0 < last.after_ns < 5 * S


class PowerCutError(BaseException):
    """Nothing of ours may catch it."""


class Cut:
    """A connection to the spool whose power goes before the N-th statement."""

    def __init__(self, connection: Any, left: int) -> None:
        self._connection, self.left = connection, left

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def execute(self, sql: str, values: Any = ()) -> Any:
        if self.left <= 0:
            raise PowerCutError
        self.left -= 1
        return self._connection.execute(sql, values)


def check_cuts(folder: Any, *, driven: float, cut_within: float) -> set[tuple[int, ...]]:
    """Cut the power before every statement of a while after an event; return states seen.

    Whatever is there of an event after the next start is there with all that it holds.
    """
    seen = set()
    for left in range(1000):
        car = Car(folder / f"cut-{left}")
        car.slot.put(driving.policy())
        car.drive(6)
        if driven:
            brake(car)
            car.drive(driven)
        car.vault._spool.connection = Cut(car.vault._spool.connection, left)  # type: ignore[assignment]
        try:
            if not driven:
                brake(car)
            car.drive(cut_within)
            done = True
        except PowerCutError:
            done = False
        car.crash()
        records = {i for i, one in car.opened().items() if any(
            record.HasField("event") and not record.event.complete for record in one.records
        )}  # fmt: skip
        incidents = car.told("incident")
        assert {one.record for one in incidents} == records
        for one in incidents:
            assert len(held_stamps(car, one.held)) >= 50  # what the drive had before
        assert car.vault.holds() == []
        seen.add(tuple(one.state for one in incidents))
        car.vault.close()
        if done:
            return seen
    raise AssertionError("more than 1,000 statements")


def test_a_power_cut_leaves_no_record_without_its_hold(quick):
    assert check_cuts(quick, driven=0, cut_within=0.5) == {(), (INTERRUPTED,)}


def test_a_power_cut_while_an_event_is_closed_leaves_it_closed_once(quick):
    assert check_cuts(quick, driven=5.5, cut_within=1) == {(INTERRUPTED,), (COMPLETE,)}


def hold_afterwards(self: Any, draft: Any) -> Any:
    """Planted bug: a transaction for the record, and another one for what it holds."""
    index, held = original_vault_seal(self, replace(draft, holds=None)), draft.holds
    if held is not None:
        self._scribe.incidents.hold(Hold(index, held.from_ns, held.to_ns, upload=True))
    return index


original_vault_seal = Vault.seal


def test_the_check_of_power_cuts_finds_a_hold_that_comes_later(quick, monkeypatch):
    monkeypatch.setattr(Vault, "seal", hold_afterwards)
    with pytest.raises(AssertionError):
        check_cuts(quick, driven=0, cut_within=0.5)


def test_a_car_that_falls_silent_closes_its_event(car: Car):
    car.slot.put(driving.policy())
    car.drive(10)
    brake(car)
    car.stand(8)
    assert car.told("incident") == []
    car.stand(8)
    (incident,) = car.told("incident")
    assert incident.state == COMPLETE
    assert car.events()[-1].complete
    assert car.events()[-1].after_ns < S


def test_the_window_rolls_on_and_a_parked_car_keeps_its_drive(car: Car):
    car.slot.put(driving.policy(events=()))
    car.drive(150)
    rolled = [one for one in car.told("drop") if one.reason == ledger_pb2.Drop.ROLLED]
    assert rolled
    before = car.vault.recorded_ns()
    assert 145 * S < before < 151 * S
    for _ in range(3):  # rolling is once a minute
        car.step(pass_ns=61 * S)
    count = len(car.told("drop"))
    for _ in range(100):
        car.step(pass_ns=60 * S)  # parked
    car.drive(2)
    assert len(car.told("drop")) == count
    assert car.sealer.recorded_ns < before + 5 * S


def test_the_axis_goes_on_over_a_restart_and_a_policy(car: Car):
    car.slot.put(driving.policy(events=()))
    car.drive(10)
    car.slot.put(driving.policy(2, events=()))
    car.drive(10)
    car.sealer.finish()
    end = car.vault.recorded_ns()
    assert 19 * S < end <= 20 * S
    car.crash()
    car.drive(5)
    assert end + 4 * S < car.sealer.recorded_ns <= end + 5 * S


# --- consent ----------------------------------------------------------------------------------


def agree(car: Car, policy: Any) -> None:
    with consent_file.edit(car.folder / "consent.json", wait=True) as held:
        held.book = held.book.grant(
            terms(policy, TRACK), now_ns=car.unix_ns, until_ns=car.unix_ns + 30 * 86_400 * S,
            each_drive=False,
        )  # fmt: skip


def withdraw(car: Car) -> None:
    with consent_file.edit(car.folder / "consent.json", wait=True) as held:
        held.book = held.book.end(TRACK, consent_file.State.WITHDRAWN, now_ns=car.unix_ns)


def passed(car: Car) -> set[int]:
    """Ids that the kernel lets through."""
    return {
        one
        for one in range(0x800)
        for a in car.reader.filters[-1]
        if not (one ^ a["can_id"]) & a["can_mask"] and not a["extended"]
    }


def test_without_consent_nothing_is_kept_or_even_read(car: Car):
    car.slot.put(driving.consenting())
    car.drive(5, place=True)
    car.sealer.finish()
    assert car.opened() == {}
    assert car.sealer.counters.samples == 0
    assert passed(car) == {DRIVE}  # for `driving` alone


def test_a_consent_opens_and_its_withdrawal_closes_at_once(car: Car):
    policy = driving.consenting()
    car.slot.put(policy)
    agree(car, policy)
    car.drive(5, place=True)
    assert car.sealer.counters.samples > 0
    assert passed(car) == {DRIVE, PLACE}
    assert car.opened()
    withdraw(car)
    car.drive(0.6, place=True)
    kept = car.sealer.counters.samples
    assert car.opened() == {}  # nothing that is still here leaves the car
    car.drive(5, place=True)
    car.sealer.finish()
    assert car.sealer.counters.samples == kept
    assert car.opened() == {}
    assert [one.state for one in car.told("consent")] == [GRANTED, WITHDRAWN]
    assert passed(car) == {DRIVE}


def test_open_rows_of_a_withdrawn_consent_are_thrown_away(car: Car, monkeypatch):
    policy = driving.again(
        driving.consenting(), rules=(driving.track(flush_ns=4 * S), driving.rule(
            "all", frames=(driving.EVERY,), flush_ns=4 * S
        ))
    )  # fmt: skip
    car.slot.put(policy)
    agree(car, policy)
    car.drive(1, place=True)
    withdraw(car)
    car.drive(1, place=True)
    car.sealer.finish()
    payloads = list(car.opened().values())
    assert [len(one.signals) for one in payloads] == [0]
    assert len(payloads[0].frames) == 40  # of the other rule nothing is lost


# --- camera -----------------------------------------------------------------------------------


def test_the_gate_file_says_what_was_decided_in_the_same_step(car: Car):
    car.slot.put(driving.policy(camera=driving.camera()))
    gate = car.folder / "camera-gate.json"
    car.drive(15, place=True)
    assert read_gate(gate, car.boot_ns).open
    car.step([(DRIVE, b"\0\0")])
    view = read_gate(gate, car.boot_ns)
    assert (view.open, view.reason) == (False, "parked")
    assert car.sealer.force is not None
    assert car.sealer.force.decision.reason == "parked"
    for _ in range(50):
        car.stand(0.1)
        assert read_gate(gate, car.boot_ns).reason == "parked"  # it is never stale
    car.slot.put(None, "removed")
    car.stand(1)
    assert read_gate(gate, car.boot_ns).reason == "policy"


def test_triggers_are_records_with_the_answer_and_counted(car: Car):
    car.slot.put(driving.policy(camera=driving.camera()))
    car.drive(1)
    car.step([(CAM, bytes([2, 1, 1, 8]))])
    car.drive(15, place=True)
    car.step([(CAM, bytes([2, 1, 1, 9]))])
    car.step([(DRIVE, b"\0\0")])
    car.step([(CAM, bytes([2, 1, 2, 9]))])  # parked, and the policy wants no camera then
    noted = [(one.camera, one.clip, one.open, one.why) for one in car.triggers()]
    assert noted == [(2, 8, False, "no_fix"), (2, 9, True, "")]
    car.sealer.finish()
    assert car.month()["camera", "safety_event"].records == 2


def check_no_place(car: Car) -> None:
    """A place that is protected is in nothing that is kept: not by the recorder, not by rules."""
    rules = (driving.rule("all", frames=(driving.EVERY,)), driving.rule(
        "values", signals=tuple(driving.SignalSelector("*", at) for at in range(4))
    ))  # fmt: skip
    car.slot.put(driving.policy(rules=rules, camera=driving.camera(zones=b"sealed")))
    car.drive(12, place=True)
    car.sealer.finish()
    for payload in car.opened().values():
        assert PLACE not in payload.frames["arbitration_id"]
        assert not {driving.LATITUDE, driving.LONGITUDE} & set(payload.signals["signal"].tolist())
    assert car.month()["event.record", "safety_event"].frames == 120
    assert sum(len(one.frames) for one in car.opened().values()) == 120


def test_zones_that_cannot_be_opened_protect_every_place(car: Car):
    check_no_place(car)


def test_the_check_of_places_finds_a_gate_that_is_not_obeyed(car: Car, monkeypatch):
    monkeypatch.setattr(Engine, "without_place", lambda self, kept: kept)
    with pytest.raises(AssertionError):
        check_no_place(car)


def test_away_from_zones_places_are_kept(car: Car):
    car.vault.close()
    car.start(zones=lambda sealed: Zones(()))
    car.slot.put(driving.policy(camera=driving.camera(zones=b"sealed"), rules=(
        driving.rule("all", frames=(driving.EVERY,)),
    )))  # fmt: skip
    car.drive(20, place=True)
    car.sealer.finish()
    assert any(PLACE in one.frames["arbitration_id"] for one in car.opened().values())


# --- the ledger, probation ---------------------------------------------------------------------


def test_what_was_kept_is_booked_by_the_hour_and_at_changes_and_entered_by_month(car: Car):
    rules = (driving.rule("all", frames=(driving.EVERY,)),)
    car.slot.put(driving.policy(rules=rules))
    car.drive(3)
    brake(car)
    car.step(pass_ns=HOUR_NS)

    def booked() -> dict[str, tuple[int, int]]:
        return {name: (one.frames, one.records) for (name, _), one in car.month().items()}

    assert booked() == {"vehicle.state": (31, 0), "event.record": (31, 1)}
    car.drive(1)
    car.slot.put(driving.policy(2, rules=rules))
    car.drive(1)
    car.sealer.finish()
    car.crash()
    assert booked() == {"vehicle.state": (51, 0), "event.record": (51, 1)}
    assert car.told("kept") == []
    car.unix_ns += 31 * 86_400 * S
    car.drive(1)
    car.sealer.finish()
    (kept,) = car.told("kept")
    assert (kept.month, kept.number) == ("2027-01", 1)
    assert {one.category: (one.frames, one.records) for one in kept.amount} == {
        "vehicle.state": (51, 0), "event.record": (51, 1),
    }  # fmt: skip
    assert booked() == {"vehicle.state": (10, 0), "event.record": (10, 0)}


class Trial:
    def __init__(self) -> None:
        self.calls: list[str] = []
        self.bad: bytes = b""

    def began(self, digest: bytes, boottime_ns: int) -> bool:
        self.calls.append("began")
        return digest == self.bad

    def proven(self) -> None:
        self.calls.append("proven")

    def ended_clean(self) -> None:
        self.calls.append("clean")


def test_a_policy_is_on_trial_until_it_has_been_in_force_for_ten_minutes(car: Car):
    car.vault.close()
    car.trial = Trial()
    car.start()
    car.slot.put(driving.policy())
    car.step(pass_ns=S)
    car.step(pass_ns=PROVEN_NS - S)
    assert car.trial.calls == ["began"]
    for _ in range(3):
        car.step(pass_ns=S)
    car.sealer.finish()
    assert car.trial.calls == ["began", "proven", "clean"]


def test_a_policy_that_is_put_back_never_decides(car: Car):
    car.vault.close()
    car.trial = Trial()
    car.start()
    car.slot.put(driving.policy(2))
    assert car.slot.next is not None
    car.trial.bad = car.slot.next.hash
    car.drive(1)
    assert [(one.version, one.why) for one in car.told("policy")] == [(0, "put-back")]
    assert car.sealer.counters.kept == 0


def test_stamps_of_the_world_are_where_the_test_thinks():
    assert NOW_NS % (86_400 * S) == 3600 * S
