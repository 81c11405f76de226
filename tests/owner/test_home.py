"""Open and report from end to end: a drive, its bundle, the owner's key, the commands."""

from __future__ import annotations

import contextlib
import csv
import datetime as dt
import io
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import NamedTuple

import can
import cantools
import numpy as np
import pytest
from click.testing import CliRunner, Result

from agent.capture.logs import read_log
from agent.cli.main import inland
from agent.draft import draft_of
from agent.errors import BusyError, ConfigError, DiskError, InlandError, OwnerError
from agent.evidence.selection import BEGIN_NS, FOREVER_NS
from agent.frames import ChannelTable, FrameBatch, concatenate
from agent.owner import at_home, keyfile, write_out
from agent.owner.keyfile import OwnerKey
from agent.owner.page.file import page_of
from agent.owner.zone import zone_of
from agent.pb import sealed_pb2
from tests.evidence import making
from tests.evidence.making import forge
from tests.owner.drive import bundle, hard_brake
from tests.owner.page.parsed import Parsed

SHARED = ('recipients = "region"', 'recipients = "shared"')
PHRASE = "four words of nothing"
KEY = OwnerKey(b"7" * 32, "Li Wei")
DBC = Path(__file__).resolve().parents[2] / "firmware_sim" / "car.dbc"


class Place(NamedTuple):
    folder: Path
    bundle: Path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A drive whose recorder and rules are for the owner and the region, as a bundle."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "car").mkdir()
    _, ledger = hard_brake(folder / "car", SHARED, owner=KEY.private)
    keyfile.save(folder / "owner.key", KEY, PHRASE, np.random.bytes)
    (folder / "phrase").write_text(PHRASE + "\n")
    return Place(folder, bundle(ledger, folder / "car-1.inland"))


def run(made: Place, command: str, *more: str, on: Path | None = None) -> Result:
    words = ["owner", command, str(on or made.bundle), "--key", str(made.folder / "owner.key"),
             "--passphrase-file", str(made.folder / "phrase"), *more]  # fmt: skip
    return CliRunner().invoke(inland, words, standalone_mode=False)


def code(result: Result) -> int:
    """The exit code that `main` gives."""
    if isinstance(result.exception, InlandError):
        return result.exception.exit_code
    if result.exception is not None:
        raise result.exception
    return int(result.return_value or 0)


def frames_in(path: Path) -> FrameBatch:
    def broken(where: str, why: str) -> None:
        raise AssertionError(f"{where}: {why}")

    return concatenate(list(read_log(path, ChannelTable(), strict=True, on_broken=broken)))


def table(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text("utf-8"), newline="")))


@pytest.fixture(scope="module")
def opened(made: Place) -> Path:
    folder = made.folder / "opened"
    result = run(made, "open", "-o", str(folder), "--frames", "candump", "--frames", "blf",
                 "--frames", "gvret", "--tz", "Asia/Shanghai", "--dbc", str(DBC),
                 "--decode", "VehicleSpeed", "--decode", "BrakeStatus.BrakePressure",
                 "--decode", "Gear", "--decode", "WheelSpeedFrontLeft")  # fmt: skip
    assert code(result) == 0, result.output
    return folder


def test_all_files_are_there_and_nobody_else_reads_them(opened: Path):
    assert sorted(path.name for path in opened.iterdir()) == [
        "cameras.jsonl", "decoded.csv", "events.jsonl", "frames.blf", "frames.csv",
        "frames.log", "presence.csv", "signals.csv", "signals.jsonl", "verdict.txt",
    ]  # fmt: skip
    assert opened.stat().st_mode & 0o077 == 0
    assert [path.name for path in opened.iterdir() if path.stat().st_mode & 0o077] == []
    assert (opened / "verdict.txt").read_text().splitlines()[-1] == "intact"


def decoded_by_cantools(log: Path) -> dict[tuple[str, str], float]:
    """Every signal of a candump log: read by python-can, decoded by cantools."""
    database, at = cantools.database.load_file(DBC), {}
    with can.CanutilsLogReader(log) as reader:
        for message in reader:
            with contextlib.suppress(KeyError):  # not in the DBC file
                values = database.decode_message(
                    message.arbitration_id, bytes(message.data), decode_choices=False
                )
                for name, value in values.items():  # type: ignore[union-attr]
                    at[f"{message.timestamp:.6f}", name] = float(value)
    return at


