"""Signals of J1939 messages: found by parameter group, and by no more than that."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from random import Random

import numpy as np
import pytest
from cantools import j1939 as oracle
from hypothesis import given, settings

from agent.errors import PolicyError
from agent.frames import EXTENDED, ChannelTable, FrameBatch
from agent.pb import policy_pb2
from agent.policy import j1939
from agent.policy.advice import advise
from agent.policy.build import build_text
from agent.policy.clauses import (
    Camera,
    Condition,
    EventRule,
    FrameSelector,
    Position,
    SignalSelector,
)
from agent.policy.compiled import read_policy
from agent.policy.diff import diff
from agent.policy.engine import Engine
from agent.policy.items import groups, items
from agent.policy.j1939 import carriers, is_free, spans, words
from agent.policy.masks import FrameMask
from agent.policy.model import Policy, SignalLayout
from agent.policy.rehearsal import rehearse
from agent.policy.seen import absent, remarks
from agent.policy.terms import terms
from agent.policy.watching import Watching
from tests.policy import making
from tests.policy.test_engine import WHY, passes

SIGNAL_S = policy_pb2.SignalSelector
DBC = """\
VERSION ""
BU_: Nobody
{messages}
BA_DEF_ BO_ "VFrameFormat" ENUM "StandardCAN","ExtendedCAN","reserved","J1939PG";
BA_DEF_ "ProtocolType" STRING ;
BA_DEF_DEF_ "VFrameFormat" "{default}";
BA_DEF_DEF_ "ProtocolType" "";
{more}
"""
EEC1, CCVS = 0x0CF004FE, 0x18FEF1FE


def built(
    folder: Path, ids: Iterable[int], *, default: str = "J1939PG", more: str = "", wide: bool = True
) -> Policy:
    """A policy over a DBC file with a message of one byte, Sn of Mn, for each of some ids."""
    listed = list(ids)
    messages = "\n".join(
        f'BO_ {one | 0x8000_0000 * wide} M{at}: 8 Nobody\n SG_ S{at} : 0|8@1+ (1,0) [0|0] "" Nobody'
        for at, one in enumerate(listed)
    )
    text = DBC.format(messages=messages, default=default, more=more)
    (folder / "car.dbc").write_text(text, "ascii")
    named = ", ".join(f'"S{at}"' for at in range(len(listed)))
    rule = making.RULE.replace('"Speed"', named)
    return read_policy(build_text(making.HEAD + rule, where="x", folder=folder))


def found(policy: Policy, batch: FrameBatch) -> list[tuple[int, int]]:
    """(stamp, signal) of what is kept."""
    kept = Engine(policy, ChannelTable(("can0",))).decide(batch).kept
    return [(int(s["timestamp_ns"]), int(s["signal"])) for one in kept for s in one.signals]


def frames(ids: Iterable[int]) -> FrameBatch:
    return making.frames([(at, one, 0, EXTENDED, b"\7") for at, one in enumerate(ids)])


# --- the whole way, from a DBC file to samples ------------------------------------------------


def holds(frame: int, message: int, file: list[int]) -> bool:
    """Whether a frame holds a message's signals, in the words of the standard."""
    here, there = oracle.frame_id_unpack(frame), oracle.frame_id_unpack(message)
    if oracle.pgn_from_frame_id(frame) != oracle.pgn_from_frame_id(message):
        return False
    if there.source_address < 254 and here.source_address != there.source_address:
        return False
    if there.pdu_format >= 240 or here.pdu_specific == there.pdu_specific:
        return True
    return not any(differ_in_destination(there, oracle.frame_id_unpack(one)) for one in file)


def differ_in_destination(one, other) -> bool:
    """Whether a file has a group for both destinations."""
    sources = {one.source_address, other.source_address}
    return (
        (one.reserved, one.data_page, one.pdu_format)
        == (other.reserved, other.data_page, other.pdu_format)
        and one.pdu_specific != other.pdu_specific
        and 254 not in (one.pdu_specific, other.pdu_specific)
        and (len(sources) == 1 or bool(sources & {254, 255}))
    )


