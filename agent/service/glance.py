"""The buses of an agent.toml at a glance: importing tomllib takes as long as starting Python.

Pure.

Understands how people write it: `[[bus]]` on a line, then `key = value` lines whose values are
plain strings, numbers, true or false. For anything else it says None, and tomllib reads the file.
What it does say is what tomllib would (`tests/service/test_glance.py` holds one against the other).
"""

from __future__ import annotations

_WORDS = {"true": True, "false": False}
_STRANGE = ('"""', "'''", "\r", "\\", "\x00")  # anywhere: strings of several lines, escapes


def buses(text: str) -> list[dict[str, object]] | None:
    """Return the [[bus]] tables, or None if a glance is not enough.

    Args:
        text: of agent.toml.
    """
    if any(strange in text for strange in _STRANGE):
        return None
    found: list[dict[str, object]] = []
    inside = False
    for line in text.split("\n"):
        content = line.strip(" \t")
        if not content or content[0] == "#":
            continue
        if content[0] == "[":
            header = content.partition("#")[0].strip(" \t")
            inside = header == "[[bus]]"
            if inside:
                found.append({})
            elif "bus" in header:
                return None  # [bus.x], [[ bus ]], ["bus"]
            continue
        key, equals, value = (part.strip(" \t") for part in content.partition("="))
        if not inside:
            if "bus" in key:
                return None  # bus = [...], bus.x = 1
            continue
        known = _value(value)
        if not equals or known is None or not _is_bare(key) or key in found[-1]:
            return None
        found[-1][key] = known
    return found


def _is_bare(key: str) -> bool:
    return bool(key) and key.isascii() and key.replace("-", "").replace("_", "").isalnum()


def _value(text: str) -> object | None:
    """Return a plain value, with a comment behind it or not; None for anything else."""
    if text[:1] in ("'", '"'):
        content, closed, rest = text[1:].partition(text[0])
        comment = rest.strip(" \t")
        if not closed or not content.isprintable() or (comment and comment[0] != "#"):
            return None
        return content
    word = text.partition("#")[0].strip(" \t")
    if word in _WORDS:
        return _WORDS[word]
    is_number = word.isascii() and word.isdigit() and (word == "0" or word[0] != "0")
    return int(word) if is_number else None
