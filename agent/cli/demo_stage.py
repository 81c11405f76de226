"""What every demo stands on: a region and a car in one folder, and the processes of both.

Each runs as a process of its own, started with the command that somebody would type in the field.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import agent.policy
from agent.cli.demo_view import View
from agent.cli.processes import Processes, free_port
from agent.errors import HatchError, InlandError
from agent.hatch import HatchClient
from agent.policy.build import build_text
from agent.policy.rehearsal import rehearse
from agent.policy.update import update
from agent.station.authority import RegionFolder, create_region
from agent.station.enrollment import enroll_vehicle
from agent.station.offer import export
from agent.station.publish import publish
from agent.station.store import Store

INLAND: Final = (sys.executable, "-m", "agent.cli")
EXAMPLE: Final = Path(agent.policy.__file__).with_name("examples") / "cn-fleet.toml"
FLEET_HOLD: Final = 'before = "30min", after = "30s"'
DEMO_HOLD: Final = 'before = "30s", after = "2s"'  # a drive of some seconds has no more
BUS: Final = """
[[bus]]
name = "can0"
interface = "slcan"
channel = "{pty}"
bitrate = 500000
"""
START_S: Final = 30.0  # for a process to be there
PAUSE_S: Final = 0.05
VIEW_S: Final = 0.5  # between two lines of the live view
ARRIVE_S: Final = 60.0  # for what the car has sent to be receipted
SETTLED_S: Final = 4.7  # no segment stays open so long, and nothing waits: all has arrived
# What is for the region and the owner, either opens; and what is for the owner alone.
OWNER_RULES: Final = """
[[collect]]
id = "all-frames"
category = "vehicle.state"
purpose = "owner_access"
basis = "law:PIPL Art. 45"
necessity = "the owner has a copy of every frame"
frames = ["can0:*"]
keep = "1d"
recipients = "shared"
timestamp_resolution = "100us"
order = true
flush = "4s"

[[collect]]
id = "driving"
category = "vehicle.state"
purpose = "owner_access"
basis = "law:PIPL Art. 45"
necessity = "the owner sees how the car was driven"
signals = [
  "VehicleSpeed", "BrakePedal", "BrakePressure", "SteeringAngle", "AcceleratorPedal",
]
every = "100ms"
keep = "1d"
recipients = "owner"
"""
SHARED: Final = ('id = "battery-frames"', "[recorder]", 'id = "hard-brake"')


def fleet() -> str:
    """Return the China fleet's policy, with a hold that a drive of some seconds can fill.

    Raises:
        InlandError: the example has another hold than is known here.
    """
    text = EXAMPLE.read_text("utf-8")
    if FLEET_HOLD not in text:
        raise InlandError("has another hold than the demo knows", where=str(EXAMPLE))
    return text.replace(FLEET_HOLD, DEMO_HOLD)


def fleet_and_owner() -> str:
    """Return the fleet's policy, with frames, recorder and brake that the owner opens as well."""
    text = fleet()
    for begins in SHARED:
        before, name, after = text.partition(begins)
        text = before + name + after.replace('recipients = "region"', 'recipients = "shared"', 1)
    return text + OWNER_RULES


