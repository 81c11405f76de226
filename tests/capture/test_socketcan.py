"""The SocketCAN reader over sockets that carry the same records: no CAN in the kernel needed."""

import errno
import os
import select
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from agent.capture import early
from agent.capture.queue import TICK_S
from agent.capture.socketcan import SocketcanBus, drain_seconds
from agent.errors import BusDownError, BusError
from agent.frames import FD, ChannelTable
from agent.pb.ledger_pb2 import Loss

LATE_NS = 2 * 10**9  # for the kernel's own thread to get its turn on a machine under load
CAPTURE = Path(__file__).resolve().parents[2] / "agent" / "capture"


def frame(identifier: int, data: bytes = b"") -> bytes:
    return struct.pack("<IB3x8s", identifier, len(data), data)


def fd_frame(identifier: int, data: bytes, flags: int = 0) -> bytes:
    return struct.pack("<IBB2x64s", identifier, len(data), flags, data)


def wait_for_stamps(sender: socket.socket, receiver: socket.socket) -> None:
    """Send until the kernel stamps on arrival.

    Asking for stamps makes the kernel patch its own code, in a work queue that runs some time
    later; what comes before that is stamped when it is read.
    """
    readable = select.poll()
    readable.register(receiver, select.POLLIN)
    for _ in range(2000):
        sender.send(b"")
        assert readable.poll(5000)
        threading.Event().wait(0.005)
        before_read = time.time_ns()
        _, ((_, _, stamp), *_), _, _ = receiver.recvmsg(16, 256)
        seconds, ns = struct.unpack("=qq", stamp)
        if seconds * 10**9 + ns < before_read:
            return
    pytest.fail("the kernel does not stamp what arrives")


