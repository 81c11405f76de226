"""A vault that seals, weighs and throws away: what a policy costs, without a disk.

Bodies are sealed as the car seals them, so their sizes are those of the car.

- *Flash* is what the car would write to its spool: sealed bodies and ledger entries.
- *Link* is what it would upload: the same but for the recorder's bodies, and with those that an
  event asks for; with the headers of MQTT and TLS.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Final

from google.protobuf.message import Message

from agent.pb import ledger_pb2, sealed_pb2
from agent.pb.record_pb2 import EventRecord
from agent.vault.incidents import Hold
from agent.vault.seal import seal_segment
from agent.vault.segment import Draft, Piece, encode_payload
from agent.vault.session import AES_256_GCM, SECRET_BYTES, Session

MESSAGE_BYTES: Final = (
    150  # topic, MQTT headers and acknowledgement, TLS record, the part of a receipt
)
ENTRY_BYTES: Final = 160  # of a segment's entry with its leaf; one that stands alone is measured

# What tells apart the outputs that drafts come from: recipients, lane, resolution, order, keep,
# consent. Rules that share all of these share segments.
Output = tuple[int, int, int, bool, int, str]


@dataclass(slots=True)
class Weight:
    """Bytes."""

    flash: int = 0
    link: int = 0

    def add(self, flash: int, link: int) -> None:
        """Add to both."""
        self.flash += flash
        self.link += link


@dataclass(frozen=True, slots=True)
class _Stored:
    """A recorder segment: where it stands on the axis, and its bytes."""

    from_ns: int
    to_ns: int
    index: int
    size: int


def output_of(draft: Draft) -> Output:
    """Return what tells a draft's output apart."""
    return (
        draft.recipients, draft.lane, draft.resolution_ns, draft.keep_order, draft.keep_s,
        draft.consent,
    )  # fmt: skip


class WeighingVault:
    """A `Keeper`.

    Attributes:
        outputs: bytes of segments by output; the recorder's are uploaded only if held.
        records: bytes of segments with records alone, by lane's output.
        events: the newest record of each event, by its id, in order.
        cameras: number of camera records that were sealed.
        recorder_bytes: bodies that are in the recorder's window now.
    """

    def __init__(self) -> None:
        self._session = Session(bytes(SECRET_BYTES), session=bytes(16), aead=AES_256_GCM)
        self._index = 0
        self._kept: dict[str, bytes] = {}
        self._window: list[_Stored] = []
        self._holds: dict[int, Piece] = {}
        self._end_ns = 0
        self.outputs: dict[Output, Weight] = defaultdict(Weight)
        self.records: dict[str, Weight] = defaultdict(Weight)
        self.entries = Weight()
        self.events: dict[bytes, EventRecord] = {}
        self.cameras = 0

    @property
    def recorder_bytes(self) -> int:
        """Bytes of bodies that stand in the recorder's window."""
        return sum(piece.size for piece in self._window)

    def seal(self, draft: Draft) -> int | None:
        """Seal, weigh, and let go."""
        payload = encode_payload(draft, salt=bytes(32), boot_id=bytes(16))
        header = sealed_pb2.SegmentHeader(
            log=bytes(16), index=self._index, epoch=1, policy=bytes(8),
            lane=sealed_pb2.Lane.Name(sealed_pb2.Lane.ValueType(draft.lane)),
        )  # fmt: skip
        size = len(seal_segment(self._session, header, payload))
        self._index += 1
        self._note(draft)
        is_held_back = draft.lane == sealed_pb2.RECORDER
        sent = ENTRY_BYTES + MESSAGE_BYTES + (0 if is_held_back else size)
        if draft.records:
            kind = draft.records[0].WhichOneof("what") or ""
            self.records[kind].add(size + ENTRY_BYTES, sent)
        else:
            self.outputs[output_of(draft)].add(size + ENTRY_BYTES, sent)
        if draft.recorded is not None:
            self._record_piece(_Stored(*draft.recorded, self._index - 1, size), draft)
        if draft.holds is not None:
            self._hold(draft.holds, self._index - 1)
        return self._index - 1

    def _note(self, draft: Draft) -> None:
        for record in draft.records:
            if record.HasField("event"):
                self.events[record.event.id] = record.event
            else:
                self.cameras += 1

    def _record_piece(self, piece: _Stored, draft: Draft) -> None:
        self._window.append(piece)
        self._end_ns = piece.to_ns
        if any(hold.upload and _overlap(piece, hold) for hold in self._holds.values()):
            self.outputs[output_of(draft)].add(0, piece.size)

    def _hold(self, wanted: Piece, record: int) -> None:
        """Hold a piece of the axis; what is uploaded of it is weighed."""
        self._holds[record] = wanted
        if wanted.upload:
            size = sum(piece.size for piece in self._window if _overlap(piece, wanted))
            self.records["event"].add(0, size)

    def record(self, what: Message, body: bytes = b"") -> int:
        """Weigh an entry."""
        size = what.ByteSize() + len(body) + 60
        self.entries.add(size, size + MESSAGE_BYTES)
        self._index += 1
        return self._index - 1

    def release(self, record: int, *, state: int) -> tuple[list[ledger_pb2.Range], int]:
        """Hold nothing more."""
        hold = self._holds.pop(record)
        held = [piece.index for piece in self._window if _overlap(piece, hold)]
        ranges = [ledger_pb2.Range(first=held[0], last=held[-1])] if held else []
        index = self.record(ledger_pb2.Incident(
            record=record, held=ranges, upload=hold.upload,
            state=ledger_pb2.Incident.State.Name(ledger_pb2.Incident.State.ValueType(state)),
        ))  # fmt: skip
        return ranges, index

    def holds(self) -> list[Hold]:
        """Return none: a run that begins has no past."""
        return []

    def roll(self, window_ns: int) -> int:
        """Let pieces go that have left the window."""
        before = len(self._window)
        self._window = [one for one in self._window if one.to_ns >= self._end_ns - window_ns]
        return before - len(self._window)

    def withdraw(self, category: str) -> int:
        """Nothing is stored that could be forgotten."""
        del category
        return 0

    def remember(self, key: str, value: bytes) -> None:
        """Keep a small value."""
        self._kept[key] = value

    def remembered(self, key: str) -> bytes | None:
        """Return a small value."""
        return self._kept.get(key)


def _overlap(piece: _Stored, hold: Piece) -> bool:
    return piece.from_ns <= hold.to_ns and piece.to_ns >= hold.from_ns
