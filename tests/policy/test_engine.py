"""The engine equals one-frame-at-a-time Python, however the stream is cut."""

from __future__ import annotations

import re
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings

from agent.frames import ERROR, EXTENDED, FRAME, REMOTE, ChannelTable, FrameBatch
from agent.pb import policy_pb2, sealed_pb2
from agent.policy import engine as under_test
from agent.policy.engine import Engine
from agent.policy.model import Policy, SignalLayout
from tests.policy import making

FRAME_S = policy_pb2.FrameSelector
SIGNAL_S = policy_pb2.SignalSelector


def run(policy: Policy, pieces: list[FrameBatch], names: tuple[str, ...] = making.NAMES) -> dict:
    """What the engine keeps of a stream in pieces, joined per rule set."""
    engine = Engine(policy, ChannelTable(names))
    joined: dict = {}
    for piece in pieces:
        for rule_set, (frames, samples) in making.as_lists(engine.decide(piece), piece).items():
            both = joined.setdefault(rule_set, ([], []))
            both[0].extend(frames)
            both[1].extend(samples)
    return joined


def straightforward(policy: Policy, batch: FrameBatch, names=making.NAMES) -> dict:
    kept = making.Straightforward(policy, names).decide(batch)
    return {
        one: ([row.tobytes() for row in batch[rows]], samples)
        for one, (rows, samples) in kept.items()
    }


def check_equal(rng: Random) -> None:
    policy, batch = making.random_policy(rng), making.random_batch(rng)
    assert run(policy, [batch]) == straightforward(policy, batch)


def check_cuts(rng: Random) -> None:
    policy, batch = making.random_policy(rng), making.random_batch(rng)
    cuts = rng.choices(range(41), k=rng.randrange(5))
    assert run(policy, np.split(batch, sorted(cuts))) == run(policy, [batch])


@settings(max_examples=120, deadline=None)
@given(making.RANDOMS)
def test_any_policy_keeps_what_plain_python_keeps(rng):
    check_equal(rng)


@settings(max_examples=100, deadline=None)
@given(making.RANDOMS)
def test_cuts_make_no_difference(rng):
    check_cuts(rng)


@settings(max_examples=40, deadline=None)
@given(making.RANDOMS)
def test_small_passes_make_no_difference(rng):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(under_test, "PAIRS_AT_ONCE", 3)
        check_equal(rng)


class Forgetful(Engine):
    """Planted bug: what was seen last is forgotten with each batch."""

    def decide(self, batch):
        self._seen[:] = False
        return super().decide(batch)


def test_the_cut_check_finds_a_forgetful_engine(monkeypatch):
    monkeypatch.setitem(globals(), "Engine", Forgetful)
    with pytest.raises(AssertionError):
        making.over_seeds(check_cuts)


@pytest.mark.parametrize("bug", ["twins", "remote", "error"])
def test_the_equality_check_finds_planted_bugs(bug, monkeypatch):
    original = Engine.decide

    def decide(self, batch):
        changed = batch.copy()
        flags = {"twins": EXTENDED, "remote": REMOTE, "error": ERROR}[bug]
        changed["flags"] &= np.uint8(~flags & 0xFF)
        return original(self, changed)

    monkeypatch.setattr(Engine, "decide", decide)
    with pytest.raises(AssertionError):
        making.over_seeds(check_equal)


def test_real_logs_are_decided_as_by_plain_python():
    logs = sorted(making.DATA.glob("can_logs/*/*candump*.log"))
    if not logs:
        pytest.skip("no test data: set INLAND_DATA")
    compared = 0
    for path in logs:
        batch, names = read_candump(path.read_text("ascii", "replace"))
        policy = policy_over(batch)
        pieces = np.split(batch, range(777, len(batch), 777))
        assert run(policy, pieces, names) == straightforward(policy, batch, names), path.name
        compared += len(batch)
    assert compared > 5000


def read_candump(text: str, most: int = 4000) -> tuple[FrameBatch, tuple[str, ...]]:
    names, rows = ChannelTable(), []
    for found in re.finditer(r"^\((\d+)\.(\d{6})\) (\S+) ([0-9A-F]{3}|[0-9A-F]{8})#([0-9A-F]*)$",
                             text, re.MULTILINE):  # fmt: skip
        stamp = int(found[1]) * 10**9 + int(found[2]) * 1000
        flags = EXTENDED if len(found[4]) == 8 else 0
        channel = names.number(found[3])
        rows.append((stamp, int(found[4], 16), channel, flags, bytes.fromhex(found[5])))
        if len(rows) == most:
            break
    return making.frames(rows), names.names


def policy_over(batch: FrameBatch) -> Policy:
    """Signals of many sizes in the ids of a log, kept in all three ways, and some raw frames."""
    ids = sorted({(int(row["arbitration_id"]), bool(row["flags"] & EXTENDED)) for row in batch})
    layouts = [
        SignalLayout(one, wide, (7 * at) % 40, 1 + at % 24, False, at % 2)
        for at, (one, wide) in enumerate(ids)
    ]
    some = [
        [SIGNAL_S(channel="*", signal=at) for at in range(way, len(ids), 3)] for way in range(3)
    ]
    raw = [FRAME_S(channel="*", first_id=one, last_id=one, extended=wide) for one, wide in ids[::5]]
    rules = [
        collect
        for collect in (
            making.collect("always", signals=some[0], frames=raw),
            making.collect("every", signals=some[1], every_ns=50 * 10**6),
            making.collect("change", signals=some[2], on_change=True),
        )
        if collect.signals
    ]
    return making.loaded(making.compiled(rules, layouts))


def one_rule(**more) -> Policy:
    return making.loaded(making.compiled([making.collect("one", **more)]))


