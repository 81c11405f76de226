"""The verifier of a stranger: an evidence bundle checked by section 17 of proto/FORMAT.md alone.

Imports nothing of the agent. Slow and simple on purpose: it knows whether a bundle is intact,
altered or undecided, and not where.
"""

from __future__ import annotations

import hashlib
import json
from base64 import b64decode
from collections import Counter
from pathlib import Path
from typing import Any

from tests.format.stranger import FormatError, check, last, parse, varint
from tests.format.stranger_notes import COSIGNATURE, GENESIS, OWN, head, verifier_key

SESSION, SEGMENT, POLICY, DROP, GAP = 12, 13, 14, 16, 19
WHO = ["unknown", "region", "owner", "shared", "both"]
LANE = ["incident", "event", "routine", "recorder"]
WHY = ["unspecified", "confirmed", "quota", "expired", "rotten", "rolled", "withdrawn"]


def sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def plain(path: Path) -> bytes:
    check(path.is_file() and not path.is_symlink(), "a plain file")
    return path.read_bytes()


def rows(data: bytes, fixed: int) -> dict[int, tuple[bytes, bytes]]:
    found: dict[int, tuple[bytes, bytes]] = {}
    at = 0
    while at < len(data):
        index, start = varint(data, at)
        size, end = varint(data, start + fixed)
        at = end + size
        check(at <= len(data) and index > max(found, default=-1), "records in order")
        found[index] = data[start : start + fixed], data[end:at]
    return found


class Log:
    """Steps 1 to 7 for one log; raises where it is altered, fills `open` where it is undecided."""

    def __init__(self, folder: Path, name: str, witnesses: list[str]) -> None:
        self.open: list[str] = []
        entries = rows(plain(folder / f"{name}.entries"), 32)
        self.kind, self.what, self.at = {}, {}, {}
        for i, (leaf, entry) in entries.items():
            message = parse(entry)
            check(sha(b"\0" + entry) == leaf and last(message, 1, 0) == i, "1")
            self.kind[i] = next((n for n in message if n >= GENESIS), 0)
            self.what[i] = parse(last(message, self.kind[i], b""))
            self.at[i] = last(parse(last(message, 2, b"")), 1, 0)
        self.log = b""
        if 0 in entries:
            self.log = last(self.what[0], 3, b"")
            check(self.kind[0] == GENESIS and self.log[:8].hex() == name, "1")
        else:
            self.open.append("genesis")
        self.roots(entries, plain(folder / f"{name}.cover"))
        self.notes(plain(folder / f"{name}.notes").decode(), witnesses)
        self.bodies = {i: b for i, (_, b) in rows(plain(folder / f"{name}.bodies"), 0).items()}
        for i, body in self.bodies.items():
            check(self.kind.get(i) in (SESSION, SEGMENT, POLICY), "6")
            check(last(self.what[i], 1, b"") == sha(body), "6")
            if self.kind[i] != POLICY:
                head_ = self.header(i)
                numbers = (5, 6, 7) if self.kind[i] == SESSION else (1, 2, 3)
                place = [last(head_, n, d) for n, d in zip(numbers, (b"", 0, b""), strict=True)]
                session = last(self.what[i], 2 if self.kind[i] == SESSION else 3, b"")
                check(place == [self.log, i, session], "6")

    def header(self, i: int) -> Any:
        size = int.from_bytes(self.bodies[i][4:6], "big")
        return parse(self.bodies[i][6 : 6 + size])

    def roots(self, entries: Any, cover: bytes) -> None:
        check(len(cover) % 41 == 0, "cover")
        parts = [(i, 1, leaf) for i, (leaf, _) in entries.items()]
        for at in range(0, len(cover), 41):
            size = 1 << cover[at]
            first = int.from_bytes(cover[at + 1 : at + 9], "big") * size
            parts.append((first, size, cover[at + 9 : at + 41]))
        done: list[tuple[int, bytes]] = []
        self.root, self.size = {}, 0
        for first, size, digest in sorted(parts):
            if first > self.size:
                self.open.append("a hole")
                return
            check(first == self.size and first % size == 0, "2")
            self.size += size
            done.append((size, digest))
            while len(done) > 1 and done[-1][0] == done[-2][0]:
                (half, left), (_, right) = done[-2:]
                done[-2:] = [(2 * half, sha(b"\1" + left + right))]
            root = done[-1][1]
            for _, left in done[-2::-1]:
                root = sha(b"\1" + left + root)
            self.root[self.size] = root

    def notes(self, text: str, witnesses: list[str]) -> None:
        origin = f"{last(self.what.get(0, {}), 2, b'').decode()}/{self.log.hex()}"
        self.seen = 0
        for note in text.split("\x1e\n") if text and self.log else []:
            lines = note.partition("\n\n")[2].splitlines()
            check(all(line.count(" ") == 2 for line in lines), "3")  # no key's name has a space
            own = head(note, origin, last(self.what[0], 4, b""), OWN)
            check(own.origin == origin, "3")
            if own.size > self.size:
                self.open.append("beyond the last leaf")
                continue
            check(self.root.get(own.size) == own.root, "2")
            for name, _, public in map(verifier_key, witnesses):
                key_id = sha(name.encode() + b"\n\4" + public)[:4]
                named = [line.split(" ") for line in note.splitlines() if line.count(" ") == 2]
                if any(n == name and b64decode(v)[:4] == key_id for _, n, v in named):
                    head(note, name, public, COSIGNATURE)
                    self.seen = max(self.seen, own.size)
        if max(self.kind, default=-1) >= self.seen:
            self.open.append("not co-signed")

    def judge(self, asked: Any, mine: Any, lost: set[bytes]) -> dict[str, Counter[str]]:
        low = -1 if asked["from_ns"] is None else asked["from_ns"]
        high = 1 << 64 if asked["to_ns"] is None else asked["to_ns"] + 120 * 10**9
        size = mine["size"]
        below = sorted(i for i in self.kind if i < size)
        inside = [i for i in below if low <= self.at[i] <= high]
        before = max([i for i in below if self.at[i] < low], default=-1)
        first, end = (inside[0], inside[-1]) if inside else (before + 1, before)
        wanted = [i for i in range(max(0, first - 1), end + 2) if i < size]
        if size > self.size or any(i not in self.kind for i in wanted):
            self.open.append("hidden")
        if asked["to_ns"] is not None and end + 1 >= size and self.log not in lost:
            self.open.append("the end")
        state = self.explained(mine)
        counts: dict[str, Counter[str]] = {}
        for i in self.kind:
            if self.kind[i] not in (SESSION, SEGMENT, POLICY) or not last(self.what[i], 1, b""):
                continue
            if self.kind[i] == SEGMENT and not first <= i <= end:
                continue
            other = "lost with its log" if self.log in lost else "missing"
            became = "here" if i in self.bodies else state.get(i, other)
            if became == "missing":
                self.open.append("a body")
            if self.kind[i] == SEGMENT:
                self.count(i, became, counts)
        return counts

    def explained(self, mine: Any) -> dict[int, str]:
        """Return why bodies are not here."""
        state = {}
        for why, ranges in mine["left_out"].items():
            state |= {i: f"left out: {why}" for a, b in ranges for i in self.kind if a <= i <= b}
        for drop in [i for i in self.kind if self.kind[i] == DROP]:
            for one in map(parse, self.what[drop].get(1, [])):
                for i in self.kind:
                    if last(one, 1, 0) <= i <= last(one, 2, 0) and i < drop:
                        state[i] = f"removed: {WHY[last(self.what[drop], 2, 0)]}"
        return state

    def count(self, i: int, became: str, counts: dict[str, Counter[str]]) -> None:
        mine = [s for s in self.kind if self.kind[s] == SESSION and s < i
                and last(self.what[s], 2, b"") == last(self.what[i], 3, b"")]  # fmt: skip
        policies = [last(self.what[p], 1, b"")[:8] for p in self.kind if self.kind[p] == POLICY]
        if not mine or (became == "here" and last(self.header(i), 7, b"") not in [*policies, b""]):
            self.open.append("session or policy")
        who = WHO[last(self.what[mine[0]], 3, 0)] if mine else "unknown"
        lane = LANE[last(self.what[i], 4, 0)]
        counts.setdefault(f"{who}, {lane}", Counter())[became] += 1


