"""The loop that takes a car through its drive and hands the frames to an output, in time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from threading import Event
from typing import Final, Protocol

from firmware_sim.frames import Frame
from firmware_sim.outputs import Output

TICK_S: Final = 0.004  # frames are handed over in groups of this much real time
CHUNK_NS: Final = 50_000_000  # and of at most this much simulated time
OPEN_POLL_S: Final = 0.1
STUCK_S: Final = 5.0  # a host that takes nothing for so long loses frames


class Source(Protocol):
    """Makes frames; Car is one."""

    def frames_until(self, end_ns: int) -> Iterator[Frame]:
        """Yield the frames that start before a moment, in order."""


def drive(
    source: Source,
    output: Output,
    *,
    seconds: float,
    speed: float | None,
    wait_open: bool,
    stop: Event,
) -> float:
    """Drive, and return how many simulated seconds it were.

    Args:
        source: makes the frames.
        output: takes them.
        seconds: simulated time to drive; 0 for no end.
        speed: simulated seconds in a real one; None for as fast as the output takes them.
        wait_open: begin when the host opens the channel.
        stop: ends the drive early.

    Raises:
        OutputError: the output is gone.
    """
    while wait_open and not output.opened and not stop.is_set():
        output.attend(OPEN_POLL_S)
    end_ns = round(seconds * 1e9) if seconds else None
    run = _run_paced(source, output, end_ns, speed, stop) if speed else None
    return (_run_freely(source, output, end_ns, stop) if run is None else run) / 1e9


def _run_paced(
    source: Source, output: Output, end_ns: int | None, speed: float, stop: Event
) -> int:
    """Follow the clock. Deadlines are multiples of the tick from the start, so nothing drifts."""
    began, ticks, reached = time.monotonic(), 0, 0
    while not stop.is_set():
        passed = time.monotonic() - began
        ticks = max(ticks + 1, int(passed / TICK_S) + 1)
        output.attend(max(0.0, ticks * TICK_S - passed))
        target = int((time.monotonic() - began) * speed * 1e9)
        if end_ns is not None:
            target = min(target, end_ns)
        while reached < target and not stop.is_set():
            reached = min(target, reached + CHUNK_NS)
            output.deliver(list(source.frames_until(reached)))
        if reached == end_ns:
            break
    return reached


def _run_freely(source: Source, output: Output, end_ns: int | None, stop: Event) -> int:
    reached = 0
    while not stop.is_set() and reached != end_ns:
        reached += CHUNK_NS
        if end_ns is not None:
            reached = min(reached, end_ns)
        output.deliver(list(source.frames_until(reached)))
        output.attend(0)
        _wait_for_room(output, stop)
    return reached


def _wait_for_room(output: Output, stop: Event) -> None:
    """Wait as long as the host takes something now and then, however slowly."""
    taken, stuck_at = output.taken, time.monotonic() + STUCK_S
    while not output.has_room and time.monotonic() < stuck_at and not stop.is_set():
        output.attend(TICK_S)
        if output.taken != taken:
            taken, stuck_at = output.taken, time.monotonic() + STUCK_S
