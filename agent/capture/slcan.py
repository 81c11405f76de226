"""SLCAN adapters (a serial line of text) read in bulk.

- python-can opens the adapter (its keys: channel, tty_baudrate, bitrate, timing, rtscts,
  listen_only ...); then we read its serial port ourselves, all bytes that wait at once. python-can
  reads byte by byte, which costs more than one core for one full 500 kbit/s bus.
- Listen only by default: the adapter is opened with `L`. Set listen_only = false for an adapter
  that does not know it; we send nothing either way.
- Stamps: an adapter has no wall clock, so a frame's stamp is host wall time at the read; inside a
  read the frames are 1 µs apart, the last one has the time of the read. Stamps rise strictly, so
  order is kept, unless the wall clock was set back by more than a second: then they follow it.
- The line is read every 25 ms, on a faster bus than 500 kbit/s sooner, since a tty holds little.
  Its text is parsed at ticks only (`queue.py`): most of what that costs is the same for 80 lines as
  for 500.
- An adapter that is pulled out raises BusError. What is no frame is counted as Loss BROKEN.
"""

from __future__ import annotations

import io
import logging
import os
import select
import time
from collections.abc import Callable
from typing import Any, Final, Protocol

import can
import numpy as np
import serial
from can.interfaces.slcan import slcanBus

from agent.capture.queue import until_tick
from agent.capture.settings import check_keys, driver_keys
from agent.capture.sieve import Sieve
from agent.capture.slcan_lines import parse
from agent.errors import BusError, ConfigError
from agent.frames import FRAME, ChannelTable, FrameBatch, concatenate

log = logging.getLogger(__name__)

_READ_BYTES: Final = 1 << 16
_READS: Final = 16  # a batch: at most this many; a tty gives 4 KiB a read
_FULL_READ: Final = 4095  # a tty that gives less has no more
_DRAIN_BYTES: Final = 3 << 10  # a tty holds 4 KiB at least: it is read before that is there
_BYTES_A_BIT: Final = 0.24  # of text for a bit on the bus, at most: 27 characters for 114 bits
_DRAIN_S: Final = 0.025  # at most: a stamp may be late by as much
_FASTEST: Final = 1_000_000  # bit/s, where nobody has said how fast the bus is
_GATHER_BYTES: Final = 1 << 15  # text of several reads; a full 1 Mbit/s bus brings 25 KB in a tick
_STEP_NS: Final = 1000
_BITRATES: Final = (
    *(10_000, 20_000, 50_000, 100_000, 125_000, 250_000, 500_000, 750_000, 1_000_000),  # S0-S8
    83_300,  # S9, of python-can
)
_CLOCK_SET_BACK_NS: Final = 1_000_000_000


class Port(Protocol):
    """A serial port without a file descriptor (pyserial's loop:// or socket://)."""

    in_waiting: int
    timeout: float | None

    def read(self, size: int = 1) -> bytes:
        """Return up to size bytes within the timeout."""


def drain_seconds(bitrate: int) -> float:
    """Return how long the text of a bus may gather in a tty.

    Args:
        bitrate: of the bus, bit/s.
    """
    return min(_DRAIN_S, _DRAIN_BYTES / (_BYTES_A_BIT * bitrate))


