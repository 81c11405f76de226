"""The fourth part of the second decoder: sealed zones, policy bundles, and what a policy says.

Written from proto/FORMAT.md alone, like stranger.py; imports nothing of the agent, and no TUF.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Mapping
from itertools import accumulate
from typing import Any

import zstandard
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.format.stranger import Message, check, last, parse, repeated, unzigzag
from tests.format.stranger_records import text

Polygon = tuple[str, list[tuple[int, int]]]
Trusted = dict[str, Any]  # the `signed` part of metadata that was verified
MAX_BUNDLE, MAX_ZONES = 1 << 20, 160 * 1024


def zones(sealed: bytes, key: bytes, region: str) -> list[Polygon]:
    """Return (class, [(latitude, longitude) in 1e-6 degrees]) of each polygon."""
    check(sealed[:4] == b"iZN1" and 32 <= len(sealed) <= MAX_ZONES, "not sealed zones")
    try:
        packed = AESGCM(key).decrypt(sealed[4:16], sealed[16:], b"iZN1" + region.encode())
    except InvalidTag:
        check(False, "tag of the zones")
    check(0 < zstandard.frame_content_size(packed) <= 1 << 20, "size of the zones")
    return polygons(parse(zstandard.ZstdDecompressor().decompress(packed)))


def polygons(table: Message) -> list[Polygon]:
    names = [name.decode() for name in table.get(1, [])]
    of, vertices = repeated(table, 2), repeated(table, 3)
    columns = [[unzigzag(code) for code in repeated(table, number)] for number in (4, 5)]
    check(len(of) == len(vertices) and {sum(vertices)} == set(map(len, columns)), "columns")
    check(min(vertices) >= 3, "a polygon of less than three vertices")
    corners = list(zip(*(accumulate(column) for column in columns), strict=True))
    ends = list(accumulate(vertices))
    rings = [corners[end - count : end] for end, count in zip(ends, vertices, strict=True)]
    return [(names[number], ring) for number, ring in zip(of, rings, strict=True)]


def bundle(whole: bytes, digest: bytes) -> dict[str, bytes]:
    """Return the files of a PolicyBundle by name, if it is the one that a receipt named."""
    check(len(whole) <= MAX_BUNDLE and hashlib.sha256(whole).digest() == digest, "digest")
    parts = [parse(part) for part in parse(whole).get(1, [])]
    files = {text(part, 1): last(part, 2, b"") for part in parts}
    check(len(files) == len(parts), "a name twice")
    return files


def canonical(value: Any) -> bytes:
    """Return canonical JSON; ours has no strings that need more than json.dumps does."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def signers(metadata: Trusted, root: Trusted, role: str) -> int:
    """Return how many keys of a role have signed."""
    found, told = set(), canonical(metadata["signed"])
    for one in metadata["signatures"]:
        if one["keyid"] not in root["roles"][role]["keyids"]:
            continue
        key = root["keys"][one["keyid"]]
        check(key["keytype"] == key["scheme"] == "ed25519", "kind of key")
        public = bytes.fromhex(key["keyval"]["public"])
        try:
            Ed25519PublicKey.from_public_bytes(public).verify(bytes.fromhex(one["sig"]), told)
        except InvalidSignature:
            continue
        found.add(public)
    return len(found)


def signed(data: bytes, role: str, *roots: Trusted) -> Trusted:
    """Return the signed part of a role's metadata, valid under each of some roots."""
    metadata = json.loads(data)
    for root in roots or (metadata["signed"],):
        check(signers(metadata, root, role) >= root["roles"][role]["threshold"], f"{role}: keys")
    found: Trusted = metadata["signed"]
    check(found["_type"] == role, f"{role}: type")
    return found


def fresh(found: Trusted, now: dt.datetime) -> Trusted:
    check(dt.datetime.fromisoformat(found["expires"]) > now, f"{found['_type']} has expired")
    return found


def matches(data: bytes, told: Mapping[str, Any]) -> bytes:
    """Check length and hash, as far as the metadata tells them."""
    check(told.get("length", len(data)) == len(data), "length")
    digest = told.get("hashes", {}).get("sha256")
    check(digest in (None, hashlib.sha256(data).hexdigest()), "hash")
    return data


