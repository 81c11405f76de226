"""What it costs to read frames: SocketCAN and SLCAN, ours against python-can's own.

Where the kernel has no CAN, UDP on loopback with kernel stamps stands in: the same system calls,
the same records of 16 bytes. The sender is a process of its own, so only reading is counted.
"""

from __future__ import annotations

import os
import pty
import select
import socket
import subprocess
import sys
import time
import tty
from collections.abc import Callable

import numpy as np
from can.interfaces.slcan import slcanBus
from can.interfaces.socketcan.socketcan import capture_message

from agent.capture.early import prepare
from agent.capture.slcan import DescriptorSource, SlcanBus, drain_seconds
from agent.capture.socketcan import SocketcanBus
from agent.frames import ChannelTable
from tests.bench.measure import Figure, faster
from tests.bench.synth import synth

GATHER_S = 0.05  # frames gather before either reads them, as they do between two wake-ups
ROUND = 2_000  # frames that fit into a receive buffer of a machine that raises no limit
ROUNDS = 10
LINES = 40_000
LIVE_LINES, LIVE_STEP = 8_000, 80  # 20 ms of a full 500 kbit/s bus, 2 s of it


def records(frames: int) -> list[bytes]:
    """Make struct can_frame of synthetic frames (linux/can.h)."""
    batch = synth(frames, seed=5)
    found = np.zeros(frames, [("id", "<u4"), ("len", "u1"), ("pad", "u1", 3), ("data", "u1", 8)])
    found["id"], found["len"], found["data"] = (
        batch["arbitration_id"],
        batch["length"],
        batch["data"],
    )
    return [row.tobytes() for row in found]


def _spent(read: Callable[[int], int], fill: Callable[[], None]) -> float:
    """CPU seconds a frame of reading what `fill` has put there."""
    spent, frames = 0.0, 0
    for _ in range(ROUNDS):
        fill()
        select.select([], [], [], GATHER_S)
        start = time.process_time()
        frames += read(ROUND)
        spent += time.process_time() - start
    assert frames == ROUND * ROUNDS, f"{frames} of {ROUND * ROUNDS}: the stand-in lost frames"
    return spent / frames


def socketcan() -> list[Figure]:
    """Read by recvmmsg into a batch, against select, recvmsg and a Message a frame."""
    data = records(ROUND)

    def filler(receiver: socket.socket, sender: socket.socket) -> Callable[[], None]:
        receiver.bind(("127.0.0.1", 0))
        sender.connect(receiver.getsockname())
        prepare(receiver)
        return lambda: [sender.send(record) for record in data] and None

    with _datagrams() as receiver, _datagrams() as sender:
        fill = filler(receiver, sender)
        bus = SocketcanBus(receiver, "can0", ChannelTable())
        bus.drain_s = 0
        ours = _spent(lambda count: _drain(bus, count), fill)
        floor = _spent(lambda count: _kernel_alone(bus, count), fill)
    with _datagrams() as receiver, _datagrams() as sender:
        fill = filler(receiver, sender)
        receiver.setsockopt(socket.SOL_SOCKET, 40, 0)  # python-can asserts one ancillary item

        def read(count: int) -> int:
            for _ in range(count):
                select.select([receiver], [], [], 1)
                capture_message(receiver)
            return count

        theirs = _spent(read, fill)
    return [faster(
        "reading SocketCAN frames", ours * 1e6, "python-can recv", theirs * 1e6,
        unit="us CPU a frame", bar=10,
        note="UDP loopback with kernel stamps stands in for AF_CAN; the system call alone takes "
        f"{floor * 1e6:.2f} us, so {theirs / floor:.0f}x is the most that recvmmsg can give",
    )]  # fmt: skip


def _datagrams() -> socket.socket:
    return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)


def _kernel_alone(bus: SocketcanBus, count: int) -> int:
    """Receive and look at nothing."""
    got = 0
    while got < count:
        got += bus._receive()
    return got


def _drain(bus: SocketcanBus | SlcanBus, count: int) -> int:
    got, deadline = 0, time.monotonic() + 30
    while got < count and time.monotonic() < deadline:
        got += len(bus.recv_batch(1.0))
    return got


def slcan() -> list[Figure]:
    """Bulk reads of a serial line, against one byte a system call."""
    rows = synth(LINES, seed=6)
    text = "".join(
        f"t{r['arbitration_id']:03X}{r['length']}{r['data'][: r['length']].tobytes().hex()}\r"
        for r in rows
    ).encode()

    def line() -> tuple[int, int, str]:
        master, slave = pty.openpty()
        tty.setraw(slave)
        os.set_blocking(slave, False)
        return master, slave, os.ttyname(slave)

    def sender(master: int, part: bytes, *, step: int = 0) -> subprocess.Popen[bytes]:
        """Write all at once, or so many bytes every 20 ms."""
        code = "import os,sys,time\nd=sys.stdin.buffer.read()\nt=time.monotonic()\n"
        code += f"while d:\n d=d[os.write({master},d[:{step or 2048}]):]\n"
        code += " t+=.02;time.sleep(max(0,t-time.monotonic()))\n" if step else ""
        child = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, pass_fds=[master]
        )
        assert child.stdin is not None
        child.stdin.write(part)
        child.stdin.close()
        return child

    master, slave, _ = line()
    bus = SlcanBus(DescriptorSource(slave, drain_seconds(500_000)), "can0", ChannelTable())
    child = sender(master, text)
    start = time.process_time()
    got = _drain(bus, LINES)
    ours = (time.process_time() - start) / got
    child.wait()
    assert got == LINES
    size = len(text) // LINES
    child = sender(master, text[: size * LIVE_LINES], step=size * LIVE_STEP)
    start = time.process_time()
    got = _drain(bus, LIVE_LINES)
    live = (time.process_time() - start) / got
    child.wait()
    os.close(master)

    few = LINES // 10
    part = b"\r".join(text.split(b"\r")[:few]) + b"\r"
    master, slave, name = line()
    theirs_bus = slcanBus(name, sleep_after_open=0, timeout=1)
    child = sender(master, part)
    start = time.process_time()
    got = sum(theirs_bus.recv(5) is not None for _ in range(few))
    theirs = (time.process_time() - start) / got
    child.wait()
    theirs_bus.shutdown()
    os.close(master)
    return [
        faster("SLCAN serial input, as a full bus brings it", live * 1e6, "python-can slcan",
               theirs * 1e6, unit="us CPU a frame", bar=50,
               note="over a pty, 80 lines every 20 ms; python-can gets a burst, its best case"),
        faster("SLCAN serial input, a burst", ours * 1e6, "python-can slcan", theirs * 1e6,
               unit="us CPU a frame", bar=50, note="over a pty"),
    ]  # fmt: skip