def test_a_star_keeps_all_kinds_of_frames_as_they_are():
    batch = making.frames(
        [(1, 0x5, 0, ERROR, b""), (2, 0x7, 1, REMOTE, b"12"), (3, 0x900, 1, 0, b"")]
    )
    (kept,) = Engine(one_rule(frames=[FRAME_S(channel="*", any=True)]), ChannelTable()).decide(
        batch
    )
    assert kept.frames.tobytes() == batch.tobytes()


def test_an_error_frame_is_not_taken_for_the_id_that_it_resembles():
    selector = FRAME_S(channel="*", first_id=0, last_id=0x7FF)
    batch = making.frames([(1, 0x5, 0, ERROR, b""), (2, 0x5, 0, 0, b"")])
    (kept,) = Engine(one_rule(frames=[selector]), ChannelTable(("can0",))).decide(batch)
    assert kept.frames["timestamp_ns"].tolist() == [2]


def test_a_bus_that_opens_later_is_known_by_its_name():
    channels = ChannelTable(("can1",))
    engine = Engine(one_rule(frames=[FRAME_S(channel="can0", any=True)]), channels)
    assert engine.decide(making.frames([(1, 0x5, 0, 0, b"")])) == []
    number = channels.number("can0")
    (kept,) = engine.decide(making.frames([(1, 0x5, 0, 0, b""), (2, 0x5, number, 0, b"")]))
    assert kept.frames["timestamp_ns"].tolist() == [2]


def test_what_two_rules_of_a_set_want_is_kept_once():
    rules = [
        making.collect(name, frames=[FRAME_S(channel="*", first_id=5, last_id=5)]) for name in "ab"
    ]
    engine = Engine(making.loaded(making.compiled(rules)), ChannelTable(("can0",)))
    (kept,) = engine.decide(making.frames([(1, 0x5, 0, 0, b"")]))
    assert len(kept.frames) == 1


def test_rules_that_differ_in_recipients_have_outputs_of_their_own():
    every = [FRAME_S(channel="*", any=True)]
    rules = [
        making.collect("a", frames=every),
        making.collect("b", frames=every, recipients=sealed_pb2.SHARED),
    ]
    engine = Engine(making.loaded(making.compiled(rules)), ChannelTable(("can0",)))
    kept = engine.decide(making.frames([(1, 0x5, 0, 0, b"")]))
    assert [one.rule_set.recipients for one in kept] == [sealed_pb2.REGION, sealed_pb2.SHARED]


def test_a_clock_that_steps_back_does_not_silence_a_rule():
    layout = SignalLayout(5, False, 0, 8, False, 0)
    rule = making.collect("a", signals=[SIGNAL_S(channel="*")], every_ns=10**9)
    engine = Engine(making.loaded(making.compiled([rule], [layout])), ChannelTable(("can0",)))
    stamps = [2_000 * 10**9, 1_000 * 10**9, 1_001 * 10**9]
    (kept,) = engine.decide(making.frames([(stamp, 5, 0, 0, b"\1") for stamp in stamps]))
    assert kept.signals["timestamp_ns"].tolist() == stamps


def test_too_short_frames_are_counted():
    layout = SignalLayout(5, False, 8, 8, False, 0)
    rule = making.collect("a", signals=[SIGNAL_S(channel="*")])
    engine = Engine(making.loaded(making.compiled([rule], [layout])), ChannelTable(("can0",)))
    assert engine.decide(making.frames([(1, 5, 0, 0, b"\1")])) == []
    assert engine.too_short == 1


def passes(filters: list[dict] | None, arbitration_id: int, extended: bool) -> bool:
    """Whether the kernel lets a frame through, as python-can's filters are defined."""
    return filters is None or any(
        one["extended"] == extended and (arbitration_id ^ one["can_id"]) & one["can_mask"] == 0
        for one in filters
    )


@settings(max_examples=50, deadline=None)
@given(making.RANDOMS)
def test_kernel_filters_pass_whatever_is_kept(rng):
    policy, batch = making.random_policy(rng), making.random_batch(rng)
    engine = Engine(policy, ChannelTable(making.NAMES))
    filters = {name: engine.kernel_filters(name) for name in making.NAMES}
    for row in batch:
        if engine.decide(row.reshape(1)):
            where = int(row["arbitration_id"]), bool(row["flags"] & EXTENDED)
            assert passes(filters[making.NAMES[row["channel"]]], *where)


def test_kernel_filters_are_exact_for_a_range_and_empty_for_an_unwanted_bus():
    engine = Engine(
        one_rule(frames=[FRAME_S(channel="can0", first_id=0x101, last_id=0x1FE)]), ChannelTable()
    )
    filters = engine.kernel_filters("can0")
    passed = [one for one in range(0x800) if passes(filters, one, extended=False)]
    assert passed == list(range(0x101, 0x1FF))
    assert not passes(filters, 0x101, extended=True)
    assert engine.kernel_filters("can1") == []


def test_kernel_filters_stay_within_what_the_kernel_takes():
    ids = range(1, 0x7FF, 2)
    some = [FRAME_S(channel="*", first_id=one, last_id=one) for one in ids]
    some.append(FRAME_S(channel="*", first_id=7, last_id=7, extended=True))
    filters = Engine(one_rule(frames=some), ChannelTable()).kernel_filters("can0")
    assert filters == [
        {"can_id": 0, "can_mask": 0, "extended": False},
        {"can_id": 7, "can_mask": 0x1FFFFFFF, "extended": True},
    ]


def test_an_empty_batch_keeps_nothing():
    engine = Engine(one_rule(frames=[FRAME_S(channel="*", any=True)]), ChannelTable())
    assert engine.decide(np.zeros(0, FRAME)) == []
