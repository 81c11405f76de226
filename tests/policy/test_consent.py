"""What is agreed to, what is more than that, and how a consent ends."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.pb import sealed_pb2
from agent.policy.clauses import ConsentTerm, FrameSelector, SignalSelector
from agent.policy.consent import Book, State, Terms, asked, terms, wants
from agent.policy.model import SignalLayout
from agent.policy.terms import Clause
from tests.policy.consenting import (
    ANY_FRAMES,
    DAY_NS,
    IMAGE,
    NOW_NS,
    PARKED,
    TRACK,
    again,
    parked_camera,
    policy,
    rule,
)

BASE = policy()


def widened(**more: object) -> bool:
    """Whether the policy's one rule, changed so, needs a new consent."""
    return terms(policy(rule("track", **more)), TRACK).widens(terms(BASE, TRACK))


def test_only_rules_that_rest_on_consent_are_terms():
    plain = policy(rule("a"), rule("b", basis="safety"), rule("c", category=IMAGE))
    assert asked(plain) == (IMAGE, TRACK)
    assert len(terms(plain, TRACK).clauses) == 1
    assert asked(None) == ()
    assert terms(plain, "battery") == Terms("battery")


def test_terms_say_everything_that_is_agreed_to():
    clause = terms(BASE, TRACK).clauses[0]
    assert (clause.purpose, clause.recipients, clause.keep_s) == ("navigation", "region", 86_400)
    assert (clause.space_m, clause.time_ns) == (100, 10**10)
    assert [one.name for one in clause.signals] == ["M.Latitude", "M.Longitude"]


@pytest.mark.parametrize(
    "more",
    [
        {"purpose": "insurance"},
        {"recipients": sealed_pb2.SHARED},
        {"recipients": sealed_pb2.OWNER},
        {"keep_s": 86_401},
        {"space_m": 99},
        {"space_m": 0},
        {"every_ns": 10**9},
        {"every_ns": 0},
        {"signals": (SignalSelector("*", 0), SignalSelector("*", 1), SignalSelector("*", 2))},
        {"signals": (), "frames": (ANY_FRAMES,)},
    ],
    ids=str,
)
def test_more_than_was_agreed_to_needs_a_new_consent(more):
    assert widened(**more)


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"id": "another name"},
        {"necessity": "other words"},
        {"keep_s": 60},
        {"recipients": sealed_pb2.BOTH},
        {"space_m": 1000},
        {"every_ns": 60 * 10**9},
        {"signals": (SignalSelector("can0", 0),)},
        {"flush_ns": 10**8},
    ],
    ids=str,
)
def test_less_than_was_agreed_to_does_not(more):
    assert not widened(**more)


def test_two_purposes_that_were_agreed_to_apart_do_not_add_up():
    """The sum of all purposes and all signals is not what anybody agreed to."""
    speed, place = (SignalSelector("*", 2),), (SignalSelector("*", 0),)
    agreed = terms(policy(rule("a", signals=place), rule("b", signals=speed, purpose="insurance")),
                   TRACK)  # fmt: skip
    assert terms(policy(rule("a", signals=place, purpose="insurance")), TRACK).widens(agreed)
    assert not terms(policy(rule("a", signals=speed, purpose="insurance")), TRACK).widens(agreed)


def test_other_bits_under_an_old_name_are_another_signal():
    layouts = (replace(BASE.layouts[0], start=32), *BASE.layouts[1:])
    assert terms(again(BASE, layouts=layouts), TRACK).widens(terms(BASE, TRACK))


@pytest.mark.parametrize(
    ("frames", "more"),
    [
        (FrameSelector("can0", 0x120, 0x130, extended=False, every_id=False), False),
        (FrameSelector("can0", 0x1FF, 0x200, extended=False, every_id=False), True),
        (FrameSelector("can0", 0x120, 0x120, extended=True, every_id=False), True),
        (FrameSelector("*", 0x120, 0x120, extended=False, every_id=False), True),
        (FrameSelector("can0", 0, 0x1FFFFFFF, extended=False, every_id=True), True),
    ],
)
def test_frames_are_compared_as_ranges(frames, more):
    before = policy(rule("raw", signals=(), frames=(ANY_FRAMES,), every_ns=0))
    after = policy(rule("raw", signals=(), frames=(frames,), every_ns=0))
    assert terms(after, TRACK).widens(terms(before, TRACK)) is more


def test_parked_camera_is_a_term_of_its_category():
    with_camera = policy(rule("track"), camera=parked_camera())
    assert asked(with_camera) == (PARKED, TRACK)
    assert terms(with_camera, PARKED).clauses == (
        Clause("owner_access", "owner", 3600, camera=True),
    )
    assert terms(with_camera, PARKED).widens(Terms(PARKED))
    longer = policy(camera=parked_camera(keep_s=7200))
    assert terms(longer, PARKED).widens(terms(with_camera, PARKED))


