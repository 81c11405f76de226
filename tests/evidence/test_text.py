"""Text that other tools read back: python-can for frames, the csv module for samples."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import can
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.evidence import text
from agent.frames import BRS, ERROR, ESI, EXTENDED, FD, FRAME, FRAME_FD, REMOTE, SIGNAL
from agent.pb import policy_pb2

START_NS = 1_795_000_000 * 10**9


@st.composite
def frame_rows(draw: st.DrawFn) -> tuple:  # type: ignore[type-arg]
    kind = draw(st.sampled_from(["data", "fd", "remote", "error"]))
    extended = draw(st.booleans())
    flags = EXTENDED if extended else 0
    length = draw(st.integers(0, 8))
    data = b""
    if kind == "fd":
        flags |= FD | draw(st.sampled_from([0, BRS, ESI, BRS | ESI]))
        length = draw(st.sampled_from([*range(9), 12, 16, 20, 24, 32, 48, 64]))
    if kind == "remote":
        flags |= REMOTE
    elif kind == "error":
        flags, length = ERROR, 8
    if kind != "remote":
        data = draw(st.binary(min_size=length, max_size=length))
    top = 0x1FFF_FFFF if flags & (EXTENDED | ERROR) else 0x7FF
    arbitration_id = draw(st.integers(0, top))
    if kind == "error":
        arbitration_id |= 0x80  # bus error: the only kind that python-can takes for an error frame
    stamp = START_NS + draw(st.integers(0, 10**15)) * 1000
    return (stamp, arbitration_id, draw(st.integers(0, 1)), flags, length, data)


def batch_of(rows: list[tuple]) -> np.ndarray:  # type: ignore[type-arg]
    wide = any(len(row[5]) > 8 for row in rows)
    batch = np.zeros(len(rows), FRAME_FD if wide else FRAME)
    for at, (stamp, arbitration_id, channel, flags, length, data) in enumerate(rows):
        batch[at]["timestamp_ns"], batch[at]["arbitration_id"] = stamp, arbitration_id
        batch[at]["channel"], batch[at]["flags"], batch[at]["length"] = channel, flags, length
        batch[at]["data"][: len(data)] = np.frombuffer(data, np.uint8)
    return batch


def check_read_back(rows: list[tuple], where: Path) -> None:  # type: ignore[type-arg]
    path = where / "a.log"
    path.write_bytes(b"".join(text.candump(batch_of(rows), ("can0", "vcan17"))))
    with can.CanutilsLogReader(path) as reader:
        messages = list(reader)
    assert len(messages) == len(rows)
    for row, message in zip(rows, messages, strict=True):
        stamp, arbitration_id, channel, flags, length, data = row
        assert round(message.timestamp * 1e6) == stamp // 1000
        assert message.is_error_frame == bool(flags & ERROR)
        if flags & ERROR:
            continue  # python-can drops what an error frame says
        assert message.channel == ("can0", "vcan17")[channel]
        assert message.arbitration_id == arbitration_id
        assert message.is_extended_id == bool(flags & EXTENDED)
        assert message.is_remote_frame == bool(flags & REMOTE)
        assert message.is_fd == bool(flags & FD)
        assert (message.bitrate_switch, message.error_state_indicator) == (
            bool(flags & BRS), bool(flags & ESI),
        )  # fmt: skip
        assert message.dlc == length
        assert bytes(message.data) == data


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(frame_rows(), min_size=1, max_size=40))
def test_python_can_reads_what_was_written(rows, tmp_path_factory) -> None:  # type: ignore[no-untyped-def]
    check_read_back(rows, tmp_path_factory.mktemp("log"))


def test_the_check_finds_a_wrong_digit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The planted bug: two hex digits exchanged."""
    rows = [(START_NS, 0x123, 0, 0, 2, b"\x12\x34")]
    check_read_back(rows, tmp_path)
    monkeypatch.setattr(text, "_PAIRS", text._PAIRS[:, ::-1])
    with pytest.raises(AssertionError):
        check_read_back(rows, tmp_path)