def random_id(rng: Random) -> int:
    return oracle.frame_id_pack(
        rng.randrange(8), rng.randrange(2), rng.randrange(2), rng.choice((0, 5, 239, 240, 254)),
        rng.choice((0, 1, 254, 255)), rng.choice((0, 3, 254, 255)),
    )  # fmt: skip


def neighbour(rng: Random, of: int) -> int:
    """An id that differs in one or two of its parts."""
    for _ in range(rng.randint(1, 2)):
        size, at = rng.choice(((3, 26), (1, 25), (1, 24), (8, 16), (8, 8), (8, 0)))
        of = of & ~((1 << size) - 1 << at) | rng.randrange(1 << size) << at
    return of


def check(rng: Random, folder: Path) -> None:
    first = random_id(rng)
    file = list({first, *(neighbour(rng, first) for _ in range(3)), random_id(rng)})
    sent = [neighbour(rng, rng.choice(file)) if rng.random() < 0.7 else one for one in file * 4]
    policy = built(folder, file)
    expected = [
        (at, number)
        for at, frame in enumerate(sent)
        for number, message in enumerate(file)
        if holds(frame, message, file)
    ]
    assert found(policy, frames(sent)) == expected


@settings(max_examples=60, deadline=None)
@given(making.RANDOMS)
def test_a_message_is_found_as_the_standard_says(tmp_path_factory, rng):
    check(rng, tmp_path_factory.getbasetemp())


BUGS = {
    "PS is ignored for PDU2": ("PDU2", 256),
    "PS counts for PDU1": ("PDU2", 0),
    "priority counts": ("PRIORITY", 0),
    "the data pages do not count": ("PRIORITY", 0x1F00_0000),
    "254 is a source": ("NULL", 255),
    "sources do not count": ("NULL", 0),
    "messages for two destinations are mixed": ("_differ_in_destination", lambda *_: False),
}


@pytest.mark.parametrize("bug", BUGS)
def test_the_check_finds_planted_bugs(bug, monkeypatch, tmp_path):
    monkeypatch.setattr(j1939, *BUGS[bug])
    with pytest.raises(AssertionError):
        making.over_seeds(lambda rng: check(rng, tmp_path))


def test_the_textbook_case(tmp_path):
    """Engine and cruise control under other priorities and senders, their neighbours not."""
    policy = built(tmp_path, [EEC1, CCVS])
    assert [(one.arbitration_id, one.free_bits) for one in policy.layouts] == [
        (0x00F00400, 0x1C0000FF), (0x00FEF100, 0x1C0000FF),
    ]  # fmt: skip
    ids = (0x0CF00400, 0x18F00400, 0x0CF00403, 0x18FEF147, 0x0CF00500, 0x0DF00400, 0x0EF00400)
    assert found(policy, frames(ids)) == [(0, 0), (1, 0), (2, 0), (3, 1)]
    batch = frames(ids)
    batch["flags"] = 0  # ids that are too long for 11 bits
    assert found(policy, batch) == []


def test_torque_for_the_engine_and_for_the_retarder_stay_apart(tmp_path):
    """One group, two destinations: the file tells them apart, so they are not mixed."""
    apart = built(tmp_path, [0x0C0000FE, 0x0C000FFE])
    assert found(apart, frames((0x0C000003, 0x0C000F0B, 0x0C00FF03))) == [(0, 0), (1, 1)]
    alone = built(tmp_path, [0x0C0000FE])
    assert len(found(alone, frames((0x0C000003, 0x0C000F0B, 0x0C00FF03)))) == 3


# --- which messages are J1939 -----------------------------------------------------------------

OF_M0 = f'BA_ "{{}}" BO_ {EEC1 | 0x8000_0000} {{}};'


