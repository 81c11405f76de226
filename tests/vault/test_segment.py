"""A draft becomes a payload and comes back; what is no payload is a SealError."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from agent import frames as f
from agent.errors import SealError
from agent.pb.moment_pb2 import CLOCK_WALL, Moment
from agent.pb.record_pb2 import CameraRecord, EventRecord, Record
from agent.pb.segment_pb2 import SegmentPayload
from agent.vault.segment import Draft, decode_payload, encode_payload
from tests.bench.synth import synth

SALT, BOOT = bytes(range(32)), bytes(16)
OPENED = Moment(unix_ns=1_795_000_000 * 10**9, boottime_ns=5 * 10**9, quality=CLOCK_WALL)
CLOSED = Moment(unix_ns=1_795_000_001 * 10**9, boottime_ns=6 * 10**9, quality=CLOCK_WALL)


def samples(rows: int = 20) -> f.SignalBatch:
    batch = np.zeros(rows, f.SIGNAL)
    batch["timestamp_ns"] = OPENED.unix_ns + np.arange(rows) * 1000
    batch["channel"] = np.arange(rows) % 3
    batch["raw"] = -np.arange(rows)
    return batch


def draft(frames: f.FrameBatch | None = None, signals: f.SignalBatch | None = None) -> Draft:
    return Draft(
        frames=synth(50, 1) if frames is None else frames,
        signals=samples() if signals is None else signals,
        channels=("can0", "can1", "lin0"),
        recipients=3,
        lane=2,
        resolution_ns=1000,
        keep_order=False,
        opened=OPENED,
        closed=CLOSED,
        policy=b"p" * 32,
        dictionary=b"d" * 32,
        keep_s=3600,
    )


def test_a_payload_gives_back_the_draft() -> None:
    frames = synth(50, 1)
    frames["channel"][::2] = 1
    got = decode_payload(encode_payload(draft(frames), salt=SALT, boot_id=BOOT))
    assert got.frames.tobytes() == frames.tobytes()
    assert got.signals.tobytes() == samples().tobytes()
    assert got.channels == ("can0", "can1", "lin0")
    assert (got.opened, got.closed, got.boot_id) == (OPENED, CLOSED, BOOT)
    assert got.dictionary == b"d" * 32


def test_frames_and_samples_share_one_numbering_of_channels() -> None:
    frames, signals = synth(50, 1), samples()
    frames["channel"], signals["channel"] = 2, np.arange(20) % 2 + 1
    got = decode_payload(encode_payload(draft(frames, signals), salt=SALT, boot_id=BOOT))
    assert got.channels == ("lin0", "can1")
    assert set(got.frames["channel"]) == {0}
    assert got.signals["channel"].tolist() == [1, 0] * 10


RECORDS = (
    Record(event=EventRecord(id=b"e" * 16, rule="hard-brake", stamp_ns=-5, complete=True)),
    Record(camera=CameraRecord(stamp_ns=7, camera=2, why="zone", count=3)),
)


def test_records_come_back_in_order_with_rows_and_alone() -> None:
    both = dataclasses.replace(draft(), records=RECORDS)
    alone = dataclasses.replace(
        both, frames=np.zeros(0, f.FRAME), signals=np.zeros(0, f.SIGNAL), channels=()
    )
    for each, rows in ((both, 72), (alone, 2)):
        got = decode_payload(encode_payload(each, salt=SALT, boot_id=BOOT))
        assert got.records == RECORDS
        assert each.rows == len(got.frames) + len(got.signals) + len(got.records) == rows


def test_a_draft_without_records_is_stored_as_before() -> None:
    """Adding a field changed no byte of what has none."""
    message = SegmentPayload.FromString(encode_payload(draft(), salt=SALT, boot_id=BOOT))
    assert {field.name for field, _ in message.ListFields()} == {
        "salt", "boot_id", "opened", "closed", "frame_count", "sample_count", "frames", "signals",
        "dictionary",
    }  # fmt: skip


@pytest.mark.parametrize("recorded", [(-1, 0), (2, 1), (0, 2**63)])
def test_what_is_no_piece_of_the_axis_is_refused(recorded: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="recorded from"):
        dataclasses.replace(draft(), lane=3, recorded=recorded)


def test_either_kind_alone_is_a_segment() -> None:
    only = encode_payload(draft(signals=np.zeros(0, f.SIGNAL)), salt=SALT, boot_id=BOOT)
    assert len(decode_payload(only).signals) == 0
    only = encode_payload(draft(frames=np.zeros(0, f.FRAME)), salt=SALT, boot_id=BOOT)
    assert len(decode_payload(only).frames) == 0
    with pytest.raises(ValueError, match="without frames, samples or records"):
        draft(np.zeros(0, f.FRAME), np.zeros(0, f.SIGNAL))


def test_the_salt_comes_first_and_changes_the_whole_hash() -> None:
    payload = encode_payload(draft(), salt=SALT, boot_id=BOOT)
    assert payload[:34] == b"\x0a\x20" + SALT


def test_sizes_of_salt_boot_id_and_hashes_are_checked() -> None:
    for salt, boot in ((b"", BOOT), (SALT, b"")):
        with pytest.raises(ValueError, match="a salt of 32 bytes"):
            encode_payload(draft(), salt=salt, boot_id=boot)
    with pytest.raises(ValueError, match="32 bytes"):
        dataclasses.replace(draft(), policy=b"short")


def test_every_truncation_and_change_gives_rows_or_a_seal_error() -> None:
    payload = encode_payload(draft(synth(8, 1), samples(3)), salt=SALT, boot_id=BOOT)
    for end in range(len(payload)):
        with pytest.raises(SealError):
            decode_payload(payload[:end])
    for place in range(len(payload)):
        changed = bytearray(payload)
        changed[place] ^= 0xFF
        try:
            decode_payload(bytes(changed))
        except SealError:
            continue


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("salt", b"short", "wrong sizes"),
        ("boot_id", b"", "wrong sizes"),
        ("dictionary", b"x", "wrong sizes"),
        ("frame_count", 49, "number of rows"),
        ("sample_count", 21, "number of rows"),
        ("frames", b"", "number of rows"),
        ("frames", b"nonsense", "no zstd frame"),
    ],
)
def test_a_payload_that_contradicts_itself_is_refused(
    field: str, value: object, message: str
) -> None:
    payload = SegmentPayload.FromString(encode_payload(draft(), salt=SALT, boot_id=BOOT))
    setattr(payload, field, value)
    with pytest.raises(SealError, match=message):
        decode_payload(payload.SerializeToString())


def test_the_size_of_a_payload_of_records_tells_nothing_of_them() -> None:
    """Whatever the record is as long as: whole multiples of 1,024 bytes, at every length."""
    empty = dataclasses.replace(
        draft(), frames=np.zeros(0, f.FRAME), signals=np.zeros(0, f.SIGNAL), channels=(),
        records=RECORDS,
    )  # fmt: skip
    sizes = set()
    for length in range(2200):
        record = Record(event=EventRecord(trigger="x" * length))
        payload = encode_payload(
            dataclasses.replace(empty, records=(record,)), salt=SALT, boot_id=BOOT
        )
        assert len(payload) % 1024 == 0
        assert decode_payload(payload).records == (record,)
        sizes.add(len(payload))
    assert sizes == {1024, 2048, 3072}
    assert len(encode_payload(draft(), salt=SALT, boot_id=BOOT)) % 1024  # rows are not padded
