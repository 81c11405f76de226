"""`inland replay`: send a recorded log onto CAN interfaces, at its pace or as fast as they take it.

Any log that the agent can read is sent through python-can's `Bus.send`, so onto any interface of
python-can, first of all a virtual one (`vcan0`) on the desk. Deadlines are absolute: lateness does
not add up, and the summary says how late frames were.

Error frames are not sent (no interface can), CAN FD frames only with --fd, and only frames whose
channel is mapped; each of these is counted.
"""

from __future__ import annotations

import contextlib
import errno
import select
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from agent.cli.common import json_option, parse_maps, print_json
from agent.errors import BusError, ConfigError

if TYPE_CHECKING:
    import can
    import numpy as np

    from agent.frames import ChannelTable, FrameBatch

_SEND_RETRY_MS: Final = 1
_SEND_PATIENCE_S: Final = 5.0  # a full transmit queue empties within it, unless nobody listens
_NAMED: Final = 10  # broken lines that are named; all are counted
_INTERRUPTED: Final = 130  # 128 + SIGINT, as shells have it
_HISTOGRAM: Final = 64


@dataclass(slots=True)
class Summary:
    """What a replay did. `late` counts frames by the power of two of their lateness in µs."""

    sent: int = 0
    broken: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    retries: int = 0
    worst_us: float = 0.0
    total_late_us: float = 0.0
    late: list[int] = field(default_factory=lambda: [0] * _HISTOGRAM)
    interrupted: bool = False

    def note_late(self, late_us: float) -> None:
        """Count one frame's lateness; early ones (there are none) count as on time."""
        late_us = max(0.0, late_us)
        self.worst_us = max(self.worst_us, late_us)
        self.total_late_us += late_us
        self.late[min(int(late_us).bit_length(), _HISTOGRAM - 1)] += 1

    def late_us(self, share: float) -> int:
        """Return the lateness that this share of the frames stays below, as a power of two, µs."""
        wanted, seen = share * sum(self.late), 0
        for bits, count in enumerate(self.late):
            seen += count
            if seen >= wanted:
                return 1 << bits
        return 1 << _HISTOGRAM

    def as_dict(self) -> dict[str, Any]:
        """Return the summary for --json."""
        paced = sum(self.late)
        return {
            "sent": self.sent,
            "broken": self.broken,
            "skipped": dict(self.skipped),
            "seconds": round(self.seconds, 6),
            "retries": self.retries,
            "interrupted": self.interrupted,
            "late_us": {
                "mean": round(self.total_late_us / paced, 1),
                "p99_below": self.late_us(0.99),
                "max": round(self.worst_us, 1),
            }
            if paced
            else None,
        }


