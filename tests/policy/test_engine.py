"""The engine equals one-frame-at-a-time Python, however the stream is cut."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings

from agent.frames import ERROR, EXTENDED, FRAME, REMOTE, ChannelTable, FrameBatch
from agent.pb import policy_pb2, sealed_pb2
from agent.policy import wants
from agent.policy.clauses import (
    Camera,
    Condition,
    EventRule,
    FrameSelector,
    Position,
    Recorder,
    SignalSelector,
    Why,
)
from agent.policy.counting import FrameCounts
from agent.policy.engine import RECORDER_RULE, Engine, recorder_set
from agent.policy.model import Policy, SignalLayout, rule_set_of, watch_points
from agent.policy.stretches import Stretches
from agent.policy.wants import Sampler
from tests.policy import making

FRAME_S = policy_pb2.FrameSelector
SIGNAL_S = policy_pb2.SignalSelector


def run(policy: Policy, pieces: list[FrameBatch], names: tuple[str, ...] = making.NAMES) -> dict:
    """What the engine keeps of a stream in pieces, joined per rule set."""
    engine = Engine(policy, ChannelTable(names))
    joined: dict = {}
    for piece in pieces:
        kept = engine.decide(piece).kept
        for rule_set, (frames, samples) in making.as_lists(kept, piece).items():
            both = joined.setdefault(rule_set, ([], []))
            both[0].extend(frames)
            both[1].extend(samples)
    return joined


def straightforward(policy: Policy, batch: FrameBatch, names=making.NAMES) -> dict:
    kept = making.Straightforward(policy, names).decide(batch)
    if policy.recorder is not None:
        rows = [at for at, row in enumerate(batch) if named(policy.recorder.frames, row, names)]
        kept |= {recorder_set(policy.recorder): (rows, [])} if rows else {}
    return {
        one: ([row.tobytes() for row in batch[rows]], samples)
        for one, (rows, samples) in kept.items()
    }


def random_selector(rng: Random) -> FrameSelector:
    one = making.random_selector(rng)
    return FrameSelector(one.channel, one.first_id, one.last_id, one.extended, one.any)


def named(selectors, row, names=making.NAMES) -> bool:
    where = names[row["channel"]], int(row["arbitration_id"]), int(row["flags"])
    return any(making.names_frame(one, *where) for one in selectors)


WHY = Why("safety", "safety", "a test", sealed_pb2.REGION)


def random_policy(rng: Random) -> Policy:
    """One with clauses: rounded rules, watch points, often a recorder."""
    policy = making.random_policy(rng)
    # In one rule set the finer of two roundings stands, which plain Python does not know: so
    # each rule is a set of its own, and rounds a signal one way.
    rules = []
    for at, rule in enumerate(policy.rules):
        grain = [rng.choice((0, 0, 1, 3, 100, 2**40, 2**62 + 1)) for _ in policy.signals]
        some = tuple(dataclasses.replace(one, grain=grain[one.signal]) for one in rule.signals)
        rules.append(dataclasses.replace(rule, keep_s=at + 100, signals=some))
    terms = [
        (f"t{at}", SignalSelector(rng.choice(("*", "can0", "can7")), at))
        for at in range(len(policy.signals))
    ]
    event = EventRule("e", Condition("x", tuple(terms)), 0, 0, False, 0, 0, 0, (), 0, WHY)
    selectors = tuple(random_selector(rng) for _ in range(rng.randrange(3)))
    recorder = Recorder(10**9, selectors, 1000, 10**9, WHY) if selectors else None
    return dataclasses.replace(policy, rules=tuple(rules), events=(event,), recorder=recorder)


def check_equal(rng: Random) -> None:
    policy, batch = random_policy(rng), making.random_batch(rng)
    assert run(policy, [batch]) == straightforward(policy, batch)


def check_cuts(rng: Random) -> None:
    policy, batch = random_policy(rng), making.random_batch(rng)
    assert run(policy, cut(rng, batch)) == run(policy, [batch])


def cut(rng: Random, batch: FrameBatch) -> list[FrameBatch]:
    return np.split(batch, sorted(rng.choices(range(41), k=rng.randrange(5))))


def check_watched(rng: Random) -> None:
    """Every sample of every watch point, as it comes, whatever the rules keep."""
    policy, batch = random_policy(rng), making.random_batch(rng)
    engine, seen = Engine(policy, ChannelTable(making.NAMES)), []
    for piece in cut(rng, batch):
        seen += engine.decide(piece).watched.tolist()
    expected = []
    for row in batch:
        for number, point in enumerate(watch_points(policy)):
            raw = sample_of(policy, point, row)
            if raw is not None:
                expected.append((int(row["timestamp_ns"]), number, int(row["channel"]), raw))
    assert [(stamp, signal, channel, raw) for stamp, signal, channel, _, raw in seen] == expected


def sample_of(policy: Policy, point: SignalSelector, row) -> int | None:
    layout = policy.layouts[point.signal]
    flags = int(row["flags"])
    same = (layout.arbitration_id, layout.extended) == (
        int(row["arbitration_id"]), bool(flags & EXTENDED)
    )  # fmt: skip
    if not same or flags & (ERROR | REMOTE):
        return None
    if point.channel not in ("*", making.NAMES[row["channel"]]):
        return None
    return making.value(bytes(row["data"][: row["length"]]), layout)


def check_counts(rng: Random) -> None:
    """What each rule wanted, counted by hand; after without_place what is left of it."""
    policy, batch = random_policy(rng), making.random_batch(rng)
    engine, frames, samples = Engine(policy, ChannelTable(making.NAMES)), Counter(), Counter()
    plain = making.Straightforward(policy, making.NAMES)
    for piece in cut(rng, batch):
        engine.decide(piece)
        for row in piece:
            where = making.NAMES[row["channel"]], int(row["arbitration_id"]), int(row["flags"])
            for rule in policy.rules:
                frames[rule.id] += named(rule.frames, row)
                samples[rule.id] += len(plain.samples(rule, row, where))
            if policy.recorder is not None:
                frames[RECORDER_RULE] += named(policy.recorder.frames, row)
    expected = {one: (frames[one], samples[one]) for one in frames | samples}
    # Twice the same signal in one rule is two wants: the count may be higher, never lower.
    found = engine.counts()
    for one, (some, more) in expected.items():
        assert found.get(one, (0, 0))[0] == some
        assert found.get(one, (0, 0))[1] >= more
        assert bool(more) == bool(found.get(one, (0, 0))[1])
    assert engine.counts() == {}


@settings(max_examples=120, deadline=None)
@given(making.RANDOMS)
def test_any_policy_keeps_what_plain_python_keeps(rng):
    check_equal(rng)


@settings(max_examples=100, deadline=None)
@given(making.RANDOMS)
def test_cuts_make_no_difference(rng):
    check_cuts(rng)


@settings(max_examples=60, deadline=None)
@given(making.RANDOMS)
def test_watch_points_get_every_sample(rng):
    check_watched(rng)


@settings(max_examples=60, deadline=None)
@given(making.RANDOMS)
def test_each_rule_is_counted(rng):
    check_counts(rng)


@settings(max_examples=40, deadline=None)
@given(making.RANDOMS)
def test_small_passes_make_no_difference(rng):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wants, "PAIRS_AT_ONCE", 3)
        check_equal(rng)
        check_watched(rng)


class Forgetful(Engine):
    """Planted bug: what was seen last is forgotten with each batch."""

    def decide(self, batch):
        self._sampler._seen[:] = False
        return super().decide(batch)


def test_the_cut_check_finds_a_forgetful_engine(monkeypatch):
    monkeypatch.setitem(globals(), "Engine", Forgetful)
    with pytest.raises(AssertionError):
        making.over_seeds(check_cuts)


class Thinned(Engine):
    """Planted bug: watch points are thinned out like a rule's signals."""

    def decide(self, batch):
        decided = super().decide(batch)
        return dataclasses.replace(decided, watched=decided.watched[::2])


