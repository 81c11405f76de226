"""P8, cameras respect places and people: closed near protected zones, and where nobody knows.

A simulated car drives; its positions go through the gate, and the camera stack reads the file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.capture.gate import GateFile, read_gate
from agent.policy.camera import Decision
from agent.policy.clauses import DRIVING_OFF, PARKED_OWNER
from agent.policy.place import PlaceGuard
from tests.policy.roads import FENCE, KMH, PARKED, START_NS, Drive, S, place

MARGIN_M = 500.0
LOOK_AHEAD_S = 2.0


def closes_where(drive: Drive, kmh: float) -> float:
    """Drive at the fence until the gate closes; return how far it still was, m."""
    assert drive.at(place(-800), kmh).decision.open
    for north_m, step in drive.along(-800, 200, kmh):
        if not step.decision.open:
            assert step.decision.reason == "zone"
            return -north_m
    return float("-inf")


def check_closes_in_time(kmh: float) -> None:
    left_m = closes_where(Drive(), kmh)
    early_m = MARGIN_M + kmh * KMH * LOOK_AHEAD_S
    assert early_m - kmh * KMH <= left_m <= early_m * 1.01 + kmh * KMH


@pytest.mark.parametrize("kmh", [20.0, 50.0, 120.0, 200.0])
def test_p08_a_car_that_drives_at_a_fence_is_closed_before_its_margin(kmh: float) -> None:
    """Two seconds earlier than the margin, so that a camera has time to stop; not much earlier."""
    check_closes_in_time(kmh)


def test_p08_a_gate_that_does_not_look_ahead_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The planted bug: the check above sees it."""
    monkeypatch.setattr("agent.policy.place.LOOK_AHEAD_S", 0.0)
    with pytest.raises(AssertionError):
        check_closes_in_time(120.0)


def test_p08_the_gate_opens_a_minute_after_the_margin_was_left() -> None:
    """No sooner, and driving along the fence does not make it flutter."""
    drive = Drive()
    left_ns = opened_ns = 0
    for north_m, step in drive.along(-401, -4000, 90.0):
        if not left_ns and -north_m > MARGIN_M + 90 * KMH * LOOK_AHEAD_S:
            left_ns = drive.now_ns
        if step.decision.open and not opened_ns:
            opened_ns = drive.now_ns
    assert 60 * S <= opened_ns - left_ns + S // 10 <= 62 * S
    assert [step.changed for step in drive.steps].count(True) == 2


def test_p08_no_fix_closes_within_ten_seconds() -> None:
    drive = Drive()
    assert drive.at(place(-50_000)).decision.open
    lost_ns = drive.now_ns
    while drive.at(place(-50_000), fix=0).decision.open:
        assert drive.now_ns - lost_ns < 10 * S
    assert drive.steps[-1].decision == Decision(open=False, reason="no_fix")


def test_p08_silence_on_the_bus_closes_within_ten_seconds() -> None:
    drive = Drive()
    assert drive.at(place(-50_000)).decision.open
    assert drive.wait(9.8).decision.open
    assert drive.wait(0.4).decision.reason == "no_fix"


def test_p08_a_car_that_loses_its_fix_before_the_fence_is_not_open_behind_it() -> None:
    """Within the ten seconds a fast car could pass the margin: it is taken to drive on."""
    drive = Drive()
    assert drive.at(place(-700), 50.0).decision.open
    north_m = -700
    while drive.steps[-1].decision.open:
        drive.now_ns += S // 10
        north_m += 7  # 252 km/h, unseen
        drive.say(drive.frame(Speed=252.0))
    assert north_m < -MARGIN_M


def test_p08_a_spoofed_jump_out_of_a_zone_does_not_open_the_gate() -> None:
    """Not at once, not after ten seconds, not after the exit delay: not before a car can be there.

    140 km away: two thousand seconds at 70 m/s.
    """
    drive = Drive()
    drive.stand(place(100), 1)
    for _ in range(1900):
        drive.now_ns += 9 * S // 10
        assert not drive.at(place(-140_000 + drive.now_ns % 7)).decision.open
    assert drive.steps[-1].decision.reason == "no_fix"


def test_p08_a_jammed_receiver_and_then_a_spoofed_one_do_not_open_the_gate() -> None:
    drive = Drive()
    drive.stand(place(100), 1)
    assert drive.wait(120).decision.reason == "no_fix"
    for number in range(600):
        step = drive.at(place(-140_000 + number))
        assert not step.decision.open


def test_p08_a_jump_closes_until_positions_agree_for_ten_seconds() -> None:
    drive = Drive()
    assert drive.at(place(-50_000)).decision.open
    jumped_ns = drive.now_ns + S // 10
    for number in range(200):
        if drive.at(place(-80_000 + number)).decision.open:
            break
        assert drive.steps[-1].decision.reason == "no_fix"
    assert 10 * S <= drive.now_ns - jumped_ns <= 10.2 * S


