"""Logs of every format: generated ones, and the real ones if they are at hand (INLAND_DATA)."""

import bz2
import functools
import gzip
import importlib.util
import os
import warnings
from pathlib import Path

import can
import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.capture.logs import find_format, read_log
from agent.capture.logs.detect import detect
from agent.capture.logs.dialects import DIALECTS
from agent.errors import LogError
from agent.frames import ERROR, EXTENDED, FD, REMOTE, ChannelTable, concatenate

DATA = Path(os.environ.get("INLAND_DATA", Path(__file__).parents[3] / "shared" / "data"))
LOGS = DATA / "can_logs"
SAMPLES = LOGS / "savvycan_examples"
real = pytest.mark.skipif(not LOGS.is_dir(), reason=f"no logs in {LOGS} (INLAND_DATA)")
LINE = "(1600000000.000000) vcan0 123#1122\n"


def read(path: Path, **kwargs):
    """(batch, channel names, broken places)."""
    names, broken = ChannelTable(), []
    batch = concatenate(
        list(read_log(path, names, on_broken=lambda *at: broken.append(at), **kwargs))
    )
    return batch, names.names, broken


def content(batch) -> np.ndarray:
    return batch[["arbitration_id", "length", "data"]]


BUSMASTER = (
    "***BUSMASTER Ver 3.2.2***\n***START DATE AND TIME 2:1:1970 0:0:1:000***\n"
    "***DEC***\n***SYSTEM MODE***\n"
)
MICROCHIP = "//---\nMicrochip Technology Inc.\nCAN BUS Analyzer\n//---\n"
GVRET = "Time Stamp,ID,Extended,Bus,LEN,D1,D2,D3,D4,D5,D6,D7,D8\n"


@pytest.mark.parametrize(
    ("text", "kind", "channel", "stamp_ns", "flags"),
    [
        (GVRET + "1500000,0000021A,false,1,2,FE,36,00\n", "gvret", "can1", 1_500_000_000, 0),
        (GVRET + "-5,1ABCDE00,true,0,2,FE,36,\n", "gvret", "can0", -5000, EXTENDED),
        (
            GVRET.replace("Bus", "Dir,Bus").replace("\n", "\r\n") + "7,21A,false,Rx,2,2,FE,36\r\n",
            "gvret",
            "can2",
            7000,
            0,
        ),
        ("1.5 CXX note\n1.500000 R11 21A FE 36 \n", "crtd", "can0", 1_500_000_000, 0),
        ("1.5 3R29 1ABCDE00 FE 36\n", "crtd", "can3", 1_500_000_000, EXTENDED),
        (
            "***BUSMASTER Ver 2.4.0***\n***RELATIVE MODE***\n0:00:15:2 Rx 1 0x21A s 2 FE 36\n",
            "busmaster",
            "can1",
            15_002_000_000,
            0,
        ),
        (
            BUSMASTER + "00:00:01:5000 Tx 1 538 s 2 254 054\n",
            "busmaster",
            "can1",
            (86_400 + 1) * 10**9 + 500_000_000,
            0,
        ),
        (
            MICROCHIP + "1500;RX;0x0000021A;2;0xFE;0x36;\n",
            "microchip",
            "can0",
            1_500_000_000,
            0,
        ),
        ("ID,Data Bytes\n0000021A,FE 36 \n", "generic_id", "can0", 0, 0),
        (
            "@ TEXT @ 2 @ 64 @ 0 @ 55 @\r1,500\t1\t0004\t21A\t2\tFE 36\t00000000\tZ \t\r",
            "carbus",
            "can1",
            1_500_000_000,
            0,
        ),
    ],
)
def test_dialects(tmp_path, text, kind, channel, stamp_ns, flags) -> None:
    path = tmp_path / "a.txt"
    path.write_text(text, newline="")
    assert find_format(path) == kind
    batch, names, broken = read(path)
    assert broken == []
    assert names == (channel,)
    assert batch["timestamp_ns"].tolist() == [stamp_ns]
    assert batch["flags"].tolist() == [flags]
    assert batch["length"].tolist() == [2]
    assert batch["data"][0][:2].tobytes() == b"\xfe\x36"


def test_busmaster_goes_on_past_midnight(tmp_path) -> None:
    path = tmp_path / "a.log"
    path.write_text(
        "***BUSMASTER Ver 2.4.0***\n***START DATE AND TIME 1:1:1970 23:59:59:000***\n"
        "23:59:59:999 Rx 1 001 s 0\n00:00:00:001 Rx 1 001 sr 3\n"
    )
    batch, _, broken = read(path)
    assert broken == []
    assert np.diff(batch["timestamp_ns"]).tolist() == [2_000_000]
    assert batch["flags"].tolist() == [0, REMOTE]


