"""A second decoder, written from proto/FORMAT.md alone: it imports nothing of the agent.

Protobuf is done here, HPKE and HKDF in hpke.py, tree, notes and receipts in stranger_notes.py; of
cryptography there are only the primitives. Slow and simple on purpose.
"""

from __future__ import annotations

import hashlib
import hmac
import sqlite3
import struct
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from tests.format.hpke import hkdf, hpke_open

M64 = (1 << 64) - 1
Message = dict[int, list[Any]]
GENESIS, SESSION, SEGMENT, POLICY = 10, 12, 13, 14  # fields of Entry; all but the first name bodies


class FormatError(ValueError):
    """The bytes are not as FORMAT.md says."""


class LockedError(FormatError):
    """Sealed to others."""


def check(holds: bool, what: str) -> None:
    if not holds:
        raise FormatError(what)


def varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while not shift or data[at - 1] & 0x80:
        check(at < len(data) and shift < 70, "truncated varint")
        value |= (data[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
    return value & M64, at


def parse(data: bytes) -> Message:
    """Return {field number: its values in order}: int for numbers, bytes for the rest."""
    message: Message = {}
    at = 0
    while at < len(data):
        tag, at = varint(data, at)
        kind, value = tag & 7, None
        check(kind in (0, 1, 2, 5), "wire type")
        if kind == 0:
            value, at = varint(data, at)
        else:
            size, at = (8, at) if kind == 1 else (4, at) if kind == 5 else varint(data, at)
            value, at = data[at : at + size], at + size
            check(at <= len(data), "truncated field")
            value = value if kind == 2 else int.from_bytes(value, "little")
        message.setdefault(tag >> 3, []).append(value)
    return message


def last(message: Message, number: int, default: Any) -> Any:
    return message.get(number, [default])[-1]


def repeated(message: Message, number: int) -> list[int]:
    """Return repeated numbers, packed or not."""
    values: list[int] = []
    for part in message.get(number, []):
        at, packed = 0, b"" if isinstance(part, int) else part
        values += [part] if isinstance(part, int) else []
        while at < len(packed):
            value, at = varint(packed, at)
            values.append(value)
    return values


def framed(body: bytes, magic: bytes) -> tuple[bytes, Message, bytes]:
    """Return (magic, length and header as stored; the header; what follows)."""
    check(body[:4] == magic and len(body) >= 6, "magic")
    end = 6 + int.from_bytes(body[4:6], "big")
    check(end <= len(body), "truncated header")
    return body[:end], parse(body[6:end]), body[end:]


class Session:
    """An opened session: hands out the key of any of its segments."""

    def __init__(self, body: bytes, privates: Mapping[bytes, bytes]) -> None:
        prefix, self.header, wraps = framed(body, b"iSE1")
        check(last(self.header, 1, 0) == 1, "kem")
        self.id = last(self.header, 7, b"")
        for wrap in map(parse, parse(wraps).get(1, [])):
            kids = wrap.get(1, [])
            if kids and all(kid in privates for kid in kids):
                secret = last(wrap, 2, b"")
                info = b"inland/session/v1\0" + hashlib.sha256(prefix).digest() + b"".join(kids)
                try:
                    for kid in reversed(kids):
                        secret = hpke_open(secret, privates[kid], info)
                except (InvalidTag, ValueError):
                    raise FormatError("wrap of the session") from None
                break
        else:
            raise LockedError("no wrap for these keys")
        commitment = hkdf(secret, b"inland/session-commitment/v1", 32)
        check(hmac.compare_digest(commitment, last(self.header, 10, b"")), "session commitment")
        self._chain = [secret]

    def open(self, body: bytes, index: int | None = None) -> bytes:
        """Return the SegmentPayload of a sealed segment of this session, stored at an index."""
        prefix, header, rest = framed(body, b"iSG1")
        check(index in (None, last(header, 2, 0)), "another index")
        for mine, theirs in ((3, 7), (1, 5), (5, 8)):  # session, log, epoch
            check(header.get(mine) == self.header.get(theirs), "a segment of another session")
        step = last(header, 4, 0)
        check(step < 1 << 20, "step")
        while len(self._chain) <= step:
            self._chain.append(hkdf(self._chain[-1], b"inland/next/v1", 32))
        info = b"inland/segment/v1" + hashlib.sha256(prefix).digest()
        derived = hkdf(self._chain[step], info, 64)
        check(hmac.compare_digest(derived[32:], rest[:32]), "segment commitment")
        aead = {1: AESGCM, 2: ChaCha20Poly1305}[last(self.header, 2, 0)](derived[:32])
        try:
            return aead.decrypt(bytes(12), rest[32:], prefix + rest[:32])
        except InvalidTag:
            raise FormatError("tag of the segment") from None


def planes(data: bytes, width: int, rows: int) -> list[int]:
    check(1 <= width <= 8 and len(data) == width * rows, "planes")
    return [sum(data[k * rows + row] << 8 * k for k in range(width)) for row in range(rows)]


def signed(value: int) -> int:
    return (value & M64) - ((value & 1 << 63) << 1)


def unzigzag(value: int) -> int:
    return value >> 1 ^ -(value & 1)


def columns(data: bytes) -> Message:
    return parse(zstandard.ZstdDecompressor().decompress(data, allow_extra_data=False))


def stamps(message: Message, rows: list[int], first_field: int) -> list[int]:
    """Return the stamps of grouped rows; fields: period, stamp width, stamps in a row."""
    total, out = sum(rows), []
    coded = planes(last(message, first_field + 2, b""), last(message, first_field + 1, 0), total)
    for count, period in zip(rows, repeated(message, first_field), strict=True):
        k = 0
        for row in range(count):
            k += unzigzag(coded[len(out)]) + (period if row else 0)
            out.append(signed(last(message, 1, 0) + k * last(message, 2, 0)))
    return out


def arrival(message: Message, number: int, stamp: list[int]) -> list[int]:
    """Return the grouped row at each place in arrival order."""
    by_stamp = sorted(range(len(stamp)), key=stamp.__getitem__)
    if not (order := last(message, number, b"")):
        return by_stamp
    away = planes(order, len(order) // max(len(stamp), 1), len(stamp))
    return [by_stamp[place + unzigzag(code)] for place, code in enumerate(away)]


def frames(data: bytes) -> list[tuple[int, str, int, int, int, bytes]]:
    """Return (stamp ns, channel, id, flags, length, data) in arrival order from FrameColumns."""
    message = columns(data)
    names = [name.decode() for name in message.get(3, [])]
    channel, ids, flags, length, rows = (repeated(message, number) for number in range(4, 9))
    stamp = stamps(message, rows, 9)
    group = [g for g, count in enumerate(rows) for _ in range(count)]
    held = [0 if flags[g] & 2 else length[g] for g in group]
    cells, bytes_left = [bytearray() for _ in group], iter(last(message, 12, b""))
    for k in range(max(held, default=0)):
        for row, g in enumerate(group):
            if k < held[row]:
                before = cells[row - 1][k] if row and group[row - 1] == g else 0
                cells[row].append((next(bytes_left) + before) & 0xFF)
    check(next(bytes_left, None) is None, "too much data")
    heads = [(names[c], *rest) for c, *rest in zip(channel, ids, flags, length, strict=True)]
    order = arrival(message, 13, stamp)
    return [(stamp[r], *heads[group[r]], bytes(cells[r])) for r in order]


def samples(data: bytes) -> list[tuple[int, str, int, int]]:
    """Return (stamp ns, channel, signal number, raw) in arrival order from SignalColumns."""
    message = columns(data)
    names = [name.decode() for name in message.get(3, [])]
    channel, signal, rows = (repeated(message, number) for number in range(4, 7))
    stamp = stamps(message, rows, 7)
    coded = planes(last(message, 11, b""), last(message, 10, 0), len(stamp))
    group, raw = [g for g, count in enumerate(rows) for _ in range(count)], []
    for row, g in enumerate(group):
        before = raw[-1] if row and group[row - 1] == g else 0
        raw.append(signed(before + unzigzag(coded[row])))
    order = arrival(message, 12, stamp)
    return [(stamp[r], names[channel[group[r]]], signal[group[r]], raw[r]) for r in order]


def physical(raw: int, signal: Message) -> float:
    """Return the physical value of a raw one by its Signal of the dictionary."""
    kind = last(signal, 6, 0)
    if kind >= 2:
        code = "<f" if kind == 2 else "<d"
        raw = struct.unpack(code, (raw & M64).to_bytes(8, "little")[: struct.calcsize(code)])[0]
    elif kind == 0:
        raw &= M64
    factor, offset = (
        struct.unpack("<d", last(signal, number, 0).to_bytes(8, "little"))[0] for number in (4, 5)
    )
    return raw * factor + offset


def read_spool(path: Path, privates: Mapping[bytes, bytes]) -> Iterator[tuple[int, Message]]:
    """Yield (index, SegmentPayload) of each segment in a spool that these keys open."""
    sessions: dict[bytes, Session] = {}
    sql = "SELECT i, entry, blob FROM ledger LEFT JOIN body USING (i) ORDER BY i"
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as spool:
        for index, entry, body in spool.execute(sql):
            message = parse(entry)
            check(last(message, 1, 0) == index, "index of an entry")
            if not index:
                log = last(parse(last(message, GENESIS, b"")), 3, b"")
            for field in {SESSION, SEGMENT, POLICY} & message.keys() if body is not None else ():
                what = parse(last(message, field, b""))
                check(last(what, 1, b"") == hashlib.sha256(body).digest(), f"hash of body {index}")
                if field == SESSION:
                    with suppress(LockedError):
                        session = sessions[last(what, 2, b"")] = Session(body, privates)
                        place = [last(session.header, number, None) for number in (5, 6, 7)]
                        check(place == [log, index, last(what, 2, b"")], "place of a session")
                if field == SEGMENT and last(what, 3, b"") in sessions:
                    payload = sessions[last(what, 3, b"")].open(body, index)
                    check(last(what, 2, b"") == hashlib.sha256(payload).digest(), "plain hash")
                    yield index, parse(payload)
