"""Policies and consents on real parts: station, Mosquitto, uplink, capture, the commands."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from firmware_sim.__main__ import command as simulate
from tests.policy.making import EXAMPLES
from tests.rig import EVERYTHING, Rig, needs_mosquitto, rig, wait_for

POWERTRAIN = """\
policy = "everything"
version = 1
region = "cn"
not_after = 2099-12-31
dbc = ["{dbc}"]

[[consent]]
category = "powertrain"
max_days = 30
each_drive = false

[[collect]]
id = "motor"
category = "powertrain"
purpose = "product_improvement"
basis = "consent"
necessity = "a test agrees and changes its mind"
signals = ["MotorTorque", "MotorSpeed"]
every = "100ms"
keep = "1d"
recipients = "region"
"""
# Stands in for a policy that kills the process: what it is that fails does not matter.
FATAL = """\
import importlib.util, sys

class Plant:
    def find_spec(self, name, path=None, target=None):
        if name != "agent.policy.engine":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module
        def planted(module):
            execute(module)
            begin = module.Engine.__init__
            def fatal(self, policy, *more, **named):
                if policy.version == 2:
                    raise RuntimeError("planted")
                begin(self, policy, *more, **named)
            module.Engine.__init__ = fatal
        spec.loader.exec_module = planted
        return spec

sys.meta_path.insert(0, Plant())
"""


def log_of(folder: Path, seconds: int) -> Path:
    """A drive of the simulated car."""
    log = folder / "drive.log"
    simulate.main(["--seconds", str(seconds), "--log", str(log)], standalone_mode=False)
    return log


def publish(made: Rig, text: str, version: int, **options: str) -> None:
    """Put a policy on offer."""
    path = made.folder / f"v{version}.toml"
    path.write_text(text.replace("version = 1", f"version = {version}"), "utf-8")
    made.inland("policy", "build", str(path))
    more = [part for name, value in options.items() for part in (f"--{name}", value)]
    made.inland("station", "policy", "publish", str(path.with_suffix(".policy")),
                "--region", str(made.region), *more)  # fmt: skip


def in_force(made: Rig) -> tuple[int | None, str]:
    """Version and why, as the running agent says."""
    status = made.status()
    return (status["policy"]["version"], status["policy"]["why"]) if status else (None, "")


@pytest.mark.slow
@needs_mosquitto
@pytest.mark.timeout(170)
def test_a_policy_changes_over_the_air_while_frames_flow_and_none_is_lost(tmp_path: Path):
    """In force within 10 s of its offer, without a restart; yesterday's repository is refused."""
    with rig(tmp_path) as made:
        log = log_of(tmp_path, 170)  # for longer than the test may last
        made.bus(name="can0", interface="log", channel=str(log), speed="1.0")
        made.start("capture", "capture", "--config", str(made.config))
        made.start("uplink", "uplink", "--config", str(made.config))
        publish(made, EVERYTHING, 1)
        wait_for(lambda: in_force(made)[0] == 1, 70, "the first policy")  # the link is idle
        old = tmp_path / "yesterday"
        made.inland("station", "policy", "export", str(old), "--region", str(made.region))
        publish(made, EVERYTHING, 2)
        wait_for(lambda: in_force(made)[0] == 2, 10, "the second policy")
        refused = made.inland("policy", "install", str(old), "--config", str(made.config), code=1)
        assert "error: " in refused
        assert in_force(made) == (2, "installed")
        wait_for(lambda: made.told()["frames"]["kept"] > 2000, 20, "enough frames of both")
        status = made.told()
        assert status["frames"]["lost"] == 0
        assert status["policy_update"]["outcome"] == "installed"
        made.kill("capture", 15)
        made.start("again", "capture", "--config", str(made.config))
        wait_for(lambda: not waiting(made), 30, "all receipted")
        opened = [line.split(" ", 2)[2] for line in made.opened()]
        sent = [line.split(" ", 2)[2] for line in log.read_text("ascii").splitlines()]
        first = next(at for at in range(len(sent)) if sent[at : at + 50] == opened[:50])
        run = opened[: opened_until_restart(opened, sent, first)]
        assert len(run) > 2000
        assert run == sent[first : first + len(run)]
        policies = re.findall(r"everything version (\d) decides \((\w+)\)", ledger(made))
        assert policies[:2] == [("1", "installed"), ("2", "installed")]


def waiting(made: Rig) -> int:
    """Entries that the region has not receipted."""
    status = made.status()
    return sum(status["spool"]["pending"].values()) if status else 1


def opened_until_restart(opened: list[str], sent: list[str], first: int) -> int:
    """How many frames are of the first run: the second plays the log from its beginning."""
    head = sent[:50]
    return next((at for at in range(50, len(opened)) if opened[at : at + 50] == head), len(opened))


def ledger(made: Rig) -> str:
    """The car's ledger in words."""
    return made.inland("ledger", "--last", "1000", "--config", str(made.config))


