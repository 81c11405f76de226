"""The compiled agent of the boot service: complete, so that nothing is compiled while it runs."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.errors import ConfigError
from agent.service.bytecode import BYTECODE, START, compile_for
from tests.rig import EVERYTHING, said_by, typed, wait_for

SOURCE = re.compile(r"^# code object from (/.*\.py)$", re.MULTILINE)
EDITABLE = "__editable__"  # what finds a checkout; a car has none
OURS = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def bytecode(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bytecode")
    assert compile_for(sys.executable, folder)
    return folder


@pytest.fixture
def car(tmp_path: Path, bundle: Path) -> Path:
    """A car on a bench with a log of its bus and a policy; returns its agent.toml."""
    for file in bundle.iterdir():
        text = file.read_text("latin-1").splitlines(keepends=True)
        kept = [line for line in text if not line.startswith("policy_root")]
        (tmp_path / file.name).write_text("".join(kept), "latin-1")
        (tmp_path / file.name).chmod(0o600)
    log, config = tmp_path / "drive.log", tmp_path / "agent.toml"
    frames = [f"({1 + i / 100:.6f}) can0 {0x100 + i % 9:03X}#{i:016X}\n" for i in range(400)]
    log.write_text("".join(frames), "ascii")
    with config.open("a") as file:
        file.write(f'[[bus]]\nname = "can0"\ninterface = "log"\nchannel = "{log}"\nspeed = "max"\n')
    (tmp_path / "policy.toml").write_text(EVERYTHING, "utf-8")
    said_by("policy", "build", tmp_path / "policy.toml", "-o", tmp_path / "all.policy")
    said_by("policy", "install", tmp_path / "all.policy", "--config", config)
    return config


def run(car: Path, half: str, start: list[str], done: Callable[[], bool]) -> str:
    """Run a half until it is ready and has done something; return what its interpreter told."""
    output, told = car.parent / f"{half}.txt", car.parent / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager, output.open("wb") as file:
        manager.bind(str(told))
        manager.settimeout(60)
        process = subprocess.Popen(
            [sys.executable, "-v", *start, half, "--config", str(car)],
            stdout=file, stderr=file, cwd=OURS, env={**os.environ, "NOTIFY_SOCKET": str(told)},
        )  # fmt: skip
        try:
            assert manager.recv(100) == b"READY=1"
            wait_for(done, 60, f"{half} works")
            process.terminate()
            assert manager.recv(100) == b"STOPPING=1"
            assert process.wait(30) == 0
        finally:
            process.kill()
            process.wait()
            told.unlink()
    return output.read_text("utf-8", "replace")


def sealed(car: Path) -> bool:
    said = typed("status", "--json", "--config", car)
    return said.code == 0 and json.loads(said.out)["segments"] > 0


def compiled_anew(said: str) -> set[str]:
    """Source files that the interpreter had to compile while it ran."""
    return {name for name in SOURCE.findall(said) if EDITABLE not in name}


def start(folder: Path) -> list[str]:
    """What the units give the interpreter, but for the folder of the cache."""
    return [one.replace(str(BYTECODE), str(folder)) for one in START]


def test_capture_and_uplink_compile_nothing_while_they_run(bytecode: Path, car: Path):
    """In -OO, from the start to the first sealed segment: docstrings and asserts are not missed."""
    said = run(car, "capture", start(bytecode), lambda: sealed(car))
    assert compiled_anew(said) == set()
    assert compiled_anew(run(car, "uplink", start(bytecode), lambda: True)) == set()


def test_without_the_cache_it_runs_and_the_check_sees_what_is_compiled(tmp_path: Path, car: Path):
    said = run(car, "uplink", start(tmp_path / "none"), lambda: True)
    assert any(name.endswith("agent/uplink/run.py") for name in compiled_anew(said))
    assert not (tmp_path / "none").exists(), "-B: a service writes no code"


def test_a_second_time_nothing_is_new(bytecode: Path, tmp_path: Path):
    folder = tmp_path / "copy"
    shutil.copytree(bytecode, folder)
    assert not compile_for(sys.executable, folder)
    next(folder.rglob("agent/errors.*.pyc")).unlink()
    assert compile_for(sys.executable, folder)


def test_others_may_read_it_and_nobody_but_root_write_it(bytecode: Path):
    modes = {path.stat().st_mode & 0o022 for path in bytecode.rglob("*")}
    assert modes == {0}
    assert all(path.stat().st_mode & 0o004 for path in bytecode.rglob("*.pyc"))


def test_an_interpreter_that_fails_is_told(tmp_path: Path):
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho 'No module named agent' >&2; exit 1\n", "utf-8")
    broken.chmod(0o755)
    with pytest.raises(ConfigError, match="cannot compile for the service: No module named agent"):
        compile_for(str(broken), tmp_path / "cache")