def test_the_watch_check_finds_a_thinned_stream(monkeypatch):
    monkeypatch.setitem(globals(), "Engine", Thinned)
    with pytest.raises(AssertionError):
        making.over_seeds(check_watched)


@pytest.mark.parametrize("bug", ["towards zero", "watched"])
def test_the_checks_find_wrong_rounding(bug, monkeypatch):
    def towards_zero(self, want, raw):
        grain = np.maximum(self._grain[want], 1)
        raw[:] = np.where(self._grain[want] > 0, np.trunc(raw / grain) * grain, raw)

    original = Sampler._lay_out

    def rounds_all(self, layouts, wanted):
        original(self, layouts, [dataclasses.replace(one, grain=3) for one in wanted])

    if bug == "watched":
        monkeypatch.setattr(Sampler, "_lay_out", rounds_all)
    else:
        monkeypatch.setattr(Sampler, "_round", towards_zero)
    with pytest.raises(AssertionError), np.errstate(invalid="ignore"):
        making.over_seeds(check_watched if bug == "watched" else check_equal)


@pytest.mark.parametrize("bug", ["errors", "lost"])
def test_the_count_check_finds_planted_bugs(bug, monkeypatch):
    original = FrameCounts.add

    def add(self, batch):
        original(self, batch[(batch["flags"] & ERROR) == 0] if bug == "errors" else batch[1:])

    monkeypatch.setattr(FrameCounts, "add", add)
    with pytest.raises(AssertionError):
        making.over_seeds(check_counts)


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
    engine = Engine(one_rule(frames=[FRAME_S(channel="*", any=True)]), ChannelTable())
    (kept,) = engine.decide(batch).kept
    assert kept.frames.tobytes() == batch.tobytes()


