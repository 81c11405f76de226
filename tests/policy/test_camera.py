"""CameraGate: what closes it first, which triggers are noted, and how many."""

from __future__ import annotations

from collections import Counter
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.pb import record_pb2
from agent.policy import camera
from agent.policy.camera import Decision
from agent.policy.clauses import DRIVING_METADATA, DRIVING_OFF, PARKED_OFF, PARKED_OWNER
from tests.policy.roads import PARKED, Drive, S, fails, make_policy, place

FAR, INSIDE = place(-50_000), place(100)


@pytest.mark.parametrize("known", [True, False], ids=["fix", "no-fix"])
@pytest.mark.parametrize("where", [FAR, INSIDE], ids=["far", "inside"])
@pytest.mark.parametrize("agreed", [True, False], ids=["agreed", "not-agreed"])
@pytest.mark.parametrize("parked", [PARKED_OFF, PARKED_OWNER], ids=["off", "owner"])
@pytest.mark.parametrize("driving", [DRIVING_METADATA, DRIVING_OFF], ids=["metadata", "off"])
@pytest.mark.parametrize("is_driven", [True, False], ids=["driven", "parked"])
def test_the_first_reason_of_the_list_is_named(
    is_driven: bool, driving: int, parked: int, agreed: bool, where: tuple, known: bool
) -> None:
    drive = Drive(parked=parked, driving=driving)
    drive.driving = is_driven
    drive.consented = frozenset({PARKED}) if agreed else frozenset({"cabin.image"})
    decision = drive.at(where, fix=2 if known else 0).decision
    reasons = [
        ("parked", not is_driven and parked == PARKED_OFF),
        ("zone", known and where == INSIDE),
        ("no_fix", not known),
        ("consent", not is_driven and not agreed),
        ("policy", is_driven and driving == DRIVING_OFF),
    ]
    expected = next((reason for reason, holds in reasons if holds), "")
    assert (decision.open, decision.reason) == (not expected, expected)


def test_a_decision_is_a_change_once() -> None:
    drive = Drive()
    changes = [drive.at(FAR).changed for _ in range(3)] + [drive.at(FAR, fix=0).changed]
    assert changes == [True, False, False, False]


def test_a_trigger_is_noted_with_what_the_gate_says() -> None:
    drive = Drive()
    drive.at(FAR)
    (record,) = drive.trigger(camera=2, clip=77, state=1, reason=3).records
    assert record == record_pb2.CameraRecord(
        stamp_ns=drive.now_ns, camera=2, reason=3, state=1, clip=77, open=True, count=1
    )


def test_a_frame_that_says_the_same_again_is_no_trigger() -> None:
    """Per camera: two that are repeated in turn are no storm."""
    drive = Drive()
    drive.at(FAR)
    found = []
    for _ in range(5):
        for number in (0, 1):
            found += drive.trigger(camera=number, clip=5).records
    found += drive.trigger(camera=0, clip=5, state=2).records
    assert [(one.camera, one.state) for one in found] == [(0, 1), (1, 1), (0, 2)]


def test_triggers_of_one_stamp_are_two() -> None:
    drive = Drive()
    drive.at(FAR)
    frames = [
        drive.frame(CameraId=number, ClipId=9, TriggerState=1, TriggerReason=2) for number in (0, 1)
    ]
    assert [one.camera for one in drive.say(*frames).records] == [0, 1]


def test_a_frame_without_all_four_signals_is_no_trigger() -> None:
    drive = Drive()
    drive.at(FAR)
    assert not drive.say(drive.frame(CameraId=1, ClipId=9, TriggerState=1)).records


