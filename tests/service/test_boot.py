"""Putting the boot service in, bringing it up to date, and taking it out."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from agent.errors import ConfigError, ServiceError
from agent.service import boot, machine
from agent.service.bytecode import BYTECODE
from agent.service.machine import Machine
from agent.service.names import CAPTURE, CAPTURE_UNIT, GROUP, TARGET_UNIT, UPLINK, UPLINK_UNIT
from agent.service.unit_files import SYSCTL, SYSUSERS, TMPFILES, UNITS, WANTED
from tests.rig import said_by
from tests.service.sites import SITE, Image

FILES = {UNITS / CAPTURE_UNIT, UNITS / UPLINK_UNIT, UNITS / TARGET_UNIT, SYSUSERS, SYSCTL, WANTED}


def installed(image: Image, *more: str, code: int = 0) -> str:
    return said_by(
        "service", "install", "--root", image.root, "--python", image.python, *more, code=code
    )


# --- an image, through the command ---


def test_an_image_gets_units_users_and_a_link_to_start_at_boot(image: Image):
    before = image.files()
    said = installed(image)
    new = {Path("/", one) for one in set(image.files()) - set(before)}
    assert new >= FILES
    assert {one for one in new if not one.is_relative_to("/etc")} == set()
    assert all(f"wrote {path}\n" in said for path in FILES)
    assert "uplink may talk to 203.0.113.0/24, 2001:db8:5::/48, 198.51.100.1/32" in said
    assert image.outside(WANTED).readlink() == Path("../inland.target")
    assert image.outside(UNITS / CAPTURE_UNIT).stat().st_mode & 0o777 == 0o644
    start = f"ExecStart={image.python} -I -B -m agent.cli capture --wall --config {image.config}\n"
    assert start in image.outside(UNITS / CAPTURE_UNIT).read_text("utf-8")


def test_programs_are_told_what_was_done(image: Image):
    """The second time nothing was: an empty list, no sentence."""
    first, second = (json.loads(installed(image, "--json")) for _ in range(2))
    assert {f"wrote {path}" for path in FILES} <= set(first["done"])
    assert (first["runs"], second["runs"]) == (False, False)
    assert first["may_reach"][:3] == ["203.0.113.0/24", "2001:db8:5::/48", "198.51.100.1/32"]
    assert [one for one in second["done"] if "users" not in one] == []
    out = ("service", "uninstall", "--root", image.root, "--json")
    assert any("inland-capture" in one for one in json.loads(said_by(*out))["done"])
    assert json.loads(said_by(*out)) == {"done": []}


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: users are made in the image")
@pytest.mark.skipif(shutil.which("systemd-sysusers") is None, reason="needs systemd-sysusers")
def test_an_image_gets_its_users(image: Image):
    installed(image)
    users = {
        line.split(":")[0]: line.split(":")
        for line in image.outside(Path("/etc/passwd")).read_text("utf-8").splitlines()
    }
    groups = image.outside(Path("/etc/group")).read_text("utf-8").splitlines()
    (gid,) = [line.split(":")[2] for line in groups if line.startswith(f"{GROUP}:")]
    for name in (CAPTURE, UPLINK):
        assert users[name][3] == gid
        assert users[name][6].endswith("nologin")


def test_a_second_time_nothing_changes(image: Image):
    installed(image)
    before = image.files()
    assert "nothing had to change" in installed(image)
    assert image.files() == before


def test_what_follows_from_a_change_is_written_and_nothing_else(image: Image):
    installed(image)
    image.edit("/var/lib/inland", "/data/inland")
    said = installed(image)
    wrote = {line.split()[1] for line in said.splitlines() if line.startswith("wrote ")}
    assert wrote == {str(UNITS / CAPTURE_UNIT), str(UNITS / UPLINK_UNIT), str(TMPFILES)}
    image.edit("/data/inland", "/var/lib/inland")
    installed(image)
    assert not image.outside(TMPFILES).exists()


def test_with_a_mistake_nothing_is_written(image: Image):
    image.edit("/var/lib/inland", "/home/inland")
    image.edit('"vehicle.key"', '"no.key"')
    before = image.files()
    said = installed(image, code=2)
    assert image.files() == before
    assert [line[:7] for line in said.splitlines()] == ["error: ", "error: "]


def test_out_again_leaves_what_is_the_cars(image: Image):
    before = image.files()
    installed(image)
    kept = {name: text for name, text in image.files().items() if Path("/", name) not in FILES}
    state = image.put(Path("/var/lib/inland/spool/spool.db"), "sealed")
    said = said_by("service", "uninstall", "--root", image.root)
    after = image.files()
    assert after.pop(str(state.relative_to(image.root))) == b"sealed"
    assert after == kept
    assert before.items() <= after.items()
    assert "kept /var/lib/inland, agent.toml and the keys\n" in said
    assert said_by("service", "uninstall", "--root", image.root) == "nothing is installed\n"


def test_drop_ins_of_others_are_kept_and_named(image: Image):
    installed(image)
    own = image.put(UNITS / f"{CAPTURE_UNIT}.d/own.conf", "[Service]\nNice=5\n")
    said = said_by("service", "uninstall", "--root", image.root)
    assert own.exists()
    assert f"kept {UNITS}/{CAPTURE_UNIT}.d: somebody's drop-ins\n" in said


def test_an_interpreter_that_is_not_in_the_image_is_told(image: Image):
    said = said_by(
        "service", "install", "--root", image.root, "--python", "/opt/none/python", code=2
    )
    assert "error: /opt/none: cannot be looked at: No such file or directory" in said


# --- a machine that runs: the commands that it would run ---


class Commands:
    """Stands for systemctl and its like; keeps what was asked of it."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.states = {CAPTURE_UNIT: "active", UPLINK_UNIT: "active"}
        self.journal = ""
        self.missing: set[str] = set()
        self.codes: dict[str, int] = {}
        self.version = "systemd 252 (252.38-1~deb12u1)\n+PAM\n"

    def __call__(self, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        self.asked.append(list(command))
        if command[0] in self.missing:
            raise FileNotFoundError(command[0])
        said = {
            "systemctl --version": self.version,
            f"systemctl is-active {CAPTURE_UNIT}": self.states[CAPTURE_UNIT],
            f"systemctl is-active {UPLINK_UNIT}": self.states[UPLINK_UNIT],
        }.get(" ".join(command), self.journal if command[0] == "journalctl" else "")
        code = self.codes.get(command[0], 0)
        return subprocess.CompletedProcess(command, code, said, "it said why\n" if code else "")

    def verbs(self) -> list[str]:
        return [" ".join(one[:2]) for one in self.asked]


class Here(Machine):
    """A machine whose kernel, users and interpreter are left alone."""

    def __init__(self, run: Commands, *, compiles: bool = False) -> None:
        super().__init__(run)
        self.compiles, self.given = compiles, list[Path]()

    def raise_rmem(self) -> None:
        self.given.append(Path("rmem"))

    def hand_over(self, state: Path) -> None:
        self.given.append(state)

    def compile(self, python: str) -> bool:
        assert python == SITE.start[0]
        return self.compiles


@pytest.fixture
def commands() -> Commands:
    return Commands()


def test_the_first_time_users_come_first_and_the_halves_last(tmp_path: Path, commands: Commands):
    here = Here(commands, compiles=True)
    done = boot.install(SITE, here, tmp_path)
    assert f"compiled the agent into {BYTECODE}" in done
    assert commands.verbs()[:4] == [
        "systemd-sysusers /etc/sysusers.d/inland.conf", "systemctl daemon-reload",
        "systemctl restart", "systemctl start",
    ]  # fmt: skip
    assert here.given == [Path("rmem"), SITE.state]
    assert (tmp_path / SYSUSERS.relative_to("/")).exists()


def test_again_nothing_is_restarted(tmp_path: Path, commands: Commands):
    boot.install(SITE, Here(commands), tmp_path)
    commands.asked.clear()
    assert boot.install(SITE, Here(commands), tmp_path) == ["nothing had to change"]
    assert "systemctl restart" not in commands.verbs()
    assert "systemctl daemon-reload" not in commands.verbs()
    assert "systemctl start" in commands.verbs()


def test_a_half_that_had_failed_is_started_again(tmp_path: Path, commands: Commands):
    """Its target is reached already: starting that alone would do nothing."""
    boot.install(SITE, Here(commands), tmp_path)
    assert ["systemctl", "start", TARGET_UNIT, CAPTURE_UNIT, UPLINK_UNIT] in commands.asked


def test_new_code_alone_restarts_it(tmp_path: Path, commands: Commands):
    boot.install(SITE, Here(commands), tmp_path)
    commands.asked.clear()
    boot.install(SITE, Here(commands, compiles=True), tmp_path)
    assert "systemctl restart" in commands.verbs()


def test_a_half_that_does_not_start_is_told_in_its_own_words(tmp_path: Path, commands: Commands):
    commands.states[UPLINK_UNIT] = "failed"
    commands.journal = "Starting\nerror: inland uplink: IPAddressDeny= does not hold\nFailed\n"
    with pytest.raises(ServiceError) as told:
        boot.install(SITE, Here(commands), tmp_path)
    assert str(told.value) == (
        "inland-uplink.service: is failed: inland uplink: IPAddressDeny= does not hold; "
        "journalctl -u inland-uplink.service"
    )


def test_a_command_that_fails_is_told(tmp_path: Path, commands: Commands):
    commands.codes["systemd-sysusers"] = 1
    with pytest.raises(ServiceError, match=r"systemd-sysusers /etc.*: it said why"):
        boot.install(SITE, Here(commands), tmp_path)


def test_taking_out_stops_removes_and_keeps(tmp_path: Path, commands: Commands):
    boot.install(SITE, Here(commands), tmp_path)
    commands.asked.clear()
    done = boot.uninstall(tmp_path, Here(commands))
    assert commands.asked[0] == ["systemctl", "stop", TARGET_UNIT, CAPTURE_UNIT, UPLINK_UNIT]
    assert commands.asked[-3:] == [["userdel", UPLINK], ["userdel", CAPTURE], ["groupdel", GROUP]]
    assert commands.verbs().index("systemctl daemon-reload") < len(commands.asked) - 3
    assert done[-1] == "kept /var/lib/inland, agent.toml and the keys"
    assert [path for path in tmp_path.rglob("*") if not path.is_dir()] == []


def test_users_that_no_tool_removes_are_named(tmp_path: Path, commands: Commands):
    boot.install(SITE, Here(commands), tmp_path)
    commands.missing.add("userdel")
    commands.codes["groupdel"] = 8
    done = boot.uninstall(tmp_path, Here(commands))
    assert [line for line in done if "by hand" in line] == [
        f"kept the user or group {name}: remove it by hand" for name in (UPLINK, CAPTURE, GROUP)
    ]


@pytest.mark.parametrize(
    ("version", "good"),
    [("systemd 252 (x)\n", True), ("systemd 247\n", True), ("systemd 241 (x)\n", False), ("x", 0)],
)
def test_a_service_manager_that_is_too_old_is_refused(
    commands: Commands, monkeypatch: pytest.MonkeyPatch, version: str, good: bool
):
    monkeypatch.setattr(machine, "_RUNS", Path("/"))
    monkeypatch.setattr(machine.os, "geteuid", lambda: 0)
    monkeypatch.setattr(machine.shutil, "which", lambda name: name)
    commands.version = version
    if good:
        Machine(commands).check()
    else:
        with pytest.raises(ConfigError, match="needs systemd 247 or newer"):
            Machine(commands).check()


def test_without_root_nothing_is_tried(monkeypatch: pytest.MonkeyPatch, commands: Commands):
    monkeypatch.setattr(machine.os, "geteuid", lambda: 1000)
    with pytest.raises(ConfigError, match="inland service: needs root; say sudo, or --root DIR"):
        Machine(commands).check()
    assert ConfigError.exit_code == 2
    assert commands.asked == []


def test_without_systemd_an_image_is_proposed(
    monkeypatch: pytest.MonkeyPatch, commands: Commands, tmp_path: Path
):
    monkeypatch.setattr(machine.os, "geteuid", lambda: 0)
    monkeypatch.setattr(machine, "_RUNS", tmp_path / "none")
    with pytest.raises(ConfigError, match="systemd does not run this machine; say --root DIR"):
        Machine(commands).check()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: gives files away")
def test_the_state_folder_becomes_captures_with_all_that_root_left_in_it(tmp_path: Path):
    """A policy that was installed at the factory, before the service was."""
    state, outside = tmp_path / "state", tmp_path / "outside"
    (state / "policy").mkdir(parents=True)
    (state / "policy/active.policy").write_bytes(b"x")
    outside.write_bytes(b"root's")
    (state / "link").symlink_to(outside)
    machine.give(state, 4711, 4712)
    owners = {path.lstat().st_uid for path in (state, *state.rglob("*"))}
    assert owners == {4711}
    assert outside.stat().st_uid == 0, "links are not followed"
    (state / "root").write_bytes(b"x")
    machine.give(state, 4711, 4712)
    assert (state / "root").stat().st_uid == 0, "a folder that is capture's is not gone through"
