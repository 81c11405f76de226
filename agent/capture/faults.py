"""What error frames say about a bus: bus-off, a storm of them, frames that the controller lost.

- A shorted wire gives ten thousand error frames in seconds. They are counted here and told as one
  state when it begins and one when it is over; the frames themselves are kept only where the policy
  says so.
- A controller whose buffer ran over says that it lost frames, not how many: each time at least one.
  The first time is told at once, what follows within a minute together.

Pure: moments are arguments. Source: linux/can/error.h: the classes stand in the id of an error
frame, what the controller says in data[1]. Drivers that are not the kernel's give their error
frames other lengths and meanings; the kernel's have eight bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from agent.frames import ERROR, FrameBatch

BUS_OFF: Final = 0x40  # CAN_ERR_BUSOFF
RESTARTED: Final = 0x100  # CAN_ERR_RESTARTED
CONTROLLER: Final = 0x4  # CAN_ERR_CRTL
RX_OVERFLOW: Final = 0x1  # CAN_ERR_CRTL_RX_OVERFLOW, of data[1]
ERROR_BYTES: Final = 8  # CAN_ERR_DLC
STORM_COUNT: Final = 100  # error frames in one window; a bus in order has none
WINDOW_NS: Final = 1_000_000_000
REPEAT_NS: Final = 60 * 10**9  # a loss that goes on is one entry a minute


@dataclass(slots=True)
class _Channel:
    """One bus, since its window began."""

    window: int = 0  # error frames in this window
    storm: int = 0  # error frames of the storm that is on; 0: none is
    off: bool = False
    overruns: int = 0  # not told yet
    told_ns: int = -REPEAT_NS  # of overruns, when last

    def take(self) -> int:
        """Return the overruns that were not told yet; now they are."""
        count, self.overruns = self.overruns, 0
        return count


class Faults:
    """Watches the error frames of every bus."""

    def __init__(self) -> None:
        self._channels: dict[int, _Channel] = {}
        self._began_ns = 0

    def see(self, batch: FrameBatch, now_ns: int) -> list[tuple[int, str, int]]:
        """Return (channel number, state, error frames) for each state that begins or ends.

        Args:
            batch: what has arrived; may be empty.
            now_ns: CLOCK_BOOTTIME.
        """
        told: list[tuple[int, str, int]] = []
        errors = batch[(batch["flags"] & ERROR) != 0] if len(batch) else batch
        for number in np.unique(errors["channel"]) if len(errors) else ():
            channel = self._channels.setdefault(int(number), _Channel())
            mine = errors[errors["channel"] == number]
            channel.window += len(mine)
            channel.overruns += _overruns(mine)
            told += self._bus_off(int(number), channel, mine["arbitration_id"])
        if now_ns - self._began_ns >= WINDOW_NS:
            self._began_ns = now_ns
            for known, channel in self._channels.items():
                told += self._storm(known, channel)
        return told

    def lost(self, now_ns: int) -> list[tuple[int, int]]:
        """Return (channel number, overruns) of each loss that is due.

        Args:
            now_ns: CLOCK_BOOTTIME.
        """
        due = []
        for number, channel in self._channels.items():
            if channel.overruns and now_ns - channel.told_ns >= REPEAT_NS:
                channel.told_ns = now_ns
                due.append((number, channel.take()))
        return due

    def rest(self) -> list[tuple[int, int]]:
        """Return the same of every loss that was not told yet: at the end of a run."""
        return [(number, one.take()) for number, one in self._channels.items() if one.overruns]

    @staticmethod
    def _bus_off(
        number: int, channel: _Channel, ids: np.ndarray[tuple[int], np.dtype[np.uint32]]
    ) -> list[tuple[int, str, int]]:
        told: list[tuple[int, str, int]] = []
        states = ids & (BUS_OFF | RESTARTED)
        for state in states[states != 0]:
            off = bool(state & BUS_OFF)
            if off != channel.off:
                channel.off = off
                told.append((number, "bus-off" if off else "up", 0))
        return told

    @staticmethod
    def _storm(number: int, channel: _Channel) -> list[tuple[int, str, int]]:
        count, channel.window = channel.window, 0
        if count >= STORM_COUNT:
            begins, channel.storm = not channel.storm, channel.storm + count
            return [(number, "error-storm", count)] if begins else []
        if not channel.storm:
            return []
        total, channel.storm = channel.storm + count, 0
        return [(number, "error-storm-over", total)]


def _overruns(errors: FrameBatch) -> int:
    """Return how often these error frames say that the controller's buffer ran over."""
    told = (errors["arbitration_id"] & CONTROLLER) != 0
    told &= (errors["data"][:, 1] & RX_OVERFLOW) != 0
    return int((told & (errors["length"] == ERROR_BYTES)).sum())
