"""The grammar of expressions: text to tokens, tokens to a tree. What fits is `expression.py`'s.

Recursive descent; the depth that a text can reach is bounded before any recursion limit is near.

Pure.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NoReturn

from agent.policy.clauses import MAX_CONDITION
from agent.policy.nodes import (
    COMPARISONS,
    WINDOWS,
    Arithmetic,
    Changed,
    Compare,
    ExpressionError,
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
from agent.units import DURATIONS, nearest

MAX_NODES: Final = 256
MAX_DEPTH: Final = 10
MAX_SPAN_NS: Final = 60 * 10**9  # of a window and of `for`
FUNCTIONS: Final = (*WINDOWS, "changed")
WORDS: Final = ("and", "or", "not", "for")

_TOKENS: Final = re.compile(
    r"(?P<space>[ \t\r\n]+)"
    r"|(?P<duration>[0-9]+(?:\.[0-9]+)? ?(?:ns|us|µs|ms|s|min)(?![A-Za-z0-9_.:]))"
    r"|(?P<number>[0-9]+(?:\.[0-9]+)?(?![A-Za-z0-9_.]))"
    r"|(?P<name>(?:[A-Za-z][A-Za-z0-9_]*:)?[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)?)"
    r'|(?P<label>"[^"\x00-\x1f\x7f]*")'
    r"|(?P<sign>==|!=|<=|>=|[<>()+*/,-])"
)
_DIGITS: Final = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_INSTEAD: Final = {
    "=": "write == to compare", "&": "write and", "|": "write or", "!": "write not",
    "'": 'write labels in double quotes, like "Drive"', '"': "close the label with a second quote",
    ".": "write numbers as 0.5", "^": "write a product", "%": "write numbers without a unit",
    ":": "write a bus before it, like can0:Speed; letters, digits and '_'",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Token:
    """A piece of the text; signs and words are their own kind, "end" stands behind the last."""

    kind: str
    text: str
    column: int


def _tokens(text: str) -> list[_Token]:
    found, at = [], 0
    while at < len(text):
        match = _TOKENS.match(text, at)
        if match is None:
            _refuse_character(text, at)
        kind, piece = match.lastgroup or "", match[0]
        if kind == "label" and not piece.isprintable():
            raise ExpressionError(at + 1, "a label that cannot be shown; compare to its number")
        if kind == "sign" or piece in WORDS:
            kind = piece
        if kind != "space":
            found.append(_Token(kind, piece, at + 1))
        at = match.end()
    return [*found, _Token("end", "", len(text) + 1)]


def _refuse_character(text: str, at: int) -> NoReturn:
    digits = _DIGITS.match(text, at)
    if digits is not None:
        word = re.compile(r"[\w.:]*").match(text, at)
        raise ExpressionError(
            at + 1,
            f"'{word[0] if word else digits[0]}' is neither a number nor a duration; write "
            f"{digits[0]}, or {digits[0]}s with one of ns us ms s min",
        )
    advice = _INSTEAD.get(text[at], "see the operators in the manual")
    shown = text[at] if text[at].isprintable() else f"\\x{ord(text[at]):02x}"
    raise ExpressionError(at + 1, f"'{shown}' is no part of an expression; {advice}")


class Parser:
    """Recursive descent, one method a line of the table; as deep as `_deeper` lets it go."""

    def __init__(self, text: str) -> None:
        if len(text) > MAX_CONDITION:
            raise ExpressionError(
                MAX_CONDITION + 1, f"is too long; at most {MAX_CONDITION} characters"
            )
        self._tokens = _tokens(text)
        self._at = self._depth = self._nodes = 0

    def whole(self) -> Node:
        """Return the tree of the whole text.

        Raises:
            ExpressionError: the text is not of the grammar.
        """
        node = self._junction()
        self._refuse_rest()
        return node

    @property
    def _next(self) -> _Token:
        return self._tokens[self._at]

    def _take(self) -> _Token:
        token = self._next
        self._at += 1
        return token

    def _count(self, column: int) -> int:
        """Count a node that compares or combines; its column comes back."""
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise ExpressionError(
                column, f"one too many: at most {MAX_NODES} operators and functions"
            )
        return column

    @contextlib.contextmanager
    def _deeper(self, column: int) -> Iterator[None]:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ExpressionError(
                column, f"is nested too deeply; at most {MAX_DEPTH} levels of (, not and -"
            )
        yield
        self._depth -= 1

    def _junction(self, word: str = "or") -> Node:
        below = self._held if word == "and" else lambda: self._junction("and")
        items = [below()]
        column = 0
        while self._next.kind == word:
            column = self._count(self._take().column)
            items.append(below())
        return Junction(word, tuple(items), column=column) if column else items[0]

    def _held(self) -> Node:
        node = self._negation()
        if self._next.kind == "for":
            column = self._count(self._take().column)
            node = Held(node, self._span("for"), column=column)
        if self._next.kind == "for":
            raise ExpressionError(self._next.column, "a second 'for'; put the first part in ( )")
        return node

    def _negation(self) -> Node:
        if self._next.kind != "not":
            return self._comparison()
        column = self._count(self._take().column)
        with self._deeper(column):
            return Not(self._negation(), column=column)

    def _comparison(self) -> Node:
        left = self._arithmetic("+-")
        if self._next.kind not in COMPARISONS:
            return left
        sign = self._take()
        column = self._count(sign.column)
        node = Compare(sign.kind, left, self._arithmetic("+-"), column=column)
        if self._next.kind in COMPARISONS:
            raise ExpressionError(
                self._next.column, "comparisons are not chained; write a < b and b < c"
            )
        return node

    def _arithmetic(self, signs: str) -> Node:
        below = self._unary if signs == "*/" else lambda: self._arithmetic("*/")
        first = below()
        rest = []
        column = self._next.column
        while self._next.kind in tuple(signs):
            sign = self._take()
            self._count(sign.column)
            rest.append((sign.kind, below()))
        return Arithmetic(first, tuple(rest), column=column) if rest else first

    def _unary(self) -> Node:
        if self._next.kind != "-":
            return self._primary()
        column = self._count(self._take().column)
        with self._deeper(column):
            return Negative(self._unary(), column=column)

    def _primary(self) -> Node:
        token = self._next
        match token.kind:
            case "(":
                return self._group()
            case "number":
                return self._number()
            case "label":
                self._take()
                return Label(token.text[1:-1], column=token.column)
            case "name":
                self._take()
                if self._next.kind == "(":
                    return self._function(token)
                return Name(token.text, column=token.column)
            case "duration":
                what = f"'{token.text}' is a duration; a number has no unit here"
            case "end":
                what = "ends where a value should stand"
            case _:
                what = f"'{token.text}' where a value should stand"
        raise ExpressionError(token.column, what)

    def _group(self) -> Node:
        opening = self._take().column
        with self._deeper(opening):
            node = self._junction()
        if self._next.kind != ")":
            if self._next.kind == "end":
                raise ExpressionError(self._next.column, f"')' is missing for '(' at {opening}")
            self._refuse_rest()
        self._take()
        return node

    def _number(self) -> Node:
        token = self._take()
        value = float(token.text)
        if not math.isfinite(value):
            raise ExpressionError(token.column, "is too large a number")
        return Number(value, column=token.column)

    def _function(self, word: _Token) -> Node:
        if word.text not in FUNCTIONS:
            advice = nearest(word.text, FUNCTIONS, noun="function")
            raise ExpressionError(word.column, f"there is no function '{word.text}'; {advice}")
        self._count(word.column)
        example = f"{word.text}(Speed" + ("" if word.text == "changed" else ", 0.5s") + ")"
        self._expect("(", example)
        token = self._expect("name", example)
        name = Name(token.text, column=token.column)
        if word.text == "changed":
            self._expect(")", example)
            return Changed(name, column=word.column)
        self._expect(",", example)
        span_ns = self._span(word.text)
        self._expect(")", example)
        return Window(word.text, name, span_ns, column=word.column)

    def _expect(self, kind: str, example: str) -> _Token:
        if self._next.kind != kind:
            raise ExpressionError(
                self._next.column, f"{_shown(self._next)} does not fit here; write {example}"
            )
        return self._take()

    def _span(self, after: str) -> int:
        """Return the duration that stands next, in ns."""
        token = self._take()
        if token.kind != "duration":
            raise ExpressionError(
                token.column, f"{_shown(token)} where '{after}' needs a duration like 150ms"
            )
        digits = _DIGITS.match(token.text)
        number = digits[0] if digits else ""
        whole, _, part = number.partition(".")
        scale: int = 10 ** len(part)
        span, rest = divmod(int(whole + part) * DURATIONS[token.text[len(number) :].strip()], scale)
        if rest or not 0 < span <= MAX_SPAN_NS:
            raise ExpressionError(
                token.column, f"'{token.text}' is out of range; whole ns, from 1ns to 60s"
            )
        return span

    def _refuse_rest(self) -> None:
        token = self._next
        if token.kind == "end":
            return
        if token.kind == ")":
            raise ExpressionError(token.column, "')' closes nothing")
        raise ExpressionError(
            token.column, f"{_shown(token)} where an operator should stand, like and, or, <, +"
        )


def _shown(token: _Token) -> str:
    return f"'{token.text}'" if token.text else "the end"
