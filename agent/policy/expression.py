"""Expressions over signals: text to a checked tree and back.

    Speed > 30 and rate(Speed, 0.5s) < -25 for 150ms

From loose to tight:

    or    and    for <duration>    not    == != < <= > >= (not chained)    + -    * /    unary -

- A primary is a number without a unit, a signal (`Speed`, `Message.Speed`, `can0:Speed`,
  `can0:Message.Speed`), a label in double quotes, a function, or parentheses.
- Functions: `rate`, `min`, `max`, `mean` of (signal, window) are numbers; `changed(signal)` is true
  or false.
- A label stands beside == or != with a signal, nowhere else.
- `for` follows what is true or false: a comparison, or parentheses. Words of functions are words
  only before "(", so a signal may be called `min`.
- A duration is a number and one of ns us ms s min, a whole number of ns, at most 60 s.
- Bounds: 2,000 characters, 256 nodes that compare or combine, ten levels of parentheses, `not` and
  unary minus. Whatever the text, the outcome is a tree or an `ExpressionError` at its column.
- `parse(text_of(node)) == node`.

The tree is in `nodes.py`, the parser in `grammar.py`; what an expression means while frames pass
stands in `conditions.py`. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator

from agent.policy.clauses import Condition
from agent.policy.grammar import Parser
from agent.policy.model import SignalInfo
from agent.policy.nodes import (
    BOOLEAN,
    Arithmetic,
    Compare,
    ExpressionError,
    Held,
    Junction,
    Label,
    Name,
    Negative,
    Node,
    Not,
    children,
    names,
    text_of,
    walk,
)
from agent.policy.quantities import signal_name
from agent.units import nearest

__all__ = [
    "ExpressionError", "Node", "check_condition", "label_raws", "labels", "names", "parse",
    "text_of", "type_check",
]  # fmt: skip


def parse(text: str) -> Node:
    """Return the tree of an expression that is true or false.

    Raises:
        ExpressionError: a text that is none, with the column.
    """
    node = Parser(text).whole()
    type_check(node)
    if not names(node):
        raise ExpressionError(1, "names no signal, so nothing could ever make it true")
    return node


def type_check(node: Node) -> None:
    """Check that a tree is true or false, and that all in it fits together.

    Raises:
        ExpressionError: a number where true or false is needed, or the other way round.
    """
    if not isinstance(node, BOOLEAN):
        raise _no_boolean(node)
    for one in walk(node):
        match one:
            case Compare():
                _check_compare(one)
            case Junction() | Not() | Held():
                for child in children(one):
                    if not isinstance(child, BOOLEAN):
                        raise _no_boolean(child)
            case Negative() | Arithmetic():
                for child in children(one):
                    _check_number(child)


def _no_boolean(node: Node) -> ExpressionError:
    if isinstance(node, Label):
        return _lonely(node)
    what, example = ("", "... > 0")
    if isinstance(node, Name):
        what, example = (f"'{node.name}' ", f"{node.name} != 0")
    return ExpressionError(
        node.column, f"{what}is a number where true or false is needed; compare it, like {example}"
    )


def _lonely(node: Label) -> ExpressionError:
    return ExpressionError(
        node.column, f'a label stands beside == or != with a signal, like Gear == "{node.label}"'
    )


def _check_number(node: Node) -> None:
    if isinstance(node, Label):
        raise _lonely(node)
    if isinstance(node, BOOLEAN):
        raise ExpressionError(node.column, "is true or false where a number is needed")


def _check_compare(node: Compare) -> None:
    sides = (node.left, node.right)
    for side, other in (sides, sides[::-1]):
        if not isinstance(side, Label):
            _check_number(side)
        elif node.sign not in ("==", "!=") or not isinstance(other, Name):
            raise _lonely(side)


def check_condition(condition: Condition, signals: tuple[SignalInfo, ...]) -> None:
    """Check that a condition is an expression whose names and labels all mean something.

    Args:
        condition: text and terms, from whatever source.
        signals: the policy's dictionary.

    Raises:
        ExpressionError: no expression; a name without a term, a term without a name, or not in the
            order of the text; a term that is another signal than its name says; an unknown label.
    """
    node = parse(condition.text)
    columns = {one.name: one.column for one in reversed(list(walk(node))) if isinstance(one, Name)}
    written = tuple(name for name, _ in condition.terms)
    if written != names(node):
        strange = [name for name in names(node) if name not in written]
        where = columns[strange[0]] if strange else 1
        raise ExpressionError(where, "the terms are not the names of the text; build it again")
    meant: dict[str, SignalInfo] = {}
    for name, selector in condition.terms:
        if selector.signal >= len(signals) or selector.grain:
            raise ExpressionError(columns[name], f"'{name}' means no signal; build it again")
        meant[name] = info = signals[selector.signal]
        channel, message, signal_text = signal_name(name)
        if (channel, signal_text) != (selector.channel, info.name) or message not in (
            "",
            info.message,
        ):
            raise ExpressionError(
                columns[name],
                f"'{name}' means {selector.channel}:{info.message}.{info.name}; build it again",
            )
    for signal, label in labels(node):
        _check_label(label, meant[signal.name])


def labels(node: Node) -> Iterator[tuple[Name, Label]]:
    """Yield each label with the signal beside it."""
    for one in walk(node):
        if isinstance(one, Compare):
            if isinstance(one.right, Label) and isinstance(one.left, Name):
                yield one.left, one.right
            elif isinstance(one.left, Label) and isinstance(one.right, Name):
                yield one.right, one.left


def label_raws(label: Label, info: SignalInfo) -> tuple[int, ...]:
    """Return the raw values that a signal has under a label; two may share one."""
    return tuple(raw for raw, text in info.choices if text == label.label)


def _check_label(label: Label, info: SignalInfo) -> None:
    if not info.choices:
        raise ExpressionError(label.column, f"'{info.name}' has no labels; compare it to a number")
    if not label_raws(label, info):
        known = dict.fromkeys(text for _, text in info.choices)
        advice = nearest(label.label, known, noun="label")
        raise ExpressionError(
            label.column, f"'{info.name}' has no label \"{label.label}\"; {advice}"
        )
