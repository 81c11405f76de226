"""BLF and GVRET CSV: read back by python-can and by the repository's own readers of logs."""

from __future__ import annotations

import zlib
from pathlib import Path

import can
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.capture.logs import read_log
from agent.frames import (
    BRS,
    ERROR,
    ESI,
    EXTENDED,
    FD,
    FRAME,
    REMOTE,
    ChannelTable,
    FrameBatch,
    concatenate,
)
from agent.owner import blf, frame_files
from agent.owner.frame_files import bus_numbers, gvret, has_gvret_place
from tests.evidence.test_text import START_NS, batch_of, frame_rows

NAMES = ("can0", "can17")
UNTIL_2036 = 3 * 10**17  # ns; later a double of seconds, which is python-can's, has no whole µs
EXAMPLE = b"166064000,0000021A,false,Rx,0,8,FE,36,12,FE,69,05,07,AD,\n"  # a line of SavvyCAN's own


def read_back(path: Path) -> tuple[FrameBatch, tuple[str, ...]]:
    table = ChannelTable()

    def broken(where: str, why: str) -> None:
        raise AssertionError(f"{where}: {why}")

    return concatenate(list(read_log(path, table, strict=True, on_broken=broken))), table.names


def plain(batch: FrameBatch, names: tuple[str, ...]) -> list[tuple[object, ...]]:
    """Rows as values; those of an error frame that every writer keeps."""
    return [
        (int(row["timestamp_ns"]), int(row["arbitration_id"]), names[row["channel"]],
         int(row["flags"]), int(row["length"]), row["data"][: row["length"]].tobytes())
        for row in batch
    ]  # fmt: skip


def check_blf(batch: FrameBatch, where: Path) -> None:
    path = where / "a.blf"
    blf.write_blf(path, batch, bus_numbers(NAMES))
    if not len(batch):
        with can.BLFReader(path) as reader:
            assert list(reader) == []
        return
    found, names = read_back(path)
    assert plain(found, names) == plain(batch, NAMES)


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(frame_rows(), max_size=12))
def test_blf_keeps_every_flag_and_stamp(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[object, ...]]
):
    batch = batch_of(rows)
    since = batch["timestamp_ns"] - START_NS
    batch["timestamp_ns"] = START_NS + since % UNTIL_2036
    check_blf(batch, tmp_path_factory.mktemp("blf"))


def two_backwards() -> FrameBatch:
    batch = np.zeros(2, FRAME)
    batch["timestamp_ns"] = START_NS + 5 * 10**9, START_NS
    batch["length"] = 1
    return batch


def test_a_frame_with_an_earlier_stamp_keeps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The planted bug: whoever counts from the first frame alone moves the second to it."""
    check_blf(two_backwards(), tmp_path)
    objects = blf.objects

    def from_the_first(frames: FrameBatch, numbers: tuple[int, ...], begin_ns: int) -> bytes:
        frames = frames.copy()
        first_ns = int(frames["timestamp_ns"][0])
        frames["timestamp_ns"] = np.maximum(frames["timestamp_ns"] - first_ns, 0) + begin_ns
        return objects(frames, numbers, begin_ns)

    monkeypatch.setattr(blf, "objects", from_the_first)
    with pytest.raises(AssertionError):
        check_blf(two_backwards(), tmp_path)


def by_python_can(path: Path, batch: FrameBatch) -> bytes:
    """The objects of the file that python-can's own writer makes of the same frames."""
    with can.BLFWriter(path) as writer:
        writer.start_timestamp = int(batch["timestamp_ns"].min()) // 10**6 / 1000
        for row in batch:
            flags = int(row["flags"])
            writer.on_message_received(can.Message(
                timestamp=row["timestamp_ns"] / 1e9, arbitration_id=int(row["arbitration_id"]),
                channel=bus_numbers(NAMES)[row["channel"]], dlc=int(row["length"]),
                is_extended_id=bool(flags & EXTENDED), is_remote_frame=bool(flags & REMOTE),
                is_error_frame=bool(flags & ERROR), is_fd=bool(flags & FD),
                bitrate_switch=bool(flags & BRS), error_state_indicator=bool(flags & ESI),
                data=b"" if flags & REMOTE else row["data"][: row["length"]].tobytes(),
            ))  # fmt: skip
    return objects_of(path)


