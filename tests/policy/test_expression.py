"""The language of conditions: good texts come back as they are, bad ones say where and why."""

from __future__ import annotations

from fractions import Fraction
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.policy import grammar
from agent.policy.clauses import MAX_CONDITION, Condition, SignalSelector
from agent.policy.expression import (
    ExpressionError,
    check_condition,
    labels,
    names,
    parse,
    text_of,
    type_check,
)
from agent.policy.grammar import MAX_DEPTH, MAX_NODES, MAX_SPAN_NS
from agent.policy.model import UNSIGNED, SignalInfo
from agent.policy.nodes import Compare, Held, Junction, Name, Negative, Not, Number, Window
from agent.units import DURATIONS
from tests.policy.conditioning import car, condition, random_text
from tests.policy.making import RANDOMS, over_seeds

SPEED = Name("Speed")
MANUAL = "DI_vehicleSpeed > 30 and rate(DI_vehicleSpeed, 0.5s) < -25 for 150ms"


def test_the_manuals_example_holds_the_rate_alone():
    speed = Name("DI_vehicleSpeed")
    falls = Compare("<", Window("rate", speed, 500 * 10**6), Negative(Number(25.0)))
    assert parse(MANUAL) == Junction(
        "and", (Compare(">", speed, Number(30.0)), Held(falls, 150 * 10**6))
    )


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("Speed > 1 or Speed > 2 and Speed > 3", "Speed > 1 or (Speed > 2 and Speed > 3)"),
        ("not Speed > 1 and Speed > 2", "(not (Speed > 1)) and Speed > 2"),
        ("not Speed > 1 for 2s", "(not Speed > 1) for 2s"),
        ("Speed > 1 and Speed > 2 for 2s", "Speed > 1 and (Speed > 2 for 2s)"),
        ("Speed + 1 * 2 > -3 - 4", "(Speed + (1 * 2)) > ((-3) - 4)"),
        ("Speed - 1 - 2 > 0", "(Speed - 1) - 2 > 0"),
        ("Speed / 2 * 3 > 0", "(Speed / 2) * 3 > 0"),
        ("-Speed * 2 > 0", "(-Speed) * 2 > 0"),
        ("Speed > 1 for 0.5s", "Speed > 1 for 500 ms"),
        ("Speed > 1 for 1min", "Speed\n > 1\tfor 60s"),
    ],
)
def test_operators_bind_as_the_table_says(text: str, meant: str):
    """`Speed - 1 - 2` is a chain and not nested; it is compared by its value."""
    if "- 1 -" in text or "/ 2 *" in text:
        assert text_of(parse(text)) == text
    else:
        assert parse(text) == parse(meant)


def test_names_come_once_in_the_order_of_the_text():
    text = "can0:Drive.Speed > Gear and changed(Speed) or min(Gear, 1s) > min"
    assert names(parse(text)) == ("can0:Drive.Speed", "Gear", "Speed", "min")


