"""An SLCAN adapter on a pty: opened by python-can, read in bulk."""

import contextlib
import os
import pty
import select
import socket
import time
import tty

import numpy as np
import pytest
import serial
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.capture.bus import open_bus
from agent.capture.slcan import DescriptorSource, PortSource, SlcanBus, drain_seconds, spread
from agent.errors import BusError, ConfigError
from agent.frames import ChannelTable
from agent.pb.ledger_pb2 import Loss


@pytest.fixture
def line():
    """(adapter's end, path of the host's end)."""
    adapter, host = pty.openpty()
    tty.setraw(host)
    path = os.ttyname(host)
    yield adapter, path
    for number in (adapter, host):
        with contextlib.suppress(OSError):
            os.close(number)


def receive(bus, count: int) -> list:
    rows: list = []
    for _ in range(50):
        rows += list(bus.recv_batch(0.2))
        if len(rows) >= count:
            break
    return rows


def test_adapter_is_opened_listen_only_and_read_in_bulk(line) -> None:
    adapter, path = line
    settings = {"interface": "slcan", "channel": path, "bitrate": 500_000, "name": "can1"}
    bus = open_bus(settings, ChannelTable(("can0",)))
    said = b""
    while b"\rL\r" not in said:  # a pty hands bytes on in its own time
        said += os.read(adapter, 4096)
    commands = said.split(b"\r")
    assert b"S6" in commands
    assert b"L" in commands
    assert b"O" not in commands
    before = time.time_ns()
    os.write(adapter, b"z\rt1232AABB\r" + b"T18FEF1001FF\r" * 100 + b"t12")
    rows = receive(bus, 101)
    os.write(adapter, b"30\rgarbage\r")
    rows += receive(bus, 1)
    assert len(rows) == 102
    assert int(rows[0]["arbitration_id"]) == 0x123
    assert {int(row["channel"]) for row in rows} == {1}
    stamps = np.array([row["timestamp_ns"] for row in rows])
    assert (np.diff(stamps) >= 1000).all()
    assert before - 1_000_000 < stamps[0] < time.time_ns()
    for _ in range(50):
        if lost := bus.losses():
            break
        assert len(bus.recv_batch(0.2)) == 0
    assert lost == [("can1", 1, Loss.BROKEN)]
    bus.set_filters([])
    os.write(adapter, b"t1230\r")
    assert len(bus.recv_batch(0.2)) == 0
    os.set_blocking(adapter, False)
    try:
        sent = os.read(adapter, 4096)
    except BlockingIOError:
        sent = b""
    assert sent == b""  # nothing was transmitted
    bus.close()
    bus.close()


def test_adapter_that_is_pulled_out_is_a_bus_error(line) -> None:
    adapter, path = line
    bus = open_bus({"interface": "slcan", "channel": path}, ChannelTable())
    os.close(adapter)
    with pytest.raises(BusError, match="gone"):
        bus.recv_batch(1)
    bus.close()
    with pytest.raises(BusError, match="closed"):
        bus.recv_batch(0)


def test_a_bus_that_says_little_is_not_taken_for_one_that_is_gone(line) -> None:
    """A read of nothing returns nothing at once in pyserial, as the end of a line does."""
    adapter, path = line
    bus = open_bus({"interface": "slcan", "channel": path}, ChannelTable())
    for _ in range(3):
        os.write(adapter, b"t1230\r")
        assert len(receive(bus, 1)) == 1
        assert [len(bus.recv_batch(0.05)) for _ in range(3)] == [0, 0, 0]
    os.close(adapter)
    with pytest.raises(BusError, match="gone"):
        bus.recv_batch(1)
    bus.close()


def test_a_socket_that_ends_is_gone_and_one_that_is_quiet_is_not() -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    source = DescriptorSource(ours.fileno(), 0.01)
    theirs.send(b"a")
    assert (source(1), source(0.02), source(0.02)) == (b"a", b"", b"")
    theirs.send(b"b")
    theirs.close()
    assert source(1) == b"b"
    with pytest.raises(OSError, match="hung up"):
        source(1)
    ours.close()


def test_listen_only_can_be_refused(line) -> None:
    adapter, path = line
    settings = {"interface": "slcan", "channel": path, "listen_only": False, "ttyBaudrate": 9600}
    bus = open_bus(settings, ChannelTable())
    assert b"O\r" in os.read(adapter, 4096)
    bus.close()


