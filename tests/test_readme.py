"""The README's own commands, run as they stand: what a newcomer copies must work."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from agent.cli.processes import free_port
from tests.rig import PATH, needs_mosquitto, wait_for

README = Path(__file__).resolve().parent.parent / "README.md"


def blocks(language: str, heading: str) -> list[str]:
    """The code blocks of a section."""
    section = README.read_text("utf-8").split(f"## {heading}\n")[1].split("\n## ")[0]
    return re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)


@needs_mosquitto
@pytest.mark.timeout(170)
def test_a_region_and_a_car_of_your_own(tmp_path: Path):
    """The walk through the README: region, car, policy, replay, open."""
    heading = "A region and a car of your own"
    port = str(free_port())
    (tmp_path / "bin").mkdir()
    inland = tmp_path / "bin" / "inland"
    inland.write_text(
        f'#!/bin/sh\nPYTHONPATH={README.parent} exec {sys.executable} -m agent.cli "$@"\n'
    )
    inland.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path / 'bin'}:{PATH}"}

    def sh(script: str) -> str:
        done = subprocess.run(
            ["bash", "-ec", script],
            cwd=tmp_path,
            env=environment,
            text=True,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, script + done.stdout + done.stderr
        return done.stdout

    make, replay = blocks("sh", heading)
    make = make.replace("8883", port)
    init, enroll, serve = [line for line in make.splitlines() if line.startswith("inland")]
    sh(init)
    sh(enroll)
    with (tmp_path / "serve.txt").open("wb") as output:
        station = subprocess.Popen(
            ["bash", "-c", "exec " + serve],
            cwd=tmp_path,
            env=environment,
            stdout=output,
            stderr=output,
        )
    try:
        (tmp_path / "policy.toml").write_text(blocks("toml", heading)[0], "utf-8")
        frames = [
            f"({1_700_000_000 + i / 100:.6f}) vcan0 {0x100 + i % 9:03X}#{i:016X}"
            for i in range(500)
        ]
        (tmp_path / "drive.log").write_text("\n".join(frames) + "\n", "ascii")
        said = sh(replay)
        opened = [line for line in said.splitlines() if line.startswith("(")]
        assert opened == [line.replace("vcan0", "can0") for line in frames]
        assert station.poll() is None
    finally:
        station.terminate()
        station.wait(20)
    wait_for(lambda: station.returncode is not None, 1, "the station has ended")
    assert station.returncode == 0


def test_every_command_in_the_table_exists():
    """The README names no command that is not there."""
    from agent.cli.main import COMMANDS

    table = README.read_text("utf-8").split("## Commands\n")[1].split("\n## ")[0]
    named = set(re.findall(r"`inland ([a-z]+)", table))
    assert named | {"capture", "uplink", "doctor"} == set(COMMANDS)
