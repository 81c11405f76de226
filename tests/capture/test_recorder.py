"""The recorder: no segment exceeds its limits, nothing kept is lost, one source keeps its order."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.capture import recorder as module
from agent.capture.queue import Arrival
from agent.capture.recorded import GAP_NS, Axis
from agent.capture.recorder import MAX_BYTES, MAX_ROWS, Recorder, merge
from agent.frames import FRAME, FRAME_FD, SIGNAL
from agent.pb import sealed_pb2
from agent.pb.moment_pb2 import Moment
from agent.policy.engine import Kept
from agent.policy.model import RuleSet
from agent.vault.segment import Draft
from tests.policy import making

FLUSH_NS = 10**9
RULE_SETS = [
    RuleSet(recipients=1, lane=2, resolution_ns=1000, keep_order=True, flush_ns=FLUSH_NS, keep_s=n)
    for n in range(2)
]


def at(boottime_ns: int) -> Moment:
    return Moment(unix_ns=10**18, boottime_ns=boottime_ns)


def kept(rng: random.Random, number: int) -> Kept:
    """Frames and samples whose stamps number them; from a handful to more than fits one segment."""
    wide = rng.random() < 0.3
    rows = rng.choice((0, 1, 700, 9_000, 40_000)) if not wide else rng.choice((1, 500, 9_000))
    frames = np.zeros(rows, FRAME_FD if wide else FRAME)
    frames["timestamp_ns"] = number * 10**6 + np.arange(rows)
    frames["length"] = 64 if wide else rng.randrange(9)
    samples = np.zeros(rng.choice((0, 3, 20_000)), SIGNAL)
    samples["timestamp_ns"] = number * 10**6 + np.arange(len(samples))
    return Kept(rng.choice(RULE_SETS), frames, samples)


def cost(draft: Draft) -> int:
    """Bytes of a segment if nothing compresses."""
    frames = draft.frames["length"].astype(np.int64) + module.FRAME_COST
    return int(frames.sum()) + module.SAMPLE_COST * len(draft.signals)


def holds(seed: int) -> None:
    """Drive a recorder and check every promise of it."""
    rng = random.Random(seed)
    recorder = Recorder(policy_hash=bytes(32), dictionary_hash=bytes(32))
    now, given_to, drafts = 0, {rule_set: ([], []) for rule_set in RULE_SETS}, []
    for number in range(rng.randint(1, 12)):
        part = kept(rng, number)
        given_to[part.rule_set][0].extend(part.frames["timestamp_ns"].tolist())
        given_to[part.rule_set][1].extend(part.signals["timestamp_ns"].tolist())
        drafts += recorder.add([part], ("can0",), at(now))
        now += rng.choice((0, 10**8, FLUSH_NS))
        due = recorder.due(("can0",), at(now))
        assert all(now - draft.opened.boottime_ns >= FLUSH_NS for draft in due)
        drafts += due
    drafts += recorder.flush(("can0",), at(now))
    assert recorder.flush(("can0",), at(now)) == []
    for draft in drafts:
        assert len(draft.frames) + len(draft.signals) <= MAX_ROWS
        assert cost(draft) <= MAX_BYTES
        assert draft.opened.boottime_ns <= draft.closed.boottime_ns
    for rule_set, (frames, samples) in given_to.items():
        mine = [draft for draft in drafts if draft.keep_s == rule_set.keep_s]
        assert [t for d in mine for t in d.frames["timestamp_ns"].tolist()] == frames
        assert [t for d in mine for t in d.signals["timestamp_ns"].tolist()] == samples


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32))
def test_limits_hold_and_nothing_is_lost(seed: int):
    holds(seed)


@pytest.mark.parametrize(
    ("name", "planted"),
    [
        ("slices", lambda rows, costs: [rows] if rows.size else []),
        ("slices", lambda rows, costs: [rows[:MAX_ROWS]] if rows.size else []),
        ("MAX_ROWS", MAX_ROWS * 2),
    ],
)
def test_planted_bug_is_caught(monkeypatch: pytest.MonkeyPatch, name: str, planted: object):
    monkeypatch.setattr(module, name, planted)
    with pytest.raises(AssertionError):
        all(holds(seed) is None for seed in range(30))


def test_what_stays_open_is_what_is_not_due():
    recorder = Recorder(policy_hash=bytes(32), dictionary_hash=bytes(32))
    frames = np.zeros(3, FRAME)
    assert recorder.add([Kept(RULE_SETS[0], frames, np.zeros(0, SIGNAL))], ("a",), at(5)) == []
    assert recorder.due(("a",), at(5 + FLUSH_NS - 1)) == []
    assert recorder.due(("a",), at(5), ahead_ns=FLUSH_NS - 1) == []
    (draft,) = recorder.due(("a",), at(5 + FLUSH_NS - 10), ahead_ns=10)
    assert (draft.opened.boottime_ns, draft.closed.boottime_ns) == (5, 5 + FLUSH_NS - 10)


def test_merge_orders_buses_by_stamp_and_leaves_each_bus_as_it_came():
    def arrival(source: int, *stamps: int) -> Arrival:
        batch = np.zeros(len(stamps), FRAME)
        batch["timestamp_ns"], batch["channel"] = stamps, source
        return Arrival(source, batch)

    merged = merge([arrival(0, 1, 5), arrival(1, 2, 9, 3), arrival(0, 4, 7)])
    pairs = list(zip(merged["channel"].tolist(), merged["timestamp_ns"].tolist(), strict=True))
    assert pairs == [(0, 1), (1, 2), (0, 5), (0, 4), (0, 7), (1, 9), (1, 3)]


RECORDING = RuleSet(1, sealed_pb2.RECORDER, 1000, keep_order=False, flush_ns=FLUSH_NS, keep_s=0)
AGREED = RuleSet(1, 2, 1000, keep_order=False, flush_ns=FLUSH_NS, keep_s=9, consent="battery")


def check_adjoining(rng: random.Random) -> None:
    """The recorder's segments cover its axis without a gap or an overlap, over restarts too."""
    axis, end = Axis(77), 77
    recorder = Recorder(policy_hash=bytes(32), dictionary_hash=bytes(32), axis=axis)
    now, stamp, drafts, rows = 0, 10**18, [], 0
    for _ in range(8):
        frames = np.zeros(rng.choice((0, 1, 50, 20_000)), FRAME)
        frames["timestamp_ns"] = stamp + np.arange(len(frames)) * 10**6
        frames["length"] = 8
        stamp += len(frames) * 10**6 + rng.choice((0, 10**9, 10**11, -(10**11)))
        rows += len(frames)
        drafts += recorder.add([Kept(RECORDING, frames, np.zeros(0, SIGNAL))], (), at(now))
        now += rng.choice((0, FLUSH_NS))
        drafts += recorder.due((), at(now))
    drafts += recorder.flush((), at(now))
    for draft in drafts:
        assert draft.recorded is not None
        assert draft.recorded[0] == end
        steps = np.diff(draft.frames["timestamp_ns"])
        inside = int(steps[(steps > 0) & (steps <= GAP_NS)].sum())
        assert inside <= draft.recorded[1] - draft.recorded[0] <= inside + GAP_NS
        end = draft.recorded[1]
    assert end == axis.end_ns
    assert sum(len(draft.frames) for draft in drafts) == rows


