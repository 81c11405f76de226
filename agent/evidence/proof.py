"""One log of a bundle: what proves its entries, and what is wrong with them or missing.

It is a part of verify.py (see bundle.py), which has to run where nothing is installed: the standard
library alone, Python 3.9. proto/FORMAT.md says what is checked, and why.
"""

from __future__ import annotations

import time
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from agent.evidence.ed25519 import signed_by
from agent.evidence.wire import BAD, Fields, Key, fields, last, parse_note, read, records, sha256

AFTER_NS = 120 * 10**9  # an entry is written at most this long after its rows came in
GENESIS, SESSION, SEGMENT, POLICY, DROP, GAP = 10, 12, 13, 14, 16, 19  # fields of Entry
BODIES = {SESSION: b"iSE1", SEGMENT: b"iSG1", POLICY: b""}  # what has one, how it begins
REASONS = (
    "unspecified", "confirmed", "quota", "expired", "rotten", "rolled", "withdrawn", "transferred",
)  # fmt: skip
RECIPIENTS = ("unknown", "region", "owner", "shared", "both", "driver")
LANES = ("incident", "event", "routine", "recorder")
Say = Callable[[str, str, str], None]  # altered or missing, where, why


def span(first: int, end: int) -> str:
    """Return how messages name entries, both inclusive."""
    return f"entry {first}" if first == end else f"entries {first} to {end}"


def word_for(names: tuple[str, ...], number: int) -> str:
    """Return the name of a number; of one that came later than this file, the number."""
    return names[number] if number < len(names) else str(number)


def attempt(say: Say, where: str, work: Callable[..., Any], *values: Any) -> Any:
    """Do it and return what it gives; what cannot be read becomes a finding."""
    try:
        return work(*values)
    except FileNotFoundError:
        say("missing", where, "is not here")
    except BAD as error:
        say("altered", where, str(getattr(error, "strerror", None) or error))
    return None


def moment(unix_s: int) -> str:
    """Return a time as ISO 8601, UTC."""
    try:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(unix_s))
    except (OverflowError, ValueError, OSError):
        return f"{unix_s} s after 1970"


def _head(body: bytes) -> Fields:
    return fields(body[6 : 6 + int.from_bytes(body[4:6], "big")])


def _root(edge: list[tuple[int, bytes]]) -> bytes:
    root = edge[-1][1]
    for _, left in reversed(edge[:-1]):
        root = sha256(b"\1" + left + root)
    return root


