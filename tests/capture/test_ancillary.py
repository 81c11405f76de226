"""What the kernel writes beside a frame, parsed by value."""

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.capture import ancillary
from agent.frames import BRS, ERROR, ESI, EXTENDED, FD, FRAME, FRAME_FD, REMOTE

STAMP, DROPS, OTHER = 35, 40, 29
ITEMS = st.one_of(
    st.tuples(st.just(STAMP), st.integers(0, 2**33), st.integers(0, 999_999_999)),
    st.tuples(st.just(DROPS), st.integers(0, 2**32 - 1), st.just(0)),
    st.tuples(st.just(OTHER), st.integers(0, 2**31 - 1), st.just(0)),
)
CONTROLS = st.lists(st.lists(ITEMS, max_size=2, unique_by=lambda item: item[0]), max_size=6)


def item_bytes(kind: int, first: int, second: int) -> bytes:
    body = struct.pack("<qq", first, second) if kind == STAMP else struct.pack("<I", first)
    item = struct.pack("<Qii", 16 + len(body), 1, kind) + body
    return item + bytes(-len(item) % 8)


def control(rows: list[list[tuple[int, int, int]]]) -> tuple[np.ndarray, np.ndarray]:
    words = np.full((len(rows), ancillary.CONTROL_WORDS), 0xAAAAAAAAAAAAAAAA, np.uint64)
    lengths = np.zeros(len(rows), np.int64)
    for index, items in enumerate(rows):
        text = b"".join(item_bytes(*item) for item in items)
        lengths[index] = len(text)
        words[index, : len(text) // 8] = np.frombuffer(text, "<u8")
    return words, lengths


def simple(rows: list[list[tuple[int, int, int]]]) -> tuple[list[int], list[int]]:
    stamps = [next((s * 10**9 + ns for kind, s, ns in items if kind == STAMP), 0) for items in rows]
    drops = [next((count for kind, count, _ in items if kind == DROPS), -1) for items in rows]
    return stamps, drops


def check_control(parse, rows) -> None:
    stamps, drops = parse(*control(rows))
    assert (stamps.tolist(), drops.tolist()) == simple(rows)


@given(CONTROLS)
@settings(max_examples=150, deadline=None)
def test_control_data_in_any_order_gives_stamps_and_drops(rows) -> None:
    check_control(ancillary.parse_control, rows)


def test_control_check_catches_a_parser_that_expects_the_stamp_first() -> None:
    def planted(words, lengths):
        signed = words.view(np.int64)
        return signed[:, 2] * 10**9 + signed[:, 3], np.full(len(words), -1, np.int64)

    with pytest.raises(AssertionError):
        check_control(planted, [[(DROPS, 7, 0), (STAMP, 1, 2)]])


def test_hostile_item_lengths_stay_inside_the_buffer() -> None:
    words = np.full((3, ancillary.CONTROL_WORDS), 2**64 - 1, np.uint64)
    words[1] = 0
    stamps, drops = ancillary.parse_control(words, np.array([64, 64, 8]))
    assert stamps.tolist() == [0, 0, 0]
    assert drops.tolist() == [-1, -1, -1]


def test_drop_count_wraps() -> None:
    assert ancillary.dropped_between(2**32 - 2, 3) == 5
    assert ancillary.dropped_between(3, 2**32 - 2) == 0  # an older reading


def records(*rows: tuple[int, int, int, bytes], wide: bool = False) -> np.ndarray:
    out = np.zeros(len(rows), ancillary.RECORD_FD if wide else ancillary.RECORD)
    for index, (identifier, length, flags, data) in enumerate(rows):
        out[index]["id"], out[index]["len"], out[index]["flags"] = identifier, length, flags
        out[index]["data"][: len(data)] = np.frombuffer(data, np.uint8)
    return out


def test_frames_of_every_kind_keep_their_meaning() -> None:
    rows = records(
        (0x123, 2, 0, b"\x01\x02\x99"),  # rubbish behind the length
        (0x80000000 | 0x18FEF100, 0, 0, b""),
        (0x40000000 | 0x7FF, 8, 0, b"\x55" * 8),  # remote: asks for 8, holds none
        (0x20000000 | 0x80, 8, 0, b"\0\1\2\3\4\5\6\7"),
        (0x321, 12, 1 | 2, bytes(range(12))),
        wide=True,
    )
    sizes = np.array([16, 16, 16, 16, 72])
    batch, broken = ancillary.to_frames(rows, sizes, np.arange(5), 3)
    assert broken == 0
    assert batch.dtype == FRAME_FD
    assert batch["arbitration_id"].tolist() == [0x123, 0x18FEF100, 0x7FF, 0x80, 0x321]
    assert batch["flags"].tolist() == [0, EXTENDED, REMOTE, ERROR, FD | BRS | ESI]
    assert batch["length"].tolist() == [2, 0, 8, 8, 12]
    assert batch["data"][0].tobytes().rstrip(b"\0") == b"\x01\x02"
    assert not batch["data"][2].any()
    assert batch["data"][4][:12].tolist() == list(range(12))
    assert batch["channel"].tolist() == [3] * 5


def test_records_that_are_no_frames_are_counted() -> None:
    rows = records((1, 1, 0, b"a"), (2, 9, 0, b"b"), (3, 1, 0, b"c"))
    batch, broken = ancillary.to_frames(rows, np.array([16, 16, 5]), np.arange(3), 0)
    assert broken == 2
    assert batch["arbitration_id"].tolist() == [1]
    assert batch.dtype == FRAME


def test_batch_is_a_copy() -> None:
    rows = records((1, 1, 0, b"a"))
    batch, _ = ancillary.to_frames(rows, np.array([16]), np.zeros(1, np.int64), 0)
    rows["data"][:] = 0
    assert batch["data"][0, 0] == ord("a")


@st.composite
def classic(draw) -> tuple[int, int, int, bytes]:
    identifier = draw(st.integers(0, 2**32 - 1))
    return (
        identifier,
        draw(st.integers(0, 9)),
        draw(st.integers(0, 255)),
        draw(st.binary(max_size=8)),
    )


def check_same(rows: list[tuple[int, int, int, bytes]], to_frames) -> None:
    sizes, stamps = np.full(len(rows), 16), np.arange(len(rows)) + 10**18
    batch, broken = to_frames(records(*rows), sizes, stamps, 7)
    wide, wide_broken = ancillary.to_frames(records(*rows, wide=True), sizes, stamps, 7)
    assert broken == wide_broken
    assert batch.tobytes() == wide.tobytes()


@given(st.lists(classic(), min_size=1, max_size=9))
@settings(max_examples=150, deadline=None)
def test_frames_moved_by_words_are_those_built_by_columns(rows) -> None:
    check_same(rows, ancillary.to_frames)


def test_word_check_catches_an_id_bit_that_is_left_in() -> None:
    def planted(rows, sizes, stamps, channel):
        batch, broken = ancillary.to_frames(rows, sizes, stamps, channel)
        batch["arbitration_id"] = rows["id"]
        return batch, broken

    with pytest.raises(AssertionError):
        check_same([(0x80000123, 1, 0, b"a")], planted)
