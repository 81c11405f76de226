"""Conditions on batches equal the straightforward evaluation, frame by frame."""

from __future__ import annotations

from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings

from agent.capture.logs import read_log
from agent.frames import SIGNAL, ChannelTable
from agent.policy import conditions as module
from agent.policy import windows
from agent.policy.conditions import Conditions
from agent.policy.dbc import Dictionary
from agent.policy.model import FLOAT32, FLOAT64, SIGNED, UNSIGNED, Policy, SignalInfo
from agent.policy.physical import Scales, physical
from tests.policy.conditioning import (
    MS,
    SECOND,
    Frame,
    car,
    condition,
    event,
    in_batches,
    policy_for,
    policy_of,
    random_frames,
    random_text,
    samples_of,
    watched,
)
from tests.policy.making import DATA, RANDOMS, over_seeds, value
from tests.policy.straightforward import evaluate, plain

START = 1_700_000_000 * SECOND


def conditions_of(policy: Policy) -> Conditions:
    return Conditions([one.when for one in policy.events], policy)


def check_equal(policy: Policy, frames: list[Frame], rng: Random) -> None:
    """The same truth at the same instants, however the stream is cut."""
    plainly = [(frame[0], samples_of(frame, policy)) for frame in frames]
    expected = [evaluate(one.when, policy, plainly) for one in policy.events]
    for density in (0.0, 1.0, rng.random()):
        cuts = [at for at in range(1, len(frames)) if rng.random() < density]
        found = in_batches(conditions_of(policy), frames, policy, cuts)
        for one, ours, theirs in zip(policy.events, found, expected, strict=True):
            assert ours == theirs, one.when.text


def check_random(rng: Random) -> None:
    texts = [random_text(rng) for _ in range(rng.randint(1, 4))]
    check_equal(policy_for(*texts), random_frames(rng, rng.randint(1, 60)), rng)


@given(RANDOMS)
@settings(max_examples=100, deadline=None)
def test_any_condition_on_any_samples_in_any_batches_equals_the_straightforward(rng: Random):
    check_random(rng)


def _longer(name: str, owner: type, at: int, by: int):
    """A method that is given one of its arguments too long."""
    right = getattr(owner, name)

    def wrong(self, *args):
        return right(self, *(one + by if number == at else one for number, one in enumerate(args)))

    return wrong


def _forgetful(self, watched):
    for stream in self._streams:
        for run in stream._runs:
            run.forget()
    return _update(self, watched)


def _first_only(self, watched):
    for stream in self._streams:
        for track in stream._tracks:
            track.forget()
    return _update(self, watched)


_update = Conditions.update
BUGS = {
    "a window that leaves out the sample at its edge": (windows.Track, "over", 1),
    "a run that must be longer than asked": (windows.Run, "__init__", 1),
    "a run that may be shorter than asked": (windows.Run, "__init__", -1),
    "a sample that is stale too early": (windows, "FRESH_NS", -1),
    "a sample that is stale too late": (windows, "FRESH_NS", 1),
    "a step back taken for a new clock": (module, "BACK_NS", -1),
    "a new clock taken for a step back": (module, "BACK_NS", 1),
    "a step ahead taken for a new clock": (module, "AHEAD_NS", -1),
}


@pytest.mark.parametrize("bug", BUGS)
def test_an_edge_that_is_off_by_one_is_found(bug: str, monkeypatch: pytest.MonkeyPatch):
    owner, name, by = BUGS[bug]
    if isinstance(owner, type):
        wrong = _longer(name, owner, {"over": 1, "__init__": 0}[name], by)
    else:
        wrong = getattr(owner, name) + by
    monkeypatch.setattr(owner, name, wrong)
    with pytest.raises(AssertionError):
        over_seeds(check_random, 600)


@pytest.mark.parametrize("wrong", [_forgetful, _first_only], ids=["runs", "samples"])
def test_what_is_forgotten_at_a_batch_border_is_found(wrong, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Conditions, "update", wrong)
    with pytest.raises(AssertionError):
        over_seeds(check_random)


@pytest.mark.parametrize("name", ["_mean", "_over", "changed", "_now"])
def test_a_function_that_is_another_is_found(name: str, monkeypatch: pytest.MonkeyPatch):
    right = getattr(windows.Track, name)
    off = {
        "_mean": lambda x: x + 1e6,
        "_over": np.abs,
        "changed": lambda x: (x[1], x[1]),
        "_now": lambda x: x.clip(0),
    }
    monkeypatch.setattr(windows.Track, name, lambda *args: off[name](right(*args)))
    with pytest.raises(AssertionError):
        over_seeds(check_random)