class Player:
    """Sends batches onto buses.

    Args:
        buses: open python-can bus by channel name of the log; "" takes all others.
        fd: CAN FD frames may be sent.
        summary: counts.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        buses: Mapping[str, can.BusABC],
        *,
        fd: bool,
        summary: Summary,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._buses, self._fd, self._summary, self._clock = buses, fd, summary, clock
        self._pause = select.poll()  # nothing registered: polling it just takes its time

    def play(
        self, batches: Iterator[FrameBatch], channels: ChannelTable, speed: float | None
    ) -> None:
        """Send a whole log; speed None is as fast as the buses take it.

        Raises:
            BusError: a bus fails, or takes nothing for 5 s.
        """
        from agent.capture.messages import to_message
        from agent.capture.pace import Pace

        pace, start = Pace(speed or 1.0), None
        for batch in batches:
            start = self._clock() if start is None else start  # the log is open by now
            due = pace.deadlines(batch["timestamp_ns"]) if speed else None
            for index, row in enumerate(batch):
                if due is not None:
                    self._wait(start + int(due[index]) / 1e9)
                bus = self._bus_for(row, channels.names[int(row["channel"])])
                if bus is not None:
                    self._send(bus, to_message(row))
                    self._summary.sent += 1

    def _wait(self, deadline: float) -> None:
        remaining_s = deadline - self._clock()
        if remaining_s > 0:
            self._pause.poll(remaining_s * 1000)
        self._summary.note_late((self._clock() - deadline) * 1e6)

    def _bus_for(self, row: np.void, name: str) -> can.BusABC | None:
        """Return the bus that takes this frame; None if it is skipped, which is counted."""
        from agent.frames import ERROR, FD

        bus = self._buses.get(name, self._buses.get(""))
        flags = int(row["flags"])
        if bus is None:
            self._summary.skipped[f"channel {name} is not mapped"] += 1
        elif flags & ERROR:
            self._summary.skipped["error frames"] += 1
        elif flags & FD and not self._fd:
            self._summary.skipped["CAN FD frames, sent with --fd"] += 1
        else:
            return bus
        return None

    def _send(self, bus: can.BusABC, message: can.Message) -> None:
        import can

        give_up = self._clock() + _SEND_PATIENCE_S
        while True:
            try:
                bus.send(message)
            except (can.CanError, OSError) as error:
                code = getattr(error, "error_code", None) or getattr(error, "errno", None)
                if code not in (errno.ENOBUFS, errno.EAGAIN) or self._clock() > give_up:
                    raise BusError(f"cannot send: {error}", where=str(bus.channel_info)) from error
                self._summary.retries += 1
                self._pause.poll(_SEND_RETRY_MS)
            else:
                return


@contextlib.contextmanager
def _open_buses(
    channel: str | None, maps: Mapping[str, str], interface: str, *, fd: bool
) -> Iterator[dict[str, can.BusABC]]:
    """Open each target once; close all at the end."""
    targets = {**maps, **({"": channel} if channel else {})}
    if not targets:
        raise ConfigError("where to?", todo="give --channel vcan0 or --map can0=vcan0")
    with contextlib.ExitStack() as stack:
        opened = {name: _open_bus(interface, name, fd=fd, stack=stack) for name in _unique(targets)}
        yield {source: opened[target] for source, target in targets.items()}


def _unique(targets: Mapping[str, str]) -> list[str]:
    return list(dict.fromkeys(targets.values()))


def _open_bus(interface: str, name: str, *, fd: bool, stack: contextlib.ExitStack) -> can.BusABC:
    import can

    from agent.capture.early import HOW_TO_VCAN

    options: dict[str, Any] = {"fd": True} if fd else {}
    try:
        bus = can.Bus(interface=interface, channel=name, **options)
    except can.CanInterfaceNotImplementedError as error:
        raise ConfigError(str(error)) from error
    except (can.CanError, OSError) as error:
        is_missing = getattr(error, "errno", None) in (errno.ENODEV, errno.EAFNOSUPPORT)
        raise BusError(
            f"no such CAN interface ({error})" if is_missing else f"cannot open: {error}",
            where=f"{interface}:{name}",
            todo=HOW_TO_VCAN if is_missing else "",
        ) from error
    except (TypeError, ValueError) as error:
        raise ConfigError(str(error), where=f"{interface}:{name}") from error
    stack.callback(bus.shutdown)
    return bus


def _rounds(loop: int) -> Iterator[int]:
    done = 0
    while loop == 0 or done < loop:
        yield done
        done += 1


def _report(summary: Summary, *, as_json: bool) -> None:
    figures = summary.as_dict()
    if as_json:
        print_json(figures)
        return
    text = f"sent {summary.sent} frames in {summary.seconds:.1f} s"
    if late := figures["late_us"]:
        text += f", late by {late['mean']} µs on average, 99 % below {late['p99_below']} µs"
        text += f", at most {late['max']} µs"
    click.echo(text + (", interrupted" if summary.interrupted else ""))
    for why, count in summary.skipped.items():
        click.echo(f"not sent: {count} ({why})")
    if summary.broken:
        click.echo(f"broken lines: {summary.broken}")


@click.command("replay")
@click.argument("log", type=click.Path(path_type=Path))
@click.option("--channel", help="Interface for every frame that no --map names, e.g. vcan0.")
@click.option("--interface", default="socketcan", show_default=True, help="python-can interface.")
@click.option("--speed", default="1.0", show_default=True, help='Times as fast, or "max".')
@click.option(
    "--loop",
    default=1,
    show_default=True,
    type=click.IntRange(0),
    help="How many times; 0: no end.",
)
@click.option("--map", "maps", multiple=True, metavar="CH=IF", help="A log channel's interface.")
@click.option("--fd", is_flag=True, help="Open the interfaces for CAN FD.")
@click.option("--strict", is_flag=True, help="Stop at the first broken line.")
@json_option
def command(
    *,
    log: Path,
    channel: str | None,
    interface: str,
    speed: str,
    loop: int,
    maps: tuple[str, ...],
    fd: bool,
    strict: bool,
    as_json: bool,
) -> None:
    """Send the frames of LOG onto a CAN interface, as recorded.

    LOG is a candump log, SavvyCAN CSV, CRTD, ASC, BLF, TRC, MF4 ..., compressed or not.

    \b
    Example:
      inland replay drive.log --channel vcan0 --speed max
    """
    from agent.capture.logbus import parse_speed
    from agent.capture.logs import find_format

    factor = parse_speed(speed)
    find_format(log)  # before any interface is opened
    summary = Summary()
    with _open_buses(channel, parse_maps(maps, "INTERFACE_CHANNEL"), interface, fd=fd) as buses:
        player = Player(buses, fd=fd, summary=summary)
        start = time.monotonic()
        try:
            for _ in _rounds(loop):
                _play_once(player, log, summary, speed=factor, strict=strict, quiet=as_json)
        except KeyboardInterrupt:
            summary.interrupted = True
        summary.seconds = time.monotonic() - start
    _report(summary, as_json=as_json)
    if summary.interrupted:
        raise SystemExit(_INTERRUPTED)


def _play_once(
    player: Player,
    path: Path,
    summary: Summary,
    *,
    speed: float | None,
    strict: bool,
    quiet: bool,
) -> None:
    """Play the log one time, with a bar over the bytes of its file if a person looks on."""
    from agent.capture.logs import read_log
    from agent.frames import ChannelTable

    def name_broken(where: str, why: str) -> None:
        summary.broken += 1
        if summary.broken <= _NAMED:
            click.echo(f"{where}: {why}", err=True)

    with click.progressbar(
        length=max(1, path.stat().st_size),
        label=path.name,
        file=sys.stderr,
        hidden=quiet or not sys.stderr.isatty(),
    ) as bar:
        channels = ChannelTable()
        batches = read_log(
            path, channels, strict=strict, on_broken=name_broken, progress=bar.update
        )
        player.play(batches, channels, speed)
