"""`python -m firmware_sim`: a car on a simulated adapter, an interface, or in a log."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import Any, Final

import click

from firmware_sim.car import BITRATE, LOADS, Car, Options
from firmware_sim.drive import drive
from firmware_sim.errors import SimError
from firmware_sim.outputs import CanOutput, LogOutput, Output
from firmware_sim.pty import PtyOutput
from firmware_sim.record import Record
from firmware_sim.scenarios import SCENARIOS
from firmware_sim.slcan import Device

START_UNIX_S: Final = 1_793_520_000  # 2026-11-01 08:00 UTC: a fixed start, so that a log repeats
FINISH_S: Final = 5.0
BRAKE_AT_S: Final = 30.0  # in a drive without end
OUTPUTS: Final = ("pty_link", "socketcan", "udp_multicast", "log")

HELP: Final = (
    """Simulate what is around the agent in a car: an SLCAN adapter on a pseudo terminal, the car
behind it, and its camera controller. The same seed gives the same bytes.

\b
Scenarios:
"""
    + "\n".join(f"  {name:<15}{scenario.summary}" for name, scenario in SCENARIOS.items())
    + """

\b
Examples:
  An adapter that any SLCAN host can open, with a link at a fixed place:
    python -m firmware_sim --pty-link /tmp/ttyCar --scenario hard-brake --seconds 20
  The same drive into a log, as fast as it goes; - is standard output:
    python -m firmware_sim --log drive.log --scenario hard-brake --seconds 20 --seed 7
  A full 500 kbit/s bus on a virtual interface, until Ctrl-C:
    python -m firmware_sim --socketcan vcan0 --load full --seconds 0