HEADS = {
    "gvret": GVRET,
    "crtd": "1.0 R11 001 00\n",
    "busmaster": "***BUSMASTER***\n",
    "microchip": "//--\n//--\n",
    "generic_id": "ID,Data Bytes\n",
    "carbus": "",
}
GOOD = {
    "gvret": "1500000,0000021A,false,1,2,FE,36",
    "crtd": "1.500000 R11 21A FE 36",
    "busmaster": "22:20:15:2 Rx 0 0000021A s 2 FE 36",
    "microchip": "1500;RX;0x21A;2;0xFE;0x36;",
    "generic_id": "0000021A,FE 36",
    "carbus": "1,500\t1\t0004\t21A\t2\tFE 36",
}


@given(st.sampled_from(sorted(DIALECTS)), st.data())
@settings(max_examples=200, deadline=None)
def test_damaged_lines_are_rows_none_or_value_errors(kind, data) -> None:
    """Whatever stands in a line, a dialect answers in one of its three ways, within bounds."""
    parse = DIALECTS[kind]()
    for line in HEADS[kind].splitlines():
        parse(line)
    good = GOOD[kind]
    at = data.draw(st.integers(0, len(good)))
    line = good[:at] + data.draw(st.text(max_size=6)) + good[at + data.draw(st.integers(0, 3)) :]
    try:
        row = parse(line)
    except ValueError as error:
        row = error
    if isinstance(row, ValueError):
        return
    if row is not None:
        assert row.arbitration_id <= 0x1FFFFFFF
        assert len(row.data) == row.length or row.flags & REMOTE
        assert -(2**63) < row.timestamp_ns < 2**63


@pytest.mark.parametrize("kind", sorted(DIALECTS))
def test_broken_lines_are_named_and_the_rest_is_read(tmp_path, kind) -> None:
    separator = "\r" if kind == "carbus" else "\n"
    head = {"microchip": "//--\nMicrochip Technology Inc.\n//--\n", "carbus": "@ TEXT @\r"}.get(
        kind, HEADS[kind]
    )
    lines = [GOOD[kind], "nonsense, as 5 it is", GOOD[kind], GOOD[kind].rstrip(";")[:-1]]
    path = tmp_path / "a.txt"
    path.write_text(head + separator.join(lines), newline="")
    batch, _, broken = read(path)
    first = head.count(separator) + 1
    assert [where for where, _ in broken] == [f"{path}:{first + 1}", f"{path}:{first + 3}"]
    assert len(batch) == 2 + (kind == "crtd")
    with pytest.raises(LogError, match=f":{first + 1}: "):
        read(path, strict=True)


@functools.cache
def random_log(frames: int) -> bytes:
    rng = np.random.default_rng(5)
    return "".join(f"(16.{n:06d}) can0 123#{rng.bytes(8).hex()}\n" for n in range(frames)).encode()


