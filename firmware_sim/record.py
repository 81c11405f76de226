"""What was sent: counts by id, losses, and on request every frame as a line of `candump -L`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from operator import attrgetter
from pathlib import Path
from typing import TextIO

from firmware_sim.errors import OutputError, SimError
from firmware_sim.frames import Frame, candump_text, id_text

_KIND = attrgetter("extended", "arbitration_id")


class Record:
    """The account of one drive. A frame is in exactly one of: sent, lost, unheard.

    Args:
        channel: bus name for the lines of a log.

    Attributes:
        lost: frames that nobody took in time.
        unheard: frames for which no host had the channel open (or it filters them).
        host_frames: frames that the host sent to the bus.
        unread_bytes: bytes that the host had not read when the drive was over.
    """

    def __init__(self, channel: str) -> None:
        self.channel = channel
        self.lost = self.unheard = self.host_frames = self.unread_bytes = 0
        self._log: TextIO | None = None
        self._by_id: Counter[tuple[bool, int]] = Counter()

    def log_to(self, path: Path) -> None:
        """Write the frames that are sent from now on to a new file.

        Raises:
            SimError: it cannot be created.
        """
        self._log = open_text(path)

    def sent(self, frames: Sequence[Frame]) -> None:
        """Note frames that were handed over.

        Raises:
            OutputError: the log cannot be written.
        """
        self._by_id.update(map(_KIND, frames))
        if self._log is not None:
            write_text(self._log, candump_text(frames, self.channel))

    def close(self) -> None:
        """Complete the log.

        Raises:
            OutputError: the log cannot be written.
        """
        if self._log is not None:
            close_text(self._log)

    def summary(self) -> dict[str, object]:
        """Return the account as plain values for JSON."""
        return {
            "frames": self._by_id.total(),
            "lost": self.lost,
            "unheard": self.unheard,
            "unread_bytes": self.unread_bytes,
            "host_frames": self.host_frames,
            "by_id": {
                id_text(Frame(0, number, b"", extended)): count
                for (extended, number), count in sorted(self._by_id.items())
            },
        }


def open_text(path: Path) -> TextIO:
    """Create a log file.

    Raises:
        SimError: it cannot be created.
    """
    try:
        return path.open("w", encoding="ascii")
    except OSError as error:
        raise SimError(f"{path}: cannot be written: {error.strerror}") from error


def write_text(file: TextIO, text: str) -> None:
    """Write to a log.

    Raises:
        OutputError: a full disk, a reader that has gone.
    """
    try:
        file.write(text)
    except OSError as error:
        raise OutputError(f"{file.name}: cannot be written: {error.strerror}") from error


def close_text(file: TextIO) -> None:
    """Flush and close a log.

    Raises:
        OutputError: a full disk, a reader that has gone.
    """
    try:
        file.close()
    except OSError as error:
        raise OutputError(f"{file.name}: cannot be written: {error.strerror}") from error