Exit: 0 done or interrupted, 2 wrong use, 75 the output cannot be used now.
"""
)


class _Speed(click.ParamType[float]):
    """A factor, or `max`, which is 0."""

    name = "factor|max"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        if value in ("max", 0.0):
            return 0.0
        try:
            factor = float(value)
        except ValueError:
            factor = -1.0
        if not 0 < factor <= 1000:
            self.fail(f"{value!r} is neither max nor a factor up to 1000", param, ctx)
        return factor


class _Moment(click.ParamType[int]):
    """A moment in ns since the Unix epoch."""

    name = "time|now"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        if value == "now":
            return time.time_ns()
        try:
            if value.replace(".", "", 1).isdigit():
                moment = float(value)
            else:
                read = datetime.fromisoformat(value)
                moment = (read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError):
            moment = -1.0
        if not 0 <= moment < 2**33:
            self.fail(f"{value!r} is not ISO 8601, Unix seconds or now", param, ctx)
        return round(moment * 1e6) * 1000


@click.command(help=HELP)
@click.option(
    "--scenario", type=click.Choice(list(SCENARIOS)), default="commute", show_default=True
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, max=1e6),
    default=60.0,
    show_default=True,
    help="How long to drive, in simulated time; 0 until interrupted.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Source of all randomness.")
@click.option(
    "--brake-at",
    type=click.FloatRange(min=0),
    metavar="S",
    help="When the scenario brakes hard.  [default: half-way]",
)
@click.option(
    "--load",
    type=click.Choice(list(LOADS)),
    default="normal",
    show_default=True,
    help="Fill the bus: half about 2,000 frames/s in all, full about 4,000.",
)
@click.option("--fd", is_flag=True, help="Run CAN FD: adds 64-byte frames.")
@click.option(
    "--speed",
    type=_Speed(),
    default=None,
    help="Simulated seconds in a real one.  [default: 1.0; max for --log]",
)
@click.option(
    "--start",
    type=_Moment(),
    default=START_UNIX_S * 10**9,
    help="First moment in logs: ISO 8601, Unix seconds or now.  [default: a fixed one]",
)
@click.option("--channel", default="can0", show_default=True, help="Name of the bus in logs.")
@click.option(
    "--pty-link",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="Be an adapter on a pty, with a link to it at PATH.  [default: a pty, no link]",
)
@click.option("--socketcan", metavar="IFACE", help="Send to a SocketCAN interface, e.g. vcan0.")
@click.option(
    "--udp-multicast",
    metavar="GROUP",
    help="Send to python-can's udp_multicast, e.g. 239.74.163.2; needs msgpack.",
)
@click.option("--log", metavar="FILE", help="Write a log like candump -L; - is standard output.")
@click.option(
    "--sent-log",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write each frame that was handed over, like candump -L.",
)
@click.option(
    "--wait-open/--no-wait-open",
    default=True,
    show_default=True,
    help="pty: begin the drive when the host opens the channel.",
)
@click.option("--json", "as_json", is_flag=True, help="Print what was sent as one JSON object.")
def command(**given: Any) -> None:
    """Run one drive."""
    stop = Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    options = _options(given)
    record = Record(_channel(given["channel"]))
    with ExitStack() as cleanup:
        cleanup.callback(record.close)
        output = _output(given, record, stop)
        cleanup.callback(output.close)
        if given["sent_log"] is not None:
            record.log_to(given["sent_log"])
        seconds = drive(
            Car(options),
            output,
            seconds=given["seconds"],
            speed=_speed(given),
            wait_open=given["wait_open"],
            stop=stop,
        )
        output.finish(FINISH_S)
    _report(given, options, record, seconds)


def _options(given: dict[str, Any]) -> Options:
    braking = SCENARIOS[given["scenario"]].braking
    if given["brake_at"] is not None and not braking:
        raise SimError(f"--brake-at: the scenario {given['scenario']} does not brake hard")
    brake_at = given["brake_at"]
    if brake_at is None:
        brake_at = given["seconds"] / 2 or BRAKE_AT_S
    return Options(
        scenario=given["scenario"],
        seed=given["seed"],
        start_ns=given["start"],
        brake_at_s=brake_at,
        load="full" if SCENARIOS[given["scenario"]].flood else given["load"],
        fd=given["fd"],
    )


def _channel(name: str) -> str:
    if not name.isascii() or not name.isprintable() or not name or " " in name:
        raise SimError(f"--channel: {name!r} cannot stand in a log; use a name without spaces")
    return name


def _speed(given: dict[str, Any]) -> float | None:
    default = 0.0 if given["log"] is not None else 1.0
    return (default if given["speed"] is None else given["speed"]) or None


def _output(given: dict[str, Any], record: Record, stop: Event) -> Output:
    chosen = [name for name in OUTPUTS if given[name] is not None]
    if len(chosen) > 1:
        names = " and ".join("--" + name.replace("_", "-") for name in chosen)
        raise SimError(f"{names} exclude each other; choose one output")
    if given["log"] is not None:
        if not given["seconds"] and _speed(given) is None:
            raise SimError("--seconds 0 would fill the disk; give --seconds or --speed 1.0")
        return LogOutput(given["log"], record, stop)
    for name in ("socketcan", "udp_multicast"):
        if given[name] is not None:
            return CanOutput(name, given[name], fd=given["fd"], record=record, stop=stop)
    device = Device(bus_bitrate=BITRATE, fd=given["fd"], default_bitrate=BITRATE)
    output = PtyOutput(device, record, stop, link=given["pty_link"], tell=_tell)
    link = f" ({given['pty_link']})" if given["pty_link"] else ""
    _tell(f"SLCAN adapter at {output.path}{link}, {BITRATE} bit/s")
    return output


def _report(given: dict[str, Any], options: Options, record: Record, seconds: float) -> None:
    head = {
        "scenario": options.scenario,
        "seed": options.seed,
        "load": options.load,
        "fd": options.fd,
        "channel": record.channel,
        "seconds": round(seconds, 3),
    }
    counts = record.summary()
    if given["as_json"]:
        click.echo(json.dumps(head | counts), err=given["log"] == "-")
        return
    text = f"{counts['frames']} frames sent in {seconds:.1f} s of {options.scenario}"
    for name in ("lost", "unheard", "unread_bytes", "host_frames"):
        if counts[name]:
            text += f", {counts[name]} {name.replace('_', ' ')}"
    _tell(text)


def _tell(text: str) -> None:
    click.echo(text, err=True)


def main() -> None:
    """Run the command; every failure is one line and an exit code."""
    try:
        code = command.main(prog_name="python -m firmware_sim", standalone_mode=False) or 0
    except click.ClickException as error:
        click.echo(f"error: {error.format_message()}", err=True)
        code = error.exit_code
    except click.Abort:
        code = 0  # Ctrl-C before the drive began
    except SimError as error:
        click.echo(f"error: {error}", err=True)
        code = error.exit_code
    try:
        sys.stdout.flush()
    except OSError:
        # The reader has gone, which was reported; the interpreter shall not try again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


if __name__ == "__main__":
    main()
