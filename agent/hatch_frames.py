"""How messages lie in the hatch's stream: u32 big endian length, then the message. Pure.

A message that is announced to be too large is refused before a byte of it is waited for.
"""

from __future__ import annotations

import struct
from typing import Final

from agent.errors import HatchError

_HEAD: Final = struct.Struct(">I")


class Frames:
    """Incremental decoder of length-prefixed messages of at most `limit` bytes. Pure."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._bytes = bytearray()

    def feed(self, data: bytes) -> None:
        """Add bytes as they came."""
        self._bytes += data

    def take(self) -> bytes | None:
        """Return the next whole message or None; HatchError if too large a one is announced."""
        if len(self._bytes) < _HEAD.size:
            return None
        (size,) = _HEAD.unpack_from(self._bytes)
        if size > self._limit:
            raise HatchError(f"a message of {size} bytes was announced, the limit is {self._limit}")
        if len(self._bytes) < _HEAD.size + size:
            return None
        message = bytes(self._bytes[_HEAD.size : _HEAD.size + size])
        del self._bytes[: _HEAD.size + size]
        return message

    def holds_part(self) -> bool:
        """Return whether bytes of an unfinished message are waiting."""
        return bool(self._bytes)


def frame(message: bytes, limit: int) -> bytes:
    """Return a message with its length before it; HatchError if it is over `limit` bytes."""
    if len(message) > limit:
        raise HatchError(f"a message of {len(message)} bytes is over the hatch's {limit}")
    return _HEAD.pack(len(message)) + message