@pytest.mark.parametrize(
    ("default", "more", "is_group"),
    [
        ("J1939PG", "", True),
        ("J1939PG", OF_M0.format("VFrameFormat", 1), False),
        ("StandardCAN", "", False),
        ("StandardCAN", OF_M0.format("VFrameFormat", 3), True),
        ("ExtendedCAN", 'BA_ "ProtocolType" "J1939";', True),
        ("ExtendedCAN", 'BA_ "ProtocolType" "CAN";', False),
        ("", 'BA_ "ProtocolType" "J1939";\n' + OF_M0.format("VFrameFormat", 1), False),
        ("", "", False),
    ],
)
def test_a_message_is_j1939_if_it_says_so_or_its_file_does(tmp_path, default, more, is_group):
    policy = built(tmp_path, [EEC1], default=default, more=more)
    assert bool(policy.layouts[0].free_bits) is is_group
    assert len(found(policy, frames((EEC1, 0x0CF00400)))) == (2 if is_group else 1)


def test_the_default_of_a_protocol_counts_as_well(tmp_path):
    policy = built(tmp_path, [EEC1], default="", more='BA_DEF_DEF_ "ProtocolType" "J1939";')
    assert policy.layouts[0].free_bits


def test_11_bits_are_no_group(tmp_path):
    (layout,) = built(tmp_path, [0x123], wide=False).layouts
    assert (layout.arbitration_id, layout.extended, layout.free_bits) == (0x123, False, 0)


def test_who_has_not_said_it_is_advised(tmp_path):
    (note,) = [one for one in advise(built(tmp_path, [EEC1], default=""), now_ns=0) if "FE" in one]
    assert note.startswith("M0 is looked for under 0x0CF004FE alone")
    assert not [one for one in advise(built(tmp_path, [EEC1]), now_ns=0) if "FE" in one]


@pytest.mark.parametrize(
    ("first", "last", "told"),
    [(0x0CFEF31C, 0x0CFEF31C, True), (0, 0x00FEF300, True), (0x18FEF400, 0x1BFFFFFF, False)],
)
def test_raw_frames_that_carry_the_position_of_any_source_are_told(first, last, told):
    policy = compiled(layout(0x18FEF3FE), layout(0x18FEF3FE, start=8))
    halves = SignalSelector("*", 0), SignalSelector("*", 1)
    position = Position(*halves, halves[0], Condition("x", (("x", halves[0]),)))
    raw = dataclasses.replace(
        policy.rules[0], signals=(),
        frames=(FrameSelector("*", first, last, extended=True, every_id=False),),
    )  # fmt: skip
    camera = Camera(0, 1, None, position, b"x", 500, 0, 0, 0, 0, WHY)
    notes = advise(dataclasses.replace(policy, rules=(raw,), camera=camera), now_ns=0)
    assert any("carry the position" in one for one in notes) is told


# --- the form, and what else looks at ids -----------------------------------------------------


def layout(arbitration_id: int, free: int = 0x1C0000FF, **more) -> SignalLayout:
    known = {"start": 0, "bits": 8, "big_endian": False, "kind": 0}
    return SignalLayout(arbitration_id & ~free, True, **(known | more), free_bits=free)


def compiled(*layouts: SignalLayout, **more) -> Policy:
    rule = making.collect(
        "a", signals=[SIGNAL_S(channel="*", signal=at) for at in range(len(layouts))]
    )
    return read_policy(making.compiled([rule], layouts, **more))


@pytest.mark.parametrize(
    ("bits", "pdu1", "pdu2"),
    [
        (0, True, True), (0x1C000000, True, True), (0x1C0000FF, True, True),
        (0x1C00FF00, True, False), (0x1C00FFFF, True, False), (0xFF, False, False),
        (0x0C000000, False, False), (0x1E000000, False, False), (0x1C00000F, False, False),
        (0x1FFFFFFF, False, False), (0xFFFFFFFF, False, False), (0x3C000000, False, False),
    ],
)  # fmt: skip
def test_free_bits_are_those_that_j1939_has(bits, pdu1, pdu2):
    for arbitration_id, good in ((0x00EF0000, pdu1), (0x00F00400, pdu2)):
        assert is_free(bits, arbitration_id) is good
        bad = dataclasses.replace(layout(0), arbitration_id=arbitration_id, free_bits=bits)
        if good and not arbitration_id & bits:
            assert compiled(bad).layouts == (bad,)
        else:
            with pytest.raises(PolicyError, match="free_bits"):
                compiled(bad)


