"""Buses as the recorder sees them: something that gives FrameBatches.

`open_bus` takes python-can's configuration keys for every interface. SocketCAN and SLCAN have bulk
readers of our own, `log` plays a recorded log, any other interface goes through python-can.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Protocol

from agent.capture.early import Socket
from agent.capture.filters import Filters
from agent.capture.settings import check_keys
from agent.errors import ConfigError
from agent.frames import ChannelTable, FrameBatch

SOCKETCAN_KEYS: Final = (
    "bitrate",  # the interface's own setting stands; ours only sets how long frames may gather
    "can_filters",
    "channel",
    "fd",
    "ignore_rx_error_frames",
    "interface",
    "local_loopback",  # about sending, which we never do
    "name",
    "receive_own_messages",
)


class BatchBus(Protocol):
    """An open bus that is read in batches, by one thread, which also closes it.

    Filters may be set by another thread, also while it is being read.

    Attributes:
        name: the channel's name, e.g. "can0".
        ended: nothing more will come (a log that is over); never true for a live bus.
    """

    name: str
    ended: bool

    def recv_batch(self, timeout_s: float) -> FrameBatch:
        """Return what has arrived, in order; waits up to timeout_s for a first frame.

        Raises:
            BusDownError: the interface is down. Go on reading.
            BusError: the interface is gone. Open it again.
        """

    def losses(self) -> list[tuple[str, int, int]]:
        """Return (channel, frames, ledger_pb2.Loss.Cause) lost since the last call."""

    def set_filters(self, wanted: Filters | None) -> None:
        """Let only these frames pass from now on; None lets all pass, an empty list nothing.

        Raises:
            BusError: the interface does not take them.
        """

    def close(self) -> None:
        """Close the bus. Safe to call twice."""


def open_bus(
    settings: Mapping[str, Any], channels: ChannelTable, *, early: Socket | None = None
) -> BatchBus:
    """Open a bus, listen-only where its driver can.

    Args:
        settings: python-can's keys (`interface`, `channel`, `bitrate`, `fd`, `can_filters`, ...)
            plus `name`, which defaults to the channel; for a log `speed`, `map`, `loop`, `strict`.
        channels: numbers the channels.
        early: the socket of a SocketCAN bus, if `early.open_socket` has bound it already.

    Raises:
        ConfigError: a key is missing, unknown or of the wrong type.
        BusError: the interface cannot be opened.
        LogError: the log cannot be read.
    """
    interface = settings.get("interface")
    if not isinstance(interface, str) or not interface:
        raise ConfigError('[[bus]] needs `interface`, e.g. interface = "socketcan"')
    if settings.get("channel") in (None, "") and interface in ("socketcan", "slcan", "log"):
        raise ConfigError(f"[[bus]] with interface {interface} needs `channel`")
    # Imported where chosen: only what is used is paid for (python-can alone is 13 MiB).
    bus = _open(interface, dict(settings), channels, early)
    if settings.get("can_filters") is not None:
        bus.set_filters(settings["can_filters"])
    return bus


def _open(
    interface: str, settings: dict[str, Any], channels: ChannelTable, early: Socket | None
) -> BatchBus:
    if interface == "socketcan":
        return _open_socketcan(settings, channels, early)
    if interface == "slcan":
        from agent.capture.slcan import open_slcan  # noqa: PLC0415 - see open_bus

        return open_slcan(settings, channels)
    if interface == "log":
        from agent.capture.logbus import open_log  # noqa: PLC0415 - see open_bus

        return open_log(settings, channels)
    from agent.capture.general import open_general  # noqa: PLC0415 - see open_bus

    return open_general(settings, channels)


def _open_socketcan(
    settings: dict[str, Any], channels: ChannelTable, early: Socket | None
) -> BatchBus:
    from agent.capture.early import open_socket  # noqa: PLC0415 - see open_bus
    from agent.capture.socketcan import DEFAULT_BITRATE, SocketcanBus  # noqa: PLC0415 - see open_bus

    channel = str(settings["channel"])
    check_keys(settings, SOCKETCAN_KEYS, str(settings.get("name") or channel))
    sock = early or open_socket(
        channel,
        bool(settings.get("fd", False)),
        receive_own_messages=bool(settings.get("receive_own_messages", False)),
        ignore_rx_error_frames=bool(settings.get("ignore_rx_error_frames", False)),
    )
    return SocketcanBus(
        sock,
        str(settings.get("name") or channel),
        channels,
        fd=bool(settings.get("fd", False)),
        bitrate=int(settings.get("bitrate") or DEFAULT_BITRATE),
    )
