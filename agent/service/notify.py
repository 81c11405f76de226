"""The systemd notification protocol: one datagram a message to $NOTIFY_SOCKET.

Source: sd_notify(3).
"""

from __future__ import annotations

import os
import socket
import time


def notify(state: str) -> bool:
    """Tell the service manager a state, e.g. "READY=1"; False if there is none to tell.

    Raises:
        OSError: the manager's socket does not take it.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return False
    if address.startswith("@"):  # abstract namespace
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as manager:
        manager.sendto(state.encode(), address)
    return True


def watchdog_period_s() -> float | None:
    """Return how often the watchdog wants to be fed, half its limit; None if there is none."""
    limit_us = os.environ.get("WATCHDOG_USEC", "")
    if not limit_us.isdecimal() or os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(
        os.getpid()
    ):
        return None
    return int(limit_us) / 2e6


class Watchdog:
    """Tells the service manager that a loop turns, as often as it wants to hear it."""

    def __init__(self) -> None:
        self._period_s = watchdog_period_s()
        self._fed_s = time.monotonic()

    def beat(self) -> None:
        """Note one turn of the loop.

        Raises:
            OSError: see `notify`.
        """
        if self._period_s is not None and time.monotonic() - self._fed_s >= self._period_s:
            self._fed_s = time.monotonic()
            notify("WATCHDOG=1")
