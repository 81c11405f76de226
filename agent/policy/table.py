"""The tables of a policy text: each value checked when it is read, each objection at its place.

A place is file:line, and file:line:column inside an expression: the column counts characters of the
TOML line, whatever quotes and escapes the expression is written with.

Pure.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NoReturn, TypeVar

from agent.errors import PolicyError
from agent.policy.model import MAX_TEXT
from agent.policy.quantities import duration_ns
from agent.toml_lines import Lines
from agent.units import nearest

_AT_LINE: Final = re.compile(r" \(at line (\d+), column (\d+)\)")
_STRING: Final = re.compile(
    r"""
      ["]{3} (?: \\. | (?!["]{3}) [^\\] )* ["]{3,5}
    | [']{3} (?: (?![']{3}) . )* [']{3,5}
    | ["] (?: \\. | [^"\\\n] )* ["]
    | ['] [^'\n]* [']
    """,
    re.DOTALL | re.VERBOSE,
)
_ESCAPED: Final = {"u": 6, "U": 10}  # characters of the text that stand for one; others take two

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Document:
    """A policy text and where its keys stand.

    Attributes:
        path: file name for errors.
        text: TOML, lines ending in a line feed.
        lines: of the text.
    """

    path: str
    text: str
    lines: Lines


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a string of the text stands.

    Attributes:
        document: that it stands in.
        line: of its key, from 1.
        at: index of its opening quote in the text; None: not known.
        skipped: characters of the string before its first column.
    """

    document: Document
    line: int
    at: int | None
    skipped: int = 0

    def where(self, column: int) -> str:
        """Return the place of a character of the string, from 1, as file:line:column."""
        if self.at is None:
            return f"{self.document.path}:{self.line}"
        text = self.document.text
        place = _index_in(text, self.at, column - 1 + self.skipped)
        begin = text.rfind("\n", 0, place) + 1
        return f"{self.document.path}:{text.count(chr(10), 0, place) + 1}:{place - begin + 1}"


def _index_in(text: str, at: int, characters: int) -> int:
    """Return the index of a character of the TOML string that opens at an index."""
    mark = text[at]
    long = text.startswith(mark * 3, at)
    place = at + (3 if long else 1)
    if long and text.startswith("\n", place):
        place += 1
    while place < len(text):
        escaped = mark == '"' and text[place] == "\\"
        if escaped and long and text[place + 1 : place + 2].isspace():  # a line that goes on
            place += 1 + len(text[place + 1 :]) - len(text[place + 1 :].lstrip(" \t\n"))
            continue
        if characters == 0:
            break
        place += _ESCAPED.get(text[place + 1], 2) if escaped else 1
        characters -= 1
    return min(place, len(text) - 1)


class Table:
    """One table of the text; reads its keys and objects at their places.

    Args:
        values: of the table.
        document: that it stands in.
        name: of the table, "" for the top.
        number: which of the tables of this name, from 0.
        line: of an inline table, which has no header.
    """

    def __init__(
        self, values: Mapping[str, Any], document: Document, name: str = "", number: int = 0,
        *, line: int = 0,
    ) -> None:  # fmt: skip
        self._values, self._document = values, document
        self._name, self._number, self._line = name, number, line

    def line(self, key: str = "", item: str = "") -> int:
        """Return the line of a key, or of an item of its array, or of the table."""
        lines = self._document.lines
        if key:
            header = lines.line(f"{self._name}.{key}" if self._name else key, self._number, "")
            if header > 1:  # the first line of a policy is no table
                return header
        return self._line or lines.line(self._name, self._number, key, item)

    def where(self, key: str = "", item: str = "") -> str:
        """Return file:line of a key, or of an item of its array, or of the table."""
        return f"{self._document.path}:{self.line(key, item)}"

    def refuse(self, key: str, what: str, todo: str = "", item: str = "") -> NoReturn:
        """Object to a key.

        Raises:
            PolicyError: always.
        """
        raise PolicyError(what, where=self.where(key, item), todo=todo)

    def check_keys(self, valid: tuple[str, ...], needed: tuple[str, ...]) -> None:
        """Check that there are no other keys than the valid ones, and all that are needed."""
        for key in self._values:
            if key not in valid:
                self.refuse(key, f"unknown key '{key}'", nearest(key, valid))
        for key in needed:
            if key not in self._values:
                self.refuse("", f"key '{key}' is missing")

    def has(self, key: str) -> bool:
        """Return whether a key is there."""
        return key in self._values

    def raw(self, key: str) -> Any:
        """Return a value as TOML has it."""
        return self._values[key]

    def text(
        self, key: str, default: str | None = None, *, pattern: re.Pattern[str] | None = None
    ) -> str:
        """Return a line of text."""
        value = self._values.get(key, default)
        if value == default == "":
            return ""
        if not isinstance(value, str) or not value.strip():
            self.refuse(key, f"'{key}' must be text in quotes")
        if len(value) > MAX_TEXT or any(ord(char) < 32 or ord(char) == 127 for char in value):
            self.refuse(key, f"'{key}' must be one line of at most {MAX_TEXT} characters")
        if pattern and not pattern.fullmatch(value):
            self.refuse(key, f"'{value}' is no {key}", "letters, digits, '_', '.', '-'; up to 64")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """Return an array of texts, empty if the key is not there."""
        value = self._values.get(key, [])
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            self.refuse(key, f"'{key}' must be a list of texts, like {key} = [\"...\"]")
        return tuple(value)

    def expression(self, key: str) -> tuple[str, Origin]:
        """Return the text of an expression in one line, and where it stands."""
        value = self._values[key]
        if not isinstance(value, str) or not value.strip():
            self.refuse(key, f"'{key}' must be an expression in quotes")
        line = self.line(key)
        at = _find_string(self._document.text, line, key, value)
        skipped = len(value) - len(value.lstrip())
        return value.translate({9: " ", 10: " "}).strip(), Origin(self._document, line, at, skipped)

    def flag(self, key: str, *, default: bool = False) -> bool:
        """Return true or false."""
        value = self._values.get(key, default)
        if not isinstance(value, bool):
            self.refuse(key, f"'{key}' must be true or false")
        return value

    def number(self, key: str, *, least: int, most: int) -> int:
        """Return a whole number within limits."""
        value = self._values[key]
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            limit = f"from {least} to {most}" if most < 10**9 else f"from {least}"
            self.refuse(key, f"'{key}' must be a whole number {limit}")
        return value

    def choice(self, key: str, valid: Mapping[str, T], default: str | None = None) -> T:
        """Return what one of a few words stands for."""
        value = self._values.get(key, default)
        if not isinstance(value, str) or value not in valid:
            self.refuse(key, f"unknown {key} '{value}'", nearest(str(value), valid, noun=key))
        return valid[value]

    def duration(self, key: str, default: str, *, least: str, most: str) -> int:
        """Return a duration in ns."""
        return self.convert(
            key, lambda text: duration_ns(text, least=least, most=most),
            self._values.get(key, default),
        )  # fmt: skip

    def convert(self, key: str, function: Callable[[Any], T], value: object, item: str = "") -> T:
        """Return what a function makes of a value; its ValueError is the objection."""
        try:
            return function(value)
        except ValueError as error:
            self.refuse(key, f"'{key}': {error}", item=item)

    def sub(self, key: str) -> Table | None:
        """Return a table in this one, written inline or under a header; None: it is not there."""
        value = self._values.get(key)
        if value is None:
            return None
        if not isinstance(value, dict):
            self.refuse(key, f"'{key}' must be a table, like {key} = {{ ... }}")
        name = f"{self._name}.{key}" if self._name else key
        has_header = self._document.lines.line(name, self._number, "") > 1
        line = 0 if has_header else self.line(key)
        return Table(value, self._document, name, self._number, line=line)

    def array(self, key: str, most: int) -> tuple[Table, ...]:
        """Return the tables [[key]] in this one, in order."""
        values = self._values.get(key, [])
        if not isinstance(values, list) or not all(isinstance(one, dict) for one in values):
            self.refuse(key, f"'{key}' is written as [[{key}]]")
        if len(values) > most:
            self.refuse(key, f"{len(values)} times [[{key}]]", f"at most {most}")
        return tuple(Table(one, self._document, key, number) for number, one in enumerate(values))


def read_document(text: str, *, where: str) -> Table:
    """Return the top table of a TOML text.

    Raises:
        PolicyError: not TOML, with file and line.
    """
    text = text.replace("\r\n", "\n")
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = _AT_LINE.search(str(error))
        place = found[1] if found else text.count("\n") + 1
        reason = _AT_LINE.sub("", str(error)).removesuffix(" (at end of document)")
        raise PolicyError(f"not TOML: {reason}", where=f"{where}:{place}") from None
    except RecursionError:
        raise PolicyError("not TOML: nested too deeply", where=where) from None
    return Table(values, Document(where, text, Lines(text)))


def _find_string(text: str, line: int, key: str, value: str) -> int | None:
    """Return the index of the opening quote of a key's value on a line, or None."""
    begin = 0
    for _ in range(line - 1):
        begin = text.find("\n", begin) + 1
    end = text.find("\n", begin) % (len(text) + 1)
    named = re.compile(rf"""(?<![\w-])["']?{re.escape(key)}["']?\s*=\s*""")
    for found in named.finditer(text, begin, end):
        string = _STRING.match(text, found.end())
        # What stands inside another string looks alike; its value does not.
        if string and tomllib.loads(f"v = {string[0]}")["v"] == value:
            return found.end()
    return None
