"""SLCAN text by columns against line by line: the same frames, the same broken lines."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.capture import slcan_lines
from agent.capture.slcan_lines import FD_LENGTHS, MAX_LINE, parse, parse_few, parse_lines
from agent.frames import BRS, EXTENDED, FD, REMOTE


@st.composite
def frame_lines(draw) -> bytes:
    kind = draw(st.sampled_from("tTxrRdDbB"))
    extended, remote, fd = kind in "TxRDB", kind in "rR", kind in "dDbB"
    code = draw(st.integers(0, 15 if fd else 8))
    identifier = draw(st.integers(0, 0x1FFFFFFF if extended else 0x7FF))
    text = kind + (f"{identifier:08X}" if extended else f"{identifier:03X}") + f"{code:X}"
    if not remote:
        size = FD_LENGTHS[code]
        text += draw(st.binary(min_size=size, max_size=size)).hex()
    text += draw(st.sampled_from(["", "", "03E8"]))
    return (kind + (text[1:].upper() if draw(st.booleans()) else text[1:])).encode()


GARBAGE = st.one_of(
    st.sampled_from([b"", b"z", b"Z", b"V1013", b"N1234", b"F00", b"FAB1", b"t12", b"T", b"?"]),
    st.sampled_from([b"t12393132", b"t9001AA", b"TFFFFFFFF0", b"t1231A\xff", b"d1231 1"]),
    st.binary(max_size=12).map(lambda b: b.replace(b"\r", b"").replace(b"\x07", b"")),
)
LINE = st.one_of(frame_lines(), frame_lines(), GARBAGE)
STREAM = st.lists(st.tuples(LINE, st.sampled_from([b"\r", b"\r", b"\x07"])), max_size=25).map(
    lambda lines: b"".join(line + end for line, end in lines)
)


def check_columns(stream: bytes) -> None:
    few, broken_few = parse_few(stream, 3)
    many, broken_many = slcan_lines.parse_lines(stream, 3)
    assert few.dtype == many.dtype
    assert np.array_equal(few, many)
    assert broken_few == broken_many


@given(STREAM)
@settings(max_examples=200, deadline=None)
def test_columns_agree_with_lines(stream) -> None:
    check_columns(stream)


@pytest.mark.parametrize("victim", ["hex_bytes", "hex_number"])
def test_column_check_catches_swapped_digits(monkeypatch, victim) -> None:
    right = getattr(slcan_lines, victim)
    monkeypatch.setattr(slcan_lines, victim, lambda nibbles: right(nibbles[:, ::-1]))
    with pytest.raises(AssertionError):
        check_columns(b"t1232A1B2\r")


@given(STREAM, st.lists(st.integers(1, 40), max_size=30))
@settings(max_examples=100, deadline=None)
def test_cutting_the_stream_anywhere_changes_nothing(stream, cuts) -> None:
    whole = parse(stream)
    frames, broken, rest, at = [], 0, b"", 0
    for size in [*cuts, len(stream)]:
        part = parse(stream[at : at + size], rest)
        at += size
        frames += (
            part.frames.tolist()
            if not len(part.frames)
            else [
                (int(r["arbitration_id"]), int(r["flags"]), r["data"][: int(r["length"])].tobytes())
                for r in part.frames
            ]
        )
        broken, rest = broken + part.broken, part.rest
    assert frames == [
        (int(r["arbitration_id"]), int(r["flags"]), r["data"][: int(r["length"])].tobytes())
        for r in whole.frames
    ]
    assert (broken, rest) == (whole.broken, whole.rest)


@given(frame_lines())
@settings(max_examples=60, deadline=None)
def test_every_truncation_is_broken_or_a_shorter_stamp(line) -> None:
    for size in range(1, len(line)):
        frames, broken = parse_lines(line[:size] + b"\r")
        assert len(frames) + broken == 1
        if len(frames):  # only the adapter's own four digits may be missing
            assert size == len(line) - 4


def test_kinds_have_their_meaning() -> None:
    stream = b"t1232AABB\rT18FEF1001FF\rr7FF8\rR000000010\rd1239" + b"11" * 12 + b"\rB000000020\r"
    frames, broken = parse_few(stream)
    assert broken == 0
    assert frames["flags"].tolist() == [0, EXTENDED, REMOTE, REMOTE | EXTENDED, FD, 25]
    assert FD | BRS | EXTENDED == 25
    assert frames["length"].tolist() == [2, 1, 8, 0, 12, 0]
    assert frames["arbitration_id"].tolist() == [0x123, 0x18FEF100, 0x7FF, 1, 0x123, 2]


def test_noise_without_an_end_is_bounded_and_counted_once() -> None:
    part = parse(b"", b"")
    for _ in range(50):
        part = parse(b"A" * 100, part.rest)
        assert len(part.rest) <= MAX_LINE
    part = parse(b"\rt1230\r", part.rest)
    assert part.broken == 1
    assert part.frames["arbitration_id"].tolist() == [0x123]