def test_signals_out_of_raw_frames_are_what_cantools_decodes(opened: Path):
    """Of four signals, every sample that cantools finds, and no other."""
    names = {"VehicleSpeed", "BrakePressure", "Gear", "WheelSpeedFrontLeft"}
    rows = table(opened / "decoded.csv")
    found = {(row["unix_s"], row["signal"]): float(row["value"]) for row in rows}
    wanted = {
        key: value
        for key, value in decoded_by_cantools(opened / "frames.log").items()
        if key[1] in names
    }
    assert len(found) == len(rows) > 10_000
    assert found == pytest.approx(wanted)
    assert {row["label"] for row in rows if row["signal"] == "Gear"} == {"D"}


def test_signals_are_what_cantools_decodes_from_the_frames(opened: Path):
    """The candump log, read by python-can and decoded by cantools, says what the CSV says."""
    at = decoded_by_cantools(opened / "frames.log")
    rows = table(opened / "signals.csv")
    compared = [row for row in rows if (row["unix_s"], row["signal"]) in at]
    assert len(compared) == len(rows) > 60
    for row in compared:
        assert float(row["value"]) == pytest.approx(at[row["unix_s"], row["signal"]])
        assert row["local"].endswith("+08:00")
    assert {row["unit"] for row in rows if row["signal"] == "VehicleSpeed"} == {"km/h"}
    lines = (opened / "signals.jsonl").read_text().splitlines()
    assert [json.loads(line)["utc"] for line in lines] == [row["utc"] for row in rows]


def test_the_formats_hold_the_same_frames(opened: Path):
    log = frames_in(opened / "frames.log")
    assert len(log) > 30_000
    for name in ("frames.blf", "frames.csv"):
        other = frames_in(opened / name)
        for column in ("timestamp_ns", "arbitration_id", "flags", "length", "data"):
            assert (other[column] == log[column]).all(), (name, column)


def test_presence_names_every_signal(opened: Path):
    rows = {row["signal"]: row for row in table(opened / "presence.csv")}
    assert set(rows) >= {s.name for m in cantools.database.load_file(DBC).messages
                         for s in m.signals}  # fmt: skip
    speed = rows["VehicleSpeed"]
    assert (speed["state"], speed["unit"]) == ("present", "km/h")
    assert float(speed["rate_hz"]) == pytest.approx(100, rel=0.02)
    assert rows["Latitude"]["state"] == "not recorded"
    assert rows["Latitude"]["why"].startswith("no consent")
    assert rows["BrakePressure"]["named_by"] == "recorder; hard-brake"
    raw_only = rows["WheelSpeedFrontLeft"]
    assert (raw_only["state"], raw_only["named_by"]) == ("present", "")


def test_the_report_tells_the_incident(made: Place):
    for language, title in (("en", "Nothing was altered"), ("zh", "未被改动")):
        path = made.folder / f"page-{language}.html"
        result = run(made, "report", "-o", str(path), "--lang", language, "--tz", "Asia/Shanghai")
        assert code(result) == 0, result.output
        parsed = Parsed(path.read_text("utf-8"))
        assert title in parsed.text
        assert "hard-brake" in parsed.text
        assert len(parsed.all("svg")) == 5
        assert len(set(parsed.ids)) == len(parsed.ids)
        assert path.stat().st_mode & 0o077 == 0


def test_programs_get_json(made: Place):
    result = run(made, "report", "--json", "-o", str(made.folder / "p.html"))
    told = json.loads(result.stdout)
    assert (told["verdict"], told["incidents"], told["closed"]) == ("intact", 1, 0)
    assert told["frames"] > 30_000
    assert told["verified"]["verdict"] == 0


def copy_of(made: Place, folder: Path) -> Path:
    copied = folder / "copy.inland"
    copied.mkdir()
    for path in made.bundle.iterdir():
        (copied / path.name).write_bytes(path.read_bytes())
    return copied


def test_an_altered_bundle_is_opened_and_named(made: Place, tmp_path: Path):
    """One bit of one body: exit 1, the entry is named, the rest is written."""
    copied = copy_of(made, tmp_path)
    [bodies] = copied.glob("*.bodies")
    data = bytearray(bodies.read_bytes())
    data[-1] ^= 1
    bodies.write_bytes(data)
    forge(copied)
    result = run(made, "open", "-o", str(tmp_path / "out"), on=copied)
    assert code(result) == 1
    assert re.search(r"altered: log \w+ entry \d+", result.stderr)
    assert result.stdout.splitlines()[-1] == "the bundle: altered"
    assert len((tmp_path / "out" / "frames.log").read_bytes()) > 10_000
    page = tmp_path / "p.html"
    assert code(run(made, "report", "-o", str(page), on=copied)) == 1
    assert "Something was altered" in Parsed(page.read_text()).text


