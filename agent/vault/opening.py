"""Opening what was sealed: used by the station and the owner, never by the daemon.

Order of checks, all fail closed with SealError:
1. magic, length, strict header (known suite, sizes); the header says what the ledger says;
2. the wrap opens with our key, bound to this header and to its kids;
3. the secret matches the header's commitment: all recipients hold the same one;
4. a segment's stored commitment matches its key, compared before decryption;
5. the AEAD tag over the stored bytes.

Headers are parsed, but authenticated as the bytes they came in.
"""

from __future__ import annotations

import hmac
from collections import OrderedDict
from collections.abc import Mapping
from typing import Final

from cryptography.exceptions import InvalidTag
from google.protobuf.message import DecodeError

from agent.errors import SealError
from agent.pb import sealed_pb2
from agent.vault import keys
from agent.vault.seal import WRAPS, cipher
from agent.vault.session import (
    AES_256_GCM,
    CHACHA20_POLY1305,
    COMMITMENT_BYTES,
    NONCE,
    SECRET_BYTES,
    SEGMENT_MAGIC,
    SESSION_MAGIC,
    TAG_BYTES,
    next_chain,
    segment_secret,
    session_commitment,
    split_head,
    wrap_info,
)

MAX_SKIP: Final = 1 << 20  # steps a reader goes forward for one segment: 5 s, far over an hour's
MAX_CACHED: Final = 4096  # chain values behind the furthest one, for segments out of order
ID_BYTES: Final = 16


def parse_session(body: bytes) -> tuple[bytes, sealed_pb2.SessionHeader, sealed_pb2.Wraps]:
    """Return (prefix, header, wraps) of a sealed session; nothing is authenticated yet.

    Raises:
        SealError: malformed, or of a suite that is not ours.
    """
    parts = split_head(SESSION_MAGIC, body)
    if parts is None:
        raise SealError("not a sealed session")
    prefix, raw, rest = parts
    header, wraps = sealed_pb2.SessionHeader(), sealed_pb2.Wraps()
    try:
        header.ParseFromString(raw)
        wraps.ParseFromString(rest)
    except DecodeError:
        raise SealError("a sealed session that is cut or altered") from None
    where = place(header.log, header.index)
    if header.kem != keys.KEM_MLKEM768_X25519 or header.aead not in (
        AES_256_GCM,
        CHACHA20_POLY1305,
    ):
        raise SealError(f"unknown suite {header.kem}/{header.aead}", where=where)
    if header.recipients not in WRAPS or len(wraps.wrap) != len(WRAPS[header.recipients]):
        raise SealError("wraps that do not fit the recipients", where=where)
    if len(header.log) != ID_BYTES or len(header.session) != ID_BYTES:
        raise SealError("malformed session header", where=where)
    return prefix, header, wraps


def parse_segment(body: bytes) -> tuple[bytes, sealed_pb2.SegmentHeader, bytes, bytes]:
    """Return (head, header, commitment, ciphertext) of a sealed segment; not authenticated yet.

    Raises:
        SealError: malformed.
    """
    parts = split_head(SEGMENT_MAGIC, body)
    if parts is None or len(parts[2]) < COMMITMENT_BYTES + TAG_BYTES:
        raise SealError("not a sealed segment")
    segment_head, raw, rest = parts
    header = sealed_pb2.SegmentHeader()
    try:
        header.ParseFromString(raw)
    except DecodeError:
        raise SealError("a segment header that is cut or altered") from None
    return segment_head, header, rest[:COMMITMENT_BYTES], rest[COMMITMENT_BYTES:]


def is_sealed_to(body: bytes, privates: Mapping[bytes, bytes]) -> bool:
    """Return whether a sealed session names keys that we hold, or cannot be read at all.

    Args:
        body: the sealed session as stored.
        privates: recipients' private keys by kid.
    """
    try:
        wraps = parse_session(body)[2]
    except SealError:
        return True  # it is for whoever opens it to say what is wrong with it
    return any(all(kid in privates for kid in wrap.kid) for wrap in wraps.wrap)