def targets(files: Mapping[str, bytes], card: bytes, now: dt.datetime) -> Trusted:
    """Return the targets on offer, by the chain from the region card's root."""
    root = signed(card, "root")
    while (data := files.get(f"metadata/{root['version'] + 1}.root.json")) is not None:
        following = signed(data, "root", root, signed(data, "root"))
        check(following["version"] == root["version"] + 1, "version of a root")
        root = following
    found = fresh(signed(files["metadata/timestamp.json"], "timestamp", fresh(root, now)), now)
    for role in ("snapshot", "targets"):
        told = found["meta"][f"{role}.json"]
        data = matches(files[f"metadata/{told['version']}.{role}.json"], told)
        found = fresh(signed(data, role, root), now)
        check(found["version"] == told["version"], f"version of {role}")
    offers: Trusted = found["targets"]
    return offers


def chosen(files: Mapping[str, bytes], offers: Trusted, group: str, vehicle: str) -> bytes:
    """Return the compiled policy that a vehicle of a group takes."""
    name = f"{group}.policy"
    if (staged := offers.get(f"{group}.next.policy")) is not None:
        version, percent = staged["custom"]["version"], staged["custom"]["percent"]
        lot = hashlib.sha256(f"{version}:{vehicle}".encode()).digest()[:4]
        name = f"{group}.next.policy" if int.from_bytes(lot, "big") % 100 < percent else name
    digest = offers[name]["hashes"]["sha256"]
    data = matches(files[f"targets/{digest}.{name}"], offers[name])
    told = offers[name].get("custom", {}).get("version")
    check(told in (None, last(parse(data), 2, 0)), "version of the policy")
    return data


def selector(data: bytes) -> tuple[str, int, int]:
    """Return (channel, signal, grain) of a SignalSelector."""
    found = parse(data)
    return text(found, 1), last(found, 2, 0), last(found, 3, 0)


def condition(data: bytes) -> tuple[str, dict[str, tuple[str, int, int]]]:
    """Return the text of a Condition, and what each name in it means."""
    terms = [parse(term) for term in parse(data).get(2, [])]
    return text(parse(data), 1), {text(term, 1): selector(last(term, 2, b"")) for term in terms}


def terms(policy: Message, category: str) -> bytes:
    """Return the digest of what a policy asks a consent for; signals without multiplexers alone."""
    words = ["terms 1", category]
    signals = [parse(one) for one in parse(last(policy, 5, b"")).get(1, [])]
    for rule in map(parse, policy.get(6, [])):
        if (text(rule, 2), text(rule, 4)) != (category, "consent"):
            continue
        opens = ("", "region", "owner", "shared", "both")[last(rule, 6, 0)]
        numbers = [last(rule, number, 0) for number in (8, 16, 11)]
        words += ["clause", text(rule, 3), opens, *map(str, numbers), "0"]
        found = []
        for channel, number, _ in map(selector, rule.get(10, [])):
            name = f"{text(signals[number], 2)}.{text(signals[number], 1)}"
            found.append((channel, name, place(parse(policy[7][number]), signals[number])))
        words += [word for one in sorted(found) for word in ("s", *one)]
    coded = [word.encode() for word in words]
    return hashlib.sha256(b"".join(len(one).to_bytes(4, "big") + one for one in coded)).digest()


def holds(decode: bytes, identifier: int, *, extended: bool) -> bool:
    """Return whether a data frame of this id holds the signal of a Decode."""
    found = parse(decode)
    differ = (identifier ^ last(found, 1, 0)) & ~last(found, 7, 0)
    return not differ and extended == bool(last(found, 2, 0))


def place(decode: Message, signal: Message) -> str:
    kind = ("unsigned", "signed", "float32", "float64")[last(signal, 6, 0)]
    extended, motorola = ("x" if last(decode, 2, 0) else ""), ("m" if last(decode, 5, 0) else "")
    bits = f"{last(decode, 3, 0)}+{last(decode, 4, 0)}{motorola}"
    free = f"~{last(decode, 7, 0):X}" if last(decode, 7, 0) else ""
    return f"{last(decode, 1, 0):X}{extended}{free}/{bits}/{kind}"
