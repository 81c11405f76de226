"""One log of a bundle: what proves its entries, and what is wrong with them or missing.

It is a part of verify.py (see bundle.py), which has to run where nothing is installed: the standard
library alone, Python 3.9. proto/FORMAT.md says what is checked, and why.

A log may have millions of entries: of each a hundred bytes are remembered, in arrays.
"""

from __future__ import annotations

import time
from array import array
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from heapq import merge
from pathlib import Path
from typing import Any

from agent.evidence.ed25519 import signed_by
from agent.evidence.segments import Segments, head_of
from agent.evidence.wire import BAD, Fields, Key, fields, last, parse_note, read, records, sha256

AFTER_NS = 120 * 10**9  # an entry is written at most this long after its rows came in
GENESIS, SESSION, SEGMENT, POLICY, DROP, GAP = 10, 12, 13, 14, 16, 19  # fields of Entry
RARE = (GENESIS, SESSION, POLICY, DROP, GAP)  # of these, all that an entry says is remembered
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
        # Of each entry that fits: its index, when it was written; of the rare kinds what it says.
        self.index, self.at = array("Q"), array("Q")
        self.rare: dict[int, tuple[int, Fields]] = {}
        self._segments = Segments()
        self._held: set[int] = set()  # sessions and policies whose body is here, and fits
        self.log, self.origin, self.public = b"", "", b""
        self.size = self.signed = 0  # leaves in all, and up to the last checkpoint that fits
        self.first, self.end = 0, -1  # entries of the asked time
        self.seen: list[tuple[int, int, str, bytes]] = []  # co-signatures: size, s, name, key
        self._places, self._leaves = array("Q"), bytearray()  # of all, those that do not fit too
        self._subtrees: list[tuple[int, int, bytes]] = []  # first leaf, height, hash
        taking = self._entries, self._cover, self._notes, self._bodies
        for end, take in zip(self.FILES, taking):  # noqa: B905 - of Python 3.10
            attempt(say, f"{name}.{end}", self._file, folder / f"{name}.{end}", take)

    def _say(self, kind: str, where: str, why: str) -> None:
        self._tell(kind, f"log {self.name} {where}", why)

    def _file(self, path: Path, take: Callable[[Any], None]) -> None:
        take(read(path))

    def _entries(self, data: bytes) -> None:
        for index, leaf, entry in records(data, 32):
            self._places.append(index)
            self._leaves += leaf
            try:
                found = fields(entry)
                kind = max(found)
                at, what = last(fields(last(found, 2, b"")), 1, 0), fields(last(found, kind, b""))
                fits = sha256(b"\0" + entry) == leaf and last(found, 1, 0) == index
                if index == 0:
                    vehicle, self.log, self.public = (last(what, n, b"") for n in (2, 3, 4))
                    self.origin = f"{vehicle.decode()}/{self.log.hex()}"
                    fits &= kind == GENESIS and self.log[:8].hex() == self.name
                if fits and kind == SEGMENT:
                    self._segments.take(index, what)
            except BAD:
                fits = False
            if not fits:
                self._say("altered", span(index, index), "is not what was written")
                continue
            self.index.append(index)
            self.at.append(at)
            if kind in RARE:
                self.rare[index] = kind, what

    def _cover(self, data: bytes) -> None:
        for at in range(0, len(data), 41):
            height, place = data[at], int.from_bytes(data[at + 1 : at + 9], "big")
            self._subtrees.append((place << height, height, data[at + 9 : at + 41]))
        if len(data) % 41:
            raise ValueError("is cut")

    def _notes(self, data: bytes) -> None:
        texts = data[:].decode().split("\x1e\n") if data else []
        notes = sorted(parse_note(text) for text in texts)
        if 0 not in self.rare:
            self._say("missing", "entry 0", "whose log it is, and the car's key")
        seen = [one for note in notes if self.public for one in self._signatures(*note)]
        edge: list[tuple[int, bytes]] = []  # complete subtrees from left to right: height, hash
        for first, height, digest in merge(self._leaf_parts(), sorted(self._subtrees)):
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

    def _leaf_parts(self) -> Iterator[tuple[int, int, bytes]]:
        for at, index in enumerate(self._places):
            yield index, 0, bytes(self._leaves[32 * at : 32 * at + 32])

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
            if not self._fits(index, body):
                self._say("altered", span(index, index), "its body is not the one that it names")

    def _fits(self, index: int, body: bytes) -> bool:
        """Return whether a body is the one that its entry names, and note that it is here."""
        at = self._segments.at(index)
        if at >= 0:
            return self._segments.fits(at, body, self._is_place)
        kind, what = self.rare.get(index, (0, {}))
        if kind not in (SESSION, POLICY) or sha256(body) != last(what, 1, b""):
            return False
        if kind == SESSION:
            head = head_of(body)
            place = last(head, 5, b""), last(head, 6, 0), last(head, 7, b"")
            if body[:4] != b"iSE1" or not self._is_place(*place, index, last(what, 2, b"")):
                return False
        self._held.add(index)
        return True

    def _is_place(self, log: bytes, i: int, session: bytes, index: int, of: bytes) -> bool:
        mine = log == self.log if self.log else log[:8].hex() == self.name
        return mine and (i, session) == (index, of)

    def judge(self, told: Any, lost: Any, presence: dict[str, Counter[str]]) -> None:
        """Say what is missing of what was asked for, and count what became of the segments."""
        mine = told["logs"][self.name]
        log = self.log or bytes.fromhex(mine["log"])
        is_proved = mine.get("carried") is not True
        if is_proved:
            self._extent(told["asked"], mine["size"], log in lost)
        elif self.index:
            self.first, self.end = self.index[0], self.index[-1]
            why = "carried over when the file of their log was damaged; nothing here proves them"
            self._say("missing", span(self.first, self.end), f"{len(self.index)} entries: {why}")
        named = [i for i, (kind, what) in self.rare.items()
                 if kind in (SESSION, POLICY) and last(what, 1, b"")]  # fmt: skip
        states, names = self._gone(array("Q", named), mine["left_out"], log in lost)
        for i, state in zip(named, states):  # noqa: B905 - of Python 3.10
            if i not in self._held and names[state] == "missing" and is_proved:
                self._say("missing", span(i, i), "its body is not here, and nothing says why")
        self._judge_segments(named, mine["left_out"], presence, log in lost, is_proved)

    def _judge_segments(
        self, named: list[int], left_out: Any, presence: Any, is_lost: bool, is_proved: bool
    ) -> None:
        segments, rare = self._segments, self.rare
        sessions = {last(rare[i][1], 2, b""): i for i in named if rare[i][0] == SESSION}
        policies = {last(rare[i][1], 1, b"")[:8] for i in named if rare[i][0] == POLICY}
        unknown = segments.unknown(policies | {b""})
        states, names = self._gone(segments.index, left_out, is_lost)
        for at, i in enumerate(segments.index):
            if not (segments.names_a_body(at) and self.first <= i <= self.end):
                continue  # it shows where the asked time ends, no more
            state = "here" if segments.here[at] else names[states[at]]
            begun = sessions.get(segments.session(at), i)
            if is_proved and state == "missing":
                self._say("missing", span(i, i), segments.why_missing(at))
            if is_proved and begun >= i:
                self._say("missing", span(i, i), "the entry of its session is not here")
            if is_proved and segments.here[at] in unknown:
                self._say("missing", span(i, i), "the entry of its policy is not here")
            who = last(rare[begun][1], 3, 0) if begun < i else 0
            name = f"{word_for(RECIPIENTS, who)}, {word_for(LANES, segments.lane[at])}"
            presence.setdefault(name, Counter())[state] += 1

    def told(self) -> dict[str, Any]:
        """Return what is known of the log, and who vouches for how much of it."""
        end = self.index[-1] + 1 if self.index else 0
        covering = [one for one in sorted(self.seen) if one[0] >= end][:1] or sorted(self.seen)[-1:]
        low, high = bisect_left(self.index, self.first), bisect_right(self.index, max(0, self.end))
        inside = self.at[low:high] if self.first <= self.end else []
        return {
            "log": self.log.hex() or self.name, "vehicle": self.origin.partition("/")[0],
            "entries": len(self.index), "size": self.size, "signed": self.signed,
            "first": self.first, "last": self.end,
            "from": moment(min(inside, default=0) // 10**9),
            "to": moment(max(inside, default=0) // 10**9),
            "car_key": sha256(self.public).hex() if self.public else "",
            "co_signed": [
                {"size": size, "at": moment(unix_s), "name": name, "key": sha256(public).hex()}
                for size, unix_s, name, public in covering
            ],
        }  # fmt: skip

    def gaps(self) -> Iterator[tuple[bytes, int]]:
        """Yield each log that this one continues, and when it began to."""
        for index, (kind, what) in self.rare.items():
            if kind == GAP:
                yield last(what, 2, b""), self.at[bisect_left(self.index, index)]

    def _gone(
        self, indices: Sequence[int], left_out: Any, is_lost: bool
    ) -> tuple[Sequence[int], list[str]]:
        """Return why the body of each of some entries may not be here, as numbers of names."""
        numbers = {"missing": 0, "lost with its log": 1}
        states = array("I", [int(is_lost)]) * len(indices)

        def note(state: str, first: int, end: int) -> None:
            low, high = bisect_left(indices, first), bisect_right(indices, end)
            number = numbers.setdefault(state, len(numbers))
            if low < high:
                states[low:high] = array("I", [number]) * (high - low)

        for reason, ranges in left_out.items():
            for first, end in ranges:
                note(f"left out: {reason}", first, end)
        for index, (kind, what) in self.rare.items():
            for one in map(fields, what.get(1, []) if kind == DROP else ()):
                reason = f"removed: {word_for(REASONS, last(what, 2, 0))}"
                note(reason, last(one, 1, 0), min(last(one, 2, 0), index - 1))
        return states, list(numbers)

    def _extent(self, asked: Any, size: int, is_lost: bool) -> None:
        from_ns, to_ns = asked["from_ns"], asked["to_ns"]
        # Behind `size` are only entries that explain what is before it.
        low = 0 if from_ns is None else from_ns
        high = 1 << 64 if to_ns is None else to_ns + AFTER_NS
        indices, first, before, end = self.index, -1, -1, -1
        for index, at in zip(indices, self.at):  # noqa: B905 - of Python 3.10
            if index < size and at < low:
                before = index
            elif index < size and at <= high:
                first, end = (index if first < 0 else first), index
        self.first, self.end = (before + 1, before) if first < 0 else (first, end)
        first, end = self.first, self.end
        at = max(0, first - 1)  # the neighbours show that nothing more is of that time
        for index in [*indices[bisect_left(indices, at) : bisect_right(indices, end + 1)], end + 2]:
            if at < min(index, size):
                self._say("missing", span(at, min(index, size) - 1), "is not disclosed")
            at = index + 1
        if size > self.size:
            self._say("missing", span(self.size, size - 1), "not here, though bundle.json has them")
        if to_ns is not None and end + 1 >= size and not is_lost:
            self._say("missing", f"behind entry {end}", "what came up to the time asked for")
        covered = max([one[0] for one in self.seen], default=0)
        by_region, by_car = bisect_left(indices, covered), bisect_left(indices, self.signed)
        parts = (indices[by_region:by_car], "region"), (indices[max(by_region, by_car) :], "car")
        for part, who in parts:
            if part:
                self._say(
                    "missing", span(part[0], part[-1]), f"no signature of the {who} covers it"
                )
