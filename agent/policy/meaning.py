"""The tree of a condition as a function of what its signals were; `conditions.py` is the contract.

Numbers are float64, NaN if unknown, never infinite; truths are pairs of arrays, as `windows.py`
says. Where no signal has a part there is one value for all instants.

Pure but for what tracks and runs remember.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from agent.policy.expression import label_raws
from agent.policy.model import SignalInfo
from agent.policy.nodes import (
    Arithmetic,
    Changed,
    Compare,
    Held,
    Junction,
    Label,
    Name,
    Negative,
    Node,
    Not,
    Number,
    Window,
)
from agent.policy.physical import Floats, Ints, physical
from agent.policy.windows import Bools, Run, Track, Truths, known

Find = Callable[[Ints], Any]  # stamps of the instants -> numbers or truths
Terms = Mapping[str, tuple[Track, SignalInfo]]

_COMPARE: Final = {
    "==": np.equal, "!=": np.not_equal, "<": np.less, "<=": np.less_equal,
    ">": np.greater, ">=": np.greater_equal,
}  # fmt: skip
_COMBINE: Final = {"+": np.add, "-": np.subtract, "*": np.multiply, "/": np.divide}


def meaning(node: Node, terms: Terms, runs: list[Run]) -> Find:
    """Return what finds a node's value at the instants that its tracks have just taken.

    It is to be called once a stretch, for those with `for` remember every instant; so all items of
    a junction are evaluated, whatever the first ones say.

    Args:
        node: checked by `check_condition`.
        terms: of each name, its samples and what it is.
        runs: those of the node are added.
    """
    match node:
        case Number():
            number = np.array(node.value)  # without dimensions: numpy has nothing to convert
            return lambda _: number
        case Name() | Window() | Changed():
            return _signal(node, terms)
        case Compare():
            return _compare(node, terms, runs)
        case Label():
            raise ValueError(f"the label {node.label} stands alone")
        case _:
            return _combined(node, terms, runs)


def _signal(node: Name | Window | Changed, terms: Terms) -> Find:
    track, _ = terms[node.name if isinstance(node, Name) else node.of.name]
    match node:
        case Name():
            return lambda _: track.value()
        case Changed():
            return lambda _: track.changed()
        case Window():
            function, span_ns = node.function, node.over_ns
            return lambda _: track.over(function, span_ns)


def _combined(
    node: Negative | Arithmetic | Not | Held | Junction, terms: Terms, runs: list[Run]
) -> Find:
    match node:
        case Arithmetic():
            return _arithmetic(node, terms, runs)
        case Junction():
            return _junction(node, terms, runs)
        case _:
            of = meaning(node.of, terms, runs)
    match node:
        case Negative():
            return lambda t: -of(t)
        case Not():
            return lambda t: _contrary(*of(t))
        case Held():
            run = Run(node.for_ns)
            runs.append(run)
            return lambda t: run.take(t, _for_all(t, *of(t)))


def _arithmetic(node: Arithmetic, terms: Terms, runs: list[Run]) -> Find:
    first = meaning(node.first, terms, runs)
    rest = [(_COMBINE[sign], meaning(operand, terms, runs)) for sign, operand in node.rest]

    def find(t: Ints) -> Any:
        numbers = first(t)
        for combine, operand in rest:
            numbers = known(combine(numbers, operand(t)))
        return numbers

    return find


def _contrary(sure: Bools, maybe: Bools) -> Truths:
    contrary = ~maybe
    return contrary, contrary if maybe is sure else ~sure


def _for_all(t: Ints, sure: Bools, maybe: Bools) -> Truths:
    if sure.shape == t.shape:
        return sure, maybe
    one = np.broadcast_to(sure, t.shape)
    return one, one if maybe is sure else np.broadcast_to(maybe, t.shape)


def _junction(node: Junction, terms: Terms, runs: list[Run]) -> Find:
    items = [meaning(one, terms, runs) for one in node.items]
    combine = np.logical_and if node.word == "and" else np.logical_or

    def find(t: Ints) -> Truths:
        sure, maybe = items[0](t)
        for item in items[1:]:
            other, others = item(t)
            clear = maybe is sure and others is other
            sure = combine(sure, other)
            maybe = sure if clear else combine(maybe, others)
        return sure, maybe

    return find


def _compare(node: Compare, terms: Terms, runs: list[Run]) -> Find:
    left, right = node.left, node.right
    if isinstance(left, Label):
        left, right = right, left
    numbers = meaning(left, terms, runs)
    if isinstance(right, Label) and isinstance(left, Name):
        info = terms[left.name][1]
        raws = np.array(label_raws(right, info), np.int64)
        return _labelled(numbers, physical(raws, info), is_in=node.sign == "==")
    others = meaning(right, terms, runs)
    compare = _COMPARE[node.sign]

    def find(t: Ints) -> Truths:
        ours, theirs = numbers(t), others(t)
        return _if_known(compare(ours, theirs), ours, theirs)

    return find


def _labelled(numbers: Find, values: Floats, *, is_in: bool) -> Find:
    def find(t: Ints) -> Truths:
        ours = numbers(t)
        yes = ours == values[0] if len(values) == 1 else np.isin(ours, values)
        return _if_known(yes if is_in else ~yes, ours)

    return find


def _if_known(yes: Bools, *numbers: Floats) -> Truths:
    """Return the truth of what was found of some numbers, which say nothing where they are NaN."""
    sure = maybe = yes
    for one in numbers:
        # Finite or NaN, they have a sum of squares that is NaN if one of them is.
        if math.isnan(one.dot(one) if one.ndim else one):
            is_number = one == one  # noqa: PLR0124 - NaN alone differs from itself
            sure, maybe = sure & is_number, maybe | ~is_number
    return sure, maybe
