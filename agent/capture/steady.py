"""Stamps as a clock that nobody sets would have made them.

The kernel stamps frames by the wall clock, and the wall clock can be set: at a start from 1970 to
today, by an hour, by half a century. How long a brake was pressed must not depend on it. So what is
decided by lengths of time (conditions, recorded time, the order of several buses) looks at stamps
from which the settings since the start are taken out; what is stored keeps the kernel's.

- A setting shows as a change of wall clock less CLOCK_BOOTTIME between two looks at both. On which
  side of it a stamp was made, the stamp tells: on the other side it would lie outside the time
  between the looks. Only a setting by less than frames wait to be taken leaves that open; then a
  stamp may be told wrong by as much, some tenths of a second. Less than 50 ms is noise.
- Whoever takes stamps has looked at the clocks after the last of them was made.
- A stamp that no clock of the last half minute can have made is not of this computer (a recorded
  log, an adapter's own clock): it stays as it is.

Pure but for the settings that it has seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from agent.frames import SignalBatch

Ints = npt.NDArray[np.int64]

NOISE_NS: Final = 50_000_000  # between the two readings of a look the process may be interrupted
KEPT_NS: Final = 30 * 10**9  # frames wait less than that until somebody takes them
MAX_KEPT: Final = 16


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

    def look(self, wall_ns: int, boottime_ns: int) -> None:
        """Take a look at both clocks, which were read one right after the other."""
        offset_ns = wall_ns - boottime_ns
        if not self._settings:
            self._first_ns = offset_ns
            self._settings = [_Setting(offset_ns, boottime_ns - KEPT_NS, boottime_ns)]
            return
        last = self._settings[-1]
        self._settings[-1] = _Setting(last.offset_ns, last.since_ns, boottime_ns)
        if abs(offset_ns - last.offset_ns) >= NOISE_NS:
            self._settings.append(_Setting(offset_ns, last.until_ns, boottime_ns))
        old = [one for one in self._settings[:-1] if one.until_ns >= boottime_ns - KEPT_NS]
        self._settings = [*old[-MAX_KEPT:], self._settings[-1]]

    def stamps(self, stamps: Ints) -> Ints:
        """Return the stamps as the first clock would have made them; the same array if it did."""
        if all(setting.offset_ns == self._first_ns for setting in self._settings):
            return stamps
        told = stamps.copy()
        for setting in self._settings:  # the newest that fits stands
            at = stamps - setting.offset_ns
            fits = (at >= setting.since_ns - NOISE_NS) & (at <= setting.until_ns + NOISE_NS)
            told[fits] = at[fits] + self._first_ns
        return told

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
