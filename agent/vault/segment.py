"""What a segment is before it is sealed and after it is open.

- A `Draft` is what one rule set kept on one lane between two moments, under one policy.
- The payload is what gets sealed: SegmentPayload with the columns of frames and samples, and with
  the agent's own records. Its salt comes first, so the hash of the payload in the public ledger
  says nothing about the content.
- The counts in the payload are those of the columns, or the payload is refused.

Pure: salt and boot id are arguments. Does not seal: that is vault.py. Source: proto/FORMAT.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from google.protobuf.message import DecodeError

from agent.errors import SealError
from agent.frames import FRAME, MAX_CHANNELS, SIGNAL, FrameBatch, SignalBatch
from agent.pb.moment_pb2 import Moment
from agent.pb.record_pb2 import Record
from agent.pb.sealed_pb2 import RECORDER
from agent.pb.segment_pb2 import SegmentPayload
from agent.vault.columns import decode_frames, decode_signals, encode_frames, encode_signals

SALT_BYTES: Final = 32
BOOT_ID_BYTES: Final = 16
HASH_BYTES: Final = 32
PADDED_BYTES: Final = 1024
_FIELD_BYTES: Final = 3  # tag and length of a padding of 128 to 16,383 bytes
_MAX_UNREACHED: Final = 130  # shorter ones would need another size of their length
MAX_CONSENT: Final = 64  # characters of a category
MAX_RECORDED_NS: Final = 2**62  # 146 years of driving


def check_recorded(from_ns: int, to_ns: int) -> None:
    """Refuse what is no piece of the axis of recorded time.

    Raises:
        ValueError: it begins before 0 or after its end, or ends too far away.
    """
    if not 0 <= from_ns <= to_ns <= MAX_RECORDED_NS:
        raise ValueError(f"recorded from {from_ns} to {to_ns}")


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of recorded time that is to be held.

    Attributes:
        from_ns: on the axis of recorded time.
        to_ns: inclusive; may lie ahead.
        upload: its segments go to the region.
        keep_s: how long the car may keep them, s; 0: no limit.
    """

    from_ns: int
    to_ns: int
    upload: bool
    keep_s: int = 0

    def __post_init__(self) -> None:
        check_recorded(self.from_ns, self.to_ns)
        if self.keep_s < 0:
            raise ValueError(f"keep {self.keep_s} s")


@dataclass(frozen=True, slots=True)
class Draft:
    """A closed segment on its way into the vault.

    Attributes:
        frames: raw frames in arrival order; may be empty.
        signals: samples in arrival order; may be empty.
        channels: names of the channel numbers in both.
        recipients: sealed_pb2.Recipients: who can open it.
        lane: sealed_pb2.Lane: how urgent it is.
        resolution_ns: of the stored stamps.
        keep_order: keep the arrival order where the resolution is coarse.
        opened: when the first row came in.
        closed: when the segment was closed.
        policy: SHA-256 of the compiled policy that decided, 32 bytes.
        dictionary: SHA-256 of its Dictionary, 32 bytes.
        keep_s: how long the car may keep it, s; 0: no limit of its own.
        records: events and camera triggers; a draft may have nothing else.
        recorded: (from, to) of a segment of the recorder on the axis of recorded time, ns; None:
            it stands at the end of the axis.
        consent: the category of the consent that it is kept under; empty: none is needed.
        holds: the piece of the recorder's window that an event's record holds.
    """

    frames: FrameBatch
    signals: SignalBatch
    channels: tuple[str, ...]
    recipients: int
    lane: int
    resolution_ns: int
    keep_order: bool
    opened: Moment
    closed: Moment
    policy: bytes
    dictionary: bytes
    keep_s: int
    records: tuple[Record, ...] = ()
    recorded: tuple[int, int] | None = None
    consent: str = ""
    holds: Piece | None = None

    def __post_init__(self) -> None:
        if len(self.policy) != HASH_BYTES or len(self.dictionary) != HASH_BYTES:
            raise ValueError("policy and dictionary are SHA-256 hashes of 32 bytes")
        if not len(self.frames) and not len(self.signals) and not self.records:
            raise ValueError("a segment without frames, samples or records")
        if self.recorded is not None:
            if self.lane != RECORDER:
                raise ValueError("only the recorder has an axis of recorded time")
            check_recorded(*self.recorded)
        if self.holds is not None and (self.lane == RECORDER or not self.records):
            raise ValueError("only the record of an event holds a part of the recorder's window")
        if len(self.consent) > MAX_CONSENT:
            raise ValueError(f"a category of {len(self.consent)} characters")

    @property
    def rows(self) -> int:
        """Frames, samples and records."""
        return len(self.frames) + len(self.signals) + len(self.records)