def test_one_way_to_write_an_id_and_no_free_bits_of_11():
    twice = dataclasses.replace(layout(0), arbitration_id=0x0CF00400)
    with pytest.raises(PolicyError, match="are set in the id"):
        compiled(twice)
    short = SignalLayout(0x100, False, 0, 8, False, 0, (), 0x1C000000)
    with pytest.raises(PolicyError, match="not those of a J1939 id"):
        compiled(short)


@settings(max_examples=80, deadline=None)
@given(making.RANDOMS)
def test_spans_are_the_ids_that_match(rng):
    one = rng.choice(making.J1939_IDS)
    free = making.random_free_bits(rng, one)
    ranges = [
        FrameSelector("*", first, last, extended=True, every_id=False)
        for first, last in spans(one & ~free, free)
    ]
    ids = [one, *(neighbour(rng, one) for _ in range(40))]
    expected = [(other ^ one) & ~free == 0 for other in ids]
    assert FrameMask(ranges, ("can0",), 1).wanted(frames(ids)).tolist() == expected
    size = sum(last - first + 1 for first, last in spans(one & ~free, free))
    assert size == 2 ** free.bit_count()


def test_kernel_filters_pass_the_group_and_nothing_else(tmp_path):
    policy = built(tmp_path, [EEC1, CCVS, 0x18EA00FE])
    filters = Engine(policy, ChannelTable(("can0",))).kernel_filters("can0")
    assert filters is not None
    assert len(filters) == 3
    rng = Random(1)
    for _ in range(2000):
        one = neighbour(rng, rng.choice((EEC1, CCVS, 0x18EA00FE)))
        assert passes(filters, one, extended=True) == bool(found(policy, frames([one])))
        assert not passes(filters, one & 0x7FF, extended=False)


def test_the_place_is_taken_out_of_frames_of_every_source(tmp_path):
    """A position group from another sender is a position as well, in raw rules too."""
    place = layout(0x18FEF3FE, start=0, bits=32)
    policy = compiled(place)
    track = dataclasses.replace(policy.rules[0], id="t", category="location.track")
    raw = FrameSelector("*", 0, 0x1FFFFFFF, extended=True, every_id=False)
    everything = dataclasses.replace(policy.rules[0], id="raw", frames=(raw,), signals=())
    both = dataclasses.replace(policy, rules=(track, everything))
    engine = Engine(both, ChannelTable(("can0",)))
    sent = (0x18FEF31C, 0x0CFEF300, 0x18FEF41C)
    decided = engine.decide(frames(sent))
    (left,) = engine.without_place(decided.kept)
    assert left.frames["arbitration_id"].tolist() == [0x18FEF41C]


def test_a_place_is_not_kept_under_the_id_of_one_sender():
    """What says where the car is may not be named otherwise: neither as a group nor as an id."""
    for place, other in (
        (layout(0x18FEF3FE), layout(0x18FEF31C, 0)),
        (layout(0x18FEF31C, 0), layout(0x18FEF3FE)),
        (layout(0x18FEF3FE), layout(0x18FEF31C, 0x1C000000, kind=1)),
    ):
        with pytest.raises(PolicyError, match="says where the car is"):
            placed(place, other)
    assert placed(layout(0x18FEF3FE), layout(0x18FEF31C, 0, start=8))
    assert placed(layout(0x18FEF305, 0x1C000000), layout(0x18FEF31C, 0x1C000000))


def placed(place: SignalLayout, other: SignalLayout) -> Policy:
    words = policy_pb2.Dictionary(
        signal=[
            policy_pb2.Signal(name="Lat", message="M", factor=1e-7, unit="deg"),
            policy_pb2.Signal(name="Other", message="M", factor=1, kind=other.kind),
        ]
    )
    rules = [
        making.collect(
            "t", category="location.track", basis="consent", signals=[SIGNAL_S(channel="*")],
            recipients=2,
        ),
        making.collect("o", signals=[SIGNAL_S(channel="*", signal=1)]),
    ]  # fmt: skip
    consent = policy_pb2.ConsentTerm(category="location.track", max_days=1, each_drive=True)
    return read_policy(
        making.compiled(
            rules, [place, other], dictionary=words.SerializeToString(), consent=[consent]
        )
    )