def test_a_trigger_gets_the_answer_of_its_own_moment() -> None:
    """The batch crosses the line; what comes before it is open, what comes after is not."""
    drive = Drive()
    drive.at(place(-520), 0.0)
    drive.now_ns += S // 10
    step = drive.say(
        drive.frame(CameraId=0, ClipId=1, TriggerState=1, TriggerReason=1),
        drive.frame(Latitude=place(-480)[0], Longitude=place(-480)[1]),
        drive.frame(CameraId=0, ClipId=2, TriggerState=1, TriggerReason=1),
    )
    assert [(one.clip, one.open) for one in step.records] == [(1, True), (2, False)]


def test_a_storm_becomes_one_record_a_minute_with_a_count() -> None:
    drive = Drive(at_most=3)
    drive.at(FAR)
    begun = drive.now_ns
    noted = [one for clip in range(10) for one in drive.trigger(clip=clip).records]
    assert [one.clip for one in noted] == [0, 1, 2]
    late = []
    while drive.now_ns - begun < 60 * S:
        assert not late
        late = list(drive.at(FAR).records)
    assert [(one.clip, one.count) for one in late] == [(3, 7)]
    assert len(drive.trigger(clip=99).records) == 1


def test_a_storm_is_told_apart_by_the_answers() -> None:
    drive = Drive(at_most=1)
    drive.at(place(-520), 0.0)
    for clip in range(5):
        drive.trigger(clip=clip)
    drive.at(place(-490), 0.0)
    for clip in range(5, 12):
        drive.trigger(clip=clip)
    late = drive.gate.finish().records
    assert [(one.open, one.why, one.count) for one in late] == [(True, "", 4), (False, "zone", 7)]


def test_withdrawn_consent_takes_what_was_not_handed_out_with_it() -> None:
    drive = Drive(parked=PARKED_OWNER, at_most=1)
    drive.driving, drive.consented = False, frozenset({PARKED})
    drive.at(FAR)
    assert sum(len(drive.trigger(clip=clip).owner_records) for clip in range(5)) == 1
    drive.consented = frozenset()
    drive.at(FAR)
    step = drive.gate.finish()
    assert (step.records, step.owner_records) == ((), ())


def test_notes_of_a_parked_and_of_a_driven_car_do_not_mix() -> None:
    drive = Drive(parked=PARKED_OWNER, at_most=1)
    drive.driving, drive.consented = False, frozenset({PARKED})
    drive.at(FAR)
    for clip in range(3):
        drive.trigger(clip=clip)
    drive.driving = True
    for clip in range(3, 8):
        drive.trigger(clip=clip)
    step = drive.gate.finish()
    assert [one.count for one in step.owner_records] == [2]
    assert [one.count for one in step.records] == [5]


def check_every_trigger_is_counted(rng: Random) -> None:
    drive = Drive(at_most=rng.choice([0, 1, 5]), parked=rng.choice([PARKED_OFF, PARKED_OWNER]))
    sent = 0
    for clip in range(80):
        drive.driving = rng.random() < 0.7
        drive.consented = frozenset({PARKED})
        drive.now_ns += rng.choice([0, 0, S, 20 * S])
        if rng.random() < 0.5:
            drive.at(FAR)
        drive.trigger(clip=clip, camera=rng.randrange(3))
        sent += 1
    drive.steps.append(drive.gate.finish())
    noted = Counter[bool]()
    for step in drive.steps:
        for one in (*step.records, *step.owner_records):
            noted[True] += one.count
    counts = drive.gate.counts()
    assert counts["triggers"] == sent
    assert noted[True] + counts["unrecorded"] == sent
    assert noted[True] == counts["recorded"] + counts["merged"]


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32))
def test_every_trigger_is_noted_merged_or_counted(seed: int) -> None:
    check_every_trigger_is_counted(Random(seed))


def test_a_merged_trigger_that_is_not_counted_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(camera, "WORD", 2)  # planted: counts end at 2
    assert fails(check_every_trigger_is_counted, range(20))