def test_missing_device_and_wrong_bitrate_are_one_line(line) -> None:
    with pytest.raises(BusError, match="cannot open"):
        open_bus({"interface": "slcan", "channel": "/dev/does-not-exist"}, ChannelTable())
    with pytest.raises(ConfigError, match="bitrate"):
        open_bus({"interface": "slcan", "channel": line[1], "bitrate": 3}, ChannelTable())


def test_port_without_a_descriptor_is_read_too() -> None:
    with serial.serial_for_url("loop://", timeout=0) as port:
        port.write(b"t1230\r")
        bus = SlcanBus(PortSource(port), "can0", ChannelTable())
        assert bus.recv_batch(0.1)["arbitration_id"].tolist() == [0x123]
        assert len(bus.recv_batch(0.0)) == 0


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(-(10**6), 10**7)), max_size=20))
@settings(max_examples=60, deadline=None)
def test_stamps_rise_strictly_however_close_the_reads(reads) -> None:
    now, last = 10**18, 0
    for count, step in reads:
        now += step
        stamps = spread(count, now, last)
        assert stamps[0] > last
        assert (np.diff(stamps) == 1000).all()
        last = int(stamps[-1])


def test_stamps_follow_a_clock_that_was_set_back() -> None:
    hour = 3600 * 10**9
    assert spread(1, 10**18 - hour, 10**18)[0] == 10**18 - hour


class Script:
    """A source that gives one piece a read; the wall clock is a second later at each."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces, self.now_ns = list(pieces), 10**18

    def __call__(self, timeout_s: float) -> bytes:
        self.now_ns += 10**9
        return self.pieces.pop(0) if self.pieces else b""

    def clock_ns(self) -> int:
        return self.now_ns


@pytest.mark.parametrize("noise", [b"", b"z\r", b"nonsense\r", b"\x07"])
def test_frames_are_stamped_by_the_read_that_brought_them(noise) -> None:
    script = Script(b"t0010\rt0020\rt00", b"30\r" + noise, noise + b"t0040\r")
    bus = SlcanBus(script, "can0", ChannelTable(), clock_ns=script.clock_ns)
    batch = bus.recv_batch(1)
    assert batch["arbitration_id"].tolist() == [1, 2, 3, 4]
    seconds = [round((int(stamp) - 10**18) / 1e9) for stamp in batch["timestamp_ns"]]
    assert seconds == [1, 1, 2, 3]
    assert bus.losses() == ([("can0", 2, Loss.BROKEN)] if b"nonsense" in noise else [])


def test_a_tty_is_read_before_a_full_bus_has_filled_it() -> None:
    """27 characters for a frame of at least 114 bits; a tty holds 4,095."""
    for bitrate in (10_000, 125_000, 500_000, 1_000_000):
        assert 0 < drain_seconds(bitrate) <= 0.025
        assert drain_seconds(bitrate) * bitrate / 114 * 27 < 4095 * 0.8


class Asked:
    """A poll object that counts how often it is asked."""

    def __init__(self, poll: select.poll) -> None:
        self.count, self._poll = 0, poll

    def poll(self, timeout_ms: float) -> list[tuple[int, int]]:
        self.count += 1
        return self._poll.poll(timeout_ms)


def test_a_line_that_flows_is_read_without_asking_first(line) -> None:
    adapter, path = line
    host = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    source = DescriptorSource(host, 0.0)
    source._readable = asked = Asked(source._readable)  # type: ignore[assignment]
    assert source(0.0) == b""
    os.write(adapter, b"t1230\r")
    assert source(10.0) == b"t1230\r"
    count, got = asked.count, b""
    os.write(adapter, b"x" * 5000)
    while len(got) < 5000:
        assert select.select([host], [], [], 10)[0]  # a pty hands bytes on in its own time
        got += source(0.0)
    assert (got, asked.count) == (b"x" * 5000, count)
    assert source(0.0) == b""
    assert asked.count == count + 1  # it flows no more
    os.close(host)


def test_what_came_before_the_adapter_went_is_kept() -> None:
    script = Script(b"t0010\r")

    def source(timeout_s: float) -> bytes:
        if not script.pieces:
            raise OSError("unplugged")
        return script(timeout_s)

    bus = SlcanBus(source, "can0", ChannelTable())
    assert len(bus.recv_batch(1)) == 1
    with pytest.raises(BusError, match="unplugged"):
        bus.recv_batch(1)
