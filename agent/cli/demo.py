"""`inland demo`: the whole way of a frame, on real parts, in a temporary folder.

A region is made, a car enrolled, a policy built from the car's own DBC; then a broker, the station,
both halves of the agent and a simulated car on a serial line run as processes of their own, as they
do in the field. At the end the region opens what arrived, and every frame that the car sent is
compared with it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import click

import agent.policy
from agent.cli.common import json_option, print_json
from agent.cli.demo_compare import compare
from agent.cli.demo_view import View, summary
from agent.cli.processes import Processes, free_port
from agent.errors import HatchError, InlandError
from agent.hatch import HatchClient
from agent.policy.build import build_text
from agent.policy.rehearsal import rehearse
from agent.policy.update import update
from agent.station.authority import RegionFolder, create_region
from agent.station.broker import Kind, start_broker
from agent.station.enrollment import enroll_vehicle
from agent.station.offer import export
from agent.station.publish import publish
from agent.station.store import Store

# The first shares its segments with the fleet's battery frames: what both want is kept once.
EXTRA_RULES: Final = """
[[collect]]
id = "all-frames"
category = "vehicle.state"
purpose = "diagnostics_repair"
basis = "law:GB/T 32960"
necessity = "show every frame on its way"
frames = ["can0:*"]
keep = "1d"
recipients = "region"
timestamp_resolution = "100us"
order = true
flush = "4s"