def test_a_receiver_that_no_longer_says_how_good_it_is_is_not_good() -> None:
    """Positions go on, the frame of the fix condition does not come any more."""
    drive = Drive()
    drive.at(FAR)
    answers = [drive.at(place(-50_000 + n), fix=None).decision for n in range(220)]
    closed = next(n for n, one in enumerate(answers) if not one.open)
    assert 195 <= closed <= 200  # 10 s for the condition, then 10 s for the position
    assert answers[-1] == Decision(open=False, reason="no_fix")


def test_a_speed_that_stopped_coming_is_the_highest() -> None:
    drive = Drive()
    drive.stand(place(-600), 1)
    assert drive.stand(place(-600), 1.9, kmh=None).decision.open
    assert drive.stand(place(-600), 0.3, kmh=None).decision.reason == "zone"


def test_latitude_and_longitude_of_two_frames_make_a_position() -> None:
    drive = Drive()
    for _ in range(3):
        drive.now_ns += S // 10
        step = drive.say(
            drive.frame(FixQuality=2), drive.frame(Speed=0), drive.frame(Latitude=FAR[0])
        )
        assert not step.decision.open or drive.steps[-2].decision.open
        drive.now_ns += S // 10
        step = drive.say(drive.frame(Longitude=FAR[1]))
    assert step.decision.open
    lone = Drive()
    lone.say(lone.frame(FixQuality=2), lone.frame(Latitude=FAR[0]))
    lone.now_ns += 2 * S
    assert not lone.say(lone.frame(FixQuality=2), lone.frame(Longitude=FAR[1])).decision.open


def test_stamps_that_jump_do_not_stretch_time() -> None:
    """The computer's wall clock is set by an hour: the car did not drive for an hour."""
    drive = Drive()
    drive.at(INSIDE)
    there = drive.frame(Latitude=place(-90_000)[0], Longitude=place(-90_000)[1])
    there["timestamp_ns"] += 3600 * S
    fix = drive.frame(FixQuality=2)
    fix["timestamp_ns"] += 3600 * S
    drive.now_ns += S // 10
    assert not drive.say(fix, there).decision.open


@pytest.mark.parametrize("cut", [1, 7, 50])
def test_how_the_stream_is_cut_makes_no_difference_to_what_is_noted(cut: int) -> None:
    """A batch that ends with its last stamp: the answer is that of frame-by-frame work."""
    frames, one, many = [], Drive(at_most=0), Drive(at_most=0)
    for number in range(100):
        where = place(-900 + 5 * number)
        one.now_ns += S // 10
        frames += [
            (one.now_ns, one.frame(FixQuality=2)),
            (one.now_ns, one.frame(Speed=30)),
            (one.now_ns, one.frame(Latitude=where[0], Longitude=where[1])),
            (one.now_ns, one.frame(CameraId=0, ClipId=number, TriggerState=1, TriggerReason=1)),
        ]
    expected, found = [], []
    one.now_ns = many.now_ns
    for one.now_ns, frame in frames:
        expected += one.say(frame).records
    for begin in range(0, len(frames), cut):
        some = frames[begin : begin + cut]
        many.now_ns = some[-1][0]
        found += many.say(*(frame for _, frame in some)).records
    assert found == expected
    assert {record.open for record in found} == {True, False}


def test_without_zones_nothing_is_hidden() -> None:
    drive = Drive(zones=None, policy=make_policy())
    assert drive.at(FAR).place_closed  # zones that nobody can open
    open_country = Drive(zones=None, policy=make_policy(zones=b""))
    steps = [open_country.at(FAR), open_country.wait(20)]
    assert [step.decision.reason for step in steps] == ["", "no_fix"]
    assert not any(step.place_closed for step in steps)


def test_a_camera_without_position_never_opens() -> None:
    drive = Drive(policy=make_policy(position=None, zones=b""))
    drive.now_ns += S
    assert drive.trigger().decision.reason == "no_fix"


def test_the_gate_takes_a_batch_without_samples() -> None:
    assert Drive().say(np.zeros(0, Drive().frame(Speed=1).dtype)).decision.reason == "no_fix"
