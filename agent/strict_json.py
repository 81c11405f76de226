"""What is read from JSON, held to its shape: whatever else stands there is a ValueError. Pure."""

from __future__ import annotations

import json
from typing import Any, Final

MAX_NUMBER: Final = 2**63 - 1


def parse_json(data: bytes) -> Any:
    """Return the value of a JSON text in which no object has a key twice. Raises ValueError."""
    try:
        return json.loads(data, object_pairs_hook=_once)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands there twice")
    return found


def fields(value: object, *names: str) -> list[Any]:
    """Return the values of an object that has exactly these keys. Raises ValueError."""
    if not isinstance(value, dict) or set(value) != set(names):
        raise ValueError(f"not an object of {', '.join(names)}")
    return [value[name] for name in names]


def whole(value: object) -> int:
    """Return a whole number from 0 to MAX_NUMBER. Raises ValueError."""
    if type(value) is not int or not 0 <= value <= MAX_NUMBER:
        raise ValueError("not a whole number where one belongs")
    return value


def text(value: object) -> str:
    """Return a text. Raises ValueError."""
    if not isinstance(value, str):
        raise ValueError("no text where one belongs")
    return value


def flag(value: object) -> bool:
    """Return a truth value. Raises ValueError."""
    if not isinstance(value, bool):
        raise ValueError("neither true nor false")
    return value


def listed(value: object) -> list[Any]:
    """Return a list. Raises ValueError."""
    if not isinstance(value, list):
        raise ValueError("no list where one belongs")
    return value
