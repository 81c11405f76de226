"""How the files of a bundle are read: records, protobuf fields, checkpoint notes, keys.

It is a part of verify.py (see bundle.py), which has to run where nothing is installed: the standard
library alone, Python 3.9. What is malformed raises one of `BAD`.
"""

from __future__ import annotations

import base64
import hashlib
import mmap
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BAD = (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError)
Fields = dict[int, list[Any]]
Key = tuple[str, bytes, bytes]  # name, key id, Ed25519 public


def sha256(data: bytes) -> bytes:
    """Return SHA-256."""
    return hashlib.sha256(data).digest()


def _varint(data: Any, at: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 70:
        value |= (data[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if data[at - 1] < 0x80:
            return value & (1 << 64) - 1, at
    raise ValueError("a number that does not end")


def fields(data: bytes) -> Fields:
    """Return a protobuf message by field number: int for numbers, bytes for the rest."""
    found: Fields = {}
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        value, kind = 0, tag & 7
        if kind in (0, 2):
            value, at = _varint(data, at)
        size = {0: 0, 1: 8, 2: value, 5: 4}[kind]
        raw, at = data[at : at + size], at + size
        if at > len(data):
            raise ValueError("a field that is cut")
        number = value if kind == 0 else int.from_bytes(raw, "little")
        found.setdefault(tag >> 3, []).append(raw if kind == 2 else number)
    return found


def last(found: Fields, number: int, default: Any) -> Any:
    """Return the value of a field that is not repeated."""
    value = found.get(number, [default])[-1]
    if type(value) is not type(default):
        raise TypeError("a field of another type")
    return value


def read(path: Path) -> Any:
    """Return the bytes of a plain file, mapped: no link, and nothing that blocks, in its place."""
    flags = sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"))
    handle = os.open(path, os.O_RDONLY | flags)
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise ValueError("is no plain file")
        empty = os.fstat(handle).st_size == 0
        return b"" if empty else mmap.mmap(handle, 0, access=mmap.ACCESS_READ)
    finally:
        os.close(handle)


def places(data: Any, head: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield (index, begin of its head, begin of the rest, end) of each record, by rising index."""
    at, before = 0, -1
    while at < len(data):
        try:
            index, start = _varint(data, at)
            size, begin = _varint(data, start + head)
        except IndexError:
            raise ValueError(f"is cut behind entry {before}") from None
        at = begin + size
        if at > len(data) or index <= before:
            raise ValueError(f"entry {index} is cut, or stands behind entry {before}")
        yield index, start, begin, at
        before = index


def records(data: Any, head: int) -> Iterator[tuple[int, Any, Any]]:
    """Yield (index, `head` bytes, the rest) of each record, by rising index.

    Args:
        data: bytes, a mapped file, or a view, whose parts are views then.
        head: bytes between index and length.
    """
    for index, start, begin, end in places(data, head):
        yield index, data[start : start + head], data[begin:end]


def _b64(text: str) -> bytes:
    raw = base64.b64decode(text, validate=True)
    if base64.b64encode(raw).decode() != text:
        raise ValueError("base64 that is not in its one form")
    return raw


def parse_note(text: str) -> tuple[int, bytes, str, bytes, list[tuple[str, bytes]]]:
    """Return (size, root, origin, body, signatures) of a C2SP tlog-checkpoint."""
    form = r"([^\s+]+)\n(0|[1-9]\d{0,18})\n([\w+/=]{44})\n\n((?:— [^\s+]+ [\w+/=]+\n){1,16})"
    found = re.fullmatch(form, text, re.ASCII)
    if found is None or len(text) > 16384:
        raise ValueError("a malformed checkpoint")
    pairs = [line.split(" ")[1:] for line in found[4].split("\n")[:-1]]
    lines = [(name, _b64(value)) for name, value in pairs]
    body = text[: found.end(3) + 1].encode()
    return int(found[2]), _b64(found[3]), found[1], body, lines


def keys_in(text: str) -> list[Key]:
    """Return the keys for co-signing that stand in a region card or in keys.json."""
    # A name begins where something else ends: looked for at every place, it costs the square.
    form, keys = r"(?<![^\s\"'+])([^\s\"'+]{1,255})\+([0-9a-f]{8})\+([\w+/]{44})", []
    for name, key_id, data in re.findall(form, text, re.ASCII):
        raw = base64.b64decode(data)
        if raw[0] == 4 and sha256(f"{name}\n".encode() + raw)[:4].hex() == key_id:
            keys.append((name, bytes.fromhex(key_id), raw[1:]))
    return keys
