"""Durations and sizes as people write them, and what they meant when they mistyped a word. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

DURATIONS: Final = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "min": 60 * 10**9,
    "h": 3600 * 10**9,
    "d": 86_400 * 10**9,
}
MOST_NAMED: Final = 32  # of the valid words, in advice
SIZES: Final = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}

_NUMBER = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,12})?) ?([^\W\d]+)")


def duration_ns(text: str) -> int:
    """Return a duration in ns: "250ms", "10s", "30min", "7d".

    Raises:
        ValueError: not a number with one of the units.
    """
    return _scaled(text, DURATIONS, "10s")


def size_bytes(text: str) -> int:
    """Return a size in bytes: "512MiB".

    Raises:
        ValueError: not a number with one of the units.
    """
    return _scaled(text, SIZES, "512MiB")


def _scaled(text: str, units: dict[str, int], example: str) -> int:
    match = _NUMBER.fullmatch(text.strip())
    if match is None or match[2] not in units:
        raise ValueError(f"'{text}' is not a number with a unit ({', '.join(units)}), as {example}")
    return round(float(match[1]) * units[match[2]])


def nearest(word: str, valid: Iterable[str], *, noun: str = "valid key") -> str:
    """Return the advice for an unknown word: the nearest valid one, or all of them if none is near.

    Args:
        word: what was written.
        valid: what could have been.
        noun: what such a word is called.
    """
    import difflib  # noqa: PLC0415 - for a mistake, and not for good

    choices = list(valid)
    close = difflib.get_close_matches(word, choices, n=1)
    if close:
        return f"nearest {noun} is '{close[0]}'"
    return f"write {', '.join(choices)}" if len(choices) <= MOST_NAMED else "nothing is like it"
