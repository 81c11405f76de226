"""Signals as CSV and JSON lines: both say the same, in UTC and in local time."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import math
import struct
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.evidence.text import physical
from agent.frames import SIGNAL, SignalBatch
from agent.owner import signal_files
from agent.owner.signal_files import CSV_HEADER, csv_rows, json_lines
from agent.pb import policy_pb2

SHANGHAI = ZoneInfo("Asia/Shanghai")
BERLIN = ZoneInfo("Europe/Berlin")
NAMES = ("can0", 'odd "bus", 2')
DICTIONARY = policy_pb2.Dictionary(
    signal=[
        policy_pb2.Signal(name="Speed", unit="km/h", factor=0.5, kind=policy_pb2.Signal.SIGNED),
        policy_pb2.Signal(name="Gear", factor=1, choices={2: "D, drive"}),
        policy_pb2.Signal(name='=HYPER("x")\n', unit="°", factor=1, kind=policy_pb2.Signal.FLOAT64),
        policy_pb2.Signal(name="Count", factor=1),
    ]
)
AT_NS = 1_795_000_000_123_456_000


def batch(*rows: tuple[int, int, int, int]) -> SignalBatch:
    found = np.zeros(len(rows), SIGNAL)
    for at, (stamp, signal, channel, raw) in enumerate(rows):
        found[at]["timestamp_ns"], found[at]["signal"] = stamp, signal
        found[at]["channel"], found[at]["raw"] = channel, raw
    return found


def as_csv(rows: SignalBatch, zone: dt.tzinfo) -> list[dict[str, str]]:
    text = (CSV_HEADER + b"".join(csv_rows(rows, DICTIONARY, NAMES, zone))).decode()
    return list(csv.DictReader(io.StringIO(text, newline="")))


def as_json(rows: SignalBatch, zone: dt.tzinfo) -> list[dict[str, object]]:
    text = b"".join(json_lines(rows, DICTIONARY, NAMES, zone)).decode()
    return [json.loads(line) for line in text.splitlines()]


def test_a_row_says_when_in_utc_and_in_local_time():
    [row] = as_csv(batch((AT_NS, 0, 0, 7)), SHANGHAI)
    assert row == {
        "utc": "2026-11-18T11:06:40.123456Z", "local": "2026-11-18T19:06:40.123456+08:00",
        "unix_s": "1795000000.123456", "signal": "Speed", "value": "3.5", "unit": "km/h",
        "label": "", "bus": "can0",
    }  # fmt: skip


def test_the_hour_that_comes_twice_is_told_apart_by_its_offset():
    """At the end of summer time 02:30 comes twice."""
    first = dt.datetime(2026, 10, 25, 0, 30, tzinfo=dt.UTC)
    stamps = [int((first + dt.timedelta(hours=hour)).timestamp()) * 10**9 for hour in (0, 1)]
    rows = as_csv(batch(*((stamp, 0, 0, 0) for stamp in stamps)), BERLIN)
    assert [row["local"] for row in rows] == [
        "2026-10-25T02:30:00.000000+02:00", "2026-10-25T02:30:00.000000+01:00",
    ]  # fmt: skip


def test_names_labels_and_buses_can_hold_anything():
    rows = batch((AT_NS, 1, 1, 2), (AT_NS, 2, 0, 0), (AT_NS, 3, 0, -1))
    table, lines = as_csv(rows, SHANGHAI), as_json(rows, SHANGHAI)
    assert [row["signal"] for row in table] == ["Gear", '=HYPER("x")\n', "Count"]
    assert (table[0]["label"], table[0]["bus"]) == ("D, drive", NAMES[1])
    assert (lines[0]["label"], lines[0]["bus"]) == ("D, drive", NAMES[1])
    assert (lines[1]["signal"], lines[1]["unit"]) == ('=HYPER("x")\n', "°")
    assert lines[2]["value"] == 2**64 - 1  # whole, not rounded to a double


def test_what_json_has_no_number_for_is_a_string():
    bits = struct.unpack("<q", struct.pack("<d", math.nan))[0]
    [line] = as_json(batch((AT_NS, 2, 0, bits)), SHANGHAI)
    assert line["value"] == "nan"


ROWS = st.lists(
    st.tuples(
        st.integers(-(10**17), 4 * 10**18).map(lambda ns: ns // 1000 * 1000),
        st.integers(0, 3), st.integers(0, 1), st.integers(-(2**63), 2**63 - 1),
    ),
    max_size=20,
)  # fmt: skip


def agree(rows: list[tuple[int, int, int, int]], zone: dt.tzinfo) -> None:
    found = batch(*rows)
    table, lines = as_csv(found, zone), as_json(found, zone)
    assert len(table) == len(lines) == len(rows)
    for cell, line, (stamp, signal, channel, raw) in zip(table, lines, rows, strict=True):
        at = dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=stamp // 1000)
        assert dt.datetime.fromisoformat(cell["utc"]) == at
        assert dt.datetime.fromisoformat(cell["local"]) == at
        assert cell["local"] == at.astimezone(zone).isoformat(timespec="microseconds")
        assert round(float(cell["unix_s"]) * 1e6) == pytest.approx(stamp // 1000, abs=512)
        assert cell["value"] == physical(DICTIONARY.signal[signal], raw)
        assert str(line["value"]) in (cell["value"], repr(float(cell["value"])))
        assert line["bus"] == cell["bus"] == NAMES[channel]
        assert (line["utc"], line["local"]) == (cell["utc"], cell["local"])


@settings(max_examples=80, deadline=None)
@given(rows=ROWS, zone=st.sampled_from([SHANGHAI, BERLIN, ZoneInfo("America/St_Johns"), dt.UTC]))
def test_csv_and_json_agree_with_a_slow_second_hand(
    rows: list[tuple[int, int, int, int]], zone: dt.tzinfo
):
    agree([row for row in rows if row[0] >= 0 or zone is dt.UTC], zone)


def test_an_offset_of_the_first_row_for_all_is_found(monkeypatch: pytest.MonkeyPatch):
    """The planted bug: one offset a chunk is wrong on two days a year."""
    summer = int(dt.datetime(2026, 7, 1, tzinfo=dt.UTC).timestamp()) * 10**9
    rows = [(summer, 0, 0, 1), (AT_NS, 0, 0, 1)]
    agree(rows, BERLIN)
    right = signal_files.local_offsets

    def first(stamps: np.ndarray, zone: dt.tzinfo) -> object:  # type: ignore[type-arg]
        return right(np.full_like(stamps, stamps[0]), zone)

    monkeypatch.setattr(signal_files, "local_offsets", first)
    with pytest.raises(AssertionError):
        agree(rows, BERLIN)
