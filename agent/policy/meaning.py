"""The tree of a condition as a function of what its signals were; `conditions.py` is the contract.

Numbers are float64, NaN if unknown, never infinite; truths are pairs of arrays, as `windows.py`
says. Where no signal has a part there is one value for all instants.

Most conditions are far from true. So numbers have bounds for all instants of a stretch, which are
found much sooner than the numbers; most comparisons are decided by them, for good: then the truth
is NO or YES, and what is made of it costs next to nothing. Rounding does not upset this: each step
of a calculation is monotonic in float64 as it is among the real numbers.

Pure but for what tracks and runs remember.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from agent.policy.expression import label_raws
from agent.policy.instants import Instants
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
from agent.policy.truths import NO, YES, Bools, Run, Truths
from agent.policy.windows import OPEN, Bounds, Track, known

Terms = Mapping[str, tuple[Track, SignalInfo]]

_COMPARE: Final = {
    "==": np.equal, "!=": np.not_equal, "<": np.less, "<=": np.less_equal,
    ">": np.greater, ">=": np.greater_equal,
}  # fmt: skip
_COMBINE: Final = {"+": np.add, "-": np.subtract, "*": np.multiply, "/": np.divide}
_PLAIN: Final = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Numbers:
    """A number at each instant of the stretch that its tracks have just taken.

    Attributes:
        find: finds them.
        bounds: finds what all of them lie between.
    """

    find: Callable[[Instants], Floats]
    bounds: Callable[[], Bounds]


@dataclass(frozen=True, slots=True)
class Finding:
    """A truth at each instant of the stretch that its tracks have just taken.

    Attributes:
        find: finds it; to be called once a stretch if there is a `for` in it.
        soon: says NO or YES if that is plain, else None; there is no `for` in it. None: it cannot.
    """

    find: Callable[[Instants], Truths]
    soon: Callable[[], Truths | None] | None = None

    def ask(self, instants: Instants) -> Truths:
        """Return the truth."""
        truth = self.soon() if self.soon is not None else None
        return self.find(instants) if truth is None else truth


def meaning(node: Node, terms: Terms, runs: list[Run]) -> Finding:
    """Return what finds a node's truth at the instants that its tracks have just taken.

    It is to be asked once a stretch, for those with `for` remember every instant.

    Args:
        node: checked by `check_condition`.
        terms: of each name, its samples and what it is.
        runs: those of the node are added.
    """
    match node:
        case Changed():
            track = terms[node.of.name][0]
            return Finding(lambda _: track.changed(), lambda: NO if track.is_steady() else None)
        case Compare():
            return _compare(node, terms)
        case Junction():
            return _junction(node, terms, runs)
        case Not():
            return _not(meaning(node.of, terms, runs))
        case Held():
            of, run = meaning(node.of, terms, runs), Run(node.for_ns)
            runs.append(run)
            return Finding(lambda instants: _held(run, instants, of.ask(instants)))
        case _:
            raise ValueError(f"{node} is not true or false")


def _numbers(node: Node, terms: Terms) -> Numbers:
    match node:
        case Number():
            number = np.array(node.value)  # without dimensions: numpy has nothing to convert
            bounds = node.value, node.value
            return Numbers(lambda _: number, lambda: bounds)
        case Name():
            track = terms[node.name][0]
            return Numbers(lambda _: track.value(), lambda: track.bounds("value", 0))
        case Window():
            track, function, span_ns = terms[node.of.name][0], node.function, node.over_ns
            return Numbers(
                lambda _: track.over(function, span_ns), lambda: track.bounds(function, span_ns)
            )
        case Negative():
            of = _numbers(node.of, terms)
            return Numbers(lambda instants: -of.find(instants), lambda: _negative(*of.bounds()))
        case Arithmetic():
            return _arithmetic(node, terms)
        case _:
            raise ValueError(f"{node} is no number")


def _arithmetic(node: Arithmetic, terms: Terms) -> Numbers:
    first = _numbers(node.first, terms)
    rest = [(sign, _numbers(operand, terms)) for sign, operand in node.rest]

    def find(instants: Instants) -> Floats:
        numbers = first.find(instants)
        for sign, operand in rest:
            numbers = known(_COMBINE[sign](numbers, operand.find(instants)))
        return numbers

    def bounds() -> Bounds:
        found = first.bounds()
        for sign, operand in rest:
            found = _between(sign, found, operand.bounds())
        return found

    return Numbers(find, bounds)


def _negative(least: float, most: float) -> Bounds:
    return -most, -least


def _between(sign: str, ours: Bounds, theirs: Bounds) -> Bounds:
    """Return the bounds of what comes of two numbers: it is most or least at ends of both."""
    if sign == "/" and not (theirs[0] > 0 or theirs[1] < 0):
        return OPEN
    ends = [_PLAIN[sign](one, other) for one in ours for other in theirs]
    return (min(ends), max(ends)) if math.isfinite(sum(ends)) else OPEN


def _compare(node: Compare, terms: Terms) -> Finding:
    left, right = node.left, node.right
    if isinstance(left, Label):
        left, right = right, left
    ours = _numbers(left, terms)
    if isinstance(right, Label) and isinstance(left, Name):
        info = terms[left.name][1]
        values = physical(np.array(label_raws(right, info), np.int64), info)
        return _labelled(ours, values, is_in=node.sign == "==")
    theirs = _numbers(right, terms)
    compare, sign = _COMPARE[node.sign], node.sign

    def find(instants: Instants) -> Truths:
        one, other = ours.find(instants), theirs.find(instants)
        return _if_known(compare(one, other), one, other)

    return Finding(find, lambda: _decided(sign, ours.bounds(), theirs.bounds()))


def _decided(sign: str, ours: Bounds, theirs: Bounds) -> Truths | None:
    """Return what a comparison says throughout, if bounds tell; NaN decides nothing."""
    if sign in ("<=", ">"):  # the other way round: a <= b is b >= a
        ours, theirs = theirs, ours
    if sign in ("<", ">"):
        return YES if ours[1] < theirs[0] else NO if ours[0] >= theirs[1] else None
    if sign in ("<=", ">="):
        return YES if ours[0] >= theirs[1] else NO if ours[1] < theirs[0] else None
    if ours[1] < theirs[0] or ours[0] > theirs[1]:
        return NO if sign == "==" else YES
    if ours[0] == ours[1] == theirs[0] == theirs[1]:
        return YES if sign == "==" else NO
    return None


def _labelled(numbers: Numbers, values: Floats, *, is_in: bool) -> Finding:
    inside, outside = (YES, NO) if is_in else (NO, YES)
    plain = values.tolist()

    def find(instants: Instants) -> Truths:
        ours = numbers.find(instants)
        yes = ours == values[0] if len(values) == 1 else np.isin(ours, values)
        return _if_known(yes if is_in else ~yes, ours)

    def soon() -> Truths | None:
        least, most = numbers.bounds()
        if least == most:
            return inside if least in plain else outside
        return None if math.isnan(least) or any(least <= x <= most for x in plain) else outside

    return Finding(find, soon)


def _not(of: Finding) -> Finding:
    if of.soon is None:
        return Finding(lambda instants: _contrary(of.find(instants)))
    soon = of.soon

    def contrary_soon() -> Truths | None:
        truth = soon()
        return None if truth is None else _contrary(truth)

    return Finding(lambda instants: _contrary(of.find(instants)), contrary_soon)


def _contrary(truth: Truths) -> Truths:
    if truth is NO or truth is YES:
        return YES if truth is NO else NO
    sure, maybe = truth
    contrary = ~maybe
    return contrary, contrary if maybe is sure else ~sure


def _held(run: Run, instants: Instants, truth: Truths) -> Truths:
    if truth is NO:
        return run.end()
    if truth is YES and run.goes_on(instants.first_ns):
        return YES
    return run.take(instants.t, for_all(instants.t, *truth))


def _junction(node: Junction, terms: Terms, runs: list[Run]) -> Finding:
    items = [meaning(one, terms, runs) for one in node.items]
    quick = [(item.soon, item.find) for item in items if item.soon is not None]
    slow = [item.find for item in items if item.soon is None]  # a `for` may be in them
    decides, other = (NO, YES) if node.word == "and" else (YES, NO)
    combine = np.logical_and if node.word == "and" else np.logical_or

    def find(instants: Instants) -> Truths:
        found = [one(instants) for one in slow]
        left = []
        for soon, one in quick:
            truth = soon()
            if truth is decides:
                return decides
            if truth is None:
                left.append(one)
        if any(truth is decides for truth in found):
            return decides
        return _joined([*found, *(one(instants) for one in left)])

    def _joined(truths: list[Truths]) -> Truths:
        sure, maybe = result = other
        for truth in truths:
            if result is other:
                result = truth
            elif truth is not other:
                clear = maybe is sure and truth[1] is truth[0]
                sure = combine(sure, truth[0])
                result = sure, sure if clear else combine(maybe, truth[1])
            sure, maybe = result
        return result

    return Finding(find)


def for_all(t: Ints, sure: Bools, maybe: Bools) -> Truths:
    """Return a truth as one for each instant."""
    if sure.shape == t.shape:
        return sure, maybe
    one = np.broadcast_to(sure, t.shape)
    return one, one if maybe is sure else np.broadcast_to(maybe, t.shape)


def _if_known(yes: Bools, *numbers: Floats) -> Truths:
    """Return the truth of what was found of some numbers, which say nothing where they are NaN."""
    sure = maybe = yes
    for one in numbers:
        # Finite or NaN, they have a sum of squares that is NaN if one of them is.
        if math.isnan(one.dot(one) if one.ndim else one):
            is_number = one == one  # noqa: PLR0124 - NaN alone differs from itself
            sure, maybe = sure & is_number, maybe | ~is_number
    return sure, maybe