@pytest.mark.parametrize(
    ("text", "column", "what"),
    [
        ("", 1, "ends where a value should stand"),
        ("Speed >", 8, "ends where a value should stand"),
        ("Speed", 1, "'Speed' is a number where true or false is needed; compare it, like Speed"),
        ("Speed > 1 and Brake", 15, "compare it, like Brake != 0"),
        ("Speed + 1", 7, "compare it, like ... > 0"),
        ("Speed = 1", 7, "write == to compare"),
        ("Speed > 1 && Brake > 1", 11, "write and"),
        ("!Brake > 1", 1, "write not"),
        ("Gear == 'D'", 9, "double quotes"),
        ('Gear == "D', 9, "close the label"),
        ('Gear < "D"', 8, "beside == or != with a signal"),
        ('Gear + 1 == "D"', 13, "beside == or != with a signal"),
        ('Gear == "D" + 1', 9, "beside == or != with a signal"),
        ('"D"', 1, "beside == or != with a signal"),
        ("1 < Speed < 3", 11, "not chained; write a < b and b < c"),
        ("Speed > 1e3", 9, "'1e3' is neither a number nor a duration"),
        ("Speed > 30km", 9, "'30km'"),
        ("Speed > 30s", 9, "'30s' is a duration; a number has no unit here"),
        ("Speed > .5", 9, "write numbers as 0.5"),
        ("Speed > 1 for 150", 15, "'150' where 'for' needs a duration like 150ms"),
        ("Speed > 1 for", 14, "the end where 'for' needs a duration"),
        ("Speed > 1 for 61s", 15, "whole ns, from 1ns to 60s"),
        ("Speed > 1 for 0s", 15, "from 1ns to 60s"),
        ("Speed > 1 for 0.5ns", 15, "whole ns"),
        ("Speed > 1 for 1s for 2s", 18, "a second 'for'"),
        ("rate(Speed, 2min) > 1", 13, "from 1ns to 60s"),
        ("rate(Speed) > 1", 11, "write rate(Speed, 0.5s)"),
        ("rate(Speed + 1, 1s) > 1", 12, "write rate(Speed, 0.5s)"),
        ("changed(Speed, 1s)", 14, "write changed(Speed)"),
        ("changed(Speed) > 1", 1, "is true or false where a number is needed"),
        ("average(Speed, 1s) > 1", 1, "there is no function 'average'"),
        ("maxx(Speed, 1s) > 1", 1, "nearest function is 'max'"),
        ("(Speed > 1", 11, "')' is missing for '(' at 1"),
        ("Speed > 1)", 10, "')' closes nothing"),
        ("Speed > 1 Brake", 11, "'Brake' where an operator should stand"),
        ("Speed > and", 9, "'and' where a value should stand"),
        ("1 > 2", 1, "names no signal"),
        ("vcan-1:Speed > 1", 7, "write a bus before it"),
        ("Speed > \x07", 9, "'\\x07' is no part of an expression"),
        ("Speed > 1" + "0" * 400, 9, "too large"),
        (f"Speed > {'(' * 30}1{')' * 30}", 9 + MAX_DEPTH, "nested too deeply"),
        (f"Speed > {'-' * 30}1", 9 + MAX_DEPTH, "nested too deeply"),
        (f"{'not ' * 30}Speed > 1", 1 + 4 * MAX_DEPTH, "nested too deeply"),
        ("Speed > " + "1+" * 300 + "1", 10 + 2 * (MAX_NODES - 1), "at most 256"),
        ("Speed > 1" + " " * MAX_CONDITION, MAX_CONDITION + 1, "too long"),
    ],
)  # fmt: skip
def test_an_error_says_where_and_what_would_be_right(text: str, column: int, what: str):
    with pytest.raises(ExpressionError) as caught:
        parse(text)
    assert caught.value.column == column, caught.value
    assert what in caught.value.what
    assert str(caught.value) == f"column {column}: {caught.value.what}"