def test_p08_a_position_that_stands_still_while_the_car_does_not_closes() -> None:
    drive = Drive()
    assert drive.stand(place(-50_000), 9.9, kmh=60.0).decision.open
    assert drive.stand(place(-50_000), 1.0, kmh=60.0).decision.reason == "no_fix"
    standing = Drive()
    assert standing.stand(place(-50_000), 60.0, kmh=0.0).decision.open


def test_p08_zones_without_their_key_close_everywhere() -> None:
    drive = Drive(zones=None)
    step = drive.stand(place(-300_000), 90)
    assert step.decision == Decision(open=False, reason="zone", zone_class="")
    assert all(step.place_closed for step in drive.steps)


def test_p08_a_parked_car_films_nothing_and_notes_nothing_by_default() -> None:
    """An hour with a trigger every four seconds: no opening, not a byte; only a count."""
    drive = Drive()
    drive.driving = False
    for number in range(900):
        drive.now_ns += 4 * S
        drive.at(place(-50_000), 0.0)
        drive.trigger(clip=number)
    drive.steps.append(drive.gate.finish())
    assert {step.decision for step in drive.steps[:-1]} == {Decision(False, "parked")}
    assert not any(step.records or step.owner_records for step in drive.steps)
    counts = drive.gate.counts()
    assert (counts["triggers"], counts["unrecorded"], counts["openings"]) == (900, 900, 0)


def test_p08_a_parked_car_waits_for_its_owner_and_keeps_the_notes_for_the_owner_alone() -> None:
    drive = Drive(parked=PARKED_OWNER)
    drive.driving = False
    assert drive.at(place(-50_000), 0.0).decision.reason == "consent"
    assert not drive.trigger(clip=1).owner_records
    drive.consented = frozenset({PARKED})
    assert drive.at(place(-50_000), 0.0).decision.open
    step = drive.trigger(clip=2)
    assert [(one.clip, one.open) for one in step.owner_records] == [(2, True)]
    assert not step.records
    drive.consented = frozenset()
    assert drive.at(place(-50_000), 0.0).decision.reason == "consent"


def test_p08_consent_does_not_open_the_gate_in_a_zone() -> None:
    drive = Drive(parked=PARKED_OWNER)
    drive.driving, drive.consented = False, frozenset({PARKED})
    assert drive.at(place(100), 0.0).decision.reason == "zone"


def test_p08_a_policy_without_cameras_leaves_them_closed() -> None:
    assert Drive(driving=DRIVING_OFF).at(place(-50_000)).decision.reason == "policy"
    step = Drive(camera=None).say()
    assert step.decision == Decision(open=False, reason="policy")


def test_p08_triggers_in_a_zone_are_noted_as_refused_with_its_class_and_no_place() -> None:
    drive = Drive()
    drive.at(place(-50), 30.0)
    (record,) = drive.trigger(camera=1, clip=7, reason=3).records
    assert (record.open, record.why, record.zone_class) == (False, "zone", "military")
    fields = {field.name for field, _ in record.ListFields()}
    assert fields <= {"stamp_ns", "camera", "reason", "state", "clip", "why", "zone_class", "count"}


def test_p08_what_tells_the_position_is_hidden_for_every_batch_that_touches_a_zone() -> None:
    drive = Drive()
    assert drive.at(place(-5000)).place_closed  # the place was unknown when the batch began
    assert not drive.at(place(-4990)).place_closed
    drive.now_ns += 600 * S
    inside = [step.place_closed for _, step in drive.along(-300, -200)]
    assert all(inside)


def files_of(drive: Drive, path: Path) -> Iterator[str]:
    """The text of the gate file at each step of a drive through the zone and out again."""
    gate = GateFile(path)
    for _, step in (*drive.along(-1500, 300), *drive.along(300, -1500)):
        gate.write(step.decision, drive.now_ns - START_NS)
        view = read_gate(path, drive.now_ns - START_NS)
        assert (view.open, view.reason) == (step.decision.open, step.decision.reason)
        yield path.read_text()


def test_p08_the_file_for_the_cameras_names_no_class_and_no_place(tmp_path: Path) -> None:
    """Everybody in the car may read it."""
    keys = {"gate", "reason", "decided_boottime_ns", "valid_until_boottime_ns", "sequence"}
    reasons = set()
    for text in files_of(Drive(), tmp_path / "camera-gate.json"):
        values = json.loads(text)
        assert set(values) == keys
        assert "military" not in text
        reasons.add(values["reason"])
    assert reasons == {"", "zone"}


def test_p08_a_dead_agent_leaves_the_gate_closed(tmp_path: Path) -> None:
    path = tmp_path / "camera-gate.json"
    GateFile(path).write(Decision(open=True, reason=""), 5 * S)
    assert read_gate(path, 7 * S).open
    assert not read_gate(path, 8 * S + 1).open


def test_p08_the_guard_alone_agrees_with_the_gate() -> None:
    """The same road without signals and conditions between: the promise rests on the guard."""
    drive = Drive()
    guard = PlaceGuard(drive.policy.camera, FENCE)
    for north_m, step in drive.along(-1501, 300):
        guard.position(drive.now_ns, *place(north_m), 120 * KMH)
        state = guard.look(drive.now_ns, 120 * KMH).state
        assert (state == "open") == step.decision.open