def verify(folder: Path) -> int:
    """Return 0 intact, 1 altered, 3 undecided."""
    try:
        told = json.loads(plain(folder / "bundle.json"))
        check(told["format"] == "inland bundle 1", "format")
        for name, digest in told["files"].items():
            check(sha(plain(folder / name)).hex() == digest, name)
        witnesses = json.loads(plain(folder / "keys.json"))["cosign_keys"]
        names = {path.stem for path in folder.iterdir()
                 if path.suffix in (".entries", ".cover", ".notes", ".bodies")}  # fmt: skip
        check(names == set(told["logs"]), "logs")
        logs = [Log(folder, name, witnesses) for name in sorted(names)]
        lost = {last(log.what[i], 2, b""): log.at[i]
                for log in logs for i in log.kind if log.kind[i] == GAP}  # fmt: skip
        undecided = [why for log in logs for why in log.open]
        counts: dict[str, Counter[str]] = {}
        for log in logs:
            log.open = []
            for key, states in log.judge(told["asked"], told["logs"][log.log[:8].hex()],
                                         set(lost)).items():  # fmt: skip
                counts.setdefault(key, Counter()).update(states)
            undecided += log.open
        since = told["asked"]["from_ns"] or 0
        undecided += [str(at) for log, at in lost.items()
                      if log[:8].hex() not in names and at >= since]  # fmt: skip
        check(bool(undecided) or told["presence"] == counts, "counts")
    except (FormatError, KeyError, ValueError, IndexError, TypeError):
        return 1
    return 3 if undecided else 0