def test_an_error_frame_is_not_taken_for_the_id_that_it_resembles():
    selector = FRAME_S(channel="*", first_id=0, last_id=0x7FF)
    batch = making.frames([(1, 0x5, 0, ERROR, b""), (2, 0x5, 0, 0, b"")])
    (kept,) = Engine(one_rule(frames=[selector]), ChannelTable(("can0",))).decide(batch).kept
    assert kept.frames["timestamp_ns"].tolist() == [2]


def test_a_bus_that_opens_later_is_known_by_its_name():
    channels = ChannelTable(("can1",))
    engine = Engine(one_rule(frames=[FRAME_S(channel="can0", any=True)]), channels)
    assert engine.decide(making.frames([(1, 0x5, 0, 0, b"")])).kept == []
    number = channels.number("can0")
    (kept,) = engine.decide(making.frames([(1, 0x5, 0, 0, b""), (2, 0x5, number, 0, b"")])).kept
    assert kept.frames["timestamp_ns"].tolist() == [2]


def test_what_two_rules_of_a_set_want_is_kept_once():
    rules = [
        making.collect(name, frames=[FRAME_S(channel="*", first_id=5, last_id=5)]) for name in "ab"
    ]
    engine = Engine(making.loaded(making.compiled(rules)), ChannelTable(("can0",)))
    (kept,) = engine.decide(making.frames([(1, 0x5, 0, 0, b"")])).kept
    assert len(kept.frames) == 1


def test_rules_that_differ_in_recipients_have_outputs_of_their_own():
    every = [FRAME_S(channel="*", any=True)]
    rules = [
        making.collect("a", frames=every),
        making.collect("b", frames=every, recipients=sealed_pb2.SHARED),
    ]
    engine = Engine(making.loaded(making.compiled(rules)), ChannelTable(("can0",)))
    kept = engine.decide(making.frames([(1, 0x5, 0, 0, b"")])).kept
    assert [one.rule_set.recipients for one in kept] == [sealed_pb2.REGION, sealed_pb2.SHARED]