@settings(max_examples=30, deadline=None)
@given(making.RANDOMS)
def test_segments_of_the_recorder_adjoin(rng: random.Random):
    check_adjoining(rng)


def test_the_check_finds_segments_that_overlap(monkeypatch):
    def pieces(self, part, slices):
        begin = self._axis.end_ns
        self._axis.take(part.frames["timestamp_ns"]) if slices else None
        return [(begin, self._axis.end_ns)] * len(slices)

    monkeypatch.setattr(Recorder, "_pieces", pieces)
    with pytest.raises(AssertionError):
        making.over_seeds(check_adjoining, 40)


def test_only_the_recorder_stands_on_the_axis_and_only_its_frames_move_it():
    axis = Axis()
    recorder = Recorder(policy_hash=bytes(32), dictionary_hash=bytes(32), axis=axis)
    frames = np.zeros(3, FRAME)
    frames["timestamp_ns"] = [0, 5, 9]
    recorder.add([Kept(AGREED, frames, np.zeros(0, SIGNAL))], (), at(0))
    (draft,) = recorder.flush((), at(1))
    assert (draft.recorded, draft.consent, axis.end_ns) == (None, "battery", 0)


def test_what_is_open_under_a_consent_is_thrown_away_and_nothing_else():
    recorder = Recorder(policy_hash=bytes(32), dictionary_hash=bytes(32))
    frames, samples = np.zeros(3, FRAME), np.zeros(2, SIGNAL)
    sets = (AGREED, RECORDING, RULE_SETS[0])
    recorder.add([Kept(one, frames, samples) for one in sets], (), at(0))
    assert recorder.discard("vehicle.state") == 0
    assert recorder.discard("battery") == 5
    assert [draft.lane for draft in recorder.flush((), at(1))] == [sealed_pb2.RECORDER, 2]
