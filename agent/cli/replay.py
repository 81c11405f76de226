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
import logging
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from agent.cli.common import json_option, parse_maps
from agent.cli.replay_view import Summary, report
from agent.errors import BusError, ConfigError

if TYPE_CHECKING:
    import can
    import numpy as np

    from agent.frames import ChannelTable, FrameBatch

_SEND_RETRY_MS: Final = 1
_SEND_PATIENCE_S: Final = 5.0  # a full transmit queue empties within it, unless nobody listens
_NAMED: Final = 10  # broken lines that are named; all are counted
_INTERRUPTED: Final = 130  # 128 + SIGINT, as shells have it


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
        self._interrupted, self._waits = False, False
        self._pause = select.poll()  # nothing registered: polling it just takes its time

    def interrupt(self, *_: object) -> None:
        """End the replay between two frames: what is sent is counted. A signal handler.

        Raises:
            KeyboardInterrupt: nothing is being sent now.
        """
        self._interrupted = True
        if self._waits:
            raise KeyboardInterrupt

    def play(
        self, batches: Iterator[FrameBatch], channels: ChannelTable, speed: float | None
    ) -> None:
        """Send a whole log; speed None is as fast as the buses take it.

        Raises:
            BusError: a bus fails, or takes nothing for 5 s.
            KeyboardInterrupt: `interrupt` was called.
        """
        from agent.capture.messages import to_message
        from agent.capture.pace import Pace

        pace, start = Pace(speed or 1.0), None
        for batch in batches:
            start = self._clock() if start is None else start  # the log is open by now
            due = pace.deadlines(batch["timestamp_ns"]) if speed else None
            for index, row in enumerate(batch):
                if self._interrupted:
                    raise KeyboardInterrupt
                if due is not None:
                    self._wait(start + int(due[index]) / 1e9)
                bus = self._bus_for(row, channels.names[int(row["channel"])])
                if bus is not None:
                    self._send(bus, to_message(row))
                    self._summary.sent += 1

    def _wait(self, deadline: float) -> None:
        remaining_s = deadline - self._clock()
        if remaining_s > 0:
            self._waits = True
            if self._interrupted:
                raise KeyboardInterrupt
            select.select([], [], [], remaining_s)  # to the µs, where poll takes whole ms
            self._waits = False
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
                    raise _refused(bus, message, error, code) from error
                if self._interrupted:
                    raise KeyboardInterrupt from error
                self._summary.retries += 1
                self._pause.poll(_SEND_RETRY_MS)
            else:
                return


def _refused(bus: can.BusABC, message: can.Message, error: Exception, code: int | None) -> BusError:
    """Return what the kernel meant, where it is clear."""
    where, name = str(bus.channel_info), getattr(bus, "channel", "IFACE")
    if code == errno.ENETDOWN:
        return BusError("the interface is down", where=where, todo=f"ip link set {name} up")
    if code == errno.EINVAL and message.is_fd:
        todo = f"ip link set {name} mtu 72, or leave out --fd"
        return BusError("the interface takes no CAN FD frames", where=where, todo=todo)
    return BusError(f"cannot send: {error}", where=where)


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

    # It logs what it raises as well; nobody is to read it twice.
    logging.getLogger("can").addHandler(logging.NullHandler())
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


@contextlib.contextmanager
def _interrupts(player: Player) -> Iterator[None]:
    """Let Ctrl-C end the replay between two frames; ignored, as by nohup, it stays ignored."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:
        yield
        return
    signal.signal(signal.SIGINT, player.interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


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
            with _interrupts(player):
                for _ in _rounds(loop):
                    _play_once(player, log, summary, speed=factor, strict=strict, quiet=as_json)
        except KeyboardInterrupt:
            summary.interrupted = True
        summary.seconds = time.monotonic() - start
    report(summary, as_json=as_json)
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