def test_a_bundle_without_its_region_cannot_be_decided(made: Place, tmp_path: Path):
    """The region's co-signatures are taken out: exit 3."""
    copied = copy_of(made, tmp_path)
    [notes] = copied.glob("*.notes")
    notes.write_text("")
    forge(copied)
    result = run(made, "open", "-o", str(tmp_path / "out"), "--frames", "none", on=copied)
    assert code(result) == 3
    assert "missing:" in result.stderr


def test_one_lane_has_each_frame_once(made: Place, tmp_path: Path):
    """What rule and recorder both keep is on both lanes; presence is told of all of them."""
    counts = {}
    for lane in ("routine", "recorder", ""):
        more = ("--lane", lane) if lane else ()
        result = run(made, "open", "-o", str(tmp_path / (lane or "all")), "--json", *more)
        assert code(result) == 0, result.output
        counts[lane] = json.loads(result.stdout.splitlines()[-1])
    assert counts["routine"]["frames"] > 0
    assert counts["recorder"]["frames"] > counts["routine"]["frames"]
    for what in ("frames", "samples"):
        assert counts[""][what] == sum(counts[lane][what] for lane in ("routine", "recorder"))
    for lane in ("routine", "recorder"):
        assert len(frames_in(tmp_path / lane / "frames.log")) == counts[lane]["frames"]
        there = (tmp_path / lane / "presence.csv").read_text()
        assert there == (tmp_path / "all" / "presence.csv").read_text()


def test_presence_counts_a_frame_once_that_is_on_two_lanes(
    opened: Path, made: Place, tmp_path: Path
):
    """The battery's frames have stamps of other precision on each; they come every 100 ms."""
    counts = {}
    for lane in ("routine", "recorder"):
        result = run(made, "open", "-o", str(tmp_path / lane), "--lane", lane)
        assert code(result) == 0, result.output
        counts[lane] = int(
            (frames_in(tmp_path / lane / "frames.log")["arbitration_id"] == 464).sum()
        )
    assert min(counts.values()) > 100
    [row] = [one for one in table(opened / "presence.csv") if one["signal"] == "BatterySoc"]
    assert int(row["samples"]) == max(counts.values())
    assert float(row["rate_hz"]) == pytest.approx(10, rel=0.05)


def test_another_key_opens_nothing_and_says_so(made: Place, tmp_path: Path):
    stranger = tmp_path / "stranger.key"
    keyfile.save(stranger, OwnerKey(b"8" * 32, "x"), PHRASE, np.random.bytes)
    words = ["owner", "open", str(made.bundle), "--key", str(stranger), "--passphrase-file",
             str(made.folder / "phrase"), "-o", str(tmp_path / "out")]  # fmt: skip
    result = CliRunner().invoke(inland, words, standalone_mode=False)
    assert code(result) == 0
    assert "sealed to others" in result.stdout
    assert "nothing in it is sealed to this key: it opens nothing here" in result.stdout
    assert not (tmp_path / "out" / "frames.log").exists()
    rows = table(tmp_path / "out" / "presence.csv")
    assert {row["state"] for row in rows} == {"sealed to others", "not recorded"}


def opened_by(key: bytes, folder: Path) -> at_home.Home:
    return at_home.bring_home(folder, [key], from_ns=BEGIN_NS, to_ns=FOREVER_NS)


def test_each_key_opens_what_is_sealed_to_it(tmp_path: Path):
    """Owner alone, either, the region, both together, and an owner after a sale."""
    car = making.new_car()
    for count, recipients in enumerate(
        (sealed_pb2.OWNER, sealed_pb2.SHARED, sealed_pb2.REGION, sealed_pb2.BOTH), 1
    ):
        making.drive(car, count, recipients)
    next_owner = b"N" * 96
    car.owner = making.public(next_owner)
    making.drive(car, 5, sealed_pb2.OWNER)
    folder = making.make(tmp_path / "a.inland", car)
    first, second = opened_by(making.OWNER, folder), opened_by(next_owner, folder)
    assert (first.opened.segments, len(first.closed), first.verdict) == (1 + 2, 3 + 4 + 5, 0)
    assert (second.opened.segments, len(second.closed), second.verdict) == (5, 10, 0)
    both = at_home.bring_home(
        folder, [making.OWNER, making.RECIPIENT], from_ns=BEGIN_NS, to_ns=FOREVER_NS
    )
    assert (both.opened.segments, len(both.closed)) == (10, 5)
    told = at_home.story(first, made_ns=0).told
    shelves = {key: (one.here, one.closed) for key, one in told.shelves.items()}
    assert shelves == {
        ("owner", "routine"): (6, 5), ("shared", "routine"): (2, 0), ("region", "routine"): (3, 3),
        ("both", "routine"): (4, 4),
    }  # fmt: skip


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    car = making.drive(making.drive(making.new_car(bytes(16)), 4), 1, sealed_pb2.REGION)
    return making.make(tmp_path_factory.mktemp("small") / "a.inland", car)


