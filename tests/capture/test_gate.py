"""The gate file: whole at every moment, good for three seconds, closed in every doubt."""

from __future__ import annotations

import json
import logging
import os
import stat
from pathlib import Path

import pytest

from agent.capture.gate import GateFile, GateView, read_gate
from agent.policy.camera import Decision

S = 10**9
OPEN = Decision(open=True, reason="")
ZONE = Decision(open=False, reason="zone", zone_class="military")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "camera-gate.json"


def test_the_file_says_what_was_decided_and_until_when(path: Path) -> None:
    gate = GateFile(path)
    assert gate.write(ZONE, 100 * S)
    assert gate.write(OPEN, 101 * S)
    assert json.loads(path.read_text()) == {
        "gate": "open",
        "reason": "",
        "decided_boottime_ns": 101 * S,
        "valid_until_boottime_ns": 104 * S,
        "sequence": 2,
    }
    assert read_gate(path, 101 * S) == GateView(open=True, reason="")


def test_it_is_written_at_a_decision_and_once_a_second(path: Path) -> None:
    gate = GateFile(path)
    for tenth in range(25):
        gate.write(OPEN, 100 * S + tenth * S // 10)
    values = json.loads(path.read_text())
    assert (values["sequence"], values["decided_boottime_ns"]) == (3, 100 * S)
    gate.write(ZONE, 102 * S + S // 2)
    assert read_gate(path, 103 * S) == GateView(open=False, reason="zone")


def test_another_class_of_zone_is_not_another_decision_to_a_reader(path: Path) -> None:
    """Else the moment of the change would say that there are two."""
    gate = GateFile(path)
    gate.write(ZONE, 100 * S)
    gate.write(Decision(open=False, reason="zone", zone_class="port"), 100 * S + 1)
    assert json.loads(path.read_text())["sequence"] == 1


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_everybody_may_read_it_and_only_the_agent_write(path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        GateFile(path).write(OPEN, S)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_a_reader_never_sees_half_a_file(path: Path) -> None:
    """A new file each time: who has the old one open goes on reading the old one."""
    gate = GateFile(path)
    gate.write(OPEN, S)
    with path.open() as old:
        gate.write(ZONE, 2 * S)
        assert json.load(old)["gate"] == "open"
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_it_is_closed_at_the_end_of_a_run(path: Path) -> None:
    gate = GateFile(path)
    gate.write(OPEN, 100 * S)
    gate.close(100 * S + 1)
    assert read_gate(path, 100 * S + 1) == GateView(open=False, reason="policy")


WHOLE = {"gate": "open", "reason": "", "valid_until_boottime_ns": 12 * S}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (json.dumps(WHOLE | {"valid_until_boottime_ns": 10 * S - 1}), "stale"),
        (json.dumps(WHOLE | {"valid_until_boottime_ns": 13 * S + 1}), "stale"),  # another boot
        (json.dumps(WHOLE | {"valid_until_boottime_ns": 12.0 * S}), "unreadable"),
        (json.dumps(WHOLE | {"valid_until_boottime_ns": True}), "unreadable"),
        (json.dumps(WHOLE | {"gate": "ajar"}), "unreadable"),
        (json.dumps(WHOLE | {"gate": ["open"]}), "unreadable"),
        (json.dumps(WHOLE | {"reason": None}), "unreadable"),
        (json.dumps([WHOLE]), "unreadable"),
        (json.dumps(WHOLE)[:-1], "unreadable"),
        (json.dumps(WHOLE) + " " * 5000, "unreadable"),
        ("", "unreadable"),
        ("\ufffe\x00", "unreadable"),
        ("[" * 4000, "unreadable"),
        ("NaN", "unreadable"),
    ],
)
def test_whatever_is_not_a_fresh_file_of_ours_means_closed(
    path: Path, content: str, reason: str
) -> None:
    path.write_text(json.dumps(WHOLE))
    assert read_gate(path, 10 * S).open
    path.write_text(content)
    assert read_gate(path, 10 * S) == GateView(open=False, reason=reason)


def test_a_missing_file_and_a_folder_mean_closed(path: Path) -> None:
    assert read_gate(path, S) == GateView(open=False, reason="missing")
    path.mkdir()
    assert read_gate(path, S) == GateView(open=False, reason="unreadable")


def test_a_file_that_cannot_be_written_is_taken_away(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An open gate does not stay open because the closing could not be written; said once."""
    gate = GateFile(path)
    gate.write(OPEN, S)
    (path.parent / ".camera-gate.json.new").mkdir()  # nothing can be written under this name
    with caplog.at_level(logging.WARNING):
        results = [gate.write(ZONE, 2 * S + at) for at in range(3)]
    assert results == [False] * 3
    assert read_gate(path, 2 * S) == GateView(open=False, reason="missing")
    assert [record.message.split(":")[0] for record in caplog.records] == ["camera gate"]
    (path.parent / ".camera-gate.json.new").rmdir()
    assert gate.write(ZONE, 3 * S)
    assert read_gate(path, 3 * S).reason == "zone"


def test_a_link_under_the_name_of_the_draft_is_not_followed(path: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (path.parent / ".camera-gate.json.new").symlink_to(victim)
    assert not GateFile(path).write(OPEN, S)
    assert victim.read_text() == "mine"
