"""Counts of events by rule: in a file of the run folder, for one boot."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent.capture.limits import MAX_FILE_BYTES, NAME, Limits
from agent.pb.moment_pb2 import Moment
from tests.capture import driving

BOOT, S = bytes(16), 10**9
HOUR = driving.event(id="hour", period_ns=3600 * S)
DAY = driving.event(id="day", period_ns=86_400 * S)
NOON = 20_000 * 86_400 * S + 12 * 3600 * S
UP = 60 * S  # CLOCK_BOOTTIME at noon


def at(unix_ns: int, boottime_ns: int = UP) -> Moment:
    return Moment(unix_ns=unix_ns, boottime_ns=boottime_ns)


def test_periods_are_those_of_the_rule(tmp_path: Path):
    limits = Limits(tmp_path / NAME, BOOT)
    for rule in (HOUR, DAY, DAY):
        limits.add(rule, at(NOON))
    assert [limits.so_far(one, NOON + 3599 * S) for one in (HOUR, DAY)] == [1, 2]
    assert [limits.so_far(one, NOON + 3600 * S) for one in (HOUR, DAY)] == [0, 2]
    assert [limits.so_far(one, NOON + 12 * 3600 * S) for one in (HOUR, DAY)] == [0, 0]
    limits.follow([HOUR])
    assert [limits.so_far(one, NOON) for one in (HOUR, DAY)] == [1, 0]


def test_a_clock_set_to_and_fro_begins_no_period_anew():
    limits = Limits(None, BOOT)
    limits.add(DAY, at(NOON))
    limits.add(DAY, at(0))  # 1970, for a while
    limits.add(DAY, at(NOON))
    assert limits.so_far(DAY, NOON) == 2
    limits.add(DAY, at(NOON + 86_400 * S))
    assert limits.so_far(DAY, 0) == 0  # only two are remembered


def test_counts_outlive_the_agent_and_not_the_boot(tmp_path: Path):
    Limits(tmp_path / NAME, BOOT).add(DAY, at(NOON))
    again = Limits(tmp_path / NAME, BOOT)
    later = at(NOON, UP + 5 * S)
    assert (again.so_far(DAY, NOON), again.since_last_ns(later)) == (1, 5 * S)
    other = Limits(tmp_path / NAME, b"x" * 16)
    assert (other.so_far(DAY, NOON), other.since_last_ns(later)) == (0, 0)
    assert (tmp_path / NAME).stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


def test_the_largest_policy_fits(tmp_path: Path):
    limits = Limits(tmp_path / NAME, BOOT)
    for number in range(64):
        for day in (0, 1):
            rule = driving.event(id=f"{'x' * 60}{number}", period_ns=3600 * S)
            limits.add(rule, at(NOON + day * 86_400 * S))
    assert (tmp_path / NAME).stat().st_size < MAX_FILE_BYTES
    assert b"xxx" not in (tmp_path / NAME).read_bytes()
    assert Limits(tmp_path / NAME, BOOT).so_far(rule, NOON) == 1


def damaged() -> list[bytes]:
    good = {"boot": BOOT.hex(), "last": 1, "of": {"a": [[1, 2]]}}
    return [
        b"", b"\xff", b"[]", b"{}", b"[" * 100_000, b"7",
        *(json.dumps(good | wrong).encode() for wrong in (
            {"of": []}, {"of": {"a": 1}}, {"of": {"a": [1]}}, {"of": {"a": [["x", 1]]}},
            {"last": None}, {"last": 1e400},
        )),
    ]  # fmt: skip


@pytest.mark.parametrize("number", range(len(damaged())))
def test_a_damaged_file_begins_anew(tmp_path: Path, number: int, caplog: pytest.LogCaptureFixture):
    (tmp_path / NAME).write_bytes(damaged()[number])
    limits = Limits(tmp_path / NAME, BOOT)
    assert (limits.so_far(DAY, NOON), limits.since_last_ns(at(NOON))) == (0, 0)
    assert "damaged" in caplog.text
    limits.add(DAY, at(NOON))
    assert Limits(tmp_path / NAME, BOOT).so_far(DAY, NOON) == 1


def test_without_a_place_for_the_file_counts_go_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    limits = Limits(tmp_path / "none" / NAME, BOOT)
    for _ in range(3):
        limits.add(DAY, at(NOON))
    assert limits.so_far(DAY, NOON) == 3
    assert caplog.text.count("cannot write") == 1
    (tmp_path / "none").mkdir()
    limits.add(DAY, at(NOON))
    assert Limits(tmp_path / "none" / NAME, BOOT).so_far(DAY, NOON) == 4


def test_a_name_that_leads_elsewhere_is_not_followed(tmp_path: Path):
    victim = tmp_path / "victim"
    victim.write_bytes(b"as it was")
    (tmp_path / f".{NAME}.new").symlink_to(victim)
    Limits(tmp_path / NAME, BOOT).add(DAY, at(NOON))
    assert victim.read_bytes() == b"as it was"
