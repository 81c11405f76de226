"""The SLCAN adapter on a pseudo terminal: what a host opens like a serial port.

- The device (slcan.Device) decides; this file moves bytes.
- Frames for the host wait in a buffer of BUFFER_BYTES behind the kernel's (about 64 KiB). When
  both are full the host does not read: frames are lost and counted, the device shows an overrun.
- Answers share that buffer; while it is full no commands are read. Nothing blocks.
- A frame counts as sent when its last byte is with the kernel; `finish` waits until the host has
  read it, for as long as it goes on reading, and half a second more unless it closes the channel.
- The slave side stays open here too, so that a host may come and go.
"""

from __future__ import annotations

import fcntl
import os
import select
import struct
import termios
import time
import tty
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Event
from typing import Final

from firmware_sim.errors import OutputError, SimError
from firmware_sim.frames import Frame
from firmware_sim.record import Record
from firmware_sim.slcan import Device, Opened, State, Transmitted

BUFFER_BYTES: Final = 32 * 1024  # a quarter of a second of a full 500 kbit/s bus as text
READ_BYTES: Final = 4096
SETTLE_S: Final = 0.05  # the kernel moves bytes to the reader's side within this time
SETTLED: Final = 10  # looks in a row that find nothing unread: a pyserial read() that is under way
# when the line goes drops what it has read so far, so it gets the time to return


class PtyOutput:
    """An adapter on a pty.

    Args:
        device: the adapter's state machine.
        record: account of the drive.
        stop: ends waiting.
        link: symbolic link to make to the slave's path; one that is there is replaced.
        tell: takes a line for the person at the terminal.

    Attributes:
        path: of the slave, e.g. /dev/pts/4.
        opened: the host has opened the channel at least once.

    Raises:
        SimError: the link cannot be made.
        OutputError: no pty is free.
    """

    def __init__(
        self,
        device: Device,
        record: Record,
        stop: Event,
        *,
        link: Path | None = None,
        tell: Callable[[str], None],
    ) -> None:
        self._device, self._record, self._stop, self._tell = device, record, stop, tell
        self._link: Path | None = None
        self.opened = False
        self._out = bytearray()
        self._queued = self._written = 0  # bytes since the start
        self._marks: deque[tuple[int, Frame]] = deque()  # where each waiting frame ends
        try:
            self._master, self._slave = os.openpty()
        except OSError as error:
            raise OutputError(f"no pseudo terminal: {error.strerror}") from error
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self._poll = select.poll()
        self.path = os.ttyname(self._slave)
        if link is not None:
            self._make_link(link)

    def _make_link(self, link: Path) -> None:
        try:
            if link.exists() and not link.is_symlink():
                raise FileExistsError(0, "a file that is not a link is there")
            fresh = link.with_name(f".{link.name}.{os.getpid()}")
            fresh.symlink_to(self.path)
            fresh.replace(link)
        except OSError as error:
            self.close()
            raise SimError(f"{link}: cannot make the link: {error.strerror}") from error
        self._link = link

    @property
    def has_room(self) -> bool:
        """Half of the buffer is free."""
        return len(self._out) < BUFFER_BYTES // 2

    @property
    def taken(self) -> int:
        """Bytes that the kernel took for the host since the start."""
        return self._written

    def deliver(self, frames: Sequence[Frame]) -> None:
        """Queue the text of each frame, and write what the kernel takes."""
        to_text, out, record = self._device.frame, self._out, self._record
        for frame in frames:
            text = to_text(frame)
            if not text:
                record.unheard += 1
            elif len(out) + len(text) > BUFFER_BYTES:
                record.lost += 1
                self._device.overrun()
            else:
                out += text
                self._queued += len(text)
                self._marks.append((self._queued, frame))
        self._write()

    def attend(self, seconds: float) -> None:
        """Answer the host for so long."""
        until = time.monotonic() + seconds
        while not self._stop.is_set():
            left = max(0.0, until - time.monotonic())
            events = select.POLLOUT if self._out else 0
            if len(self._out) < BUFFER_BYTES:
                events |= select.POLLIN
            self._poll.register(self._master, events)
            ready = self._poll.poll(left * 1000)
            if not ready:
                return
            if ready[0][1] & select.POLLIN:
                self._read()
            self._write()
            if left == 0:
                return

    def _read(self) -> None:
        try:
            data = os.read(self._master, READ_BYTES)
        except BlockingIOError:
            return
        outcome = self._device.receive(data)
        self._out += outcome.replies
        self._queued += len(outcome.replies)
        for event in outcome.events:
            if isinstance(event, Transmitted):
                self._record.host_frames += 1
            elif isinstance(event, Opened):
                self.opened = True
                if event.bitrate != self._device.bus_bitrate:
                    self._tell(
                        f"the host opened the channel at {event.bitrate} bit/s, the bus runs at "
                        f"{self._device.bus_bitrate}: it hears nothing"
                    )

    def _write(self) -> None:
        if not self._out:
            return
        try:
            count = os.write(self._master, self._out)
        except BlockingIOError:
            return
        del self._out[:count]
        self._written += count
        done = []
        while self._marks and self._marks[0][0] <= self._written:
            done.append(self._marks.popleft()[1])
        if done:
            self._record.sent(done)

    def finish(self, seconds: float) -> None:
        """Wait until the host has read all, or nothing for so long; count what it has not."""
        until, quiet, before = time.monotonic() + seconds, 0, (0, 0)
        while quiet < SETTLED and time.monotonic() < until and not self._stop.is_set():
            self.attend(SETTLE_S)
            left = (len(self._out), self._unread())
            if left != before:
                until, before = time.monotonic() + seconds, left
            quiet = 0 if any(left) else quiet + 1
            if quiet and self._device.state is State.CLOSED:
                break
        self._record.lost += len(self._marks)
        self._marks.clear()
        self._record.unread_bytes = self._unread() + len(self._out)

    def _unread(self) -> int:
        answer = fcntl.ioctl(self._slave, termios.FIONREAD, b"\0" * 4)
        return int(struct.unpack("i", answer)[0])

    def close(self) -> None:
        """Take the link away, if it is still ours, and the pty."""
        if self._link is not None and self._link.is_symlink():
            if self._link.readlink() == Path(self.path):
                self._link.unlink()
            self._link = None
        os.close(self._slave)
        os.close(self._master)