def test_an_unknown_that_is_taken_for_a_number_is_found(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(windows.Track, "_if_fresh", lambda self, numbers, sample: numbers)
    with pytest.raises(AssertionError):
        over_seeds(check_random)


# --- real logs --------------------------------------------------------------------------------

TESLA = DATA / "can_logs" / "tesla_model3_kuksa"
KONA = DATA / "can_logs" / "kona_ev"
LOGS = {
    "tesla": (
        TESLA / "it-candump0.log", TESLA / "it-can.dbc",
        ["DI_vehicleSpeed", "DI_accelPedalPos", "DI_regenLight", "DI_gear", "RearPower266",
         "DI_uiSpeed"],
        ["DI_vehicleSpeed > 90 and rate(DI_vehicleSpeed, 0.5s) < -2 for 150ms",
         'DI_gear == "DI_GEAR_D" and (DI_accelPedalPos < 0.5 for 1s) and DI_vehicleSpeed > 80',
         "changed(DI_regenLight)", "RearPower266 < -20 for 200ms and not DI_accelPedalPos > 0",
         "max(RearPower266, 2s) - min(RearPower266, 2s) > 60",
         "mean(DI_accelPedalPos, 3s) > 10 and mean(DI_vehicleSpeed, 10s) >= 80",
         "DI_uiSpeed - DI_vehicleSpeed > 1.3 for 40ms"],
    ),
    "kona": (
        KONA / "250105-1-2020-comp-can-heating.csv",
        DATA / "dbc" / "kona_ev" / "comp_can.dbc",
        ["CompressorPower", "CompressorSetpointMaybe", "HeaterPower", "Setpoint"],
        ["CompressorPower > 0 for 500ms", "rate(CompressorPower, 1s) > 5",
         "changed(CompressorSetpointMaybe) or changed(Setpoint)", "max(HeaterPower, 10s) > 3",
         "mean(CompressorPower, 5s) > min(CompressorPower, 60s)"],
    ),
}  # fmt: skip


def drive(log: str, most: int) -> tuple[Policy, list[Frame]]:
    """A policy over a recorded drive, and the frames that carry its signals."""
    path, dbc, wanted, texts = LOGS[log]
    if not path.exists():
        pytest.skip(f"no recorded log {path.name}")
    found = [Dictionary([dbc]).find("", name, where="") for name in wanted]
    infos, layouts = [one.info for one in found], [one.layout for one in found]
    events = [event(f"e{at}", condition(text, infos)) for at, text in enumerate(texts)]
    frames: list[Frame] = []
    seen = 0
    for batch in read_log(path, ChannelTable(), on_broken=pytest.fail):
        for row in batch[: most - seen]:
            raws = {
                at: raw
                for at, one in enumerate(layouts)
                if one.arbitration_id == row["arbitration_id"]
                and (raw := value(bytes(row["data"][: row["length"]]), one)) is not None
            }
            if raws:
                frames.append((int(row["timestamp_ns"]), 0, raws))
        seen += len(batch)
        if seen >= most:
            break
    return policy_of(infos, layouts, events), frames


def check_drive(log: str, most: int) -> int:
    """The same truth on a drive; how many conditions were true on it."""
    policy, frames = drive(log, most)
    plainly = [(frame[0], samples_of(frame, policy)) for frame in frames]
    in_one = in_batches(conditions_of(policy), frames, policy, [])
    in_many = in_batches(conditions_of(policy), frames, policy, range(40, len(frames), 37))
    assert in_one == in_many
    for one, found in zip(policy.events, in_one, strict=True):
        assert found == evaluate(one.when, policy, plainly), one.when.text
    return sum(any(truth for _, truth in found) for found in in_one)


def test_conditions_at_the_begin_of_a_recorded_drive_equal_the_straightforward():
    """The straightforward evaluation looks through all that it has seen: a short part of one."""
    assert check_drive("kona", 1_500) >= 1


@pytest.mark.slow
@pytest.mark.parametrize("log", LOGS)
def test_conditions_on_a_recorded_drive_equal_the_straightforward(log: str):
    assert check_drive(log, 10_000) >= 4


# --- what single words of the contract mean ---------------------------------------------------


def truths(text: str, *samples: tuple[float, dict[str, int]]) -> list[bool]:
    """Truth at each frame of (seconds, raw values by signal name)."""
    policy = policy_for(text)
    numbers = {info.name: at for at, info in enumerate(car()[0])}
    frames = [
        (START + round(at * 1000) * MS, 0, {numbers[name]: raw for name, raw in raws.items()})
        for at, raws in samples
    ]
    return [truth for _, truth in in_batches(conditions_of(policy), frames, policy, [])[0]]


def test_hard_brake_needs_speed_and_deceleration_held():
    """The manual's example: `for` belongs to the rate alone."""
    text = "Speed > 30 and rate(Speed, 0.5s) < -25 for 150ms"
    speeds = [(at / 10, {"Speed": round(2 * (100 - max(0, at - 10) * 4))}) for at in range(30)]
    found = truths(text, *speeds)
    falls = [at for at, true in enumerate(found) if true]
    # -4 km/h each 0.1 s from 1.0 s on: below -25 km/h a second over 0.5 s from 1.4 s on.
    assert falls == list(range(16, 28))


def test_a_value_is_unknown_before_its_first_sample_and_after_two_minutes():
    text = "Speed > 3 or not Speed > 3 or Gear == 9"
    gear = {"Gear": 0}
    assert truths(text, (0, gear), (1, {"Speed": 0}), (121, gear), (121.001, gear)) == [
        False, True, True, False,
    ]  # fmt: skip


def test_division_by_zero_is_unknown_whatever_is_made_of_it():
    assert truths("1 / Speed > 0 or not 1 / Speed > 0", (0, {"Speed": 0}), (1, {"Speed": 1})) == [
        False,
        True,
    ]


def test_two_labels_of_one_name_are_both_meant():
    found = truths('Gear == "D"', *((at, {"Gear": at}) for at in range(6)))
    assert found == [False, False, False, True, True, False]


def test_changed_is_unknown_first_and_false_at_other_instants():
    found = truths(
        "changed(Speed) or not (changed(Speed) or Gear > 6)",
        (0, {"Gear": 1}), (1, {"Speed": 1}), (2, {"Speed": 1}), (3, {"Speed": 2}), (4, {"Gear": 1}),
    )  # fmt: skip
    assert found == [True, False, True, True, True]


def test_mean_of_equal_values_is_that_value():
    """A long sum rounds; it must not lift a constant above itself."""
    infos, layouts = car()
    when = condition("mean(Speed, 60s) != Speed and Speed > 0", infos)
    scaled = (SignalInfo("Speed", "M100", "", 0.1, 0.3, UNSIGNED, ()), *infos[1:])
    policy = policy_of(scaled, layouts, [event("e", when)])
    frames = [(START + at * 50 * MS, 0, {0: 511, 1: 0}) for at in range(1500)]
    (found,) = in_batches(conditions_of(policy), frames, policy, range(0, 1500, 7))
    assert not any(truth for _, truth in found)


def test_conditions_without_samples_say_nothing_and_keep_their_truth():
    policy = policy_for("Speed > 3", "Gear == 1")
    conditions = conditions_of(policy)
    assert not conditions.now(0)
    first = conditions.update(watched([(START, 0, {0: 80, 1: 0})], policy))
    assert [len(one.true) for one in first] == [1, 0]
    assert [len(one.true) for one in conditions.update(np.zeros(0, SIGNAL))] == [0, 0]
    conditions.update(watched([(START + 1, 0, {2: 0, 3: 0})], policy))
    assert conditions.now(0)
    assert not conditions.now(1)


def test_memory_is_bounded_by_the_longest_window():
    policy = policy_for("max(Speed, 1s) > 3 and Torque > 0")
    conditions = conditions_of(policy)
    for at in range(200):
        frames = [(START + (10 * at + i) * 10 * MS, 0, {0: 1, 1: 1}) for i in range(10)]
        conditions.update(watched(frames, policy))
    held = [len(track._stamp) for stream in conditions._streams for track in stream._tracks]
    assert max(held) <= 1000 // 10 + 12
    assert min(held) <= 11


# --- physical values --------------------------------------------------------------------------


@given(RANDOMS)
@settings(max_examples=30, deadline=None)
def test_physical_values_equal_pythons(rng: Random):
    infos = [
        SignalInfo("x", "M", "", rng.choice((1.0, 0.01, -3.0)), rng.choice((0.0, -40.0)), kind, ())
        for kind in (UNSIGNED, SIGNED, FLOAT32, FLOAT64)
    ]
    raws = [rng.choice((rng.getrandbits(64), rng.getrandbits(12))) - 2**63 for _ in range(20)]
    raws += [0, 1, -1, 2**63 - 1, -(2**63)]
    raw = np.array(raws, np.int64)
    scales = Scales(infos)
    for number, info in enumerate(infos):
        expected = np.array([plain(one, info) for one in raws])
        np.testing.assert_array_equal(physical(raw, info), expected)
        with np.errstate(all="ignore"):
            found = scales.values(raw, np.full(len(raw), number))
        np.testing.assert_array_equal(found, expected)


def test_the_recorded_drives_are_where_they_are_said_to_be():
    """Elsewhere than in the workshop the drives may be missing; half of them may not."""
    assert len({Path(one[0]).exists() for one in LOGS.values()}) == 1