class Stage:
    """A region, a car and their processes.

    Args:
        folder: for everything.
        view: is told what is made.
        stop: is set when the demo is to end; every wait looks at it.

    Attributes:
        region: the region's folder.
        car: what the car was given: card, keys, configuration, state.
        config: the agent's configuration.
        vehicle: pseudonym; empty before `make`.
        processes: those that were started.
    """

    def __init__(self, folder: Path, view: View, stop: threading.Event) -> None:
        self.folder, self.region, self.car = folder, folder / "region", folder / "car"
        self.config = self.car / "agent.toml"
        self.vehicle = ""
        self.processes = Processes(folder / "logs")
        self._view = view
        self._pty = folder / "can0"
        self._stop = stop

    def make(self, policy: str, *, told: str) -> None:
        """Make the region, the car's bundle and the policy that is in force in it.

        Args:
            policy: its text.
            told: what it keeps, for people.

        Raises:
            InlandError: something that belongs to it is not installed.
        """
        simulator = find_spec("firmware_sim")
        if simulator is None or simulator.origin is None:
            raise InlandError("the simulated car is not installed", todo="install inland anew")
        region = create_region(
            self.region,
            region_id="cn",
            host="localhost",
            port=free_port(),
            prefixes=("127.0.0.0/8", "::1/128"),
            now=datetime.now(UTC),
        )
        with contextlib.closing(Store(self.region / "station.db")) as store:
            self.vehicle = enroll_vehicle(
                region, store, self.car, vehicle=None, now=datetime.now(UTC), rng=os.urandom
            )
        self._view.step(f"region     {region.card.region}: authority, broker and receipt keys made")
        self._view.step(f"vehicle    {self.vehicle}: enrolled, knows its region by the card alone")
        with self.config.open("a", encoding="utf-8") as config:
            config.write(BUS.format(pty=self._pty))
        self._install(region, policy)
        self._view.step(
            f"policy     {told}: signed by two of the region's keys, checked by the car"
        )

    def _install(self, region: RegionFolder, text: str) -> None:
        """Put the policy on offer, and install it in the car from a folder."""
        data = build_text(text, where="the demo's policy", folder=EXAMPLE.parent)
        publish(region, data, group="default", percent=100, keys=(), now=datetime.now(UTC))
        drop = self.folder / "drop"
        export(region.path, drop, "default")
        update(
            drop, self.car / "state" / "policy", card_root=region.card.policy_root,
            region=region.card.region, vehicle=self.vehicle, group="default",
            now_ns=time.time_ns(), rehearse=rehearse,
        )  # fmt: skip

    def start_station(self) -> None:
        """Start the region's end."""
        self.pause(0)
        self.processes.start("station", [*INLAND, "station", "serve", str(self.region)])

    def start_capture(self) -> None:
        """Start the half of the agent that has CAN."""
        self.processes.start("capture", [*INLAND, "capture", "--config", str(self.config)])

    def start_uplink(self) -> None:
        """Start the half of the agent that has the network."""
        self.processes.start("uplink", [*INLAND, "uplink", "--config", str(self.config)])

    def start_car(self, sent: Path, seconds: float, seed: int) -> None:
        """Start a car that brakes hard half-way; it drives off when its serial line is opened.

        Args:
            sent: candump log of every frame that it hands to its adapter.
            seconds: of driving.
            seed: source of all randomness.
        """
        car = [sys.executable, "-m", "firmware_sim", "--scenario", "hard-brake", "--json"]
        car += ["--pty-link", str(self._pty), "--sent-log", str(sent)]
        self.processes.start("car", [*car, "--seconds", str(seconds), "--seed", str(seed)])
        self.wait("the car's serial line", self._pty.exists)

    def car_said(self) -> dict[str, Any]:
        """Return what the car says of its drive, once it is over."""
        said: dict[str, Any] = json.loads(
            self.processes.output("car").read_text("utf-8").splitlines()[-1]
        )
        return said

    def status(self) -> dict[str, Any] | None:
        """Return what the agent says of itself; None while capture is starting."""
        hatch = HatchClient(self.car / "run" / "hatch.sock")
        try:
            status: dict[str, Any] = json.loads(hatch.status())
        except HatchError:
            return None
        finally:
            hatch.close()
        return status

    def wait(self, what: str, there: Callable[[], object], seconds: float = START_S) -> None:
        """Wait until something is so.

        Raises:
            InlandError: it was not in time, or a process has failed.
        """
        deadline_s = time.monotonic() + seconds
        while not there():
            self.processes.check()
            if time.monotonic() > deadline_s:
                raise InlandError(f"{what} did not appear within {seconds:.0f} s")
            self.pause(PAUSE_S)

    def pause(self, seconds: float) -> None:
        """Wait; a signal ends it, also one whose KeyboardInterrupt was lost in a destructor."""
        if self._stop.wait(seconds):
            raise KeyboardInterrupt

    def watch(self, seconds: float) -> dict[str, Any]:
        """Watch until the car has driven and everything is receipted; return the last status.

        Args:
            seconds: that the car drives.

        Raises:
            InlandError: not everything was receipted in time.
        """
        deadline_s = time.monotonic() + seconds + START_S + ARRIVE_S
        drove_s = quiet_s = 0.0  # when the first frame came, when nothing waited any more
        while True:
            self.processes.check()
            now_s, status = time.monotonic(), self.status()
            if status is not None and status["frames"]["received"]:
                drove_s = drove_s or now_s
                self._view.live(now_s - drove_s, status, brakes_at_s=seconds / 2)
                waiting = sum(status["spool"]["pending"].values()) + status["frames"]["waiting"]
                waiting += status["events"]["open"]
                over = self.processes.code("car") is not None
                quiet_s = (quiet_s or now_s) if over and not waiting else 0.0
                if quiet_s and now_s - quiet_s > SETTLED_S:
                    self._view.end()
                    return status
            if now_s > deadline_s:
                raise InlandError(
                    "not everything was receipted in time", where=str(self.folder / "logs")
                )
            self.pause(VIEW_S)
