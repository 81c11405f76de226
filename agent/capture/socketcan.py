"""SocketCAN by recvmmsg: many frames a system call, straight into preallocated arrays.

- Two phases: `early.open_socket` binds, `SocketcanBus` reads. python-can is not imported; its
  configuration keys are understood (its own reader costs ten times the CPU per frame and cannot
  see kernel drops, and importing it costs 13 MiB).
- Listen only: this class has no way to send.
- Adaptive drain: wait for the first frame, let more gather for `drain_s`, then take all that there
  are. `drain_s` is a tick (`queue.py`) at most, and less if the receive buffer granted by the
  kernel would not hold four times what a full bus brings in that time. No drain goes past a tick.
- Frames that the kernel dropped are counted (`losses`), records that are no frames too.
- An interface that goes down raises BusDownError and stays bound: the first frame after it is up
  again is there. One that goes away raises BusError; the reader reopens it. Both are told after
  the frames that came before.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import select
import socket
import struct
import time
from collections.abc import Callable
from typing import Final

import numpy as np

from agent.capture import ancillary, early, filters
from agent.capture.queue import TICK_S, until_tick
from agent.errors import BusDownError, BusError
from agent.frames import ChannelTable, FrameBatch, concatenate
from agent.pb.ledger_pb2 import Loss

DEFAULT_BITRATE: Final = 1_000_000  # the fastest classic bus, where none is configured
_ROWS: Final = 1024  # frames a call: 100 ms of 8,000 frames/s and more
_CALLS: Final = 8  # calls a batch: 8,192 rows at most
_MSG_DONTWAIT: Final = 0x40
_FRAME_COST_BYTES: Final = 768  # what one frame takes of the receive buffer (skb->truesize)
_SHORTEST_FRAME_BITS: Final = 47  # standard id, no data, with the gap to the next
_MIN_DRAIN_S: Final = 0.001
_DOWN: Final = "the interface is down"
_REMOVED: Final = (errno.ENODEV, errno.ENXIO)
_SO_MEMINFO: Final = 55
_MEMINFO: Final = struct.Struct("=9I")  # the last one: frames dropped so far
_SIOCGIFFLAGS: Final = 0x8913
_IFREQ: Final = struct.Struct("=16sH22x")
_IFF_UP: Final = 1

_IOVEC: Final = np.dtype([("base", "<u8"), ("len", "<u8")])
_MMSGHDR: Final = np.dtype(
    [
        ("name", "<u8"),
        ("namelen", "<u4"),
        ("pad0", "<u4"),
        ("iov", "<u8"),
        ("iovlen", "<u8"),
        ("control", "<u8"),
        ("controllen", "<u8"),
        ("flags", "<i4"),
        ("pad1", "<u4"),
        ("len", "<u4"),
        ("pad2", "<u4"),
    ]
)  # 64 bytes; struct mmsghdr of 64-bit Linux


def drain_seconds(granted_bytes: int, bitrate: int, *, margin: int = 4) -> float:
    """Return how long frames may gather: the buffer holds `margin` times what a full bus brings.

    Args:
        granted_bytes: receive buffer as the kernel reports it.
        bitrate: of the bus, bit/s.
        margin: how many times over.
    """
    frames_per_s = bitrate / _SHORTEST_FRAME_BITS
    seconds = granted_bytes / _FRAME_COST_BYTES / (margin * frames_per_s)
    return min(TICK_S, max(_MIN_DRAIN_S, seconds))


class _Receiver:
    """recvmmsg into arrays that are allocated once; their rows hold until the next call."""

    def __init__(self, fd: bool) -> None:
        if struct.calcsize("P") != 8:
            raise BusError("SocketCAN capture needs a 64-bit system")
        self.records = np.zeros(_ROWS, ancillary.RECORD_FD if fd else ancillary.RECORD)
        self.words = np.zeros((_ROWS, ancillary.CONTROL_WORDS), np.uint64)
        self._iov = np.zeros(_ROWS, _IOVEC)
        self.headers = np.zeros(_ROWS, _MMSGHDR)
        row = np.arange(_ROWS, dtype=np.uint64)
        size = self.records.dtype.itemsize
        self._iov["base"] = self.records.ctypes.data + row * np.uint64(size)
        self._iov["len"] = size
        self.headers["iov"] = self._iov.ctypes.data + row * np.uint64(_IOVEC.itemsize)
        self.headers["iovlen"] = 1
        control = ancillary.CONTROL_WORDS * 8
        self.headers["control"] = self.words.ctypes.data + row * np.uint64(control)
        self._controllen = self.headers["controllen"]
        self._address = self.headers.ctypes.data
        self._recvmmsg = ctypes.CDLL(None, use_errno=True).recvmmsg
        self._recvmmsg.restype = ctypes.c_int
        self._recvmmsg.argtypes = [
            ctypes.c_int,
            ctypes.c_void_p,
            ctypes.c_uint,
            ctypes.c_int,
            ctypes.c_void_p,
        ]

    def receive(self, fileno: int) -> int:
        """Return the number of records received, 0 if none wait.

        Raises:
            OSError: the kernel refuses.
        """
        self._controllen[:] = ancillary.CONTROL_WORDS * 8  # the kernel writes what it used
        count = int(self._recvmmsg(fileno, self._address, _ROWS, _MSG_DONTWAIT, None))
        if count >= 0:
            return count
        number = ctypes.get_errno()
        if number in (errno.EAGAIN, errno.EINTR):
            return 0
        raise OSError(number, os.strerror(number))


class SocketcanBus:
    """One CAN interface, read in batches. A BatchBus.

    Args:
        sock: as `early.open_socket` returns it; owned by the bus from now on.
        name: of the interface; the channel's name in the batches.
        channels: numbers it.
        fd: the socket receives CAN FD frames.
        bitrate: of the bus, bit/s, for the drain time.
        clock_ns: wall clock, for frames that carry no kernel stamp.
    """

    ended: bool = False

    def __init__(
        self,
        sock: early.Socket,
        name: str,
        channels: ChannelTable,
        *,
        fd: bool = False,
        bitrate: int = DEFAULT_BITRATE,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.name = name
        self._sock, self._number, self._clock_ns = sock, channels.number(name), clock_ns
        self._receiver = _Receiver(fd)
        self.granted_bytes = early.granted_bytes(sock)
        self.drain_s = drain_seconds(self.granted_bytes, bitrate)
        self._software = filters.SoftwareFilter(None)
        self._dropped = 0  # the kernel's cumulative count when last seen
        self._losses = {Loss.KERNEL: 0, Loss.BROKEN: 0}
        self._fault: BusError | None = None  # told once the frames before it are handed on
        self._is_down = False
        self._readable = select.poll()
        self._readable.register(sock, select.POLLIN)
        self._pause = select.poll()  # nothing registered: polling it just takes its time

    def recv_batch(self, timeout_s: float) -> FrameBatch:
        """Return what has arrived; waits up to timeout_s for the first frame.

        Raises:
            BusDownError: the interface is down.
            BusError: it was removed or cannot be read, or the bus was closed.
        """
        if self._sock.fileno() < 0:
            raise BusError("the bus is closed", where=self.name)
        parts = []
        if self._fault is None and self._readable.poll(timeout_s * 1000):
            self._pause.poll(min(self.drain_s, until_tick(time.monotonic())) * 1000)
            for _ in range(_CALLS):
                count = self._receive()
                if count:
                    parts.append(self._take(count))
                if count < _ROWS:
                    break
        if not parts:
            self._tell_fault()
        return self._software(concatenate(parts))

    def _receive(self) -> int:
        for _ in range(2):  # an error is told once, ahead of the frames that wait behind it
            try:
                return self._receiver.receive(self._sock.fileno())
            except OSError as error:
                self._note(error)
        return 0

    def _note(self, error: OSError) -> None:
        if error.errno == errno.ENETDOWN:
            self._is_down = True
            self._fault = BusDownError(_DOWN, where=self.name)
            return
        gone = error.errno in _REMOVED
        why = "the interface was removed" if gone else f"cannot read: {error.strerror}"
        self._fault = BusError(why, where=self.name)
        self._fault.__cause__ = error

    def _tell_fault(self) -> None:
        """Nothing came: raise why, if there is a reason."""
        if self._fault is not None:
            fault, self._fault = self._fault, None
            raise fault
        self._is_down = self._is_down and not self._is_up()
        if self._is_down:
            raise BusDownError(_DOWN, where=self.name)

    def _is_up(self) -> bool:
        """Whether the interface that we are bound to is up, by the kernel's word."""
        try:
            interface = str(self._sock.getsockname()[0])
            asked = fcntl.ioctl(self._sock, _SIOCGIFFLAGS, _IFREQ.pack(interface.encode(), 0))
        except OSError:
            return False  # it is being removed: the socket tells
        return bool(_IFREQ.unpack(asked)[1] & _IFF_UP)

    def _take(self, count: int) -> FrameBatch:
        receiver = self._receiver
        headers = receiver.headers[:count]
        stamps, drops = ancillary.parse_control(
            receiver.words[:count], headers["controllen"].astype(np.int64)
        )
        if not stamps.all():
            stamps[stamps == 0] = self._clock_ns()
        seen = drops[drops >= 0]
        if len(seen):
            self._count_drops(int(seen[-1]))
        batch, broken = ancillary.to_frames(
            receiver.records[:count], headers["len"].astype(np.int64), stamps, self._number
        )
        self._losses[Loss.BROKEN] += broken
        return batch

    def _count_drops(self, now: int) -> None:
        dropped = ancillary.dropped_between(self._dropped, now)
        if dropped:
            self._losses[Loss.KERNEL] += dropped
            self._dropped = now

    def losses(self) -> list[tuple[str, int, int]]:
        """Return (channel, frames, cause) lost since the last call; the least we know of."""
        with contextlib.suppress(OSError):  # closed, or before Linux 4.12: the next frame tells
            memory = self._sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size)
            self._count_drops(_MEMINFO.unpack(memory)[-1])
        lost = [(self.name, count, int(cause)) for cause, count in self._losses.items() if count]
        self._losses = dict.fromkeys(self._losses, 0)
        return lost

    def set_filters(self, wanted: filters.Filters | None) -> None:
        """Let the kernel drop what no rule wants; None lets all pass, an empty list nothing.

        More filters than the kernel takes are applied to the batches instead.
        """
        packed = filters.pack([{"can_id": 0, "can_mask": 0}] if wanted is None else wanted)
        self._software = filters.SoftwareFilter(wanted if packed is None else None)
        try:
            self._sock.setsockopt(
                socket.SOL_CAN_RAW,
                socket.CAN_RAW_FILTER,
                struct.pack("=II", 0, 0) if packed is None else packed,
            )
        except OSError as error:
            raise BusError(f"cannot set filters: {error.strerror}", where=self.name) from error

    def fileno(self) -> int:
        """Return the socket's file descriptor."""
        return self._sock.fileno()

    def close(self) -> None:
        """Close the socket. Safe to call twice; call it from the thread that reads."""
        self._sock.close()
