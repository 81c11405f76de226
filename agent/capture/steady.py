"""Stamps as a clock that nobody sets would have made them.

The kernel stamps frames by the wall clock, and the wall clock can be set: at a start from 1970 to
today, by an hour, by half a century. How long a brake was pressed must not depend on it. So what is
decided by lengths of time (conditions, recorded time, the order of several buses) looks at stamps
from which the settings since the start are taken out; what is stored keeps the kernel's.

- A setting shows as a change of wall clock less CLOCK_BOOTTIME between two looks at both. On which
  side of it a stamp was made, the stamp tells: on the other side it would lie outside the time
  between the looks. Only a setting by less than frames wait to be taken leaves that open; then a
  stamp may be told wrong by as much, some tenths of a second. Less than 50 ms is noise.
- A setting that was undone before the next look shows in the frames alone: the stamps of one bus
  leave the order in which they came, or the time before the look, and come back. They are placed
  between the frames before and after them.
- Whoever takes stamps has looked at the clocks after the last of them was made.
- A stamp that no clock of the last half minute can have made is not of this computer (a recorded
  log, an adapter's own clock): it stays as it is.

Pure but for the settings that it has seen.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from agent.frames import SignalBatch

Ints = npt.NDArray[np.int64]

NOISE_NS: Final = 50_000_000  # between the two readings of a look the process may be interrupted
KEPT_NS: Final = 30 * 10**9  # frames wait less than that until somebody takes them
MAX_KEPT: Final = 16
LATE_NS: Final = 300_000_000  # frames wait about as long: no stamp of a bus steps back further


@dataclass(frozen=True, slots=True)
class _Setting:
    """A time in which nobody set the clock; moments are CLOCK_BOOTTIME in ns.

    Attributes:
        offset_ns: wall clock less CLOCK_BOOTTIME.
        since_ns: the last look at which it was another one.
        until_ns: the first look at which it was another one again, or the last look.
    """

    offset_ns: int
    since_ns: int
    until_ns: int


class Steady:
    """See the module. Without a look every stamp stays as it is."""

    def __init__(self) -> None:
        self._first_ns = 0  # offset by which all stamps are told
        self._settings: list[_Setting] = []
        self._undone: deque[_Setting] = deque(maxlen=MAX_KEPT)  # before anybody looked
        self._looked_ns = 0  # the last look but one
        self._last_ns: dict[int, int] = {}  # source: CLOCK_BOOTTIME of its newest frame

    def look(self, wall_ns: int, boottime_ns: int) -> None:
        """Take a look at both clocks, which were read one right after the other."""
        offset_ns = wall_ns - boottime_ns
        if not self._settings:
            self._first_ns = offset_ns
            self._settings = [_Setting(offset_ns, boottime_ns - KEPT_NS, boottime_ns)]
            return
        last = self._settings[-1]
        self._looked_ns = last.until_ns
        self._settings[-1] = _Setting(last.offset_ns, last.since_ns, boottime_ns)
        if abs(offset_ns - last.offset_ns) >= NOISE_NS:
            self._settings.append(_Setting(offset_ns, last.until_ns, boottime_ns))
        old = [one for one in self._settings[:-1] if one.until_ns >= boottime_ns - KEPT_NS]
        self._settings = [*old[-MAX_KEPT:], self._settings[-1]]
        while self._undone and self._undone[0].until_ns < boottime_ns - KEPT_NS:
            self._undone.popleft()

    def follow(self, source: int, stamps: Ints) -> None:
        """Learn of settings that were undone before the next look, from frames taken at this one.

        Args:
            source: whose frames; others may come in any order beside them.
            stamps: in the order in which they came.
        """
        if not self._settings or not len(stamps):
            return
        now_ns = self._settings[-1].until_ns
        last_ns = self._last_ns.get(source, 0)
        if last_ns < now_ns - KEPT_NS:
            last_ns = 0  # so far none of this computer's clock
        at = self._boottimes(stamps)
        highest = np.maximum.accumulate(np.append(last_ns, at))
        strange = at < highest[:-1] - LATE_NS
        if strange.any():
            for run in _runs(stamps, np.flatnonzero(strange)):
                before = max(int(highest[run[0]]), self._looked_ns - LATE_NS)
                sane = np.flatnonzero(~strange[run[-1] :])
                after = int(at[run[-1] + sane[0]]) if len(sane) else now_ns
                # Anything between keeps the order; the middle is wrong by the least.
                offset = (int(stamps[run[0]]) - before + int(stamps[run[-1]]) - after) // 2
                self._undone.append(_Setting(offset, before, after))
        self._last_ns[source] = int(highest[-1])

    def stamps(self, stamps: Ints) -> Ints:
        """Return the stamps as the first clock would have made them; the same array if it did."""
        if not self._undone and all(
            setting.offset_ns == self._first_ns for setting in self._settings
        ):
            return stamps
        at = self._boottimes(stamps)
        return np.where(at >= 0, at + self._first_ns, stamps)

    def _boottimes(self, stamps: Ints) -> Ints:
        """Return CLOCK_BOOTTIME of stamps; -1: no clock that is known can have made it."""
        found = np.full(len(stamps), -1, np.int64)
        known: list[_Setting] = [*self._settings, *self._undone]
        if self._undone:  # what was made just now is no frame of a setting that was undone long ago
            last = self._settings[-1]
            since_ns = max(last.since_ns, last.until_ns - LATE_NS)
            known.append(_Setting(last.offset_ns, since_ns, last.until_ns))
        for setting in known:  # the last that fits stands
            at = stamps - setting.offset_ns
            fits = (at >= setting.since_ns - NOISE_NS) & (at <= setting.until_ns + NOISE_NS)
            found[fits] = at[fits]
        return found

    def stamp(self, stamp_ns: int) -> int:
        """Return one stamp, likewise."""
        return int(self.stamps(np.array([stamp_ns], np.int64))[0])

    def samples(self, samples: SignalBatch) -> SignalBatch:
        """Return samples with such stamps; the same array if nothing is to be done."""
        before = samples["timestamp_ns"]
        after = self.stamps(before)
        if after is before:
            return samples
        told = samples.copy()
        told["timestamp_ns"] = after
        return told


def _runs(stamps: Ints, rows: npt.NDArray[np.intp]) -> list[npt.NDArray[np.intp]]:
    """Cut rows into those that follow one another with stamps of one clock; the last of them."""
    ends = (np.diff(rows) > 1) | (np.abs(np.diff(stamps[rows])) > LATE_NS)
    cuts = np.flatnonzero(ends)[-MAX_KEPT:] + 1
    return np.split(rows, cuts)[-MAX_KEPT:]
