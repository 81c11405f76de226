"""Where frames go, other than a pty: a candump log, or any bus of python-can.

`Output` is what `drive` needs; every output counts into its Record.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Sequence
from pathlib import Path
from threading import Event
from types import ModuleType
from typing import Any, Final, Protocol

from firmware_sim.errors import OutputError
from firmware_sim.frames import Frame, candump_text
from firmware_sim.record import Record, close_text, open_text, write_text

SEND_TIMEOUT_S: Final = 0.02  # a queue that is full for so long has lost the frame
FULL: Final = (errno.ENOBUFS, errno.EAGAIN, errno.ETIMEDOUT)


class Output(Protocol):
    """Takes frames of the bus."""

    @property
    def opened(self) -> bool:
        """Somebody can hear the bus."""

    @property
    def has_room(self) -> bool:
        """It would take frames without losing some."""

    @property
    def taken(self) -> int:
        """Rises while the other side takes what waits; 0 where nothing ever waits."""

    def deliver(self, frames: Sequence[Frame]) -> None:
        """Hand over frames in order. Never blocks for long; counts what it loses.

        Raises:
            OutputError: the output is gone.
        """

    def attend(self, seconds: float) -> None:
        """Do what the output needs (answer its host) for so long, or until it is to stop."""

    def finish(self, seconds: float) -> None:
        """Let the host take what is on the way, until it takes nothing for so long."""

    def close(self) -> None:
        """Give everything back."""


class LogOutput:
    """A candump log.

    Args:
        path: file to write, `-` for standard output.
        record: account of the drive; its channel is in each line.
        stop: ends waiting.

    Raises:
        SimError: the file cannot be created.
    """

    opened = True
    has_room = True
    taken = 0

    def __init__(self, path: str, record: Record, stop: Event) -> None:
        self._file = sys.stdout if path == "-" else open_text(Path(path))
        self._record, self._stop = record, stop

    def deliver(self, frames: Sequence[Frame]) -> None:
        """Write a line for each frame."""
        write_text(self._file, candump_text(frames, self._record.channel))
        self._record.sent(frames)

    def attend(self, seconds: float) -> None:
        """Wait."""
        self._stop.wait(seconds)

    def finish(self, seconds: float) -> None:  # noqa: ARG002 - a file has no reader to wait for
        """Write what is buffered."""
        write_text(self._file, "")
        try:
            self._file.flush()
        except OSError as error:
            raise OutputError(f"{self._file.name}: cannot be written: {error.strerror}") from error

    def close(self) -> None:
        """Close the file; standard output stays."""
        if self._file is not sys.stdout:
            close_text(self._file)


class CanOutput:
    """An interface of python-can, e.g. SocketCAN or UDP multicast.

    Args:
        interface: python-can's name of it.
        channel: e.g. "vcan0", or a multicast group.
        fd: send CAN FD frames too.
        record: account of the drive.
        stop: ends waiting.

    Raises:
        OutputError: it cannot be opened, or needs a package that is not installed.
    """

    opened = True
    has_room = True
    taken = 0

    def __init__(
        self, interface: str, channel: str, *, fd: bool, record: Record, stop: Event
    ) -> None:
        self._can = _python_can()
        self._name = f"{interface} {channel}"
        self._record, self._stop = record, stop
        try:
            self._bus: Any = self._can.Bus(interface=interface, channel=channel, fd=fd)
        except self._can.CanInterfaceNotImplementedError as error:
            hint = "; pip install msgpack" if "msgpack" in str(error) else ""
            raise OutputError(f"{self._name}: {_one_line(error)}{hint}") from error
        except (self._can.CanError, OSError, ValueError) as error:
            raise OutputError(f"{self._name}: cannot be opened: {_one_line(error)}") from error

    def deliver(self, frames: Sequence[Frame]) -> None:
        """Send each frame; one that finds the queue full is lost."""
        sent: list[Frame] = []
        for frame in frames:
            try:
                self._bus.send(self._message(frame), timeout=SEND_TIMEOUT_S)
            except (self._can.CanError, OSError) as error:
                code = getattr(error, "error_code", None) or getattr(error, "errno", None)
                if code not in FULL and "timeout" not in str(error).lower():
                    self._record.sent(sent)
                    raise OutputError(f"{self._name}: {_one_line(error)}") from error
                self._record.lost += 1
            else:
                sent.append(frame)
        self._record.sent(sent)

    def _message(self, frame: Frame) -> Any:
        return self._can.Message(
            timestamp=frame.timestamp_ns / 1e9,
            arbitration_id=frame.arbitration_id,
            is_extended_id=frame.extended,
            is_remote_frame=frame.remote,
            is_fd=frame.fd,
            bitrate_switch=frame.brs,
            dlc=frame.length,
            data=frame.data,
        )

    def attend(self, seconds: float) -> None:
        """Wait."""
        self._stop.wait(seconds)

    def finish(self, seconds: float) -> None:
        """Do nothing: what was sent is with the kernel."""

    def close(self) -> None:
        """Close the interface."""
        self._bus.shutdown()


def _python_can() -> ModuleType:
    # Late: a pty or a log does not need it, and it takes a fifth of a second to import.
    import can  # noqa: PLC0415

    return can  # type: ignore[no-any-return, unused-ignore]


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