def test_digest_names_the_terms_and_nothing_else():
    assert terms(BASE, TRACK).digest == terms(policy(rule("x", necessity="y")), TRACK).digest
    digests = {
        terms(policy(rule("track", **more)), TRACK).digest
        for more in ({}, {"purpose": "insurance"}, {"keep_s": 1}, {"space_m": 1}, {"every_ns": 1},
                     {"signals": (SignalSelector("can0", 0),)},
                     {"frames": (ANY_FRAMES,)})
    }  # fmt: skip
    assert len(digests) == 7


# --- widening, for any two policies -----------------------------------------------------------

RULES = st.builds(
    lambda purpose, recipients, keep, space, every, signals, channel: rule(
        "r", purpose=purpose, recipients=recipients, keep_s=keep, space_m=space, every_ns=every,
        signals=tuple(SignalSelector(channel, one) for one in sorted(signals)),
    ),
    st.sampled_from(("navigation", "insurance")),
    st.sampled_from((sealed_pb2.REGION, sealed_pb2.OWNER, sealed_pb2.SHARED, sealed_pb2.BOTH)),
    st.sampled_from((60, 3600)), st.sampled_from((0, 100)), st.sampled_from((0, 10**9)),
    st.sets(st.integers(0, 2), min_size=1), st.sampled_from(("*", "can0")),
)  # fmt: skip
POLICIES = st.lists(RULES, min_size=1, max_size=3).map(lambda rules: policy(*rules))
OPENERS = {
    "region": {frozenset({"region"})}, "owner": {frozenset({"owner"})},
    "shared": {frozenset({"region"}), frozenset({"owner"})},
    "both": {frozenset({"region", "owner"})},
}  # fmt: skip


def facts(some) -> set[tuple]:
    """Everything that happens under terms, one tiny fact at a time: the straightforward way."""
    found = set()
    for clause in some.clauses:
        for signal in clause.signals:
            for channel in ("can0", "can1") if signal.channel == "*" else (signal.channel,):
                for opener in OPENERS[clause.recipients]:
                    for who in (opener, opener | {"region"}, opener | {"owner"}):
                        found |= {
                            (signal.name, channel, clause.purpose, who, keep, space, time)
                            for keep in (60, 3600) if keep <= clause.keep_s
                            for space in (0, 100) if space >= clause.space_m
                            for time in (0, 10**9) if time >= clause.time_ns
                        }  # fmt: skip
    return found


def never_more(wanted, agreed, widens) -> bool:
    """What is called no widening adds not one fact."""
    return widens(wanted, agreed) or facts(wanted) <= facts(agreed)


@given(POLICIES, POLICIES)
@settings(max_examples=150)
def test_what_is_not_called_a_widening_adds_nothing(one, other):
    assert never_more(terms(one, TRACK), terms(other, TRACK), Terms.widens)


@given(POLICIES)
@settings(max_examples=30)
def test_the_same_terms_are_no_widening(one):
    assert not terms(one, TRACK).widens(terms(one, TRACK))


def test_a_planted_bug_is_found():
    """Comparing purposes, recipients and signals each as one sum lets something through."""

    def sloppy(wanted: Terms, agreed: Terms) -> bool:
        def sums(some: Terms) -> tuple[set, set, set]:
            clauses = some.clauses
            return ({one.purpose for one in clauses}, {one.recipients for one in clauses},
                    {term.name for one in clauses for term in one.signals})  # fmt: skip

        return any(a - b for a, b in zip(sums(wanted), sums(agreed), strict=True))

    place, speed = (SignalSelector("*", 0),), (SignalSelector("*", 2),)
    plain = {"every_ns": 0, "keep_s": 3600}
    one = policy(rule("a", signals=place, purpose="insurance", **plain))
    other = policy(rule("a", signals=place, **plain),
                   rule("b", signals=speed, purpose="insurance", **plain))  # fmt: skip
    assert never_more(terms(one, TRACK), terms(other, TRACK), Terms.widens)
    assert not never_more(terms(one, TRACK), terms(other, TRACK), sloppy)


# --- the book ---------------------------------------------------------------------------------


def granted(*, days: float = 30, each_drive: bool = False, base=BASE) -> Book:
    return Book().grant(
        terms(base, TRACK), now_ns=NOW_NS, until_ns=NOW_NS + int(days * DAY_NS),
        each_drive=each_drive,
    )  # fmt: skip


def due(book: Book, now_ns: int = NOW_NS, *, drive: int = 1, by=BASE) -> dict[str, State]:
    wanted = wants(by)
    return book.due(now_ns, drive=drive, wanted=wanted, widened=book.widened(wanted))


def test_nobody_has_agreed_to_anything_to_begin_with():
    assert Book().state(TRACK) is State.NEVER_ASKED
    assert due(Book()) == {}