def test_lines_are_those_of_candump() -> None:
    rows = [
        (1436509052249713000, 0x44, 0, 0, 5, bytes.fromhex("2A366C2BBA")),
        (1436509052249713999, 0x12345678, 1, EXTENDED, 0, b""),
        (1436509052000000000, 0x123, 0, REMOTE, 8, b""),
        (1436509052000001000, 0x123, 0, REMOTE, 0, b""),
        (1436509052000001000, 0x123, 1, FD | BRS, 1, b"\xab"),
        (1436509052000001000, 0x4, 0, ERROR, 8, bytes(8)),
    ]
    assert b"".join(text.candump(batch_of(rows), ("can0", "can1"))).decode() == (
        "(1436509052.249713) can0 044#2A366C2BBA\n"
        "(1436509052.249713) can1 12345678#\n"
        "(1436509052.000000) can0 123#R8\n"
        "(1436509052.000001) can0 123#R\n"
        "(1436509052.000001) can1 123##1AB\n"
        "(1436509052.000001) can0 20000004#0000000000000000\n"
    )


def test_a_stamp_before_1970_keeps_its_sign() -> None:
    batch = np.zeros(2, FRAME)
    batch["timestamp_ns"] = [-1_500_000_001, 1_500_000_001]
    got = b"".join(text.candump(batch, ("can0",))).decode().splitlines()
    assert got == ["(-0000000001.500001) can0 000#", "(0000000001.500000) can0 000#"]
    dictionary = policy_pb2.Dictionary(signal=[policy_pb2.Signal(name="a", factor=1, kind=1)])
    samples = np.zeros(1, SIGNAL)
    samples["timestamp_ns"] = -1_500_000_001
    got = b"".join(text.samples_csv(samples, dictionary, ("can0",))).decode()
    assert got == "1969-12-31T23:59:58.499999Z,-1.500001,a,0,,,can0\n"


@pytest.mark.parametrize(
    ("kind", "factor", "offset", "raw", "expected"),
    [
        ("UNSIGNED", 1, 0, -1, "18446744073709551615"),
        ("SIGNED", 1, 0, -1, "-1"),
        ("SIGNED", 0.1, 0, 3, "0.3"),
        ("UNSIGNED", 0.5, -40, 100, "10"),
        ("UNSIGNED", 3, 2, 2**62, str(3 * 2**62 + 2)),
        ("FLOAT32", 1, 0, 0x3FC00000, "1.5"),
        ("FLOAT32", 1, 0, 0x7FC00000, "nan"),
        ("FLOAT64", 1, 0, 0x3FF199999999999A, "1.1"),
        ("FLOAT64", 1, 0, -0x8000000000000000, "0.0"),
    ],
)
def test_physical_values(kind: str, factor: float, offset: float, raw: int, expected: str) -> None:
    signal = policy_pb2.Signal(kind=kind, factor=factor, offset=offset)
    assert text.physical(signal, raw) == expected


def test_csv_reads_back_with_labels_and_quotes() -> None:
    dictionary = policy_pb2.Dictionary(
        signal=[
            policy_pb2.Signal(name="speed", unit="km/h", factor=0.01),
            policy_pb2.Signal(name="gear", factor=1, kind=1, choices={-1: 'R, "back"', 0: "N"}),
        ]
    )
    samples = np.zeros(3, SIGNAL)
    samples["timestamp_ns"] = START_NS + np.array([1_500, 2_000_000, 10**9])
    samples["signal"], samples["raw"], samples["channel"] = [0, 1, 1], [8123, -1, 7], [1, 0, 0]
    lines = text.CSV_HEADER.encode() + b"".join(
        text.samples_csv(samples, dictionary, ("can0", "can1"))
    )
    rows = list(csv.DictReader(io.StringIO(lines.decode())))
    assert [tuple(row.values())[2:] for row in rows] == [
        ("speed", "81.23", "km/h", "", "can1"),
        ("gear", "-1", "", 'R, "back"', "can0"),
        ("gear", "7", "", "", "can0"),
    ]
    assert rows[0]["time"].endswith("000001Z")
    assert rows[0]["unix"] == "1795000000.000001"
