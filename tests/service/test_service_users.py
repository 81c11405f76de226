"""Who may ask what, as the boot service; and what `inland doctor` says of it."""

from __future__ import annotations

import os
import pwd
from pathlib import Path
from types import SimpleNamespace

import pytest

from agent.cli import doctor
from agent.service import boot, capture, machine, premises
from agent.service.names import CAPTURE_UNIT, UPLINK, UPLINK_UNIT
from tests.service.sites import SITE


def test_the_services_uplink_is_another_user_and_may_ask(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pwd, "getpwnam", lambda name: SimpleNamespace(pw_uid={UPLINK: 4711}[name]))
    assert capture._askers(service=True) == {0, os.geteuid(), 4711}
    assert capture._askers(service=False) == {0, os.geteuid()}


def test_without_that_user_nobody_else_may_ask(monkeypatch: pytest.MonkeyPatch):
    def missing(name: str) -> None:
        raise KeyError(name)

    monkeypatch.setattr(pwd, "getpwnam", missing)
    assert capture._askers(service=True) == {0, os.geteuid()}


class Doctor:
    """A machine with the boot service."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.states = {CAPTURE_UNIT: "active", UPLINK_UNIT: "active"}
        self.mistakes: list[Exception] = []
        self.stale: list[Path] = []
        monkeypatch.setattr(boot, "is_installed", lambda: True)
        monkeypatch.setattr(boot, "stale_files", lambda site: self.stale)
        monkeypatch.setattr(machine.Machine, "state", lambda _, unit: self.states[unit])
        monkeypatch.setattr(premises, "survey", lambda wish: (
            None if self.mistakes else SITE, self.mistakes))  # fmt: skip
        monkeypatch.setattr(doctor.os, "geteuid", lambda: 0)

    def says(self) -> list[tuple[str, str]]:
        return [(one.verdict, one.text) for one in doctor._service(Path("/etc/inland/agent.toml"))]


@pytest.fixture
def visited(monkeypatch: pytest.MonkeyPatch) -> Doctor:
    return Doctor(monkeypatch)


def test_doctor_is_content_with_a_service_that_runs(visited: Doctor):
    assert [verdict for verdict, _ in visited.says()] == ["ok"]


def test_doctor_names_a_half_that_does_not_run(visited: Doctor):
    visited.states[UPLINK_UNIT] = "failed"
    assert visited.says() == [
        ("fail", "inland-uplink.service is failed; journalctl -u inland-uplink.service")
    ]


def test_doctor_sees_units_that_follow_from_another_configuration(visited: Doctor):
    visited.stale = [Path("/etc/systemd/system/inland-uplink.service")]
    verdict, text = visited.says()[0]
    assert verdict == "warn"
    assert "inland-uplink.service is older than what it follows from; `inland service" in text


def test_doctor_names_what_an_installation_would_refuse(visited: Doctor):
    visited.mistakes = [ValueError("the key is gone")]
    assert ("fail", "the key is gone") in visited.says()


def test_doctor_does_not_speak_of_a_service_that_is_not_there(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(boot, "is_installed", lambda: False)
    assert list(doctor._service(Path("/etc/inland/agent.toml"))) == []