def spread(count: int, now_ns: int, last_ns: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return `count` strictly rising stamps that end at now_ns or, if need be, a little later.

    Args:
        count: frames of this read.
        now_ns: wall time of the read.
        last_ns: last stamp given out.
    """
    first = now_ns - (count - 1) * _STEP_NS
    if first <= last_ns < now_ns + _CLOCK_SET_BACK_NS:
        first = last_ns + _STEP_NS
    return first + np.arange(count, dtype=np.int64) * _STEP_NS


class SlcanBus(Sieve):
    """One SLCAN adapter, read in batches. A BatchBus.

    Args:
        source: reads what waits, `(timeout_s) -> bytes`; raises OSError if the device is gone.
        name: the channel's name.
        channels: numbers it.
        clock_ns: wall clock.
        shutdown: closes the adapter.
    """

    ended: bool = False

    def __init__(
        self,
        source: Callable[[float], bytes],
        name: str,
        channels: ChannelTable,
        *,
        clock_ns: Callable[[], int] = time.time_ns,
        shutdown: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(name)  # adapters differ too much to filter there
        self._source, self._clock_ns, self._shutdown = source, clock_ns, shutdown
        self._number = channels.number(name)
        self._rest = b""
        self._last_ns = 0
        self._is_open = True

    def recv_batch(self, timeout_s: float) -> FrameBatch:
        """Return the frames of all bytes that wait; waits up to timeout_s for the first byte.

        Raises:
            BusError: the adapter is gone, or the bus was closed.
        """
        if not self._is_open:
            raise BusError("the bus is closed", where=self.name)
        pieces = self._gather(timeout_s)
        if not pieces:
            return np.zeros(0, FRAME)
        batch, counts = self._parse([piece for piece, _ in pieces])
        stamps, begin = batch["timestamp_ns"], 0
        for count, (_, read_ns) in zip(counts, pieces, strict=True):
            if count:
                stamps[begin : begin + count] = spread(count, read_ns, self._last_ns)
                begin += count
                self._last_ns = int(stamps[begin - 1])
        return self._filter(batch)

    def _gather(self, timeout_s: float) -> list[tuple[bytes, int]]:
        """Return what came in one or more reads, each with its wall time in ns."""
        pieces: list[tuple[bytes, int]] = []
        size, deadline = 0, 0.0
        while size < _GATHER_BYTES:
            try:
                piece = self._source(timeout_s)
            except (OSError, serial.SerialException) as error:
                if pieces:
                    break  # the next call meets the same error, after these bytes are used
                raise BusError(f"the SLCAN adapter is gone: {error}", where=self.name) from error
            if not piece:
                break
            now_s = time.monotonic()
            if not pieces:
                deadline = now_s + until_tick(now_s)
            pieces.append((piece, self._clock_ns()))
            size += len(piece)
            timeout_s = deadline - now_s
            if timeout_s <= 0:
                break
        return pieces

    def _parse(self, pieces: list[bytes]) -> tuple[FrameBatch, list[int]]:
        """Return frames, and of how many of them the last character came with each piece."""
        lines = [piece.count(b"\r") for piece in pieces]
        parsed = parse(b"".join(pieces), self._rest, self._number)
        if len(parsed.frames) == sum(lines) and not parsed.broken:
            self._rest = parsed.rest
            return parsed.frames, lines
        found = []  # some lines are no frames: only piece by piece can tell when the others came
        for piece in pieces:
            parsed = parse(piece, self._rest, self._number)
            self._rest, self._broken = parsed.rest, self._broken + parsed.broken
            found.append(parsed.frames)
        return concatenate(found), [len(frames) for frames in found]

    def close(self) -> None:
        """Close the adapter. Safe to call twice."""
        if not self._is_open:
            return
        self._is_open = False
        try:
            self._shutdown()
        except (OSError, can.CanError) as error:  # it may have been pulled out
            log.warning("%s: closing the adapter failed: %s", self.name, error)


class DescriptorSource:
    """Reads a non-blocking file descriptor, e.g. of a tty.

    Args:
        fileno: the descriptor; not owned.
        drain_s: how long bytes may gather after the first.
    """

    def __init__(self, fileno: int, drain_s: float = drain_seconds(_FASTEST)) -> None:
        self._fileno, self._drain_ms = fileno, drain_s * 1000
        self._readable, self._pause = select.poll(), select.poll()
        self._readable.register(fileno, select.POLLIN)
        self._flows = False

    def __call__(self, timeout_s: float) -> bytes:
        """Return all bytes that wait.

        Raises:
            OSError: the device is gone.
        """
        # Where bytes came a moment ago, more will: to ask first would be a wake-up more each time.
        if self._flows:
            # Nothing is registered: it just takes its time.
            self._pause.poll(min(self._drain_ms, timeout_s * 1000))
            if data := self._read():
                return data
        self._flows = bool(self._readable.poll(timeout_s * 1000))
        if not self._flows:
            return b""
        self._pause.poll(self._drain_ms)
        return self._read()

    def _read(self) -> bytes:
        pieces: list[bytes] = []
        for _ in range(_READS):
            try:
                piece = os.read(self._fileno, _READ_BYTES) or self._read_again()
            except BlockingIOError:
                break
            except OSError:
                if pieces:
                    break  # the next call meets the same error, after these bytes are used
                raise
            if not piece:
                break
            pieces.append(piece)
            if len(piece) < _FULL_READ:
                break
        return b"".join(pieces)

    def _read_again(self) -> bytes:
        """Tell silence from the end: pyserial sets VMIN to 0, so that both read as no bytes.

        Raises:
            OSError: the line says that there is something to read, and there is nothing.
        """
        if not self._readable.poll(0):
            return b""
        if piece := os.read(self._fileno, _READ_BYTES):
            return piece
        raise OSError("the line was hung up")


class PortSource:
    """Reads a pyserial port that has no file descriptor.

    Args:
        port: the port.
    """

    def __init__(self, port: Port) -> None:
        self._port = port

    def __call__(self, timeout_s: float) -> bytes:
        """Return all bytes that wait."""
        self._port.timeout = timeout_s
        first = self._port.read(1)
        return first + self._port.read(self._port.in_waiting) if first else b""


def open_slcan(settings: dict[str, Any], channels: ChannelTable) -> SlcanBus:
    """Open an adapter through python-can.

    Args:
        settings: python-can's keys for slcan, plus `name`.
        channels: numbers the channel.

    Raises:
        BusError: the device cannot be opened.
        ConfigError: a key is unknown or has a wrong value.
    """
    name = str(settings.pop("name", "") or settings["channel"])
    check_keys(settings, driver_keys(slcanBus) | {"ttyBaudrate"}, name)
    for key in ("interface", "can_filters"):
        settings.pop(key, None)
    if "ttyBaudrate" in settings:  # python-can's name for it until 4.5
        settings["tty_baudrate"] = settings.pop("ttyBaudrate")
    bitrate = settings.get("bitrate")
    if bitrate is not None and bitrate not in _BITRATES:
        # Said here: python-can would say it after opening the port, and leave it open.
        allowed = ", ".join(map(str, _BITRATES))
        raise ConfigError(f"bitrate {bitrate} is none that SLCAN has ({allowed})", where=name)
    settings.setdefault("sleep_after_open", 0)
    settings.setdefault("listen_only", True)
    try:
        bus = can.Bus(interface="slcan", **settings)
    except (can.CanError, OSError, serial.SerialException) as error:
        raise BusError(f"cannot open the SLCAN adapter: {error}", where=name) from error
    except (TypeError, ValueError) as error:
        raise ConfigError(str(error), where=name) from error
    port: Any = bus.serialPortOrig  # type: ignore[attr-defined]  # slcanBus has it
    try:
        source: Callable[[float], bytes] = DescriptorSource(
            bus.fileno(), drain_seconds(bitrate or _FASTEST)
        )
    except (NotImplementedError, io.UnsupportedOperation):
        source = PortSource(port)

    def shutdown() -> None:
        try:
            bus.shutdown()
        finally:
            port.close()  # python-can leaves it open if the adapter does not answer any more

    return SlcanBus(source, name, channels, shutdown=shutdown)
