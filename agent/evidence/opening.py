"""Opening what a car sent: choose, check, open, decode, and name what is missing.

Order, for each segment: the stored entry against its leaf, the body against the entry's hash, the
session with a recipient's key, the sealed segment (commitment, tag), its plaintext against the hash
in the ledger, the columns. What fails is named and left out; nothing is guessed.

- `altered`: something that was received does not match its own hashes.
- `missing`: an entry, a body or a dictionary that has not come, and that no drop entry explains.
- Dropped bodies (the car said so) and sessions for others alone are counted, not problems.

Segments are chosen by the moment of their ledger entry, rows by their own stamp. Rows come out as
they arrived in the car, however their stamps run; what was kept side by side is merged by stamp
(arrival.py).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from google.protobuf.message import DecodeError

from agent.enum_names import name_of
from agent.errors import ConfigError, SealError
from agent.evidence import text
from agent.evidence.arrival import Span, arrival_order
from agent.evidence.records import Noted, cameras_jsonl, events_jsonl
from agent.evidence.selection import Found, Problem, Request
from agent.evidence.source import Source, Stored
from agent.frames import ChannelTable, FrameBatch, SignalBatch, concatenate
from agent.pb import ledger_pb2, policy_pb2, sealed_pb2
from agent.vault import opening as vault_opening
from agent.vault import tree
from agent.vault.segment import Payload, decode_payload

MAX_ROWS: Final = 50_000_000  # frames, or samples, held in memory at once: 1.2 GB of frames
# Closed to the region, and to the owner. Whoever drives may be the owner.
OWNERS: Final = frozenset({sealed_pb2.OWNER, sealed_pb2.BOTH, sealed_pb2.DRIVER})
REGIONS: Final = frozenset({sealed_pb2.REGION, sealed_pb2.BOTH, sealed_pb2.DRIVER})


@dataclass(slots=True)
class Opened:
    """What an opening gave.

    Attributes:
        channels: channel numbers of all rows.
        frames: (when it was open, batch) of each segment, in ledger order.
        samples: (when it was open, hash of the dictionary, batch) of each, in ledger order.
        dictionaries: by their hash.
        triggers: which signals announce a camera's trigger, by the hash of the dictionary.
        noted: events and camera triggers, in ledger order.
        segments: how many were opened.
        dropped: bodies that the car dropped, by its reason.
        others: segments that are sealed to others, by their recipients ("owner", "both").
        in_car: segments of the recorder, whose bodies stay in the car.
        problems: what is altered or missing.
    """

    channels: ChannelTable = field(default_factory=ChannelTable)
    frames: list[tuple[Span, FrameBatch]] = field(default_factory=list)
    samples: list[tuple[Span, bytes, SignalBatch]] = field(default_factory=list)
    dictionaries: dict[bytes, policy_pb2.Dictionary] = field(default_factory=dict)
    triggers: dict[bytes, policy_pb2.Trigger] = field(default_factory=dict)
    noted: list[Noted] = field(default_factory=list)
    segments: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    others: dict[str, int] = field(default_factory=dict)
    in_car: int = 0
    problems: list[Problem] = field(default_factory=list)

    @property
    def frame_count(self) -> int:
        """Frames of all segments."""
        return sum(len(batch) for _, batch in self.frames)

    @property
    def sample_count(self) -> int:
        """Samples of all segments."""
        return sum(len(batch) for _, _, batch in self.samples)

    @property
    def owner_only(self) -> int:
        """Segments that the region does not open alone."""
        return sum(self.others.get(name, 0) for name in ("owner", "both", "driver"))

    @property
    def event_count(self) -> int:
        """Events; one may have two records."""
        return sum(1 for _ in self.events())

    @property
    def camera_count(self) -> int:
        """Lines of camera triggers."""
        return sum(1 for _ in self.cameras())

    def events(self) -> Iterator[bytes]:
        """Yield the events as JSON lines."""
        return events_jsonl(self.noted, self.dictionaries)

    def cameras(self) -> Iterator[bytes]:
        """Yield the camera triggers as JSON lines."""
        return cameras_jsonl(self.noted, self.dictionaries, self.triggers)

    def candump(self) -> Iterator[bytes]:
        """Yield all frames as candump lines, as they arrived."""
        if self.frames:
            order = arrival_order([(span, batch["timestamp_ns"]) for span, batch in self.frames])
            batch = concatenate([batch for _, batch in self.frames])
            yield from text.candump(batch[order], self.channels.names)

    def csv(self) -> Iterator[bytes]:
        """Yield all samples as CSV, as they arrived; of one policy's dictionary after another's."""
        yield text.CSV_HEADER.encode()
        for name, dictionary in self.dictionaries.items():
            found = [(span, batch) for span, its, batch in self.samples if its == name]
            if found:
                order = arrival_order([(span, batch["timestamp_ns"]) for span, batch in found])
                merged = np.concatenate([batch for _, batch in found])[order]
                yield from text.samples_csv(merged, dictionary, self.channels.names)


def open_segments(
    source: Source,
    found: list[Found],
    request: Request,
    privates: dict[bytes, bytes],
    progress: Callable[[int], None] = lambda _: None,
    *,
    others: frozenset[int] = OWNERS,
) -> Opened:
    """Open segments; what cannot be opened is in `problems`.

    Args:
        source: what the car sent, or a bundle of it.
        found: from `find`.
        request: rows outside its moments are left out.
        privates: recipients' private keys by kid.
        progress: called with 1 after each segment.
        others: recipients whose segments these keys are not said to open, and mostly cannot.

    Raises:
        ConfigError: more rows than fit; the range has to be narrower.
    """
    opener = _Opener(source, request, privates, others)
    for segment in found:
        opener.take(segment)
        progress(1)
    return opener.opened


class _Opener:
    def __init__(
        self, source: Source, request: Request, privates: dict[bytes, bytes], others: frozenset[int]
    ) -> None:
        self._source, self._request, self._privates = source, request, privates
        self._others = others
        self._readers: dict[tuple[bytes, bytes], vault_opening.SessionReader | Problem | str] = {}
        self.opened = Opened()

    def take(self, found: Found) -> None:
        where = vault_opening.place(found.log, found.index)
        stored = self._source.stored(found.log, found.index)
        checked = check_stored(stored, where)
        if isinstance(checked, Problem):
            self.opened.problems.append(checked)
            return
        if stored.body is None:
            self._explain(found, checked.segment, where)
            return
        reader = self._reader(found, where)
        if isinstance(reader, str):
            self.opened.others[reader] = self.opened.others.get(reader, 0) + 1
        elif isinstance(reader, Problem):
            self.opened.problems.append(reader._replace(where=where))
        else:
            self._open(found, checked.segment, stored.body, reader, where)

    def _open(
        self,
        found: Found,
        segment: ledger_pb2.SegmentSealed,
        body: bytes,
        reader: vault_opening.SessionReader,
        where: str,
    ) -> None:
        try:
            plain = reader.open_segment(body)
            if hashlib.sha256(plain).digest() != segment.plain:
                raise SealError("the content is not what the ledger committed to")
            payload = decode_payload(plain)
            stream = (found.log, segment.lane, payload.boot_id)
            opened_ns, closed_ns = payload.opened.boottime_ns, payload.closed.boottime_ns
            self._add(payload, Span(stream, opened_ns, closed_ns, segment.lane), where)
            self._note(found, payload, where)
        except SealError as error:
            self.opened.problems.append(Problem("altered", where, error.what))

    def _add(self, payload: Payload, span: Span, where: str) -> None:
        opened, request = self.opened, self._request
        numbers = np.array([opened.channels.number(name) for name in payload.channels], np.uint8)
        for rows in (payload.frames, payload.signals):
            if len(rows):
                rows["channel"] = numbers[rows["channel"]]
        frames, samples = (
            rows[
                (rows["timestamp_ns"] >= request.from_ns) & (rows["timestamp_ns"] <= request.to_ns)
            ]
            for rows in (payload.frames, payload.signals)
        )
        if len(frames):
            opened.frames.append((span, frames))
        if len(samples):
            self._add_samples(payload.dictionary, span, samples, where)
        opened.segments += 1
        if max(opened.frame_count, opened.sample_count) > MAX_ROWS:
            raise ConfigError(
                f"more than {MAX_ROWS:,} rows", where=where, todo="narrow it with --from and --to"
            )

    def _note(self, found: Found, payload: Payload, where: str) -> None:
        request, name = self._request, payload.dictionary
        noted = [Noted(found.log, found.index, name, record) for record in payload.records]
        noted = [each for each in noted if request.from_ns <= each.stamp_ns <= request.to_ns]
        if noted and self._dictionary(name) is None:
            why = f"{len(noted)} records whose policy's dictionary has not come"
            self.opened.problems.append(Problem("missing", where, why))
        self.opened.noted += noted

    def _dictionary(self, name: bytes) -> policy_pb2.Dictionary | None:
        if name not in self.opened.dictionaries:
            self.opened.dictionaries |= self._dictionaries()
        return self.opened.dictionaries.get(name)

    def _add_samples(self, name: bytes, span: Span, samples: SignalBatch, where: str) -> None:
        dictionary = self._dictionary(name)
        if dictionary is None:
            why = f"{len(samples)} samples whose policy's dictionary has not come"
            self.opened.problems.append(Problem("missing", where, why))
        elif int(samples["signal"].max()) >= len(dictionary.signal):
            raise SealError("a sample of a signal that its dictionary does not have")
        else:
            self.opened.samples.append((span, name, samples))

    def _dictionaries(self) -> dict[bytes, policy_pb2.Dictionary]:
        """Return every dictionary that this vehicle's policies brought, by its hash."""
        found = {}
        for entry, body in self._source.policies():
            if hashlib.sha256(body).digest() != ledger_pb2.Entry.FromString(entry).policy.body:
                continue  # without it, its segments are named as missing their dictionary
            try:
                policy = policy_pb2.Policy.FromString(body)
                name = hashlib.sha256(policy.dictionary).digest()
                found[name] = policy_pb2.Dictionary.FromString(policy.dictionary)
                self.opened.triggers[name] = policy.camera.trigger
            except DecodeError:
                continue
        return found

    def _explain(self, found: Found, segment: ledger_pb2.SegmentSealed, where: str) -> None:
        reason = self._source.drop_reason(found.log, found.index)
        if reason is None and segment.lane == sealed_pb2.RECORDER:
            self.opened.in_car += 1
            return
        if reason is None:
            self.opened.problems.append(Problem("missing", where, "its body has not come"))
            return
        self.opened.dropped[reason] = self.opened.dropped.get(reason, 0) + 1

    def _reader(self, found: Found, where: str) -> vault_opening.SessionReader | Problem | str:
        key = (found.log, found.session)
        if key not in self._readers:
            self._readers[key] = self._open_session(found, where)
        return self._readers[key]

    def _open_session(
        self, found: Found, where: str
    ) -> vault_opening.SessionReader | Problem | str:
        index = self._source.session_index(found.log, found.session)
        if index is None:
            return Problem("missing", where, "its session entry has not come")
        place = vault_opening.place(found.log, index)
        stored = self._source.stored(found.log, index)
        checked = check_stored(stored, place)
        if isinstance(checked, Problem):
            return checked._replace(why=f"its session, {place}: {checked.why}")
        if checked.session.recipients in self._others and not self._fits(stored.body):
            return name_of(sealed_pb2.Recipients, checked.session.recipients)
        if stored.body is None:
            return Problem("missing", where, f"the body of its session, {place}, has not come")
        try:
            return vault_opening.open_session(stored.body, self._privates)
        except SealError as error:
            return Problem("altered", where, f"its session, {place}: {error.what}")

    def _fits(self, body: bytes | None) -> bool:
        """Return whether the keys at hand are one wrap's, though they are not said to be."""
        try:
            _, _, wraps = vault_opening.parse_session(body or b"")
        except SealError:
            return False
        return any(all(kid in self._privates for kid in wrap.kid) for wrap in wraps.wrap)


def check_stored(stored: Stored, where: str) -> ledger_pb2.Entry | Problem:
    """Return a stored entry after its hashes have been compared; a `Problem` if they differ."""
    entry, leaf, body = stored
    if tree.leaf_hash(entry) != leaf:
        return Problem("altered", where, "the stored entry is not what was received")
    parsed = ledger_pb2.Entry.FromString(entry)
    what = getattr(parsed, str(parsed.WhichOneof("what")))
    if body is not None and hashlib.sha256(body).digest() != what.body:
        return Problem("altered", where, "the stored body does not match its entry")
    return parsed