def test_a_clock_that_steps_back_does_not_silence_a_rule():
    layout = SignalLayout(5, False, 0, 8, False, 0)
    rule = making.collect("a", signals=[SIGNAL_S(channel="*")], every_ns=10**9)
    engine = Engine(making.loaded(making.compiled([rule], [layout])), ChannelTable(("can0",)))
    stamps = [2_000 * 10**9, 1_000 * 10**9, 1_001 * 10**9]
    (kept,) = engine.decide(making.frames([(stamp, 5, 0, 0, b"\1") for stamp in stamps])).kept
    assert kept.signals["timestamp_ns"].tolist() == stamps


def check_what_comes_and_goes_within_a_batch(**thinned: object) -> None:
    """The first and the last of a batch are like the one before it; one between them is not."""
    layout = SignalLayout(5, False, 0, 8, False, 0)
    rule = making.collect("a", signals=[SIGNAL_S(channel="*")], **thinned)
    engine = Engine(making.loaded(making.compiled([rule], [layout])), ChannelTable(("can0",)))
    kept = []
    for samples in ([(100.0, 1)], [(100.1, 1), (50.0, 2), (100.2, 1)], [(100.3, 1)]):
        batch = making.frames([(round(at * 1e9), 5, 0, 0, bytes([one])) for at, one in samples])
        for part in engine.decide(batch).kept:
            kept += (part.signals["timestamp_ns"] / 1e9).tolist()
    assert kept == [100.0, 50.0, 100.2]


@pytest.mark.parametrize("thinned", [{"every_ns": 10**9}, {"on_change": True}])
def test_what_comes_and_goes_within_a_batch_is_kept(thinned):
    check_what_comes_and_goes_within_a_batch(**thinned)