@pytest.mark.parametrize("days", [366, 10_000, 0, -1])
def test_always_is_no_consent(days):
    with pytest.raises(ValueError, match="365 days"):
        granted(days=days)


def test_there_must_be_something_to_agree_to():
    with pytest.raises(ValueError, match="nothing to agree"):
        Book().grant(Terms(TRACK), now_ns=1, until_ns=2, each_drive=False)


def test_ends_at_its_moment():
    book = granted(days=30)
    assert due(book, NOW_NS + 30 * DAY_NS - 1) == {}
    assert due(book, NOW_NS + 30 * DAY_NS) == {TRACK: State.EXPIRED}


def test_policy_that_allows_less_time_ends_it_sooner():
    shorter = again(BASE, consents=(ConsentTerm(TRACK, 10, each_drive=False),))
    assert due(granted(), NOW_NS + 10 * DAY_NS, by=shorter) == {TRACK: State.EXPIRED}


def test_clock_that_is_set_back_gives_no_more_time():
    book = granted(days=30).see(NOW_NS + 29 * DAY_NS, drive=1, driving=True)
    book = book.see(NOW_NS + 30 * DAY_NS, drive=1, driving=True)  # seen an hour later or more
    assert due(book, NOW_NS) == {TRACK: State.EXPIRED}


def test_ended_consent_is_over_whatever_the_clock_says():
    book = granted().end(TRACK, State.EXPIRED, now_ns=NOW_NS)
    assert book.state(TRACK) is State.EXPIRED
    assert due(book, NOW_NS - 30 * DAY_NS) == {}


def test_clock_of_a_command_that_is_ahead_gives_no_more_than_was_agreed():
    ahead = NOW_NS + 300 * DAY_NS
    book = Book().grant(terms(BASE, TRACK), now_ns=ahead, until_ns=ahead + 30 * DAY_NS,
                        each_drive=False).see(NOW_NS, drive=1, driving=True)  # fmt: skip
    assert due(book, NOW_NS + 30 * DAY_NS - 1) == {}
    assert due(book, NOW_NS + 30 * DAY_NS) == {TRACK: State.EXPIRED}


def test_grant_for_a_drive_ends_with_it():
    book = granted(each_drive=True).see(NOW_NS, drive=4, driving=True)
    assert due(book, drive=4) == {}
    assert due(book, drive=5) == {TRACK: State.RESET}
    assert due(book, drive=0) == {TRACK: State.RESET}  # the count was lost


def test_grant_in_a_standing_car_is_for_the_next_drive():
    book = granted(each_drive=True).see(NOW_NS, drive=4, driving=False)
    assert [due(book, drive=one) for one in (4, 5)] == [{}, {}]
    assert due(book, drive=6) == {TRACK: State.RESET}


def test_category_that_the_policy_resets_is_reset_whatever_the_grant_says():
    each = again(BASE, consents=(ConsentTerm(TRACK, 90, each_drive=True),))
    book = granted().see(NOW_NS, drive=1, driving=True)
    assert due(book, drive=2) == {}
    assert due(book, drive=2, by=each) == {TRACK: State.RESET}


def test_wider_policy_needs_a_renewal():
    wider = policy(rule("track", purpose="insurance"))
    assert due(granted(), by=wider) == {TRACK: State.NEEDS_RENEWAL}
    assert due(granted(), by=policy(rule("track", keep_s=60))) == {}
    assert due(granted(), by=None) == {}


def test_changes_wait_until_they_are_told():
    book = granted().end(TRACK, State.WITHDRAWN, now_ns=NOW_NS)
    assert [(one.serial, one.state) for one in book.changes] == [
        (1, State.GRANTED), (2, State.WITHDRAWN),
    ]  # fmt: skip
    assert book.changes[0].digest == terms(BASE, TRACK).digest
    book = book.tell(1)
    assert [one.serial for one in book.changes] == [2]
    assert book.tell(0) == book
    assert book.tell(99).told == 2


def test_seeing_the_time_is_not_worth_a_write_each_time():
    book = granted().see(NOW_NS, drive=1, driving=True)
    assert book.see(NOW_NS + 10**9, drive=1, driving=True) is book
    assert book.see(NOW_NS + 3600 * 10**9, drive=2, driving=False) is not book


def test_layout_has_a_text_for_every_kind_of_signal():
    """Multiplexed, big endian, extended: all of it is where the bits stand."""
    from agent.policy.model import MuxLayout

    layout = SignalLayout(0x18FEF31C, True, 7, 16, True, 1, (MuxLayout(0, 4, False, ((1, 3),)),))
    odd = again(BASE, layouts=(layout, *BASE.layouts[1:]))
    place = terms(odd, TRACK).clauses[0].signals[0].place
    assert place == "18FEF31Cx/7+16m/signed?0+4=1-3"
