"""Any interface that python-can knows, through its `recv()`: correct, and slower than our own.

Messages are packed into the batch at once; none is kept. After the first frame, more may gather
for 10 ms, so that the recorder gets batches instead of single frames.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any, Final

import can
from can.interfaces import BACKENDS

from agent.capture.messages import add_message, stamp_ns
from agent.capture.rows import Rows
from agent.capture.settings import check_keys, driver_keys
from agent.capture.sieve import Sieve
from agent.errors import BusError, ConfigError
from agent.frames import ChannelTable, FrameBatch

_ROWS: Final = 4096  # a batch at most
_DRAIN_MS: Final = 10


class GeneralBus(Sieve):
    """A python-can bus, read in batches. A BatchBus.

    Args:
        bus: the open bus; owned from now on.
        name: the channel's name.
        channels: numbers it.
        clock_ns: wall clock, for messages without a stamp.
    """

    ended: bool = False

    def __init__(
        self,
        bus: can.BusABC,
        name: str,
        channels: ChannelTable,
        *,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        super().__init__(name)  # python-can does not tell what its drivers drop
        self._bus, self._clock_ns, self._number = bus, clock_ns, channels.number(name)
        self._pause = select.poll()  # nothing registered: polling it just takes its time
        self._is_open = True

    def recv_batch(self, timeout_s: float) -> FrameBatch:
        """Return what has arrived; waits up to timeout_s for the first frame.

        Raises:
            BusError: the interface fails, or the bus was closed.
        """
        if not self._is_open:
            raise BusError("the bus is closed", where=self.name)
        rows = Rows()
        try:
            message = self._bus.recv(timeout_s)
            if message is not None:
                self._pause.poll(_DRAIN_MS)
            while message is not None:
                stamp = stamp_ns(message.timestamp) if message.timestamp else self._clock_ns()
                add_message(rows, message, self._number, stamp)
                message = self._bus.recv(0) if len(rows) < _ROWS else None
        except (can.CanError, OSError) as error:
            if not len(rows):
                raise BusError(f"cannot read: {error}", where=self.name) from error
            # What came before is delivered; the next call meets the error again.
        return self._filter(rows.take())

    def close(self) -> None:
        """Close the bus. Safe to call twice."""
        if self._is_open:
            self._is_open = False
            self._bus.shutdown()


def open_general(settings: dict[str, Any], channels: ChannelTable) -> GeneralBus:
    """Open any interface of python-can.

    Args:
        settings: python-can's keys, plus `name`.
        channels: numbers the channel.

    Raises:
        BusError: it cannot be opened.
        ConfigError: a key is unknown or has a wrong value, or the driver is not installed.
    """
    name = str(settings.pop("name", "") or settings.get("channel") or settings["interface"])
    interface = str(settings["interface"])
    if interface in BACKENDS:  # one that is not is refused below, with a list of those that are
        try:
            driver = getattr(import_module(BACKENDS[interface][0]), BACKENDS[interface][1])
        except (ImportError, AttributeError) as error:  # the latter: a driver for Windows
            raise ConfigError(f"interface {interface}: {error}", where=name) from error
        check_keys(settings, driver_keys(driver), name)
    settings.pop("can_filters", None)
    try:
        bus = can.Bus(**settings)
    except can.CanInterfaceNotImplementedError as error:
        raise ConfigError(str(error), where=name) from error
    except (can.CanError, OSError) as error:
        raise BusError(f"cannot open: {error}", where=name) from error
    except (TypeError, ValueError) as error:
        raise ConfigError(str(error), where=name) from error
    return GeneralBus(bus, name, channels)