@pytest.mark.slow
@needs_mosquitto
@pytest.mark.timeout(170)
def test_a_consent_that_is_withdrawn_stops_within_two_seconds_and_nothing_leaves(tmp_path: Path):
    """What was kept under it and not sent is forgotten; the region gets nothing of it any more."""
    with rig(tmp_path) as made:
        dbc = EXAMPLES.parents[2] / "firmware_sim" / "car.dbc"
        made.policy(POWERTRAIN.format(dbc=dbc))
        log = log_of(tmp_path, 170)
        made.bus(name="can0", interface="log", channel=str(log), speed="1.0")
        made.start("capture", "capture", "--config", str(made.config))
        made.start("uplink", "uplink", "--config", str(made.config))
        wait_for(lambda: in_force(made)[0] == 1, 20, "the policy")
        assert made.told()["samples"] == 0  # default deny
        command = ("--config", str(made.config))
        told = made.inland("consent", "grant", "powertrain", "--for", "1d", "--yes", *command)
        assert "MotorTorque" in told
        wait_for(lambda: made.told()["samples"] > 40, 20, "samples under the consent")
        wait_for(lambda: samples_at_the_region(made), 30, "some of them in the region")
        made.kill("uplink", 15)
        before = made.told()["samples"]
        wait_for(lambda: made.told()["samples"] > before + 40, 20, "samples that are not sent")
        made.inland("consent", "withdraw", "powertrain", *command)
        wait_for(lambda: made.told()["consents"]["powertrain"] == "withdrawn", 2, "withdrawal")
        stopped = made.told()["samples"]
        later = made.told()["uptime_s"] + 1
        wait_for(lambda: made.told()["uptime_s"] > later, 20, "a second")
        assert made.told()["samples"] == stopped
        made.start("uplink", "uplink", "--config", str(made.config))
        wait_for(lambda: not waiting(made), 30, "all receipted")
        year = json.loads(made.inland("ledger", "--year", "2026", "--json", *command))
        assert year["drops"]["withdrawn"] >= 1
        assert year["consents"] == {"powertrain": {"granted": 1, "withdrawn": 1}}
        # At most one more record than had been sent.
        assert 0 < samples_at_the_region(made) < before + 20


def samples_at_the_region(made: Rig) -> int:
    """How many samples the region opens of what it has; more may be on its way."""
    out = made.folder / "opened.csv"
    made.inland("station", "open", str(made.region), "--vehicle", made.vehicle,
                "--signals", str(out), code=None)  # fmt: skip
    return len(out.read_text("utf-8").splitlines()) - 1 if out.exists() else 0


@pytest.mark.slow
@needs_mosquitto
@pytest.mark.timeout(170)
def test_a_policy_that_kills_the_agent_three_times_is_put_back(tmp_path: Path, monkeypatch):
    """The service manager restarts it; the third time the policy before it decides again."""
    plant = tmp_path / "plant"
    plant.mkdir()
    (plant / "sitecustomize.py").write_text(FATAL)
    with rig(tmp_path) as made:
        for version in (1, 2):
            publish(made, EVERYTHING, version)
            drop = tmp_path / f"drop-{version}"
            made.inland("station", "policy", "export", str(drop), "--region", str(made.region))
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(plant), str(Path.cwd())]))
        made.bus(name="can0", interface="log", channel=str(log_of(tmp_path, 90)), speed="1.0")
        made.inland("policy", "install", str(tmp_path / "drop-1"), "--config", str(made.config))
        capture = made.start("capture", "capture", "--config", str(made.config))
        wait_for(lambda: in_force(made)[0] == 1, 20, "the good policy")
        prove(made)
        monkeypatch.delenv("PYTHONPATH")  # an installation rehearses the policy; it would see it
        made.inland("policy", "install", str(tmp_path / "drop-2"), "--config", str(made.config))
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(plant), str(Path.cwd())]))
        deaths = 0
        while not ended_or_put_back(made, capture):
            deaths += 1
            assert deaths <= 3
            capture = made.start("capture", "capture", "--config", str(made.config))
        assert deaths == 3
        monkeypatch.delenv("PYTHONPATH")
        again = made.inland(
            "policy", "install", str(tmp_path / "drop-2"), "--config", str(made.config), code=1
        )
        assert "higher version" in again
        assert "everything version 1 decides (put-back)" in ledger(made)


def ended_or_put_back(made: Rig, capture: subprocess.Popen[bytes]) -> bool:
    """Wait for the one or the other; return whether the policy before decides again."""
    put_back = (1, "put-back")
    wait_for(lambda: capture.poll() is not None or in_force(made) == put_back, 20, "one of both")
    return capture.poll() is None


def prove(made: Rig) -> None:
    """Let the good policy have proved itself, as ten minutes in force do."""
    from agent.policy import probation

    probation.proven(made.car / "state" / "policy")
