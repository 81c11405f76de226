"""One reader a bus: from the interface into the queue, and nothing else.

A reader never dies silently: an interface that goes away is a bus state, reopened with back-off;
what it cannot hand on is counted. `step()` is one unit of work; the thread around it is the
service's. Filters do not wait for it: who sets them sets them on the open bus, also while that is
being read, so that afterwards it is true that the bus delivers what is wanted.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Final, Protocol

from agent.capture.bus import BatchBus
from agent.capture.queue import Arrival, FrameQueue
from agent.errors import BusDownError, BusError
from agent.pb.ledger_pb2 import Loss

READ_TIMEOUT_S: Final = 0.25  # how long a silent bus keeps a reader from seeing `stop`
FIRST_RETRY_S: Final = 0.2
LAST_RETRY_S: Final = 1.0  # an interface that appears late in a boot is heard within a second
STEADY_S: Final = 10.0  # up for so long: the next time that it goes is a new story

log = logging.getLogger(__name__)


class Notice(Protocol):
    """Where a reader reports what happened to its bus; called from the reader's thread."""

    def __call__(self, channel: str, state: str) -> None:
        """Take note that a bus is up, down or missing."""
        ...


class Reader:
    """Reads one bus for as long as the agent runs.

    Args:
        number: which reader this is, for the queue.
        name: the bus, for messages.
        open_bus: opens the interface; may raise BusError.
        queue: where batches go.
        patient: wait for room in the queue instead of losing frames (a recorded log).
        notice: told when the bus comes or goes.
        clock_s: monotonic.
    """

    def __init__(
        self,
        number: int,
        name: str,
        open_bus: Callable[[], BatchBus],
        queue: FrameQueue,
        *,
        patient: bool,
        notice: Notice,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.ended = False
        self.received = 0  # frames handed to the queue, for the status
        self._number, self._open, self._queue = number, open_bus, queue
        self._patient, self._notice, self._clock_s = patient, notice, clock_s
        self._opened_s = clock_s()
        self._bus: BatchBus | None = None
        self._held: Arrival | None = None  # a patient reader's batch that still waits for room
        self._retry_s = FIRST_RETRY_S
        self.state = "closed"  # up | down | missing, for the status
        self._filters: list[dict[str, object]] | None = None
        # Guards what the sealer's thread touches: filters, the bus that they go to, and losses.
        self._lock = threading.Lock()
        self._lost: Counter[tuple[str, int]] = Counter()
        self._filters_new = False  # not on the bus yet

    def open_now(self) -> None:
        """Open the bus before the thread starts, so that a wrong setting stops the start.

        An interface that is not there yet does not: the thread tries again until it is.

        Raises:
            ConfigError: its settings cannot be used.
            LogError: a recorded log that is missing or that nobody can read.
        """
        try:
            self._bus = self._open()
        except BusError as error:
            self._gone(error)
        else:
            self.state = "up"

    def step(self) -> float:
        """Read once; return how long to wait before the next step, in seconds."""
        if self._held is not None:
            return self._hand_over(self._held)
        if self.ended:
            return READ_TIMEOUT_S
        try:
            bus = self._bus or self._reopen()
            self._filter(bus)
            batch = bus.recv_batch(READ_TIMEOUT_S)
        except BusDownError as error:
            return self._down(error)
        except BusError as error:
            return self._gone(error)
        self._say("up")
        self._count(bus)
        if len(batch):
            return self._hand_over(Arrival(self._number, batch))
        if bus.ended:
            self.ended = True
        return 0.0

    def set_filters(self, filters: list[dict[str, object]] | None) -> None:
        """Have the bus deliver only what matches from now on; None: everything. Any thread.

        A bus that is gone gets them when it is back, before it is read.
        """
        with self._lock:
            self._filters, self._filters_new = filters, True
            if self._bus is not None:
                with contextlib.suppress(BusError):  # `step` meets it too, and knows what to do
                    self._bring_filters(self._bus)

    def losses(self) -> list[tuple[str, int, int]]:
        """Return (channel, count, cause) of what was lost since the last call. Any thread."""
        with self._lock:
            lost = [(channel, count, cause) for (channel, cause), count in self._lost.items()]
            self._lost.clear()
        return lost

    def close(self) -> None:
        """Close the interface."""
        with self._lock:  # nobody sets filters on a bus that is being closed
            bus, self._bus = self._bus, None
        if bus is not None:
            self._count(bus)
            bus.close()

    def _hand_over(self, arrival: Arrival) -> float:
        if self._patient:
            taken = self._queue.put_when_room(arrival, READ_TIMEOUT_S)
            self._held = None if taken else arrival
        else:
            taken = self._queue.put(arrival)
            if not taken:
                with self._lock:
                    self._lost[self.name, Loss.QUEUE] += len(arrival.batch)
        if taken:
            self.received += len(arrival.batch)
        return 0.0

    def _reopen(self) -> BatchBus:
        bus = self._open()
        with self._lock:
            self._bus, self._filters_new = bus, True
        self._opened_s = self._clock_s()
        return bus

    def _filter(self, bus: BatchBus) -> None:
        with self._lock:
            self._bring_filters(bus)

    def _bring_filters(self, bus: BatchBus) -> None:
        if self._filters_new:
            bus.set_filters(self._filters)
            self._filters_new = False

    def _down(self, error: BusDownError) -> float:
        if self.state != "down":
            log.warning("bus %s: %s", self.name, error)
            self._say("down")
        return 0.0  # the bus waits, and is read again

    def _gone(self, error: BusError) -> float:
        if self._bus is not None or self.state == "closed":
            log.warning("bus %s: %s", self.name, error)
        if self._bus is not None:
            self.close()
            self._say("down")
            if self._clock_s() - self._opened_s >= STEADY_S:  # else it only comes and goes
                self._retry_s = FIRST_RETRY_S
        elif self.state == "closed":
            self._say("missing")
        wait_s, self._retry_s = self._retry_s, min(LAST_RETRY_S, self._retry_s * 2)
        return wait_s

    def _say(self, state: str) -> None:
        if state != self.state:
            self.state = state
            self._notice(self.name, state)

    def _count(self, bus: BatchBus) -> None:
        lost = bus.losses()
        if lost:
            with self._lock:
                for channel, count, cause in lost:
                    self._lost[channel, cause] += count
