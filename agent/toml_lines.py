"""Where in a TOML text a key stands, since tomllib keeps no positions.

Scans tables and keys at the start of lines, and skips over strings, comments and arrays of several
lines. It is only asked about texts that tomllib has accepted, so it checks nothing; a key that it
cannot place (a dotted or inline one) is placed at its table, at worst at line 1.

Pure.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Final

Place = tuple[str, int, str]  # table, its number among those of the same name, key

_TABLE: Final = re.compile(r"\s*\[(\[)?\s*(.+?)\s*\]\]?\s*(#.*)?")
_KEY: Final = re.compile(r"""\s*("[^"]*"|'[^']*'|[A-Za-z0-9_-]+)\s*[=.]""")
_TOKEN: Final = re.compile(
    r"""
      ["]{3} (?: \\. | (?!["]{3}) . )* ["]{3,5}
    | [']{3} (?: (?![']{3}) . )* [']{3,5}
    | ["] (?: \\. | [^"\\\n] )* ["]
    | ['] [^'\n]* [']
    | \# [^\n]*
    | [\[{\]}\n]
    """,
    re.DOTALL | re.VERBOSE,
)


class Lines:
    """The lines of the tables and keys of a text.

    Args:
        text: TOML that tomllib accepts.
    """

    def __init__(self, text: str) -> None:
        self._lines = text.split("\n")
        self._places: dict[Place, int] = {}
        table, number = "", 0
        counts: Counter[str] = Counter()
        for line in _beginnings(text):
            content = self._lines[line - 1]
            if header := _TABLE.fullmatch(content.rstrip("\r")):
                table = header[2].strip("\"'")
                # A table in an array's table ([collect.precision]) is numbered as that one is.
                parent = counts.get(table.rpartition(".")[0], 0)
                number = parent - 1 if parent else counts[table]
                counts[table] += 1
                self._places[table, number, ""] = line
            elif key := _KEY.match(content):
                self._places.setdefault((table, number, key[1].strip("\"'")), line)

    def line(self, table: str, number: int, key: str, item: str = "") -> int:
        """Return the line (from 1) of a key, or of an item in the array that is its value.

        Args:
            table: name of the table; "" before the first.
            number: which of the tables of this name, or of the one that it is in, from 0.
            key: key in it; "" for the table itself.
            item: text of an item of the key's value.
        """
        line = self._places.get((table, number, key)) or self._places.get((table, number, ""), 1)
        if not item:
            return line
        later = [place for place in self._places.values() if place > line]
        for at in range(line, min(later, default=len(self._lines) + 1)):
            if f'"{item}"' in self._lines[at - 1] or f"'{item}'" in self._lines[at - 1]:
                return at
        return line


def _beginnings(text: str) -> list[int]:
    """Return the lines that begin outside any value."""
    beginnings, depth, line = [1], 0, 1
    for token in _TOKEN.finditer(text):
        word = token[0]
        line += word.count("\n")
        if word in "[{":
            depth += 1
        elif word in "]}":
            depth -= 1
        elif word == "\n" and depth == 0:
            beginnings.append(line)
    return [line for line in beginnings if line <= text.count("\n") + 1]