class Log:
    """One log of a bundle: its disclosed entries, what proves them, what is wrong with them."""

    FILES = ("entries", "cover", "notes", "bodies")

    def __init__(self, folder: Path, name: str, keys: list[Key], say: Say) -> None:
        self.name, self._keys, self._tell = name, keys, say
        self.items: dict[int, tuple[int, int, Any]] = {}  # written at, field of Entry, its fields
        self.here: dict[int, bytes] = {}  # bodies that fit; of a segment, the policy that it names
        self.log, self.origin, self.public = b"", "", b""
        self.size = self.signed = 0  # leaves in all, and up to the last checkpoint that fits
        self.first, self.end = 0, -1  # entries of the asked time
        self.seen: list[tuple[int, int, str, bytes]] = []  # co-signatures: size, s, name, key
        self._parts: list[tuple[int, int, bytes]] = []  # of the tree: first leaf, height, hash
        taking = self._entries, self._cover, self._notes, self._bodies
        for end, take in zip(self.FILES, taking):  # noqa: B905 - of Python 3.10
            attempt(say, f"{name}.{end}", self._file, folder / f"{name}.{end}", take)

    def _say(self, kind: str, where: str, why: str) -> None:
        self._tell(kind, f"log {self.name} {where}", why)

    def _file(self, path: Path, take: Callable[[Any], None]) -> None:
        take(read(path))

    def _entries(self, data: bytes) -> None:
        for index, leaf, entry in records(data, 32):
            self._parts.append((index, 0, leaf))
            try:
                found = fields(entry)
                kind = max(found)
                item = last(fields(last(found, 2, b"")), 1, 0), kind, fields(last(found, kind, b""))
                fits = sha256(b"\0" + entry) == leaf and last(found, 1, 0) == index
                if index == 0:
                    vehicle, self.log, self.public = (last(item[2], n, b"") for n in (2, 3, 4))
                    self.origin = f"{vehicle.decode()}/{self.log.hex()}"
                    fits &= kind == GENESIS and self.log[:8].hex() == self.name
            except BAD:
                fits = False
            if fits:
                self.items[index] = item
            else:
                self._say("altered", span(index, index), "is not what was written")

    def _cover(self, data: bytes) -> None:
        for at in range(0, len(data), 41):
            height, place = data[at], int.from_bytes(data[at + 1 : at + 9], "big")
            self._parts.append((place << height, height, data[at + 9 : at + 41]))
        if len(data) % 41:
            raise ValueError("is cut")

    def _notes(self, data: bytes) -> None:
        texts = data[:].decode().split("\x1e\n") if data else []
        notes = sorted(parse_note(text) for text in texts)
        if 0 not in self.items:
            self._say("missing", "entry 0", "whose log it is, and the car's key")
        seen = [one for note in notes if self.public for one in self._signatures(*note)]
        edge: list[tuple[int, bytes]] = []  # complete subtrees from left to right: height, hash
        for first, height, digest in sorted(self._parts):
            if first > self.size:
                self._say("missing", span(self.size, first - 1), "neither here nor covered")
                return
            if first < self.size or first & (1 << height) - 1:
                self._say("altered", span(first, first), "has no such place in the tree")
                return
            self.size += 1 << height
            edge.append((height, digest))
            while len(edge) > 1 and edge[-2][0] == edge[-1][0]:
                (level, right), (_, left) = edge.pop(), edge.pop()
                edge.append((level + 1, sha256(b"\1" + left + right)))
            while notes and notes[0][0] <= self.size:
                if notes[0][:2] != (self.size, _root(edge)):
                    self._say("altered", span(self.signed, notes[0][0] - 1), "not what was signed")
                    return
                self.signed = notes.pop(0)[0]
                self.seen = [one for one in seen if one[0] <= self.signed]
        if notes:
            self._say("missing", span(self.size, notes[-1][0] - 1), "not here, though signed for")

    def _signatures(
        self, size: int, _: bytes, origin: str, body: bytes, lines: list[tuple[str, bytes]]
    ) -> Iterator[tuple[int, int, str, bytes]]:
        own = self.origin, sha256(f"{self.origin}\n\1".encode() + self.public)[:4]
        is_own, fits = False, origin == self.origin
        for name, value in lines:
            if (name, value[:4]) == own:
                is_own, fits = True, fits and signed_by(self.public, value[4:], body)
            for public in [key[2] for key in self._keys if key[:2] == (name, value[:4])]:
                unix_s = int.from_bytes(value[4:12], "big")
                text = f"cosignature/v1\ntime {unix_s}\n".encode() + body
                fits = fits and signed_by(public, value[12:], text)
                yield size, unix_s, name, public
        if not fits or not is_own:
            self._say("altered", f"checkpoint of {size} entries", "its signatures do not fit")

    def _bodies(self, data: Any) -> None:
        for index, _, body in records(data, 0):
            if self._fits(index, body):
                kind = self.items[index][1]
                self.here[index] = last(_head(body), 7, b"") if kind == SEGMENT else b""
            else:
                self._say("altered", span(index, index), "its body is not the one that it names")

    def _fits(self, index: int, body: bytes) -> bool:
        _, kind, what = self.items.get(index, (0, 0, {}))
        if kind not in BODIES or sha256(body) != last(what, 1, b""):
            return False
        if kind == POLICY:
            return True
        log, at, session = (5, 6, 7) if kind == SESSION else (1, 2, 3)
        head = _head(body)
        place = last(head, log, b""), last(head, at, 0), last(head, session, b"")
        mine = self.log, index, last(what, 2 if kind == SESSION else 3, b"")
        return body[:4] == BODIES[kind] and place == mine

    def judge(self, told: Any, lost: Any, presence: dict[str, Counter[str]]) -> None:
        """Say what is missing of what was asked for, and count what became of the segments."""
        mine = told["logs"][self.name]
        self._extent(told["asked"]["from_ns"], told["asked"]["to_ns"], mine["size"], lost)
        named = [i for i in sorted(self.items) if self._names(i, *BODIES)]
        gone = self._gone(named, mine["left_out"], lost)
        sessions = {last(self.items[i][2], 2, b""): i for i in named if self._names(i, SESSION)}
        policies = {last(self.items[i][2], 1, b"")[:8] for i in named if self._names(i, POLICY)}
        for i in named:
            if self._names(i, SEGMENT) and not self.first <= i <= self.end:
                continue  # it shows where the asked time ends, no more
            what, state = self.items[i][2], "here" if i in self.here else gone.get(i, "missing")
            if state == "missing":
                self._say("missing", span(i, i), "its body is not here, and nothing says why")
            if not self._names(i, SEGMENT):
                continue
            begun = sessions.get(last(what, 3, b""), i)
            who = last(self.items[begun][2], 3, 0) if begun < i else 0
            if begun >= i:
                self._say("missing", span(i, i), "the entry of its session is not here")
            if self.here.get(i, b"") not in policies | {b""}:
                self._say("missing", span(i, i), "the entry of its policy is not here")
            name = f"{word_for(RECIPIENTS, who)}, {word_for(LANES, last(what, 4, 0))}"
            presence.setdefault(name, Counter())[state] += 1

    def told(self) -> dict[str, Any]:
        """Return what is known of the log, and who vouches for how much of it."""
        end = max(self.items, default=-1) + 1
        covering = [one for one in sorted(self.seen) if one[0] >= end][:1] or sorted(self.seen)[-1:]
        inside = [item[0] // 10**9 for i, item in self.items.items() if self.first <= i <= self.end]
        return {
            "log": self.log.hex(), "vehicle": self.origin.partition("/")[0],
            "entries": len(self.items), "size": self.size, "signed": self.signed,
            "first": self.first, "last": self.end,
            "from": moment(min(inside, default=0)), "to": moment(max(inside, default=0)),
            "car_key": sha256(self.public).hex(),
            "co_signed": [
                {"size": size, "at": moment(unix_s), "name": name, "key": sha256(public).hex()}
                for size, unix_s, name, public in covering
            ],
        }  # fmt: skip

    def _names(self, index: int, *kinds: int) -> bool:
        return self.items[index][1] in kinds and bool(last(self.items[index][2], 1, b""))

    def _gone(self, named: list[int], left_out: Any, lost: Any) -> dict[int, str]:
        gone = dict.fromkeys(named, "lost with its log") if self.log in lost else {}
        for reason, ranges in left_out.items():
            for first, end in ranges:
                part = named[bisect_left(named, first) : bisect_right(named, end)]
                gone.update(dict.fromkeys(part, f"left out: {reason}"))
        for index, (_, kind, what) in self.items.items():
            for one in map(fields, what.get(1, []) if kind == DROP else ()):
                first, end = last(one, 1, 0), last(one, 2, 0)
                part = named[bisect_left(named, first) : bisect_right(named, end)]
                reason = f"removed: {word_for(REASONS, last(what, 2, 0))}"
                gone.update({i: reason for i in part if i < index})
        return gone

    def _extent(self, from_ns: Any, to_ns: Any, size: int, lost: Any) -> None:
        # Behind `size` are only entries that explain what is before it.
        low = 0 if from_ns is None else from_ns
        high = 1 << 64 if to_ns is None else to_ns + AFTER_NS
        indices = sorted(self.items)
        inside = [i for i in indices if low <= self.items[i][0] <= high and i < size]
        before = max([i for i in indices if i < size and self.items[i][0] < low], default=-1)
        first, end = (inside[0], inside[-1]) if inside else (before + 1, before)
        self.first, self.end = first, end
        at = max(0, first - 1)  # the neighbours show that nothing more is of that time
        for index in [*indices[bisect_left(indices, at) : bisect_right(indices, end + 1)], end + 2]:
            if at < min(index, size):
                self._say("missing", span(at, min(index, size) - 1), "is not disclosed")
            at = index + 1
        if size > self.size:
            self._say("missing", span(self.size, size - 1), "not here, though bundle.json has them")
        if to_ns is not None and end + 1 >= size and self.log not in lost:
            self._say("missing", f"behind entry {end}", "what came up to the time asked for")
        covered = max([one[0] for one in self.seen], default=0)
        by_region, by_car = bisect_left(indices, covered), bisect_left(indices, self.signed)
        parts = (indices[by_region:by_car], "region"), (indices[max(by_region, by_car) :], "car")
        for part, who in parts:
            if part:
                self._say(
                    "missing", span(part[0], part[-1]), f"no signature of the {who} covers it"
                )