def test_the_bounds_can_be_reached():
    parse(f"Speed > {'(' * MAX_DEPTH}1{')' * MAX_DEPTH}")
    parse("Speed > " + "1+" * (MAX_NODES - 1) + "1")
    parse(" or ".join(["S>1"] * (MAX_NODES // 2)))
    parse(f"mean(Speed, 60s) > {'1' * 300} for 60s")


def check_round_trip(rng: Random) -> None:
    node = parse(random_text(rng))
    assert parse(text_of(node)) == node
    assert text_of(parse(text_of(node))) == text_of(node)


@given(RANDOMS)
@settings(max_examples=200, deadline=None)
def test_the_text_of_a_tree_gives_the_same_tree(rng: Random):
    check_round_trip(rng)


@given(st.floats(0, allow_infinity=False, allow_nan=False))
@settings(max_examples=100, deadline=None)
def test_any_number_comes_back_from_its_text(number: float):
    node = Compare(">", SPEED, Number(number))
    assert parse(text_of(node)) == node


def test_a_text_without_its_parentheses_is_found(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("agent.policy.nodes._within", lambda node, _: text_of(node))
    with pytest.raises((AssertionError, ExpressionError)):
        over_seeds(check_round_trip)


# --- whatever the text -------------------------------------------------------------------------

PIECES = (
    "Speed", "can0:M.S", "and", "or", "not", "for", "(", ")", "-", "+", "*", "/", "<", "==", "!=",
    "rate(", "changed(", "min(", ", 1s)", "150ms", "1", "2.5", '"D"', '"', " ", ":", ".", "é", "\0",
    "1e9", "٣", "µs", "9" * 330,
)  # fmt: skip


def check_whatever(text: str) -> None:
    try:
        node = parse(text)
    except ExpressionError as error:
        found = error
        node = None
    if node is None:
        assert 1 <= found.column <= len(text) + 1
        assert found.what.isprintable()
        return
    type_check(node)
    assert parse(text_of(node)) == node


def check_mutated(rng: Random) -> None:
    if rng.random() < 0.5:
        check_whatever("".join(rng.choices(PIECES, k=rng.randrange(40))))
        return
    text = random_text(rng)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(text) + 1)
        text = text[:at] + rng.choice((*PIECES, "")) + text[at + rng.randrange(4) :]
    check_whatever(text)


@given(st.text(st.characters(max_codepoint=0x4FF), max_size=80))
@settings(max_examples=100, deadline=None)
def test_any_text_is_a_tree_or_an_error(text: str):
    check_whatever(text)


@given(RANDOMS)
@settings(max_examples=400, deadline=None)
def test_any_mutated_text_is_a_tree_or_an_error(rng: Random):
    check_mutated(rng)


@pytest.mark.parametrize("piece", ["(", "-", "not ", "not (", "-(", "rate(", '"', "1 for 1s for "])
def test_no_text_recurses_beyond_its_bounds(piece: str):
    for text in (piece * 600, "Speed > " + piece * 500, piece * 100 + "Speed > 1"):
        with pytest.raises(ExpressionError):
            parse(text)


def test_a_parser_without_its_bound_is_found(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(grammar, "MAX_DEPTH", 10**6)
    with pytest.raises(RecursionError):
        test_no_text_recurses_beyond_its_bounds("(")


def test_a_parser_that_lets_a_type_through_is_found(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("agent.policy.expression.type_check", lambda node: None)
    with pytest.raises(ExpressionError):
        over_seeds(check_mutated, 3000)


# --- the door's check --------------------------------------------------------------------------

INFOS = car()[0]


def test_a_good_condition_passes():
    check_condition(condition('Gear == "D" and can0:M100.Speed > 3', INFOS), INFOS)


def test_labels_stand_beside_their_signals():
    node = parse('Gear == "D" or "R" != Other')
    assert [(name.name, label.label) for name, label in labels(node)] == [
        ("Gear", "D"), ("Other", "R"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "terms", "column", "what"),
    [
        ("Speed > 1 and Gear > 1", {"Speed": ("*", 0)}, 15, "build it again"),
        ("Speed > 1", {"Speed": ("*", 0), "Gear": ("*", 2)}, 1, "build it again"),
        ("Speed > 1 and Gear > 1", {"Gear": ("*", 2), "Speed": ("*", 0)}, 1, "build it again"),
        ("Speed > 1 and Torque > 1", {"Speed": ("*", 0), "Torque": ("*", 9)}, 15, "no signal"),
        ("1 < Speed", {"Speed": ("*", 1)}, 5, "'Speed' means *:M100.Torque"),
        ("can0:Speed > 1", {"can0:Speed": ("*", 0)}, 1, "means *:M100.Speed"),
        ("M200.Speed > 1", {"M200.Speed": ("*", 0)}, 1, "means *:M100.Speed"),
        ('Gear == "DD"', {"Gear": ("*", 2)}, 9, "nearest label is 'D'"),
        ('Speed == "D"', {"Speed": ("*", 0)}, 10, "'Speed' has no labels"),
        ("Speed >", {"Speed": ("*", 0)}, 8, "ends where"),
    ],
)
def test_the_door_refuses_a_condition_that_does_not_mean_what_it_says(text, terms, column, what):
    selectors = tuple((name, SignalSelector(*one)) for name, one in terms.items())
    with pytest.raises(ExpressionError) as caught:
        check_condition(Condition(text, selectors), INFOS)
    assert caught.value.column == column
    assert what in caught.value.what


def test_the_door_refuses_a_coarse_term():
    """A condition looks at values as they come."""
    with pytest.raises(ExpressionError):
        check_condition(Condition("Speed > 1", (("Speed", SignalSelector("*", 0, 5)),)), INFOS)


def test_a_shared_label_is_offered_once():
    info = SignalInfo("Gear", "M", "", 1.0, 0.0, UNSIGNED, ((0, "a"), (1, "a"), (2, "b")))
    with pytest.raises(ExpressionError, match="write a, b"):
        check_condition(Condition('Gear == "zz"', (("Gear", SignalSelector("*", 0)),)), (info,))


def test_a_tree_made_by_hand_is_type_checked():
    with pytest.raises(ExpressionError):
        type_check(Not(SPEED))


@given(
    st.from_regex(r"\A[0-9]{1,12}(\.[0-9]{1,12})?\Z"),
    st.sampled_from(("ns", "us", "ms", "s", "min")),
)
def test_a_duration_is_whole_ns_or_refused(number: str, unit: str):
    """Exactly, however it is written: what is no whole ns is not rounded."""
    span = Fraction(number) * DURATIONS[unit]
    text = f"Speed > 1 for {number}{unit}"
    if span.denominator == 1 and 0 < span <= MAX_SPAN_NS:
        held = parse(text)
        assert isinstance(held, Held)
        assert held.for_ns == span
    else:
        with pytest.raises(ExpressionError, match="out of range"):
            parse(text)
