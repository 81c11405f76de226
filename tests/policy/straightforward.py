"""Conditions one frame at a time, in plain Python: what the batched evaluation must equal.

Written from the words of the language, not from the other evaluation: it keeps everything that it
has seen since it last forgot, and looks through all of it at each instant.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable

from agent.policy.clauses import Condition, SignalSelector
from agent.policy.expression import parse
from agent.policy.model import FLOAT32, FLOAT64, UNSIGNED, Policy, SignalInfo
from agent.policy.nodes import (
    Arithmetic,
    Changed,
    Compare,
    Held,
    Junction,
    Label,
    Name,
    Negative,
    Not,
    Number,
    Window,
)

SECOND = 10**9
Samples = dict[SignalSelector, int]  # raw values of one frame


def plain(raw: int, info: SignalInfo) -> float:
    """The physical value of a raw one."""
    if info.kind == FLOAT32:
        (number,) = struct.unpack("<f", struct.pack("<I", raw & 0xFFFF_FFFF))
    elif info.kind == FLOAT64:
        (number,) = struct.unpack("<d", struct.pack("<q", raw))
    else:
        number = float(raw % 2**64 if info.kind == UNSIGNED else raw)
    return number * info.factor + info.offset


def sure(number: float | None) -> float | None:
    """A number, or None if it says nothing."""
    return number if number is not None and math.isfinite(number) else None


class Plain:
    """One condition."""

    def __init__(self, condition: Condition, policy: Policy) -> None:
        self.tree = parse(condition.text)
        self.terms = dict(condition.terms)
        self.infos = {name: policy.signals[one.signal] for name, one in self.terms.items()}
        self.bits = {name: policy.layouts[one.signal].bits for name, one in self.terms.items()}
        self.t: int | None = None
        self.forget()

    def forget(self) -> None:
        self.seen: dict[str, list[tuple[int, int]]] = {name: [] for name in self.terms}
        self.held: dict[tuple[int, ...], list[tuple[int, bool | None]]] = {}

    def frame(self, stamp: int, samples: Samples) -> bool | None:
        """Whether the condition is true at a frame; None: the frame is no instant of it."""
        mine = {name: samples[one] for name, one in self.terms.items() if one in samples}
        if not mine:
            return None
        if self.t is not None and (stamp < self.t - SECOND or stamp > self.t + 3600 * SECOND):
            self.forget()
            self.t = stamp
        self.t = stamp if self.t is None else max(self.t, stamp)
        for name, raw in mine.items():
            self.seen[name].append((self.t, raw))
        self.mine = mine
        return self.value(self.tree, ()) is True

    def value(self, node, path):
        match node:
            case Number():
                return node.value
            case Name():
                return self.last(node.name)
            case Window():
                return self.window(node)
            case Changed():
                return self.changed(node.of.name)
            case Negative():
                number = self.value(node.of, (*path, 0))
                return None if number is None else -number
            case Arithmetic():
                return self.arithmetic(node, path)
            case Compare():
                return self.compare(node, path)
            case Not():
                truth = self.value(node.of, (*path, 0))
                return None if truth is None else not truth
            case Junction():
                truths = [self.value(one, (*path, at)) for at, one in enumerate(node.items)]
                decides = node.word == "or"
                if any(truth is decides for truth in truths):
                    return decides
                return None if None in truths else not decides
            case Held():
                return self.hold(node, path)

    def last(self, name):
        if not self.seen[name]:
            return None
        stamp, raw = self.seen[name][-1]
        return None if self.t - stamp > 120 * SECOND else sure(plain(raw, self.infos[name]))

    def then(self, name, over_ns):
        """The place of the sample that was held at the begin of a window, or None."""
        places = [at for at, (stamp, _) in enumerate(self.seen[name]) if stamp <= self.t - over_ns]
        if not places or self.t - self.seen[name][places[-1]][0] > 120 * SECOND:
            return None
        return places[-1]

    def window(self, node):
        name = node.of.name
        then = self.then(name, node.over_ns)
        if then is None:
            return None
        inside = self.seen[name][then:]
        info = self.infos[name]
        numbers = [sure(plain(raw, info)) for _, raw in inside]
        if node.function == "rate":
            (t0, _), (t1, _) = inside[0], inside[-1]
            if numbers[0] is None or numbers[-1] is None or t0 == t1:
                return None
            return sure((numbers[-1] - numbers[0]) / ((t1 - t0) / 1e9))
        if None in numbers:
            return None
        if node.function == "min":
            return min(numbers)
        if node.function == "max":
            return max(numbers)
        if info.kind in (FLOAT32, FLOAT64) or self.bits[name] > 32:
            return sure(math.fsum(numbers) / len(numbers))
        return sure(sum(raw for _, raw in inside) / len(inside) * info.factor + info.offset)

    def changed(self, name):
        if name not in self.mine:
            return False
        if len(self.seen[name]) < 2:
            return None
        return self.seen[name][-1][1] != self.seen[name][-2][1]

    def arithmetic(self, node, path):
        number = self.value(node.first, (*path, 0))
        for at, (sign, operand) in enumerate(node.rest, 1):
            other = self.value(operand, (*path, at))
            if number is None or other is None or (sign == "/" and other == 0):
                number = None
            elif sign == "+":
                number = sure(number + other)
            elif sign == "-":
                number = sure(number - other)
            else:
                number = sure(number * other if sign == "*" else number / other)
        return number

    def compare(self, node, path):
        sides = []
        for at, side in enumerate((node.left, node.right)):
            other = (node.left, node.right)[1 - at]
            if isinstance(side, Label):
                info = self.infos[other.name]
                raws = [raw for raw, label in info.choices if label == side.label]
                sides.append([plain(raw, info) for raw in raws])
            else:
                number = self.value(side, (*path, at))
                if number is None:
                    return None
                sides.append(number)
        left, right = sides
        if isinstance(left, list) or isinstance(right, list):
            inside = left in right if isinstance(right, list) else right in left
            return inside if node.sign == "==" else not inside
        return {
            "==": left == right, "!=": left != right, "<": left < right,
            "<=": left <= right, ">": left > right, ">=": left >= right,
        }[node.sign]  # fmt: skip

    def hold(self, node, path):
        past = self.held.setdefault(path, [])
        past.append((self.t, self.value(node.of, (*path, 0))))
        since = [at for at, (stamp, _) in enumerate(past) if stamp <= self.t - node.for_ns]
        truths = [truth for _, truth in past[since[-1] if since else 0 :]]
        if False in truths:
            return False
        return None if None in truths or not since else True


def evaluate(
    condition: Condition, policy: Policy, frames: Iterable[tuple[int, Samples]]
) -> list[tuple[int, bool]]:
    """(stamp, truth) of each instant of a condition."""
    evaluation = Plain(condition, policy)
    found = []
    for stamp, samples in frames:
        truth = evaluation.frame(stamp, samples)
        if truth is not None:
            found.append((stamp, truth))
    return found