@pytest.mark.parametrize(
    ("suffix", "pack"),
    [
        (".gz", gzip.compress),
        (".bz2", bz2.compress),
        (".zst", lambda text: zstandard.ZstdCompressor().compress(text)),
    ],
)
def test_compressed_logs_and_their_cut_ends(tmp_path, suffix, pack) -> None:
    text = random_log(40_000)
    path = tmp_path / f"a.log{suffix}"
    whole = pack(text)
    path.write_bytes(whole)
    assert len(read(path, strict=True)[0]) == 40_000
    path.write_bytes(whole[: len(whole) * 3 // 4])
    batch, _, broken = read(path)
    assert suffix == ".bz2" or len(batch) > 0
    assert len(broken) >= 1
    assert str(path) in broken[-1][0]
    with pytest.raises(LogError):
        read(path, strict=True)


MESSAGES = [
    can.Message(timestamp=10.5, arbitration_id=0x123, is_extended_id=False, data=b"ab", channel=0),
    can.Message(timestamp=10.75, arbitration_id=0x1ABCDE00, data=b"12345678", channel=0),
    can.Message(timestamp=11.0, arbitration_id=5, is_extended_id=False, data=b"", channel=0),
]


@pytest.mark.parametrize("suffix", ["log", "asc", "blf", "csv", "db", "trc", "asc.gz", "blf.gz"])
def test_formats_of_python_can_round_trip(tmp_path, suffix) -> None:
    path = tmp_path / f"a.{suffix}"
    plain = tmp_path / f"a.{suffix.removesuffix('.gz')}"
    with can.Logger(plain) as writer:
        for message in MESSAGES:
            writer(message)
    if path != plain:
        path.write_bytes(gzip.compress(plain.read_bytes()))
    batch, names, broken = read(path)
    assert broken == []
    assert batch["arbitration_id"].tolist() == [0x123, 0x1ABCDE00, 5]
    assert [row["data"][: row["length"]].tobytes() for row in batch] == [b"ab", b"12345678", b""]
    assert np.diff(batch["timestamp_ns"]).tolist() == [250_000_000, 250_000_000]
    assert batch["flags"].tolist() == [0, EXTENDED, 0]
    assert len(names) == 1


def test_compressed_sqlite_is_unpacked_beside(tmp_path) -> None:
    plain = tmp_path / "a.db"
    with can.SqliteWriter(plain) as writer:
        for message in MESSAGES:
            writer(message)
    packed = tmp_path / "b.db.zst"
    packed.write_bytes(zstandard.ZstdCompressor().compress(plain.read_bytes()))
    assert np.array_equal(content(read(packed)[0]), content(read(plain)[0]))


def test_blf_that_is_cut_off_gives_what_is_there(tmp_path) -> None:
    path = tmp_path / "a.blf"
    rng = np.random.default_rng(6)
    with can.BLFWriter(path) as writer:
        for number in range(12_000):
            writer(can.Message(timestamp=10 + number / 1000, arbitration_id=1, data=rng.bytes(8)))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    batch, _, broken = read(path)
    assert 0 < len(batch) < 12_000
    assert len(broken) == 1
    assert f"after frame {len(batch)}" in broken[0][0]
    with pytest.raises(LogError, match=r"a\.blf: after frame"):
        read(path, strict=True)


def test_text_reader_goes_on_behind_a_broken_line(tmp_path) -> None:
    path = tmp_path / "a.asc"
    lines = [f"   {n}.000000 1  123             Rx   d 2 0{n} 02\n" for n in range(5)]
    lines[2] = "   2.000000 1  123             Rx   d 2 0X 02\n"
    path.write_text(
        "date Sat Sep 30 15:06:13.191 2017\nbase hex  timestamps absolute\n" + "".join(lines)
    )
    batch, names, broken = read(path)
    assert batch["data"][:, 0].tolist() == [0, 1, 3, 4]
    assert [where for where, _ in broken] == [f"{path}:5"]
    assert names == ("can0",)
    with pytest.raises(LogError, match=r"a\.asc:5"):
        read(path, strict=True)


def test_asc_that_counts_channels_from_0_begins_at_can0(tmp_path) -> None:
    path = tmp_path / "a.asc"
    path.write_text(
        "date Thu, 09 Nov 2023 20:21:36 GMT\nbase hex  timestamps absolute\n"
        "   0.110420 0  594\tRx   d 2 34 21 \n   0.120420 1  595\tRx   d 2 34 21 \n"
    )
    assert read(path)[1] == ("can0", "can1")


def test_mf4_without_asammdf_names_the_extra(tmp_path, monkeypatch) -> None:
    path = tmp_path / "a.mf4"
    path.write_bytes(b"MDF     4.10    " + bytes(100))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(LogError, match=r"inland\[mf4\]"):
        read(path)


@pytest.mark.parametrize(
    ("text", "name"),
    [(b"hello", "a.txt"), (b"", "a.bin"), (b"\0\1\2\3", "a.log"), (b'VERSION ""\n', "a.dbc")],
)
def test_what_is_no_log_is_refused_with_what_was_expected(tmp_path, text, name) -> None:
    path = tmp_path / name
    path.write_bytes(text)
    with pytest.raises(LogError, match="candump") as caught:
        read(path)
    assert str(path) in str(caught.value)
    with pytest.raises(LogError, match="cannot open"):
        read(tmp_path / "missing.log")
    with pytest.raises(LogError, match="cannot open"):
        read(tmp_path)


def test_empty_log_has_no_frames(tmp_path) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(b"\n")
    assert len(read(path)[0]) == 0


@given(st.binary(max_size=200))
@settings(max_examples=60, deadline=None)
def test_detection_takes_anything(head) -> None:
    assert detect(head, "x.bin") in (
        None,
        *DIALECTS,
        "candump",
        "asc",
        "trc",
        "blf",
        "mf4",
        "sqlite",
    )


def test_progress_tells_the_bytes_of_the_file(tmp_path) -> None:
    path = tmp_path / "a.log.gz"
    path.write_bytes(gzip.compress(LINE.encode() * 5000))
    seen: list[int] = []
    list(read_log(path, ChannelTable(), on_broken=print, progress=seen.append))
    assert sum(seen) == path.stat().st_size


# -- real logs -----------------------------------------------------------------------------------


read_once = functools.cache(read)  # real logs are read by several tests


def manifest() -> list[tuple[Path, int]]:
    if not LOGS.is_dir():
        return []
    rows = [line.split("\t") for line in (DATA / "MANIFEST.tsv").read_text().splitlines()[1:]]
    return [
        (DATA / row[0], int(row[4] or 0))
        for row in rows
        if row[0].startswith("can_logs/") and (DATA / row[0]).is_file()
    ]


NO_LOG = (".dbc", ".md", ".json", "LICENSE", ".gitignore", "truckdevil-forcompare.txt")
FILES = [(path, count) for path, count in manifest() if not path.name.endswith(NO_LOG)]
MF4 = [item for item in FILES if item[0].suffix.lower() == ".mf4"]
SMALL = [item for item in FILES if item[0].suffix.lower() != ".mf4"]


@real
def test_every_real_log_has_the_frames_of_the_manifest() -> None:
    without = {
        "test_mfr_spec.log": 1,
        "test_priority.log": 3,
        "test_propa2.log": 1,
        "test_unknown_real.log": 1,
        "CarBusAnalyzer.trc": 55,
        "GenericID_Log.csv": 12974,
        "MicrochipLog.log": 12974,
    }  # where the manifest's reader failed
    for path, count in SMALL:
        batch, _, broken = read_once(path)
        assert len(batch) == without.get(path.name, count), path.name
        assert broken == [], path.name


def with_asammdf() -> bool:
    return importlib.util.find_spec("asammdf") is not None


@real
@pytest.mark.slow
@pytest.mark.skipif(not with_asammdf(), reason="asammdf is not installed")
def test_every_real_mf4_has_the_frames_of_the_manifest() -> None:
    for path, count in MF4:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pandas and asammdf
            batch, names, broken = read(path)
        assert (len(batch), broken) == (count, []), path.name
        assert names


@real
def test_files_that_are_no_logs_are_refused() -> None:
    for path, _ in manifest():
        if path.name.endswith(NO_LOG):
            with pytest.raises(LogError, match="no CAN log"):
                read(path)


def expected_by_python_can(path: Path) -> list[tuple] | None:
    """Rows as python-can reads them, or None where it cannot."""
    rows = []
    try:
        with can.LogReader(path) as reader:
            for message in reader:
                data = b"" if message.is_remote_frame else bytes(message.data)
                rows.append(
                    (
                        message.timestamp,
                        message.arbitration_id,
                        bool(message.is_extended_id) and not message.is_error_frame,
                        bool(message.is_remote_frame),
                        bool(message.is_error_frame),
                        bool(message.is_fd),
                        message.dlc if message.is_remote_frame else len(data),
                        data,
                    )
                )
    except (ValueError, can.CanError, UnicodeDecodeError, IndexError):
        return None
    return rows


@real
@pytest.mark.slow
def test_every_frame_is_what_python_can_reads() -> None:
    compared = 0
    for path, _ in SMALL:
        wanted = expected_by_python_can(path)
        if not wanted:
            continue
        batch, _, _ = read(path)
        got = [
            (
                int(row["timestamp_ns"]) / 1e9,
                int(row["arbitration_id"]),
                bool(row["flags"] & EXTENDED),
                bool(row["flags"] & REMOTE),
                bool(row["flags"] & ERROR),
                bool(row["flags"] & FD),
                int(row["length"]),
                row["data"][: row["length"]].tobytes() if not row["flags"] & REMOTE else b"",
            )
            for row in batch
        ]
        assert [row[1:] for row in got] == [row[1:] for row in wanted], path.name
        times = np.array([row[0] for row in got]) - np.array([row[0] for row in wanted])
        assert np.abs(times).max() < 1e-6, path.name
        compared += 1
    assert compared >= 35


@real
def test_five_dialects_of_one_drive_give_the_same_frames() -> None:
    names = ["GVRET_Log.csv", "CRTD_Log.txt", "BusMasterLog.log", "MicrochipLog.log"]
    names += ["candump.log", "GenericID_Log.csv"]
    batches = {name: read_once(SAMPLES / name)[0] for name in names}
    first = batches["GVRET_Log.csv"]
    exact = first["timestamp_ns"] - first["timestamp_ns"][0]
    for name, batch in batches.items():
        assert np.array_equal(content(batch), content(first)), name
        since = batch["timestamp_ns"] - batch["timestamp_ns"][0]
        if name == "candump.log":  # whole seconds
            assert np.abs(since - exact).max() < 1_000_000_000
        elif name != "GenericID_Log.csv":  # no times at all
            assert np.array_equal(since // 1_000_000, exact // 1_000_000), name