@dataclass(frozen=True, slots=True)
class Payload:
    """What an opened segment holds.

    Attributes:
        frames: in arrival order; empty if there are none.
        signals: in arrival order, raw values; empty if there are none.
        channels: names of the channel numbers in both.
        opened: when the first row came in, by every clock of the car.
        closed: when the segment was closed.
        boot_id: of the run of the car's computer, 16 bytes.
        dictionary: SHA-256 of the Dictionary that names the signals, 32 bytes.
        records: what the agent itself noted: events and camera triggers, in order.
    """

    frames: FrameBatch
    signals: SignalBatch
    channels: tuple[str, ...]
    opened: Moment
    closed: Moment
    boot_id: bytes
    dictionary: bytes
    records: tuple[Record, ...] = ()


def encode_payload(draft: Draft, *, salt: bytes, boot_id: bytes) -> bytes:
    """Return the SegmentPayload of a draft: the plaintext that is sealed.

    Args:
        draft: the segment.
        salt: 32 random bytes, new for each segment.
        boot_id: of this run of the car's computer, 16 bytes.

    Raises:
        ValueError: a salt or boot id of another size; rows that are no frames or have no channel.
    """
    if len(salt) != SALT_BYTES or len(boot_id) != BOOT_ID_BYTES:
        raise ValueError("a salt of 32 bytes and a boot id of 16")
    payload = SegmentPayload(
        salt=salt,
        boot_id=boot_id,
        opened=draft.opened,
        closed=draft.closed,
        frame_count=len(draft.frames),
        sample_count=len(draft.signals),
        dictionary=draft.dictionary,
        record=draft.records,
    )
    if len(draft.frames):
        payload.frames = encode_frames(
            draft.frames,
            draft.channels,
            resolution_ns=draft.resolution_ns,
            keep_order=draft.keep_order,
        )
    if len(draft.signals):
        payload.signals = encode_signals(
            draft.signals,
            draft.channels,
            resolution_ns=draft.resolution_ns,
            keep_order=draft.keep_order,
        )
    if draft.records:
        _pad(payload)
    return payload.SerializeToString(deterministic=True)


def _pad(payload: SegmentPayload) -> None:
    """Make the payload a multiple of PADDED_BYTES.

    Sizes are public, and an event's record is as long as its id, its expression and its snapshot:
    without this its size alone would say which event of the policy it was.
    """
    room = -payload.ByteSize() % PADDED_BYTES
    if 0 < room <= _MAX_UNREACHED:
        room += PADDED_BYTES
    if room:
        payload.padding = bytes(room - _FIELD_BYTES)


def decode_payload(data: bytes) -> Payload:
    """Return what a payload holds.

    Args:
        data: an opened segment.

    Raises:
        SealError: not a payload, or its columns are malformed or not as many rows as it says.
    """
    try:
        payload = SegmentPayload.FromString(data)
    except DecodeError as error:
        raise _malformed(f"no protobuf message ({error})") from error
    sizes = (len(payload.salt), len(payload.boot_id), len(payload.dictionary))
    if sizes != (SALT_BYTES, BOOT_ID_BYTES, HASH_BYTES):
        raise _malformed("salt, boot id and dictionary of wrong sizes")
    frames, signals = np.zeros(0, FRAME), np.zeros(0, SIGNAL)
    names: tuple[str, ...] = ()
    signal_names: tuple[str, ...] = ()
    if payload.frames:
        frames, names = decode_frames(payload.frames)
    if payload.signals:
        signals, signal_names = decode_signals(payload.signals)
    if (len(frames), len(signals)) != (payload.frame_count, payload.sample_count):
        raise _malformed("another number of rows than it says")
    names, signals = _share(names, signals, signal_names)
    return Payload(
        frames=frames,
        signals=signals,
        channels=names,
        opened=payload.opened,
        closed=payload.closed,
        boot_id=payload.boot_id,
        dictionary=payload.dictionary,
        records=tuple(payload.record),
    )


def _share(
    names: tuple[str, ...], signals: SignalBatch, signal_names: tuple[str, ...]
) -> tuple[tuple[str, ...], SignalBatch]:
    """Number the channels of the samples as those of the frames, new names behind them."""
    table = names + tuple(name for name in signal_names if name not in names)
    if len(table) > MAX_CHANNELS:
        raise _malformed(f"{len(table)} channels")
    numbers = np.array([table.index(name) for name in signal_names], np.uint8)
    if len(signals):
        signals["channel"] = numbers[signals["channel"]]
    return table, signals


def _malformed(why: str) -> SealError:
    return SealError(
        f"the payload of a segment is malformed: {why}",
        todo="keep the entry and check it with `inland verify`",
    )
