"""A bundle as a source that an opener reads from: whoever has a recipient's key opens it.

Nothing here is believed: an opener compares every hash again. Whether the bundle is intact is
verifier.py's to say; this reads what can be read.
"""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from agent.errors import ConfigError, SealError
from agent.evidence.cover import hidden
from agent.evidence.disclosure import parse
from agent.evidence.selection import AFTER_NS, Problem, Request, window
from agent.evidence.source import DROP_REASONS, LOST_LOG, Segment, Stored
from agent.evidence.wire import BAD, read, records
from agent.pb import ledger_pb2

T = TypeVar("T")


@dataclass(slots=True)
class _Log:
    """What a bundle has of one log."""

    log: bytes
    size: int
    entries: dict[int, ledger_pb2.Entry] = field(default_factory=dict)
    stored: dict[int, tuple[bytes, bytes]] = field(default_factory=dict)  # entry, leaf
    bodies: dict[int, memoryview] = field(default_factory=dict)
    sessions: dict[bytes, int] = field(default_factory=dict)
    drops: list[tuple[int, int, int, str]] = field(default_factory=list)  # entry, range, reason


class BundleSource:
    """What a bundle holds; a `Source`.

    Attributes:
        vehicle: pseudonym, as the ledger says.
        told: what bundle.json says; nothing proves it.

    Args:
        folder: of the bundle.

    Raises:
        ConfigError: it is no bundle, or not one of this version.
        SealError: a file of it cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        if not (folder / "bundle.json").exists():
            raise ConfigError("no bundle", where=str(folder), todo="name its folder")
        self.folder = folder
        self.told: dict[str, Any] = _read(folder / "bundle.json", _told)
        self._logs: dict[bytes, _Log] = {}
        for path in sorted(folder.glob("*.entries")):
            log = self._load(path)
            self._logs[log.log] = log
        vehicles = {log.entries[0].genesis.vehicle for log in self._logs.values()}
        if len(vehicles) != 1:
            raise SealError("a bundle of other than one vehicle", where=str(folder))
        [self.vehicle] = vehicles
        self._lost = {e.gap.log for log in self._logs.values() for e in log.entries.values()}

    def _load(self, path: Path) -> _Log:
        name, loaded = path.stem, _Log(b"", 0)
        for index, leaf, entry in _read(path, lambda data: list(records(data, 32))):
            loaded.entries[index] = parse(bytes.fromhex(name), index, entry)
            loaded.stored[index] = entry, leaf
        genesis = loaded.entries.get(0, ledger_pb2.Entry()).genesis
        if genesis.log[:8].hex() != name:
            raise SealError("a log without its beginning", where=str(path))
        loaded.log = genesis.log
        bodies = path.with_suffix(".bodies")  # views of the mapped file: it may be large
        parts = _read(bodies, lambda data: list(records(memoryview(data), 0)))
        loaded.bodies = {index: body for index, _, body in parts}
        loaded.size = int(self.told.get("logs", {}).get(name, {}).get("size", 0))
        for at, each in loaded.entries.items():
            if each.HasField("session"):
                loaded.sessions[each.session.session] = at
            reason = DROP_REASONS.get(each.drop.reason, "unspecified")
            loaded.drops += [(at, one.first, one.last, reason) for one in each.drop.range]
        return loaded

    def logs(self) -> list[bytes]:
        """Return the logs; one that continues another comes after it."""
        return sorted(self._logs, key=lambda log: (self._logs[log].entries[0].at.unix_ns, log))

    def entries(self, log: bytes) -> dict[int, ledger_pb2.Entry]:
        """Return the disclosed entries of a log by index, rising."""
        return self._logs[log].entries

    def segments(self, log: bytes, from_ns: int, to_ns: int) -> Iterator[Segment]:
        """Yield the segments of a log whose entries are of these moments."""
        for index, entry in self._logs[log].entries.items():
            if entry.HasField("segment") and from_ns <= entry.at.unix_ns <= to_ns:
                yield Segment(index, entry.segment.session, entry.segment.lane)

    def stored(self, log: bytes, index: int) -> Stored:
        """Return an entry."""
        found = self._logs[log]
        body = found.bodies.get(index)
        return Stored(*found.stored[index], None if body is None else bytes(body))

    def session_index(self, log: bytes, session: bytes) -> int | None:
        """Return the entry with which a session began, None if it is not here."""
        return self._logs[log].sessions.get(session)

    def drop_reason(self, log: bytes, index: int) -> str | None:
        """Return why the body of an entry is not here, None if nothing says so."""
        for at, first, last, reason in self._logs[log].drops:
            if first <= index <= last and index < at:
                return reason
        if log in self._lost:
            return LOST_LOG
        told = self.told.get("logs", {}).get(log[:8].hex(), {}).get("left_out", {})
        for reason, ranges in told.items():
            if any(first <= index <= last for first, last in ranges):
                return f"left out: {reason}"
        return None

    def policies(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield (entry, body) of each policy whose body is here."""
        for log in self._logs.values():
            for index, entry in log.entries.items():
                if entry.HasField("policy") and index in log.bodies:
                    yield log.stored[index][0], bytes(log.bodies[index])

    def missing(self, request: Request) -> list[Problem]:
        """Return what is not disclosed of the logs between entries of the asked time.

        A bundle of a part has entries of other times that explain it; between them nothing misses.
        """
        low, high = window(request)
        begins, ends = (self.told.get("asked", {}).get(name) for name in ("from_ns", "to_ns"))
        low = max(low, begins) if isinstance(begins, int) else low
        high = min(high, ends + AFTER_NS) if isinstance(ends, int) else high
        found = []
        for log in self.logs():
            if not log.hex().startswith(request.log.lower()):
                continue
            entries = self._logs[log].entries
            inside = [i for i, entry in entries.items() if low <= entry.at.unix_ns <= high]
            if not inside:
                continue
            indices = sorted(entries)
            part = indices[bisect_left(indices, inside[0]) : bisect_right(indices, inside[-1])]
            for first, end in hidden([i - inside[0] for i in part], inside[-1] - inside[0]):
                what = f"entries {first + inside[0]} to {end + inside[0] - 1}: not disclosed"
                found.append(Problem("missing", f"log {log.hex()[:16]}", what))
        return found


def _told(data: Any) -> dict[str, Any]:
    told = json.loads(data[:])
    logs = told.get("logs", {}) if isinstance(told, dict) else None
    if not isinstance(logs, dict) or not all(isinstance(one, dict) for one in logs.values()):
        raise ValueError("is not of this version")
    if not isinstance(told.get("asked", {}), dict):
        raise ValueError("is not of this version")
    return dict(told)


def _read(path: Path, take: Callable[[Any], T]) -> T:
    try:
        return take(read(path))
    except BAD as error:
        what = getattr(error, "strerror", None) or error
        raise SealError(f"cannot be read: {what}", where=str(path)) from None