def _ends_in_cell(self, of, period, cell):
    first, last = self.start[of], self.start[of] + self.size[of] - 1
    return (self.stamp[first] // period == cell) & (self.stamp[last] // period == cell)


def _ends_are(self, of, raw):
    first, last = self.start[of], self.start[of] + self.size[of] - 1
    return (self.raw[first] == raw) & (self.raw[last] == raw)


@pytest.mark.parametrize(
    ("name", "wrong", "thinned"),
    [
        ("all_in_cell", _ends_in_cell, {"every_ns": 10**9}),
        ("all_are", _ends_are, {"on_change": True}),
    ],
)
def test_a_look_at_the_ends_alone_is_found(name, wrong, thinned, monkeypatch):
    monkeypatch.setattr(Stretches, name, wrong)
    with pytest.raises(AssertionError):
        check_what_comes_and_goes_within_a_batch(**thinned)


def test_too_short_frames_are_counted():
    layout = SignalLayout(5, False, 8, 8, False, 0)
    rule = making.collect("a", signals=[SIGNAL_S(channel="*")])
    engine = Engine(making.loaded(making.compiled([rule], [layout])), ChannelTable(("can0",)))
    assert engine.decide(making.frames([(1, 5, 0, 0, b"\1")])).kept == []
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
    policy, batch = random_policy(rng), making.random_batch(rng)
    engine = Engine(policy, ChannelTable(making.NAMES))
    filters = {name: engine.kernel_filters(name) for name in making.NAMES}
    for row in batch:
        decided = engine.decide(row.reshape(1))
        if decided.kept or len(decided.watched):
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
    decided = engine.decide(np.zeros(0, FRAME))
    assert decided.kept == []
    assert len(decided.watched) == 0


def consent_rule(name: str, category: str, **more) -> object:
    rule = one_rule(frames=[FRAME_S(channel="*", any=True)]).rules[0]
    return dataclasses.replace(rule, id=name, category=category, basis="consent", **more)


def test_a_silent_category_keeps_nothing_and_the_others_stand_apart():
    both = (consent_rule("a", "driving.behaviour"), consent_rule("b", "location.track"))
    policy = dataclasses.replace(one_rule(frames=[FRAME_S(channel="can9", any=True)]), rules=both)
    batch = making.frames([(1, 0x5, 0, 0, b"")])
    told = Engine(policy, ChannelTable(("can0",))).decide(batch).kept
    assert [one.rule_set.consent for one in told] == ["driving.behaviour", "location.track"]
    engine = Engine(policy, ChannelTable(("can0",)), frozenset({"location.track"}))
    assert [one.rule_set.consent for one in engine.decide(batch).kept] == ["driving.behaviour"]
    assert engine.counts() == {"a": (1, 0)}
    silent = Engine(policy, ChannelTable(), frozenset({"driving.behaviour", "location.track"}))
    assert silent.kernel_filters("can0") == []


def test_a_rule_on_another_basis_is_not_silenced_with_its_category():
    policy = one_rule(frames=[FRAME_S(channel="*", any=True)])
    engine = Engine(policy, ChannelTable(("can0",)), frozenset({policy.rules[0].category}))
    assert len(engine.decide(making.frames([(1, 0x5, 0, 0, b"")])).kept) == 1


def test_a_change_that_rounding_hides_is_none():
    layout = SignalLayout(5, False, 0, 8, False, 1)
    rule = making.collect("a", signals=[SIGNAL_S(channel="*")], on_change=True)
    policy = making.loaded(making.compiled([rule], [layout]))
    coarse = dataclasses.replace(policy.rules[0], signals=(SignalSelector("*", 0, 10),))
    engine = Engine(dataclasses.replace(policy, rules=(coarse,)), ChannelTable(("can0",)))
    values = (12, 17, 21, 0xFF, 0xFE, 0xF6, 0xF5)
    batch = making.frames([(at, 5, 0, 0, bytes([one])) for at, one in enumerate(values)])
    (kept,) = engine.decide(batch).kept
    assert kept.signals["raw"].tolist() == [10, 20, -10, -20]


def placed_policy() -> Policy:
    """Latitude and longitude at 0x10, heading at 0x11 for a location rule, speed at 0x12."""
    layouts = [SignalLayout(0x10 + at // 2, False, at % 2 * 8, 8, False, 0) for at in range(6)]
    rules = [
        making.collect("all", frames=[FRAME_S(channel="*", any=True)]),
        making.collect("values", signals=[SIGNAL_S(channel="*", signal=at) for at in range(6)]),
    ]
    policy = making.loaded(making.compiled(rules, layouts))
    track = dataclasses.replace(
        policy.rules[1], id="track", category="location.track", signals=(SignalSelector("*", 2),)
    )
    position = Position(
        SignalSelector("can0", 0), SignalSelector("can0", 1), SignalSelector("*", 4),
        Condition("x", (("x", SignalSelector("*", 5)),)),
    )  # fmt: skip
    camera = Camera(0, 1, None, position, b"", 500, 0, 0, 0, 0, WHY)
    recorder = Recorder(10**9, (FrameSelector("*", 0, 0, False, True),), 1000, 10**9, WHY)
    return dataclasses.replace(
        policy, rules=(*policy.rules, track), camera=camera, recorder=recorder
    )


def test_without_place_nothing_that_is_kept_tells_it():
    policy = placed_policy()
    engine = Engine(policy, ChannelTable(("can0", "can1")))
    batch = making.frames([(at, 0x10 + at % 3, at % 2, 0, b"\7\7") for at in range(12)], wide=True)
    decided = engine.decide(batch)
    left = engine.without_place(decided.kept)
    assert {one.rule_set for one in left} == {one.rule_set for one in decided.kept}
    for part in left:
        assert set(part.frames["arbitration_id"].tolist()) <= {0x12}
        assert set(part.signals["signal"].tolist()) <= {3, 4, 5}
    assert sum(len(part.frames) for part in left) == 8  # of the rule and of the recorder
    assert len(decided.watched) == 2 * 2 + 4 * 2  # what the gate looks at stays
    assert engine.counts() == {"all": (4, 0), "values": (0, 12), RECORDER_RULE: (4, 0)}


def test_the_recorder_is_a_rule_set_of_its_own_lane():
    policy = placed_policy()
    kept = Engine(policy, ChannelTable(("can0",))).decide(making.frames([(1, 5, 0, 0, b"")])).kept
    lanes = [one.rule_set.lane for one in kept]
    assert lanes == [rule_set_of(policy.rules[0]).lane, sealed_pb2.RECORDER]
