"""A bundle as a source that an opener reads from: whoever has a recipient's key opens it.

Nothing here is believed: an opener compares every hash again. Whether the bundle is intact is
verifier.py's to say; this reads what can be read. A bundle may be larger than memory: its files are
mapped, and of each entry it is remembered where it stands.
"""

from __future__ import annotations

import json
import re
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

from agent.errors import ConfigError, SealError
from agent.evidence.bundle import varint
from agent.evidence.cover import hidden
from agent.evidence.disclosure import parse
from agent.evidence.selection import AFTER_NS, Problem, Request, window
from agent.evidence.source import DROP_REASONS, LOST_LOG, Segment, Stored
from agent.evidence.wire import BAD, places, read
from agent.pb import ledger_pb2

T = TypeVar("T")
LEAF_BYTES: Final = 32


class _File(Mapping[int, ledger_pb2.Entry]):
    """The entries of one log, by rising index: found in the mapped file, parsed at each look."""

    def __init__(self, name: str, data: Any) -> None:
        self._data, self.log = memoryview(data), bytes.fromhex(name)
        self.index, self._begin, self._end = array("Q"), array("Q"), array("Q")
        self.at_ns, self.is_segment = array("q"), bytearray()

    def take(self) -> Iterator[tuple[int, ledger_pb2.Entry]]:
        """Yield every entry, and remember where it stands."""
        for index, _, begin, end in places(self._data, LEAF_BYTES):
            entry = parse(self.log, index, bytes(self._data[begin:end]))
            self.index.append(index)
            self._begin.append(begin)
            self._end.append(end)
            self.at_ns.append(entry.at.unix_ns)
            self.is_segment.append(entry.HasField("segment"))
            yield index, entry

    def bytes_of(self, index: int) -> bytes:
        """Return an entry as it is stored."""
        at = self._find(index)
        return bytes(self._data[self._begin[at] : self._end[at]])

    def leaf(self, index: int) -> bytes:
        """Return the hash that is given for an entry."""
        at = self._find(index)
        before = self._begin[at] - len(varint(self._end[at] - self._begin[at]))
        return bytes(self._data[before - LEAF_BYTES : before])

    def _find(self, index: int) -> int:
        at = bisect_left(self.index, index)
        if at == len(self.index) or self.index[at] != index:
            raise KeyError(index)
        return at

    def __getitem__(self, index: int) -> ledger_pb2.Entry:
        return parse(self.log, index, self.bytes_of(index))

    def __iter__(self) -> Iterator[int]:
        return iter(self.index)

    def __len__(self) -> int:
        return len(self.index)


class _Bodies:
    """The bodies of one log, found in the mapped file."""

    def __init__(self, data: Any) -> None:
        self._data = memoryview(data)
        self._index, self._begin, self._end = array("Q"), array("Q"), array("Q")
        for index, _, begin, end in places(self._data, 0):
            self._index.append(index)
            self._begin.append(begin)
            self._end.append(end)

    def get(self, index: int) -> memoryview | None:
        """Return a body, None if it is not here."""
        at = bisect_left(self._index, index)
        if at == len(self._index) or self._index[at] != index:
            return None
        return self._data[self._begin[at] : self._end[at]]


@dataclass(slots=True)
class _Log:
    """What a bundle has of one log."""

    log: bytes
    file: _File
    bodies: _Bodies
    sessions: dict[bytes, int] = field(default_factory=dict)
    drops: list[tuple[int, int, int, str]] = field(default_factory=list)  # entry, range, reason
    policies: list[int] = field(default_factory=list)
    lost: set[bytes] = field(default_factory=set)  # logs that this one continues
    vehicle: str = ""
    begin_ns: int = 0


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
        vehicles = {log.vehicle for log in self._logs.values() if log.vehicle}
        if len(vehicles) != 1:
            raise SealError("a bundle of other than one vehicle", where=str(folder))
        [self.vehicle] = vehicles
        self._lost = {lost for log in self._logs.values() for lost in log.lost}

    def _load(self, path: Path) -> _Log:
        name = path.stem
        if re.fullmatch("(?:[0-9a-f]{2})+", name) is None:
            raise SealError("a file whose name is no log", where=str(path))
        told = self.told.get("logs", {}).get(name, {})
        bodies = _read(path.with_suffix(".bodies"), _Bodies)
        loaded = _Log(b"", _File(name, b""), bodies)

        def take(data: Any) -> None:
            loaded.file = _File(name, data)
            for index, entry in loaded.file.take():
                _note(loaded, index, entry)

        _read(path, take)
        if not loaded.log and told.get("carried") is True:  # its beginning is gone with its file
            loaded.log = _read(path, lambda _: bytes.fromhex(told["log"]))
            loaded.begin_ns = min(loaded.file.at_ns, default=0)
        if loaded.log[:8].hex() != name:
            raise SealError("a log without its beginning", where=str(path))
        return loaded

    def logs(self) -> list[bytes]:
        """Return the logs; one that continues another comes after it."""
        return sorted(self._logs, key=lambda log: (self._logs[log].begin_ns, log))

    def entries(self, log: bytes) -> Mapping[int, ledger_pb2.Entry]:
        """Return the disclosed entries of a log by index, rising."""
        return self._logs[log].file

    def segments(self, log: bytes, from_ns: int, to_ns: int) -> Iterator[Segment]:
        """Yield the segments of a log whose entries are of these moments."""
        file = self._logs[log].file
        for at, index in enumerate(file.index):
            if file.is_segment[at] and from_ns <= file.at_ns[at] <= to_ns:
                segment = file[index].segment
                yield Segment(index, segment.session, segment.lane)

    def stored(self, log: bytes, index: int) -> Stored:
        """Return an entry."""
        found = self._logs[log]
        body = found.bodies.get(index)
        stored, leaf = found.file.bytes_of(index), found.file.leaf(index)
        return Stored(stored, leaf, None if body is None else bytes(body))

    def has_body(self, log: bytes, index: int) -> bool:
        """Return whether the body of an entry is here."""
        return self._logs[log].bodies.get(index) is not None

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
            for index in log.policies:
                body = log.bodies.get(index)
                if body is not None:
                    yield log.file.bytes_of(index), bytes(body)

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
            file = self._logs[log].file
            inside = [at for at, ns in enumerate(file.at_ns) if low <= ns <= high]
            if not inside:
                continue
            part = file.index[inside[0] : inside[-1] + 1]
            for first, end in hidden((i - part[0] for i in part), part[-1] - part[0]):
                what = f"entries {first + part[0]} to {end + part[0] - 1}: not disclosed"
                found.append(Problem("missing", f"log {log.hex()[:16]}", what))
        return found


def _note(loaded: _Log, index: int, entry: ledger_pb2.Entry) -> None:
    """Remember what an entry says that others need."""
    if index == 0:
        loaded.log, loaded.vehicle = entry.genesis.log, entry.genesis.vehicle
        loaded.begin_ns = entry.at.unix_ns
    if entry.HasField("session"):
        loaded.sessions[entry.session.session] = index
    elif entry.HasField("policy"):
        loaded.policies.append(index)
    elif entry.HasField("gap"):
        loaded.lost.add(entry.gap.log)
    elif entry.HasField("drop"):
        reason = DROP_REASONS.get(entry.drop.reason, "unspecified")
        loaded.drops += [(index, one.first, one.last, reason) for one in entry.drop.range]


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
