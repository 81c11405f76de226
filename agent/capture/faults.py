"""What error frames say about a bus: bus-off, and a storm of them. Pure: moments are arguments.

A shorted wire gives ten thousand error frames in seconds. They are counted here and told as one
state when it begins and one when it is over; the frames themselves are kept only where the policy
says so.

Source: linux/can/error.h: the classes stand in the id of an error frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from agent.frames import ERROR, FrameBatch

BUS_OFF: Final = 0x40  # CAN_ERR_BUSOFF
RESTARTED: Final = 0x100  # CAN_ERR_RESTARTED
STORM_COUNT: Final = 100  # error frames in one window; a bus in order has none
WINDOW_NS: Final = 1_000_000_000


@dataclass(slots=True)
class _Channel:
    """One bus, since its window began."""

    window: int = 0  # error frames in this window
    storm: int = 0  # error frames of the storm that is on; 0: none is
    off: bool = False


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
        if len(batch) and np.bitwise_or.reduce(batch["flags"]) & ERROR:
            told += self._count(batch[(batch["flags"] & ERROR) != 0])
        if now_ns - self._began_ns >= WINDOW_NS:
            self._began_ns = now_ns
            for known, channel in self._channels.items():
                told += self._storm(known, channel)
        return told

    def _count(self, errors: FrameBatch) -> list[tuple[int, str, int]]:
        told: list[tuple[int, str, int]] = []
        for number in np.unique(errors["channel"]):
            channel = self._channels.setdefault(int(number), _Channel())
            mine = errors[errors["channel"] == number]["arbitration_id"]
            channel.window += len(mine)
            told += self._bus_off(int(number), channel, mine)
        return told

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