def test_a_consent_to_one_sender_is_none_to_all():
    before, after = (
        placed(layout(0x18FEF31C, free), layout(0x18FEF41C)) for free in (0x1C000000, 0x1C0000FF)
    )
    agreed, asked = (terms(one, "location.track") for one in (before, after))
    assert [one.clauses[0].signals[0].place for one in (agreed, asked)] == [
        "FEF31Cx~1C000000/0+8/unsigned", "FEF300x~1C0000FF/0+8/unsigned",
    ]  # fmt: skip
    assert asked.widens(agreed)
    assert not asked.widens(asked)


def test_what_one_frame_holds_is_one_instant(tmp_path):
    """A signal of the group and one of the same group from one sender: both at once."""
    policy = compiled(layout(EEC1), layout(0x0CF00400, 0x1C000000, start=8), layout(CCVS))
    points = tuple((f"t{at}", SignalSelector("*", at)) for at in (1, 2, 0))
    event = EventRule("e", Condition("x", points), 0, 0, False, 0, 0, 0, (), 0, WHY)
    policy = dataclasses.replace(policy, events=(event,))
    batch = making.frames(
        [
            (at // 2, one, 0, EXTENDED, b"\1\2")
            for at, one in enumerate((0x0CF00400, 0x18FEF100) * 3)
        ]
    )
    watched = Engine(policy, ChannelTable(("can0",))).decide(batch).watched
    assert watched["signal"].tolist() == [0, 2, 1] * 3
    seen = Watching(policy).batch(watched).instants((0, 1, 2))
    assert seen is not None
    assert seen[0].tolist() == [0, 0, 1, 1, 2, 2]
    assert len(np.unique(carriers(policy.layouts))) == 2
    exact = carriers([layout(0x18FEF31C, 0), layout(0x0CFEF31C, 0)])
    assert exact[0] != exact[1]  # nobody speaks of a group: two ids are two frames


def test_a_group_is_rehearsed():
    rehearse(compiled(layout(EEC1), layout(0x18EA0403, 0x1C00FF00)))


# --- what people are told ---------------------------------------------------------------------


def test_a_group_has_words():
    assert words(layout(EEC1)) == "PGN F004 from any source"
    assert words(layout(0x0CF00421, 0x1C000000)) == "PGN F004 from source 21"
    assert words(layout(0x19EF0FFE)) == "PGN 1EF00 from any source to 0F"
    assert words(layout(0x18EA0003, 0x1C00FF00)) == "PGN EA00 from source 03"


def test_items_name_groups_and_a_wider_one_is_wider(tmp_path):
    group, named = built(tmp_path, [EEC1, CCVS]), built(tmp_path, [EEC1 & ~0xFF, CCVS])
    exact = built(tmp_path, [EEC1, CCVS], default="ExtendedCAN")
    both = ("M0 = PGN F004 from any source", "M1 = PGN FEF1 from any source")
    assert items(group)[0].groups == groups(group) == both
    assert groups(exact) == ()
    (told,) = diff(exact, group)
    assert told.effect == "wider"
    assert told.words == f"its signals are found by {', '.join(both)}; was by their very ids"
    assert [one.effect for one in diff(group, exact)] == ["narrower"]
    assert [one.effect for one in diff(named, group)] == ["wider"]
    assert diff(group, group) == ()


def test_what_came_from_whom_is_told(tmp_path):
    policy = built(tmp_path, [EEC1, 0x18FEF100, 0x18FEE6FE, 0x18FEF200])
    seen = frozenset(
        ("can0", True, one) for one in (0x0CF00400, 0x18F00421, 0x0CF00421, 0x18FEF147)
    ) | {("can1", True, 0x0CF00417), ("can1", False, 0x123)}
    assert absent(policy, seen) == ("M1.S1", "M2.S2", "M3.S3")
    assert remarks(policy, seen) == (
        "M0 = PGN F004 from any source: came from 00, 21 on can0; their samples are one stream",
        "M1 = PGN FEF1 from source 00: came only from 47 on can0",
    )
