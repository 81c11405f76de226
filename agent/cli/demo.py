"""`inland demo`: the whole way of a frame, on real parts, in a temporary folder.

A region is made, a car enrolled, a policy built from the car's own DBC; then a broker, the station,
both halves of the agent and a simulated car on a serial line run as processes of their own, as they
do in the field. At the end the region opens what arrived, and every frame that the car sent is
compared with it. `--story brake` is the owner's side of it: see `demo_story`.
"""

from __future__ import annotations

import signal
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Final

import click

from agent.cli.common import json_option, print_json
from agent.cli.demo_compare import compare
from agent.cli.demo_stage import Stage, fleet
from agent.cli.demo_view import View, summary
from agent.errors import ConfigError
from agent.files import cannot_write
from agent.station.broker import Kind, start_broker

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
    "--story",
    type=click.Choice(["brake"]),
    help="The owner's side: enroll, brake, export, verify, open, sell the car.",
)
@click.option(
    "--keep", type=click.Path(path_type=Path), help="Work in this new folder and keep it."
)
@json_option
def command(
    seconds: float, seed: int, broker: Kind, story: str | None, keep: Path | None, *, as_json: bool
) -> None:
    """See the whole thing run: no root, no configuration.

    A simulated car drives and brakes hard half-way; its agent keeps, seals and uploads what its
    policy names; the region opens what arrived and compares it with what the car sent. With
    `--story brake` the owner does. Exit code 0, or 1 if one frame is missing, or one step of the
    story did not end as it has to.

    \b
    Examples:
      inland demo --seconds 10 --json
      inland demo --story brake --keep story
    """
    if keep is not None:
        _make(keep)
    stop = _stop_on_signals()

    def run(folder: Path) -> bool:
        if story is not None:
            from agent.cli.demo_story import run_story

            return run_story(
                folder,
                seconds,
                seed,
                broker=broker,
                stop=stop,
                as_json=as_json,
                kept=keep is not None,
            )
        result = Demo(folder, seconds, seed, broker=broker, stop=stop, quiet=as_json).run()
        if as_json:
            print_json(result)
        else:
            summary(result)
        return bool(result["ok"])

    if keep is not None:
        done = run(keep.absolute())
    else:
        with tempfile.TemporaryDirectory(prefix="inland-demo-") as folder:
            done = run(Path(folder))
    sys.exit(0 if done else 1)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise ConfigError("is there already", where=str(folder), todo="--keep a new one") from None
    except OSError as error:
        raise cannot_write(error, folder, todo="name another folder with --keep") from None


def _stop_on_signals() -> threading.Event:
    """Let SIGINT and SIGTERM interrupt, once: what is tidied up then is not interrupted again."""
    stop = threading.Event()

    def interrupt(*_: object) -> None:
        if not stop.is_set():
            stop.set()
            raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)
    return stop


class Demo:
    """One run in one folder."""

    def __init__(
        self, folder: Path, seconds: float, seed: int, *, broker: Kind, stop: threading.Event,
        quiet: bool,
    ) -> None:  # fmt: skip
        self._folder, self._seconds, self._seed = folder, seconds, seed
        self._sent = folder / "sent.log"
        self._broker = broker
        self._view = View(quiet=quiet)
        self._stage = Stage(folder, self._view, stop)

    def run(self) -> dict[str, Any]:
        """Do all of it; return what was found.

        Raises:
            InlandError: a part that did not start or that ended too early; says which.
        """
        began_s = time.monotonic()
        stage = self._stage
        stage.make(fleet() + EXTRA_RULES, told="cn-fleet, and every frame of can0")
        with start_broker(stage.region, kind=self._broker) as broker:
            self._view.step(f"broker     {broker.describe()}")
            try:
                stage.start_station()
                stage.start_car(self._sent, self._seconds, self._seed)
                stage.start_capture()
                stage.start_uplink()
                self._view.step(
                    "agent      capture reads a serial CAN adapter; uplink has the network\n"
                )
                status = stage.watch(self._seconds)
            finally:
                stage.processes.stop()
            result = compare(stage.region, stage.vehicle, self._sent, self._folder / "opened")
            car = stage.car_said()
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