def open_session(body: bytes, privates: Mapping[bytes, bytes]) -> SessionReader:
    """Open a sealed session with the keys that we hold.

    Args:
        body: the sealed session as stored.
        privates: recipients' private keys (96 bytes) by kid.

    Raises:
        SealError: malformed, altered, not for these keys, or a secret that breaks its commitment.
    """
    prefix, header, wraps = parse_session(body)
    where = place(header.log, header.index)
    for wrap, names in zip(wraps.wrap, WRAPS[header.recipients], strict=True):
        if len(wrap.kid) != len(names):
            raise SealError("wraps that do not fit the recipients", where=where)
        if all(kid in privates for kid in wrap.kid):
            secret = _unwrap(prefix, wrap, privates, where)
            if not hmac.compare_digest(session_commitment(secret), header.commitment):
                raise SealError("the secret is not the one that the header commits to", where=where)
            return SessionReader(header, secret)
    raise SealError(
        "not sealed to the keys at hand", where=where,
        todo="keys needed: " + " or ".join("+".join(k.hex() for k in w.kid) for w in wraps.wrap),
    )  # fmt: skip


def _unwrap(
    prefix: bytes, wrap: sealed_pb2.Wrap, privates: Mapping[bytes, bytes], where: str
) -> bytes:
    info, inner = wrap_info(prefix, tuple(wrap.kid)), wrap.sealed
    for kid in reversed(wrap.kid):  # the first is innermost
        try:
            inner = keys.hpke_suite().decrypt(inner, keys.load_private(privates[kid]), info=info)
        except (InvalidTag, ValueError):
            raise SealError("the session was altered, or the key is wrong", where=where) from None
    if len(inner) != SECRET_BYTES:
        raise SealError("a session secret of the wrong size", where=where)
    return inner


class SessionReader:
    """An open session: derives the key of any of its segments.

    Chain values that were passed are cached, so that segments may come in any order; the cache
    holds the latest `MAX_CACHED`, and the start of the chain for anything older.
    """

    def __init__(self, header: sealed_pb2.SessionHeader, secret: bytes) -> None:
        self.header = header
        self._first = secret
        self._chains: OrderedDict[int, bytes] = OrderedDict({0: secret})

    def open_segment(self, body: bytes) -> bytes:
        """Return the SegmentPayload bytes of a sealed segment of this session.

        Raises:
            SealError: malformed, altered, or of another session, log or epoch.
        """
        segment_head, header, commitment, sealed = parse_segment(body)
        where = place(header.log, header.index)
        mine = self.header
        if (header.session, header.log, header.epoch) != (mine.session, mine.log, mine.epoch):
            raise SealError("the segment is not of this session", where=where)
        secret = segment_secret(self._chain(header.step, where), segment_head)
        if not hmac.compare_digest(secret.commitment, commitment):
            raise SealError("the segment was altered (commitment)", where=where)
        try:
            return cipher(mine.aead, secret.key).decrypt(NONCE, sealed, segment_head + commitment)
        except InvalidTag:
            raise SealError("the segment was altered (tag)", where=where) from None

    def _chain(self, step: int, where: str) -> bytes:
        if step in self._chains:
            return self._chains[step]
        at = next(reversed(self._chains))
        chain = self._chains[at]
        if step < at:  # fell out of the cache: start again
            at, chain = 0, self._first
            self._chains = OrderedDict({0: chain})
        if step - at > MAX_SKIP:
            raise SealError(f"step {step} is further than any session goes", where=where)
        while at < step:
            at, chain = at + 1, next_chain(chain)
            self._chains[at] = chain
            if len(self._chains) > MAX_CACHED:
                self._chains.popitem(last=False)
        return chain


def open_segment(body: bytes, session: SessionReader) -> bytes:
    """Return the payload of a sealed segment; see `SessionReader.open_segment`.

    Raises:
        SealError: malformed, altered, or of another session, log or epoch.
    """
    return session.open_segment(body)


def place(log: bytes, index: int) -> str:
    """Return how messages name an entry: its log and index."""
    return f"log {log.hex()[:16]} entry {index}"