def mutated(data: bytes, rng: Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    return rng.choice([
        data[:at], data[:at] + rng.randbytes(3) + data[at:], data[:at] + data[at + 9 :],
        data[: at - 1] + bytes([rng.randrange(256)]) + data[at:],
        b"", b"[]", b"null", b"{}", b'{"logs": 1}', b'{"logs": {"a": 1}}', b"[" * 100_000,
    ])  # fmt: skip


@pytest.mark.parametrize("seed", range(60))
def test_a_hostile_bundle_ends_in_a_page_or_in_one_line(small: Path, tmp_path: Path, seed: int):
    """Whatever is in a bundle: what can be read is told, or one error says what cannot."""
    rng = Random(seed)
    copied = tmp_path / "b.inland"
    shutil.copytree(small, copied)
    path = rng.choice(sorted(path for path in copied.iterdir() if path.suffix != ".py"))
    path.write_bytes(mutated(path.read_bytes(), rng))
    try:
        home = opened_by(making.OWNER, copied)
    except InlandError as error:
        said = str(error)
    else:
        said = ""
        Parsed(page_of(at_home.story(home, made_ns=0), language="en", zone=dt.UTC))
    assert "\n" not in said


def test_a_wrong_passphrase_is_one_line_and_writes_nothing(made: Place, tmp_path: Path):
    (tmp_path / "phrase").write_text("some other words")
    phrase = ("--passphrase-file", str(tmp_path / "phrase"))
    result = run(made, "open", "-o", str(tmp_path / "out"), *phrase)
    assert isinstance(result.exception, OwnerError)
    assert "\n" not in str(result.exception)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("more", "where"),
    [
        (("--tz", "Mars/Olympus"), "--tz"),
        (("--from", "yesterday"), "--from"),
        (("--from", "2026-12-02", "--to", "2026-12-01"), "--to"),
        (("--key", "nowhere.key"), "nowhere.key"),
        (("--decode", "VehicleSped"), "--decode"),
    ],
)
def test_wrong_use_is_said(made: Place, tmp_path: Path, more: tuple[str, str], where: str):
    result = run(made, "open", "-o", str(tmp_path / "out"), *more)
    assert isinstance(result.exception, ConfigError)
    assert result.exception.where == where
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_there_stays(made: Place, tmp_path: Path):
    (tmp_path / "mine").write_text("precious")
    result = run(made, "open", "-o", str(tmp_path))
    assert (code(result), (tmp_path / "mine").read_text()) == (2, "precious")


def test_a_full_disk_leaves_no_half_folder(
    made: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def full(*_: object) -> Iterator[bytes]:
        yield b"half"
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(write_out, "json_lines", full)
    result = run(made, "open", "-o", str(tmp_path / "out"))
    assert isinstance(result.exception, DiskError)  # another time it may have room: 75
    assert "No space left" in str(result.exception)
    assert list(tmp_path.iterdir()) == []


def test_two_at_once_do_not_write_into_one_folder(made: Place, tmp_path: Path):
    """The first goes on; the second says so, and touches nothing."""
    with draft_of(tmp_path / "out") as first:
        (first / "mine").write_text("1")
        result = run(made, "open", "-o", str(tmp_path / "out"))
        assert isinstance(result.exception, BusyError)
        assert [one.name for one in first.iterdir()] == ["mine"]


def test_moments_bound_what_is_opened(made: Place, tmp_path: Path, opened: Path):
    stamps = frames_in(opened / "frames.log")["timestamp_ns"]
    low, high = (int(stamps[0]) + s * 10**9 for s in (10, 12))
    moments = ("--from", f"{low / 1e9:.6f}", "--to", f"{high / 1e9:.6f}")
    result = run(made, "open", "-o", str(tmp_path / "out"), *moments)
    assert code(result) == 0, result.output
    part = frames_in(tmp_path / "out" / "frames.log")["timestamp_ns"]
    assert len(part) == np.count_nonzero((stamps >= low) & (stamps <= high)) > 1000


def test_the_machine_s_zone_is_found(tmp_path: Path):
    """A link into the zone database gives the zone its name; without one it is UTC."""
    from datetime import UTC

    assert str(zone_of("Europe/Berlin")) == "Europe/Berlin"
    assert zone_of(None, tmp_path / "none") is UTC
    (tmp_path / "broken").write_bytes(b"no zone")
    assert zone_of(None, tmp_path / "broken") is UTC
