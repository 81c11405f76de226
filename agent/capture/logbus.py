"""A recorded log as a bus: `interface = "log"`, `channel = PATH`.

- `speed = 1.0` plays at the recorded pace, another number faster or slower, `"max"` as fast as
  batches are taken (at most 4,096 rows each, so the taker sets the pace and memory is bounded).
- The recorded timestamps are kept; so a second round of `loop` begins with the first stamps again.
- `map = {vcan0 = "can0"}` renames channels. `loop = 3` plays three times, 0 without end.
- A broken line is counted as Loss BROKEN and named in our log; `strict = true` makes it an error.
"""

from __future__ import annotations

import logging
import select
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from agent.capture.logs import find_format, read_log
from agent.capture.pace import Pace, Stamps
from agent.capture.settings import check_keys
from agent.capture.sieve import Sieve
from agent.errors import BusError, ConfigError
from agent.frames import FRAME, ChannelTable, FrameBatch

log = logging.getLogger(__name__)

_ROWS: Final = 4096
_NAMED: Final = 20  # broken lines that are named; all are counted
_KEYS: Final = ("can_filters", "channel", "interface", "loop", "map", "name", "speed", "strict")


class MappedChannels(ChannelTable):
    """Numbers channels by another name than the log has.

    Args:
        channels: the table that numbers them.
        names: new name by name in the log; others stay.

    Attributes:
        unused: names of which the log had nothing so far.
    """

    def __init__(self, channels: ChannelTable, names: Mapping[str, str]) -> None:
        super().__init__()
        self._channels, self._new_names = channels, dict(names)
        self.unused = set(names)

    def number(self, name: str) -> int:
        """Return the number of the renamed channel."""
        self.unused.discard(name)
        return self._channels.number(self._new_names.get(name, name))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the table behind."""
        return self._channels.names


class LogBus(Sieve):
    """A log that plays. A BatchBus.

    Args:
        path: the log.
        channels: numbers its channels.
        name: of the bus.
        speed: 1.0 as recorded; None as fast as batches are taken.
        loop: rounds; 0 without end.
        strict: a broken line is an error.
        clock_ns: monotonic, ns.
    """

    def __init__(
        self,
        path: Path,
        channels: ChannelTable,
        *,
        name: str = "log",
        speed: float | None = 1.0,
        loop: int = 1,
        strict: bool = False,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        super().__init__(name)
        self.ended = False
        self._path, self._channels, self._strict = path, channels, strict
        self._speed, self._rounds, self._clock_ns = speed, loop, clock_ns
        self._named = 0
        self._pause = select.poll()  # nothing registered: polling it just takes its time
        self._batch: FrameBatch = np.zeros(0, FRAME)
        self._due: Stamps = np.zeros(0, np.int64)
        self._start: int | None = None
        find_format(path)  # a log that cannot be read is known at once
        self._pieces: Iterator[tuple[FrameBatch, Stamps]] | None = self._play()

    def _play(self) -> Iterator[tuple[FrameBatch, Stamps]]:
        """Yield pieces of at most _ROWS rows with their deadlines in ns since the round began."""
        played = 0
        while self._rounds == 0 or played < self._rounds:
            pace, rows = Pace(self._speed or 1.0), 0
            self._start = None
            batches = read_log(
                self._path, self._channels, strict=self._strict, on_broken=self._count
            )
            for batch in batches:
                rows += len(batch)
                for at in range(0, len(batch), _ROWS):
                    piece = batch[at : at + _ROWS]
                    yield piece, pace.deadlines(piece["timestamp_ns"])
            played += 1
            if not rows:
                return  # an empty log without end would spin

    def _count(self, where: str, why: str) -> None:
        self._broken += 1
        self._named += 1
        if self._named <= _NAMED:
            log.warning("%s: %s", where, why)

    def recv_batch(self, timeout_s: float) -> FrameBatch:
        """Return the frames that are due; waits up to timeout_s for the first.

        Raises:
            LogError: strict, and a line is broken.
            BusError: the bus was closed.
        """
        if self._pieces is None:
            raise BusError("the bus is closed", where=self.name)
        if not len(self._batch) and not self._next_piece():
            return np.zeros(0, FRAME)
        if self._speed is None:
            return self._take(len(self._batch))
        if self._start is None:
            self._start = self._clock_ns()
        wait_s = (self._start + int(self._due[0]) - self._clock_ns()) / 1e9
        if wait_s > 0:
            self._pause.poll(max(0.0, min(wait_s, timeout_s)) * 1000)
        passed_ns = self._clock_ns() - self._start
        return self._take(int(np.searchsorted(self._due, passed_ns, side="right")))

    def _next_piece(self) -> bool:
        if self.ended:
            return False
        piece = next(self._pieces, None) if self._pieces is not None else None
        if piece is None:
            self.ended = True
            return False
        self._batch, self._due = piece
        return True

    def _take(self, count: int) -> FrameBatch:
        taken = self._batch[:count]
        self._batch, self._due = self._batch[count:], self._due[count:]
        return self._filter(taken)

    def close(self) -> None:
        """Stop reading. Safe to call twice."""
        self._pieces = None  # the generator closes its file
        self.ended = True


def open_log(settings: dict[str, Any], channels: ChannelTable) -> LogBus:
    """Open a log as a bus.

    Args:
        settings: `channel` (the path), `speed`, `map`, `loop`, `strict`, `name`.
        channels: numbers its channels.

    Raises:
        ConfigError: a key is unknown or has a wrong value, or there is no such log.
        LogError: the log cannot be read.
    """
    name = str(settings.get("name") or Path(str(settings["channel"])).name)
    check_keys(settings, _KEYS, name)
    path = Path(str(settings["channel"]))
    if not path.exists():
        raise ConfigError(f"no such log: {path.absolute()}", where=name,
                          todo="mend `channel` of this [[bus]]; it is looked for where the agent"
                          " is started, not beside agent.toml")  # fmt: skip
    names, loop = settings.get("map", {}), settings.get("loop", 1)
    if not isinstance(names, Mapping) or not all(isinstance(new, str) for new in names.values()):
        raise ConfigError('map must be a table of names, e.g. {vcan0 = "can0"}', where=name)
    if isinstance(loop, bool) or not isinstance(loop, int) or loop < 0:
        raise ConfigError("loop must be a number of rounds, 0 for no end", where=name)
    return LogBus(
        path,
        MappedChannels(channels, names),
        name=name,
        speed=parse_speed(settings.get("speed", 1.0)),
        loop=loop,
        strict=bool(settings.get("strict", False)),
    )


def parse_speed(speed: object) -> float | None:
    """Return a speed as a number, None for "max".

    Raises:
        ConfigError: it is neither.
    """
    if speed == "max":
        return None
    try:
        number = float(str(speed))
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise ConfigError(f'speed must be a number above 0 or "max", not {speed!r}')
    return number