@pytest.fixture
def one_cpu():
    """Send from one CPU: loopback queues for each, so what another one sends may overtake."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    yield
    os.sched_setaffinity(0, allowed)


@pytest.fixture
def link():
    """A UDP pair on loopback: the kernel stamps and counts drops as it does for CAN."""
    receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    receiver.bind(("127.0.0.1", 0))
    early.prepare(receiver)
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.connect(receiver.getsockname())
    yield sender, receiver
    sender.close()
    receiver.close()


def receive(bus: SocketcanBus, count: int) -> list:
    rows: list = []
    for _ in range(50):
        rows += list(bus.recv_batch(0.2))
        if len(rows) >= count:
            break
    return rows


@pytest.mark.usefixtures("one_cpu")
def test_frames_come_in_order_with_kernel_stamps(link) -> None:
    """More than one call takes, in lots that neither the socket nor loopback's queue drops."""
    sender, receiver = link
    wait_for_stamps(sender, receiver)
    lot = min(900, early.granted_bytes(receiver) // 1024)
    bus = SocketcanBus(receiver, "can0", ChannelTable(("other",)))
    rows: list = []
    prompt = 0
    for first in range(0, 3000, lot):
        numbers = range(first, min(first + lot, 3000))
        before = time.time_ns()
        for number in numbers:
            sender.send(frame(number % 0x7FF, struct.pack("<I", number)))
        after = time.time_ns()
        rows += (came := receive(bus, len(numbers)))
        stamps = [int(row["timestamp_ns"]) for row in came]
        # Loopback may hand over a lot late. If the stamps were those of reading, every lot would be
        # late: the bus lets frames gather before it reads.
        assert before - 1_000_000 <= stamps[0] <= after + LATE_NS
        assert stamps == sorted(stamps)
        prompt += stamps[-1] <= after + 1_000_000
    assert prompt
    assert [int.from_bytes(row["data"][:4].tobytes(), "little") for row in rows] == list(
        range(3000)
    )
    assert {int(row["channel"]) for row in rows} == {1}
    assert bus.losses() == []


def test_unix_socket_without_stamps_gets_the_wall_clock() -> None:
    sender, receiver = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    early.prepare(receiver)
    bus = SocketcanBus(receiver, "can0", ChannelTable(), fd=True, clock_ns=lambda: 42)
    sender.send(frame(1, b"ab"))
    sender.send(fd_frame(2, bytes(48), 1))
    batch = bus.recv_batch(1)
    assert batch["length"].tolist() == [2, 48]
    assert [bool(flags & FD) for flags in batch["flags"]] == [False, True]
    assert batch["timestamp_ns"].all()
    sender.close()
    bus.close()


def test_overflow_is_counted_to_the_frame(link) -> None:
    sender, receiver = link
    receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    bus = SocketcanBus(receiver, "can0", ChannelTable())
    for _ in range(400):
        sender.send(frame(5))
    got = 0
    while count := len(bus.recv_batch(0.05)):
        got += count
    sender.send(frame(6))  # a drop is told with the next frame that gets through
    got += len(receive(bus, 1))
    ((channel, lost, cause),) = bus.losses()
    assert (channel, cause) == ("can0", Loss.KERNEL)
    assert got + lost == 401
    assert lost > 0
    assert bus.losses() == []


def test_broken_records_are_counted(link) -> None:
    sender, receiver = link
    bus = SocketcanBus(receiver, "can0", ChannelTable())
    sender.send(b"no frame")
    sender.send(frame(7))
    assert [int(row["arbitration_id"]) for row in receive(bus, 1)] == [7]
    assert bus.losses() == [("can0", 1, Loss.BROKEN)]


def test_nothing_comes_is_an_empty_batch(link) -> None:
    bus = SocketcanBus(link[1], "can0", ChannelTable())
    assert len(bus.recv_batch(0.0)) == 0
    assert not bus.ended


@pytest.mark.parametrize("number", [errno.ENETDOWN, errno.ENODEV, errno.EIO])
def test_interface_that_goes_is_a_bus_error(link, monkeypatch, number) -> None:
    sender, receiver = link
    bus = SocketcanBus(receiver, "can0", ChannelTable())

    def gone(fileno: int) -> int:
        raise OSError(number, "gone")

    monkeypatch.setattr(bus._receiver, "receive", gone)
    sender.send(frame(1))
    with pytest.raises(BusError, match="can0: "):
        bus.recv_batch(1)


@pytest.mark.parametrize("number", [errno.ENETDOWN, errno.ENODEV])
def test_frames_that_came_before_the_fault_come_before_it(link, monkeypatch, number) -> None:
    """The kernel tells a fault first, ahead of what still waits: it is not lost with it."""
    sender, receiver = link
    bus = SocketcanBus(receiver, "can0", ChannelTable())
    real, told = bus._receiver.receive, []

    def faulty(fileno: int) -> int:
        if not told:
            told.append(number)
            raise OSError(number, "fault")
        return real(fileno)

    monkeypatch.setattr(bus._receiver, "receive", faulty)
    sender.send(frame(1))
    sender.send(frame(2))
    assert [int(row["arbitration_id"]) for row in receive(bus, 2)] == [1, 2]
    with pytest.raises(BusDownError if number == errno.ENETDOWN else BusError):
        bus.recv_batch(5)


def test_drops_at_the_end_are_counted_though_no_frame_tells_of_them(link) -> None:
    """And none twice: what waits in the socket tells an older count than the socket itself."""
    sender, receiver = link
    receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    bus = SocketcanBus(receiver, "can0", ChannelTable())
    for burst in (1, 2):
        for _ in range(400):
            sender.send(frame(5))
        told = [bus.losses()]
        got = 0
        while count := len(bus.recv_batch(0.05)):
            got += count
            told.append(bus.losses())
        lost = sum(count for losses in told for _, count, _ in losses)
        assert got + lost == 400, burst
        assert lost > 0


def test_refused_peer_is_a_bus_error_by_the_real_call() -> None:
    dead = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    dead.bind(("127.0.0.1", 0))
    address = dead.getsockname()
    dead.close()
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.connect(address)
    sock.setblocking(False)
    bus = SocketcanBus(sock, "can0", ChannelTable())
    sock.send(b"x")  # the answer is an ICMP error on our socket
    with pytest.raises(BusError, match="cannot read"):
        bus.recv_batch(1)
    bus.close()
    bus.close()
    with pytest.raises(BusError, match="closed"):
        bus.recv_batch(0)


class RecordingSocket(socket.socket):
    """Takes CAN options as a CAN socket would and remembers them."""

    asked: list

    def setsockopt(self, level, option, value):  # type: ignore[override]
        if level == socket.SOL_CAN_RAW:
            self.asked.append((option, value))
        else:
            super().setsockopt(level, option, value)


def test_filters_go_to_the_kernel_or_are_applied_here() -> None:
    receiver = RecordingSocket(socket.AF_INET, socket.SOCK_DGRAM)
    receiver.asked = []
    receiver.bind(("127.0.0.1", 0))
    early.prepare(receiver)
    bus = SocketcanBus(receiver, "can0", ChannelTable())
    bus.set_filters([{"can_id": 0x123, "can_mask": 0x7FF, "extended": False}])
    bus.set_filters(None)
    bus.set_filters([])
    many = [{"can_id": n, "can_mask": 0x7FF, "extended": False} for n in range(513)]
    bus.set_filters(many)
    option = socket.CAN_RAW_FILTER
    everything = (option, struct.pack("=II", 0, 0))
    assert receiver.asked == [
        (option, struct.pack("=II", 0x123, 0x800007FF)),
        everything,
        (option, b""),
        everything,
    ]
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.connect(receiver.getsockname())
    sender.send(frame(512))
    sender.send(frame(513))
    assert [int(row["arbitration_id"]) for row in receive(bus, 1)] == [512]
    sender.close()
    bus.close()


def test_drain_time_leaves_four_times_the_room() -> None:
    small, large = 212_992, 16 << 20
    assert drain_seconds(large, 500_000) == TICK_S
    seconds = drain_seconds(small, 1_000_000)
    assert 0.001 <= seconds < 0.05
    assert seconds * 1_000_000 / 47 * 4 <= small / 768 * 1.001
    assert drain_seconds(4096, 1_000_000) == 0.001


def test_missing_interface_is_one_line() -> None:
    with pytest.raises(BusError) as caught:
        early.open_socket("nocan99", fd=True)
    assert "nocan99" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_imports_stay_light() -> None:
    """The socket is bound before numpy is there, and python-can never is."""
    code = (
        "import sys, agent.capture.early; assert 'numpy' not in sys.modules;"
        "import agent.capture.bus, agent.capture.socketcan; assert 'can' not in sys.modules;"
        "assert 'ssl' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=CAPTURE.parents[1], timeout=60)


def test_capture_has_no_way_to_send() -> None:
    for path in CAPTURE.rglob("*.py"):
        text = path.read_text("utf-8")
        for word in (".send(", ".sendmsg(", ".sendto(", ".sendall(", "send_periodic"):
            assert word not in text, f"{path.name} has {word}"
