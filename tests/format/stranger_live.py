"""A stranger who looks on: section 18 of proto/FORMAT.md, from it and live.proto alone.

Imports nothing of the agent, like stranger.py.
"""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Iterator
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.format.stranger import Message, Session, check, framed, last, parse

CHALLENGE, REFUSED, SESSION, SEGMENT = 1, 2, 3, 4  # fields of LiveMessage


class RefusedError(Exception):
    """The car says no."""


def field(number: int, value: bytes) -> bytes:
    return bytes([number << 3 | 2, len(value)]) + value


def message(sock: socket.socket) -> tuple[int, bytes]:
    """The next message: which of LiveMessage's fields, and what it holds."""
    size = int.from_bytes(sock.recv(4, socket.MSG_WAITALL), "big")
    check(0 < size <= 524_288, "size of a message")
    data = sock.recv(size, socket.MSG_WAITALL)
    check(len(data) == size, "truncated message")
    ((number, (value,)),) = parse(data).items()
    return number, value


def look(
    path: Path, kid: bytes, private: bytes, sign: Ed25519PrivateKey, *, frames: bool
) -> Iterator[Message]:
    """Yield each LivePart."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.connect(str(path))
        sock.settimeout(20)
        number, challenge = message(sock)
        check(number == CHALLENGE and len(last(parse(challenge), 1, b"")) == 32, "challenge")
        size = len(challenge).to_bytes(2, "big")
        said = b"inland/live/v1\0" + size + challenge + kid + bytes([frames])
        asked = b"\x10\x01" if frames else b""  # field 2; left out if false
        answer = field(1, kid) + asked + field(3, sign.sign(said))
        sock.sendall(len(answer).to_bytes(4, "big") + answer)
        number, body = message(sock)
        if number == REFUSED:
            raise RefusedError(last(parse(body), 1, b"").decode())
        check(number == SESSION, "session")
        session = Session(body, {kid: private})
        named = hashlib.sha256(b"inland/live-session/v1\0" + challenge + answer).digest()[:16]
        check(last(session.header, 5, b"") == named, "a session of another connection")
        for mine, theirs in ((4, 2), (8, 3)):  # vehicle, epoch
            check(session.header.get(mine) == parse(challenge).get(theirs), "another car")
        yield from parts(sock, session)


def parts(sock: socket.socket, session: Session) -> Iterator[Message]:
    count = 0
    while True:
        number, body = message(sock)
        check(number == SEGMENT, "segment")
        _, header, _ = framed(body, b"iSG1")
        check((last(header, 2, 0), last(header, 4, 0)) == (count, count), "a part is missing")
        count += 1
        part = parse(session.open(body))
        yield part
        if part.get(8):
            return
