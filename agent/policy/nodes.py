"""The tree of an expression: its nodes, what they name, and their text.

Nodes are plain values, equal wherever they stood in a text. `expression.py` makes them and says
what may stand where; `text_of` is its inverse.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from agent.policy.quantities import duration_text

WINDOWS: Final = ("rate", "min", "max", "mean")
COMPARISONS: Final = ("==", "!=", "<=", ">=", "<", ">")


class ExpressionError(ValueError):
    """A text that is no expression.

    Attributes:
        column: where in the text, from 1.
        what: what is wrong and what would be right.
    """

    def __init__(self, column: int, what: str) -> None:
        super().__init__(f"column {column}: {what}")
        self.column, self.what = column, what


def _place() -> int:
    """A node's column; nodes are equal wherever they stand."""
    column: int = field(default=1, compare=False, kw_only=True)
    return column


@dataclass(frozen=True, slots=True)
class Number:
    """A number, finite, not negative."""

    value: float
    column: int = _place()


@dataclass(frozen=True, slots=True)
class Name:
    """A signal, as written."""

    name: str
    column: int = _place()


@dataclass(frozen=True, slots=True)
class Label:
    """A label of a signal's values, without its quotes."""

    label: str
    column: int = _place()


@dataclass(frozen=True, slots=True)
class Window:
    """One of `WINDOWS` of a signal over the last `over_ns`."""

    function: str
    of: Name
    over_ns: int
    column: int = _place()


@dataclass(frozen=True, slots=True)
class Changed:
    """Whether a signal's raw value differs from the one before."""

    of: Name
    column: int = _place()


@dataclass(frozen=True, slots=True)
class Negative:
    """Unary minus."""

    of: Node
    column: int = _place()


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """`first`, then each operator with its operand, from left to right: all of "+-" or of "*/"."""

    first: Node
    rest: tuple[tuple[str, Node], ...]
    column: int = _place()


@dataclass(frozen=True, slots=True)
class Compare:
    """One of `COMPARISONS` between two numbers, or a signal and a label."""

    sign: str
    left: Node
    right: Node
    column: int = _place()


@dataclass(frozen=True, slots=True)
class Not:
    """The contrary."""

    of: Node
    column: int = _place()


@dataclass(frozen=True, slots=True)
class Held:
    """`of` has been true for so long."""

    of: Node
    for_ns: int
    column: int = _place()


@dataclass(frozen=True, slots=True)
class Junction:
    """Two or more joined by "and" or by "or"."""

    word: str
    items: tuple[Node, ...]
    column: int = _place()


Node = (
    Number
    | Name
    | Label
    | Window
    | Changed
    | Negative
    | Arithmetic
    | Compare
    | Not
    | Held
    | Junction
)
BOOLEAN: Final = (Changed, Compare, Not, Held, Junction)


def names(node: Node) -> tuple[str, ...]:
    """Return the signals of an expression, each once, in the order of the text."""
    return tuple(dict.fromkeys(one.name for one in walk(node) if isinstance(one, Name)))


def walk(node: Node) -> Iterator[Node]:
    """Yield a node and all below it, in the order of the text."""
    yield node
    for child in children(node):
        yield from walk(child)


def children(node: Node) -> tuple[Node, ...]:
    """Return the nodes right below one, in the order of the text."""
    match node:
        case Compare():
            return (node.left, node.right)
        case Junction():
            return node.items
        case Arithmetic():
            return (node.first, *(operand for _, operand in node.rest))
        case Number() | Name() | Label():
            return ()
        case _:
            return (node.of,)


# From loose to tight, as in the table of expression.py.
_OR, _AND, _HELD, _NOT, _COMPARE, _SUM, _PRODUCT, _NEGATIVE, _PRIMARY = range(9)
_LEVELS: Final = {Held: _HELD, Not: _NOT, Compare: _COMPARE, Negative: _NEGATIVE}


def text_of(node: Node) -> str:
    """Return an expression as `parse` reads it, with the parentheses that it needs."""
    from decimal import Decimal  # noqa: PLC0415 - 300 KiB that who only decides does not need

    match node:
        case Number():
            text = f"{Decimal(repr(node.value)):f}".removesuffix(".0")
        case Name():
            text = node.name
        case Label():
            text = f'"{node.label}"'
        case Window():
            text = f"{node.function}({node.of.name}, {duration_text(node.over_ns)})"
        case Changed():
            text = f"changed({node.of.name})"
        case Negative():
            text = f"-{_within(node.of, _NEGATIVE)}"
        case Arithmetic():
            rest = (f" {sign} {_within(one, _level(node) + 1)}" for sign, one in node.rest)
            text = _within(node.first, _level(node) + 1) + "".join(rest)
        case Compare():
            text = f"{_within(node.left, _SUM)} {node.sign} {_within(node.right, _SUM)}"
        case Not():
            text = f"not {_within(node.of, _NOT)}"
        case Held():
            text = f"{_within(node.of, _NOT)} for {duration_text(node.for_ns)}"
        case Junction():
            text = f" {node.word} ".join(_within(one, _level(node) + 1) for one in node.items)
    return text


def _within(node: Node, level: int) -> str:
    """Return the text of a node that must bind at least so tightly."""
    text = text_of(node)
    return text if _level(node) >= level else f"({text})"


def _level(node: Node) -> int:
    if isinstance(node, Junction):
        return _OR if node.word == "or" else _AND
    if isinstance(node, Arithmetic):
        return _SUM if node.rest[0][0] in "+-" else _PRODUCT
    return _LEVELS.get(type(node), _PRIMARY)
