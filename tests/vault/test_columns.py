"""Columns give back exactly what went in, and nothing but SealError for what did not."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from agent import frames as f
from agent.errors import SealError
from agent.pb.segment_pb2 import FrameColumns, SignalColumns
from agent.vault import columns, packing, planes
from tests.bench.synth import synth

LOW, HIGH = -(1 << 63), (1 << 63) - 1
STAMPS = st.one_of(
    st.integers(LOW, HIGH),
    st.integers(0, 40),
    st.sampled_from([LOW, LOW + 1, -1, 0, 1, 999, 1000, HIGH - 1, HIGH]),
    st.integers(1_795_000_000 * 10**9, 1_795_000_000 * 10**9 + 10**7),
)
NAMES = tuple(f"can{number}" for number in range(255))


@st.composite
def frame_batches(draw: st.DrawFn) -> f.FrameBatch:
    """A small batch of any frames: few distinct groups, so that groups have several rows."""
    width = draw(st.sampled_from([8, 64]))
    ids = st.sampled_from([0, 1, 0x7FF, 0x800, (1 << 29) - 1])
    head = st.tuples(ids, st.sampled_from([0, 1, 254]), st.integers(0, 63), st.integers(0, width))
    kinds = draw(st.lists(head, min_size=1, max_size=4))
    rows = draw(
        st.lists(st.tuples(STAMPS, st.sampled_from(kinds), st.binary(max_size=width)), max_size=24)
    )
    batch = np.zeros(len(rows), f.FRAME if width == 8 else f.FRAME_FD)
    for row, (stamp, (number, channel, flags, length), data) in zip(batch, rows, strict=True):
        row["timestamp_ns"], row["arbitration_id"], row["channel"] = stamp, number, channel
        row["flags"], row["length"] = flags, length
        if not flags & f.REMOTE:
            row["data"][:length] = np.frombuffer(data[:length].ljust(length, b"\0"), np.uint8)
    return batch


@st.composite
def signal_batches(draw: st.DrawFn) -> f.SignalBatch:
    """A small batch of samples with any raw values."""
    raw = st.one_of(st.integers(LOW, HIGH), st.integers(-3, 3))
    row = st.tuples(STAMPS, st.sampled_from([0, 7, 65535]), st.sampled_from([0, 3]), raw)
    rows = draw(st.lists(row, max_size=24))
    batch = np.zeros(len(rows), f.SIGNAL)
    for place, values in enumerate(rows):
        for name, value in zip(("timestamp_ns", "signal", "channel", "raw"), values, strict=True):
            batch[name][place] = value
    return batch


def same_frames(got: f.FrameBatch, names: tuple[str, ...], batch: f.FrameBatch) -> None:
    """Compare with channels by name, and both as wide as the wider."""
    got, want = f.widen(got).copy(), f.widen(batch).copy()
    assert [names[n] for n in got["channel"]] == [NAMES[n] for n in want["channel"]]
    got["channel"] = want["channel"] = 0
    assert got.tobytes() == want.tobytes()


def check_exact(batch: f.FrameBatch) -> None:
    same_frames(*columns.decode_frames(columns.encode_frames(batch, NAMES, resolution_ns=1)), batch)


def floored(stamps: np.ndarray, resolution_ns: int) -> list[int]:
    lowest = -(-LOW // resolution_ns) * resolution_ns
    return [max(int(s) // resolution_ns * resolution_ns, lowest) for s in stamps]


@settings(max_examples=70, deadline=None)
@given(frame_batches())
def test_frames_at_1_ns_come_back_exactly(batch: f.FrameBatch) -> None:
    check_exact(batch)


@settings(max_examples=70, deadline=None)
@given(frame_batches(), st.sampled_from([7, 1000, 100_000, 10**6, (1 << 32) - 1]))
def test_coarse_stamps_are_floored_and_the_rest_is_exact(batch: f.FrameBatch, ns: int) -> None:
    data = columns.encode_frames(batch, NAMES, resolution_ns=ns, keep_order=True)
    want = batch.copy()
    want["timestamp_ns"] = floored(batch["timestamp_ns"], ns)
    same_frames(*columns.decode_frames(data), want)


@settings(max_examples=60, deadline=None)
@given(frame_batches())
def test_coarse_stamps_without_order_give_the_same_rows_by_stamp(batch: f.FrameBatch) -> None:
    data = columns.encode_frames(batch, NAMES, resolution_ns=10**6)
    got, _ = columns.decode_frames(data)
    assert not FrameColumns.FromString(zstandard.decompress(data)).order
    assert got["timestamp_ns"].tolist() == sorted(floored(batch["timestamp_ns"], 10**6))

    def rows(batch: f.FrameBatch) -> list[tuple[int, ...]]:
        wide = f.widen(batch)
        return sorted((r["arbitration_id"], r["flags"], r["length"], *r["data"]) for r in wide)

    assert rows(got) == rows(batch)


@settings(max_examples=80, deadline=None)
@given(signal_batches(), st.sampled_from([1, 1000, 10**6]))
def test_signals_come_back_exactly(batch: f.SignalBatch, ns: int) -> None:
    data = columns.encode_signals(batch, NAMES, resolution_ns=ns, keep_order=True)
    got, names = columns.decode_signals(data)
    assert [names[n] for n in got["channel"]] == [NAMES[n] for n in batch["channel"]]
    assert got["timestamp_ns"].tolist() == floored(batch["timestamp_ns"], ns)
    for name in ("signal", "raw"):
        assert got[name].tolist() == batch[name].tolist()


@pytest.mark.parametrize(("ns", "stored"), [(1, 50_000), (1000, 50_000), (30_000, 30_000)])
def test_stamps_of_a_coarse_clock_are_exact_and_stored_coarse(ns: int, stored: int) -> None:
    batch = synth(500, 8)
    batch["timestamp_ns"] = batch["timestamp_ns"] // 50_000 * 50_000 + 17 * (ns == 1)
    data = columns.encode_frames(batch, NAMES, resolution_ns=ns)
    assert FrameColumns.FromString(zstandard.decompress(data)).resolution_ns == stored
    got, _ = columns.decode_frames(data)
    assert got["timestamp_ns"].tolist() == floored(batch["timestamp_ns"], ns)


def random_batch(rows: int, channels: int, seed: int) -> f.FrameBatch:
    rng = np.random.default_rng(seed)
    batch = np.zeros(rows, f.FRAME_FD)
    batch["timestamp_ns"] = np.sort(rng.integers(0, 10**9, rows))
    batch["arbitration_id"] = rng.integers(0, 1 << 29, rows)
    batch["channel"] = rng.integers(0, channels, rows)
    batch["flags"] = rng.choice([0, f.EXTENDED, f.FD | f.BRS], rows)
    batch["length"] = rng.integers(0, 65, rows)
    batch["data"] = rng.integers(0, 256, (rows, 64)) * (np.arange(64) < batch["length"][:, None])
    return batch


@pytest.mark.parametrize(
    "batch",
    [
        synth(1, 0),
        synth(16_384, 1),
        synth(40_000, 2),  # more than sorting in one number can take
        random_batch(16_384, 255, 3),  # a group for almost every row
        random_batch(3000, 2, 4)[::-1],  # time runs back
    ],
    ids=["one", "largest", "beyond", "random", "backwards"],
)
def test_large_batches_come_back_exactly(batch: f.FrameBatch) -> None:
    check_exact(batch)


def test_empty_batches_come_back_empty() -> None:
    frames, names = columns.decode_frames(columns.encode_frames(np.zeros(0, f.FRAME), NAMES))
    assert (frames.dtype, len(frames), names) == (f.FRAME, 0, ())
    signals, names = columns.decode_signals(columns.encode_signals(np.zeros(0, f.SIGNAL), NAMES))
    assert (signals.dtype, len(signals), names) == (f.SIGNAL, 0, ())


def test_only_channels_that_occur_are_named() -> None:
    batch = synth(3, 0)
    batch["channel"] = [7, 2, 7]
    got, names = columns.decode_frames(columns.encode_frames(batch, NAMES))
    assert names == ("can2", "can7")
    assert got["channel"].tolist() == [1, 0, 1]


@pytest.mark.parametrize("microseconds", [1, 100])
def test_ties_between_two_buses_cost_little_and_keep_their_order(microseconds: int) -> None:
    batch = synth(4096, 5)
    both = np.repeat(batch, 2)
    both["channel"][::2] = 1  # of each pair with equal stamps, the higher channel came first
    plain = columns.encode_frames(both, NAMES, resolution_ns=100_000)
    data = columns.encode_frames(both, NAMES, resolution_ns=microseconds * 1000, keep_order=True)
    got, names = columns.decode_frames(data)
    assert [names[n] for n in got["channel"]] == [NAMES[n] for n in both["channel"]]
    if microseconds == 1:
        assert len(FrameColumns.FromString(zstandard.decompress(data)).order) == len(both)
    else:
        assert len(data) - len(plain) < 0.5 * len(both)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("arbitration_id", 1 << 29, "29 bits of id"),
        ("flags", 64, "6 of flags"),
        ("length", 9, "longer than its batch"),
        ("channel", 255, "channel 255 has no name"),
    ],
)
def test_rows_that_are_no_frames_are_our_mistake(field: str, value: int, message: str) -> None:
    batch = synth(3, 0)
    batch[field][1] = value
    with pytest.raises(ValueError, match=message):
        columns.encode_frames(batch, NAMES)


def test_wrong_use_is_refused() -> None:
    batch = synth(3, 0)
    for ns in (0, -1, 1 << 32):
        with pytest.raises(ValueError, match="resolution"):
            columns.encode_frames(batch, NAMES, resolution_ns=ns)
    with pytest.raises(ValueError, match="no FrameBatch"):
        columns.encode_frames(np.zeros(3, f.SIGNAL), NAMES)
    with pytest.raises(ValueError, match="at most"):
        columns.encode_frames(np.zeros(planes.MAX_ROWS + 1, f.FRAME), NAMES)
    with pytest.raises(ValueError, match="named twice"):
        columns.encode_frames(np.concatenate([batch, _on(batch, 1)]), ("can0", "can0"))


def _on(batch: f.FrameBatch, channel: int) -> f.FrameBatch:
    moved = batch.copy()
    moved["channel"] = channel
    return moved


# Malformed input


def small() -> bytes:
    """The message of a small batch with every column, order among them."""
    batch = random_batch(40, 2, 9)
    batch["arbitration_id"] %= 4
    batch["length"] = batch["length"] % 3 * 2
    batch["data"] *= np.arange(64) < batch["length"][:, None]
    return columns.frame_columns(batch[::-1].copy(), NAMES, 1, keep_order=True)[0]


def small_signals() -> bytes:
    batch = np.zeros(12, f.SIGNAL)
    batch["timestamp_ns"] = [5, 3, 8, 1, 1, 1, 9, 9, 40, 41, 42, 43]
    batch["signal"] = [0, 1, 0, 1, 2, 2] * 2
    batch["raw"] = np.arange(12) ** 3
    return columns.signal_columns(batch, NAMES, 1, keep_order=True)[0]


DECODERS = [(columns.decode_frames, small), (columns.decode_signals, small_signals)]


def decodes_or_seal_error(decode: Callable[[bytes], object], data: bytes) -> bool:
    try:
        decode(data)
    except SealError:
        return False
    return True


@pytest.mark.parametrize(("decode", "make"), DECODERS)
def test_every_truncation_is_a_seal_error(
    decode: Callable[[bytes], object], make: Callable[[], bytes]
) -> None:
    message = make()
    data = zstandard.compress(message)
    assert decodes_or_seal_error(decode, data)
    assert not any(decodes_or_seal_error(decode, data[:end]) for end in range(len(data)))
    cut = [
        decodes_or_seal_error(decode, zstandard.compress(message[:end]))
        for end in range(1, len(message))
    ]
    assert sum(cut) <= 2  # between two fields: without the order column, and as an empty batch
    assert not decodes_or_seal_error(decode, data + b"\0")


@pytest.mark.parametrize(("decode", "make"), DECODERS)
def test_every_changed_byte_gives_rows_or_a_seal_error(
    decode: Callable[[bytes], object], make: Callable[[], bytes]
) -> None:
    message = make()
    for source, pack in ((zstandard.compress(message), bytes), (message, zstandard.compress)):
        for place in range(len(source)):
            for change in (0x01, 0x80):
                changed = bytearray(source)
                changed[place] ^= change
                decodes_or_seal_error(decode, pack(bytes(changed)))


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_any_message_gives_rows_or_a_seal_error(message: bytes) -> None:
    for decode in (columns.decode_frames, columns.decode_signals):
        decodes_or_seal_error(decode, zstandard.compress(message))
        decodes_or_seal_error(decode, message)


TWO = {"channel": [0, 0], "flags": [0, 0], "length": [0, 0], "period": [0, 0]}
NONE = {"channel": [], "id": [], "flags": [], "length": [], "period": []}


def hostile(**fields: object) -> bytes:
    base = {
        "resolution_ns": 1,
        "channels": ["can0"],
        "channel": [0],
        "id": [1],
        "flags": [0],
        "length": [0],
        "rows": [1],
        "period": [0],
        "stamp_width": 1,
        "stamps": b"\0",
    }
    return zstandard.compress(FrameColumns(**(base | fields)).SerializeToString())


HOSTILE = {
    "rows beyond the limit": hostile(rows=[(1 << 32) - 1]),
    "rows that add up": hostile(rows=[1 << 18] * 2, id=[1, 2], **TWO),
    "no rows": hostile(rows=[0], stamps=b""),
    "rows without stamps": hostile(rows=[1 << 18]),
    "width 0": hostile(stamp_width=0),
    "width 9": hostile(stamp_width=9, stamps=b"\0" * 9),
    "width of gigabytes": hostile(stamp_width=(1 << 32) - 1),
    "resolution 0": hostile(resolution_ns=0),
    "an id of 32 bits": hostile(id=[1 << 31]),
    "flags of 32 bits": hostile(flags=[1 << 31]),
    "length 65": hostile(length=[65], data=b"\0" * 65),
    "data missing": hostile(length=[8]),
    "data too much": hostile(data=b"\0"),
    "a channel without name": hostile(channel=[1]),
    "no channel names": hostile(channels=[]),
    "a channel named twice": hostile(channels=["a", "a"]),
    "256 channels": hostile(channels=[str(n) for n in range(256)]),
    "missing ids": hostile(id=[]),
    "more periods than groups": hostile(period=[0, 0]),
    "groups that do not ascend": hostile(rows=[1, 1], id=[2, 1], stamps=b"\0\0", **TWO),
    "an order twice": hostile(rows=[2], stamps=b"\0\0", order=b"\2\0"),
    "an order outside": hostile(rows=[2], stamps=b"\0\0", order=b"\2\4"),
    "an order of half rows": hostile(rows=[2], stamps=b"\0\0", order=b"\0\0\0"),
    "an order too wide": hostile(order=b"\0" * 5),
    "an order without rows": hostile(rows=[], stamps=b"", order=b"\0", **NONE),
    "two frames": hostile() + hostile(),
    "empty": b"",
    "a size not declared": zstandard.ZstdCompressor(write_content_size=False).compress(b"\x10\x01"),
    # magic, single segment with 8 bytes of content size, an RLE block of 128 KiB
    "a size of exabytes": bytes.fromhex("28b52ffde0ffffffffffffff0f020010002a"),
    "a size of gigabytes": bytes.fromhex("28b52ffde00000004000000000020010002a"),
    "a window of terabytes": bytes.fromhex("28b52ffd40ff0000090000") + b"\x10",
    "a bomb": zstandard.compress(bytes(packing.MAX_BYTES + 1)),
    "a bomb of fields": zstandard.compress(b"\x08\x00" * (1 << 20)),
    "a bomb of groups": zstandard.compress(b"\x4a\x80\x80\x80\x06" + bytes(12 << 20)),
    "an old wire type": zstandard.compress(b"\x0b\x0c"),
    "an endless number": zstandard.compress(b"\xff" * 40),
}  # fmt: skip


def test_the_base_of_the_hostile_messages_is_sound() -> None:
    assert decodes_or_seal_error(columns.decode_frames, hostile())


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_columns_are_seal_errors_within_memory(name: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(SealError, match="malformed"):
            columns.decode_frames(HOSTILE[name])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < packing.MAX_BYTES  # numpy and Python; zstd's and protobuf's are bounded by size


def test_errors_are_one_line_that_says_what_to_do() -> None:
    with pytest.raises(SealError) as error:
        columns.decode_frames(b"nonsense")
    assert "\n" not in str(error.value)
    assert "inland verify" in str(error.value)


# The tests above find planted bugs


def test_blocks_of_zstd_begin_where_planes_begin() -> None:
    message, parts = columns.frame_columns(synth(16_384, 1), NAMES, 1000, keep_order=False)
    places = packing.cuts(len(message), parts)
    data = FrameColumns.FromString(message).data
    assert message.index(data) in places
    assert message.index(data) + 16_384 in places


def _one_group(values: planes.U64, groups: planes.Groups) -> planes.U64:
    return np.diff(values, prepend=values[:1] * 0)  # forgets where groups begin


def _trusting_order(grid: planes.Grid, arrived: planes.Index) -> bytes:
    return b""  # trusts the stamps to give the order


def _short_split(values: planes.U64) -> tuple[int, bytes]:
    return 1, values.astype(np.uint8).tobytes()  # keeps the lowest byte only


def _no_zigzag(values: planes.U64) -> planes.U64:
    return values << np.uint64(1)  # loses the sign


def _unstable(keys: planes.U64, key_bits: int) -> planes.Index:
    return np.lexsort((-np.arange(len(keys)), keys))  # rows of a group backwards


def check_all(batch: f.FrameBatch) -> None:
    """Frames exact, samples exact, and the rows of a group in arrival order by any stamp."""
    check_exact(batch)
    samples = np.zeros(len(batch), f.SIGNAL)
    samples["raw"], samples["signal"] = batch["timestamp_ns"], batch["arbitration_id"]
    assert columns.decode_signals(columns.encode_signals(samples, NAMES))[0]["raw"].tolist() == (
        samples["raw"].tolist()
    )
    got, _ = columns.decode_frames(columns.encode_frames(batch, NAMES, resolution_ns=4 * 10**9))
    for number in np.unique(batch["arbitration_id"]):
        rows, want = (b["data"][b["arbitration_id"] == number] for b in (got, batch))
        assert rows.tolist() == want.tolist()


@pytest.mark.parametrize(
    ("name", "bug"),
    [
        ("differences", _one_group),
        ("code_order", _trusting_order),
        ("split", _short_split),
        ("zigzag", _no_zigzag),
        ("sorting", _unstable),
    ],
)
def test_a_planted_bug_is_found(
    name: str, bug: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = np.concatenate([synth(300, 6), synth(300, 7)])  # time steps back in the middle
    check_all(batch)
    monkeypatch.setattr(planes, name, bug)
    with pytest.raises((AssertionError, SealError)):
        check_all(batch)


def test_signal_columns_keep_their_own_field_numbers() -> None:
    """The bounded wire check knows planes by number; a renumbered schema would break it."""
    for kind, names, numbers in (
        (FrameColumns, ("stamps", "data", "order"), columns._FRAME_PLANES),
        (SignalColumns, ("stamps", "values", "order"), columns._SIGNAL_PLANES),
    ):
        assert {kind.DESCRIPTOR.fields_by_name[name].number for name in names} == numbers