def objects_of(path: Path) -> bytes:
    """What is in the containers, one behind the other, but for the stamps."""
    data, at, found = path.read_bytes(), blf.HEADER_BYTES, b""
    while at < len(data):
        magic, _, _, size, _, _, _ = blf._CONTAINER.unpack_from(data, at)
        assert magic == b"LOBJ"
        found += zlib.decompress(data[at + blf._CONTAINER.size : at + size])
        at += size + size % 4
    out, at = bytearray(found), 0
    while at < len(out):
        out[at + 24 : at + 32] = bytes(8)
        at += int.from_bytes(out[at + 8 : at + 12], "little")
    return bytes(out)


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(frame_rows(), min_size=1, max_size=12))
def test_blf_is_what_python_can_s_writer_writes(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[object, ...]]
):
    """Byte for byte, but for the stamps, which its doubles round."""
    batch, where = batch_of(rows), tmp_path_factory.mktemp("blf")
    batch["timestamp_ns"] = START_NS + batch["timestamp_ns"] % UNTIL_2036
    blf.write_blf(where / "ours.blf", batch, bus_numbers(NAMES))
    assert objects_of(where / "ours.blf") == by_python_can(where / "theirs.blf", batch)


def test_an_object_may_go_on_in_the_next_container(tmp_path: Path):
    batch = np.zeros(9000, FRAME)
    batch["timestamp_ns"] = START_NS + np.arange(9000) * 250_000
    batch["length"], batch["flags"] = 8, np.where(np.arange(9000) % 7, 0, FD)
    batch["data"][:, 0] = np.arange(9000) % 256
    assert blf.CONTAINER_BYTES % 116
    check_blf(batch, tmp_path)


def test_python_can_reads_the_flags_by_itself(tmp_path: Path):
    """python-can's own reader, not ours around it, and its own names of the flags."""
    rows = [
        (START_NS, 0x18FEF100, 1, EXTENDED, 8, bytes(range(8))),
        (START_NS + 1000, 0x123, 0, REMOTE, 5, b""),
        (START_NS + 2000, 0x124, 0, FD | BRS | ESI, 64, bytes(range(64))),
        (START_NS + 3000, 0x80, 0, ERROR, 8, bytes(8)),
    ]
    blf.write_blf(tmp_path / "a.blf", batch_of(rows), bus_numbers(NAMES))
    with can.BLFReader(tmp_path / "a.blf") as reader:
        wide, remote, fd, error = list(reader)
    assert (wide.is_extended_id, wide.arbitration_id, wide.channel) == (True, 0x18FEF100, 17)
    assert (remote.is_remote_frame, remote.dlc) == (True, 5)
    assert (fd.is_fd, fd.bitrate_switch, fd.error_state_indicator) == (True, True, True)
    assert bytes(fd.data) == bytes(range(64))
    assert error.is_error_frame


def test_progress_adds_up(tmp_path: Path):
    batch, done = np.zeros(blf.CHUNK_ROWS + 5, FRAME), []
    batch["timestamp_ns"] = START_NS
    blf.write_blf(tmp_path / "a.blf", batch, bus_numbers(NAMES), done.append)
    assert done == [blf.CHUNK_ROWS, 5]


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(frame_rows(), max_size=12))
def test_gvret_is_read_back_but_for_what_it_has_no_place_for(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[object, ...]]
):
    batch = batch_of(rows)
    path = tmp_path_factory.mktemp("gvret") / "a.csv"
    path.write_bytes(b"".join(gvret(batch, NAMES)))
    wanted = batch[has_gvret_place(batch)]
    long = np.where(wanted["length"] > 8, FD, 0)  # our reader knows what is so long
    wanted["flags"] = (wanted["flags"] & EXTENDED) | long
    if not len(wanted):
        assert path.read_bytes() == frame_files.GVRET_HEADER
        return
    found, names = read_back(path)
    assert plain(found, names) == plain(wanted, NAMES)


def test_gvret_is_as_savvycan_writes_it():
    batch = batch_of(
        [
            (166064000 * 1000, 0x21A, 0, 0, 8, bytes.fromhex("FE3612FE690507AD")),
            (-5000, 0x7, 1, EXTENDED, 2, b"\x01\x02"),
        ]
    )
    header, text = gvret(batch, NAMES)
    assert header == b"Time Stamp,ID,Extended,Dir,Bus,LEN,D1,D2,D3,D4,D5,D6,D7,D8\n"
    assert text == EXAMPLE + b"-5,00000007,true,Rx,17,2,01,02,,,,,,,\n"


def test_buses_keep_apart():
    """Two buses never get one number, whatever they are called."""
    assert bus_numbers(("can3", "body", "can0", "chassis")) == (3, 1, 0, 2)
    assert bus_numbers(()) == ()