[[collect]]
id = "driving"
category = "vehicle.state"
purpose = "diagnostics_repair"
basis = "law:GB/T 32960"
necessity = "show signals decoded in the car"
signals = ["VehicleSpeed", "BrakePressure"]
every = "100ms"
keep = "1d"
recipients = "region"
"""
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
VIEW_S: Final = 0.5  # between two lines of the live view
START_S: Final = 30.0  # for a process to be there
ARRIVE_S: Final = 60.0  # for what the car has sent to be receipted
SETTLED_S: Final = 4.7  # no segment stays open so long, and nothing waits: all has arrived


@click.command()
@click.option(
    "--seconds",
    default=20.0,
    show_default=True,
    type=click.FloatRange(2, 3600),
    help="How long the car drives.",
)
@click.option("--seed", default=7, show_default=True, help="Source of all randomness.")
@click.option(
    "--broker",
    type=click.Choice(["auto", "mosquitto", "iotcore"]),
    default="auto",
    show_default=True,
    help="Which broker; auto: Mosquitto if it is installed.",
)
@click.option(
    "--keep", type=click.Path(path_type=Path), help="Work in this new folder and keep it."
)
@json_option
def command(seconds: float, seed: int, broker: Kind, keep: Path | None, *, as_json: bool) -> None:
    """See the whole thing run: no root, no configuration.

    A simulated car drives and brakes hard half-way; its agent keeps, seals and uploads what its
    policy names; the region opens what arrived and compares it with what the car sent. Exit code 0,
    or 1 if one frame is missing.

    \b
    Example:
      inland demo --seconds 10 --json
    """
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    if keep is not None:
        keep.mkdir(parents=True)
        result = Demo(keep, seconds, seed, broker=broker, quiet=as_json).run()
    else:
        with tempfile.TemporaryDirectory(prefix="inland-demo-") as folder:
            result = Demo(Path(folder), seconds, seed, broker=broker, quiet=as_json).run()
    if as_json:
        print_json(result)
    else:
        summary(result)
    sys.exit(0 if result["ok"] else 1)


class Demo:
    """One run in one folder."""

    def __init__(
        self, folder: Path, seconds: float, seed: int, *, broker: Kind, quiet: bool
    ) -> None:
        self._folder, self._seconds, self._seed = folder, seconds, seed
        self._region, self._car = folder / "region", folder / "car"
        self._sent = folder / "sent.log"
        self._broker = broker
        self._view = View(quiet=quiet)
        self._processes = Processes(folder / "logs")
        self._config = self._car / "agent.toml"
        self._vehicle = ""
        self._pause = threading.Event()  # never set: a wait that a signal interrupts

    def run(self) -> dict[str, Any]:
        """Do all of it; return what was found.

        Raises:
            InlandError: a part that did not start or that ended too early; says which.
        """
        began_s = time.monotonic()
        self._prepare()
        with start_broker(self._region, kind=self._broker) as broker:
            self._view.step(f"broker     {broker.describe()}")
            try:
                self._start()
                status = self._drive()
            finally:
                self._processes.stop()
            result = compare(self._region, self._vehicle, self._sent, self._folder / "opened")
            car = json.loads(self._processes.output("car").read_text("utf-8").splitlines()[-1])
        if car["host_frames"]:
            result |= {"ok": False, "why": f"the agent sent {car['host_frames']} frames on the bus"}
        result |= {
            "frames_transmitted": car["host_frames"],
            "frames_kept": status["frames"]["kept"],
            "segments": status["segments"],
            "receipts": status["receipts"],
            "bytes_per_frame": status["spool"]["stored_bytes"] / max(1, result["frames_sent"]),
            "broker": broker.describe(),
            "seconds": round(time.monotonic() - began_s, 1),
        }
        return result

    def _prepare(self) -> None:
        """Make the region, the car's bundle and the policy that is in force in it."""
        port = free_port()
        region = create_region(
            self._region,
            region_id="cn",
            host="localhost",
            port=port,
            prefixes=("127.0.0.0/8", "::1/128"),
            now=datetime.now(UTC),
        )
        with contextlib.closing(Store(self._region / "station.db")) as store:
            self._vehicle = enroll_vehicle(
                region, store, self._car, vehicle=None, now=datetime.now(UTC), rng=os.urandom
            )
        self._view.step(f"region     {region.card.region}: authority, broker and receipt keys made")
        self._view.step(f"vehicle    {self._vehicle}: enrolled, knows its region by the card alone")
        with self._config.open("a", encoding="utf-8") as config:
            config.write(BUS.format(pty=self._folder / "can0"))
        simulator = find_spec("firmware_sim")
        if simulator is None or simulator.origin is None:
            raise InlandError("the simulated car is not installed", todo="install inland anew")
        self._install_policy(region)
        self._view.step(
            "policy     cn-fleet, and every frame of can0: signed by two of the region's keys, "
            "checked by the car"
        )

    def _install_policy(self, region: RegionFolder) -> None:
        """Put the China fleet's policy on offer, and install it in the car from a folder."""
        text = EXAMPLE.read_text("utf-8")
        if FLEET_HOLD not in text:
            raise InlandError("has another hold than the demo knows", where=str(EXAMPLE))
        text = text.replace(FLEET_HOLD, DEMO_HOLD) + EXTRA_RULES
        data = build_text(text, where="the demo's policy", folder=EXAMPLE.parent)
        publish(region, data, group="default", percent=100, keys=(), now=datetime.now(UTC))
        drop = self._folder / "drop"
        export(region.path, drop, "default")
        update(
            drop, self._car / "state" / "policy", card_root=region.card.policy_root,
            region=region.card.region, vehicle=self._vehicle, group="default",
            now_ns=time.time_ns(), rehearse=rehearse,
        )  # fmt: skip

    def _start(self) -> None:
        """Start the station, the car and both halves of the agent."""
        inland = [sys.executable, "-m", "agent.cli"]
        config = ["--config", str(self._config)]
        start = self._processes.start
        start("station", [*inland, "station", "serve", str(self._region)])
        car = [sys.executable, "-m", "firmware_sim", "--scenario", "hard-brake", "--json"]
        car += ["--pty-link", str(self._folder / "can0"), "--sent-log", str(self._sent)]
        start("car", [*car, "--seconds", str(self._seconds), "--seed", str(self._seed)])
        self._await("the car's serial line", (self._folder / "can0").exists)
        start("capture", [*inland, "capture", *config])
        start("uplink", [*inland, "uplink", *config])
        self._view.step("agent      capture reads a serial CAN adapter; uplink has the network\n")

    def _drive(self) -> dict[str, Any]:
        """Watch until the car has driven and everything is receipted; return the last status."""
        deadline_s = time.monotonic() + self._seconds + START_S + ARRIVE_S
        drove_s = settled_s = 0.0  # when the first frame came, when nothing waited any more
        while True:
            self._processes.check()
            now_s, status = time.monotonic(), self._status()
            if status is not None and status["frames"]["received"]:
                drove_s = drove_s or now_s
                self._view.live(now_s - drove_s, status, brakes_at_s=self._seconds / 2)
                waiting = sum(status["spool"]["pending"].values()) + status["frames"]["waiting"]
                waiting += status["events"]["open"]
                over = self._processes.code("car") is not None
                settled_s = (settled_s or now_s) if over and not waiting else 0.0
                if settled_s and now_s - settled_s > SETTLED_S:
                    self._view.end()
                    return status
            if now_s > deadline_s:
                raise InlandError(
                    "not everything was receipted in time", where=str(self._folder / "logs")
                )
            self._pause.wait(VIEW_S)

    def _status(self) -> dict[str, Any] | None:
        hatch = HatchClient(self._car / "run" / "hatch.sock")
        try:
            status: dict[str, Any] = json.loads(hatch.status())
        except HatchError:  # capture is still starting
            return None
        finally:
            hatch.close()
        return status

    def _await(self, what: str, there: Callable[[], bool]) -> None:
        deadline_s = time.monotonic() + START_S
        while not there():
            self._processes.check()
            if time.monotonic() > deadline_s:
                raise InlandError(f"{what} did not appear within {START_S:.0f} s")
            self._pause.wait(0.05)
