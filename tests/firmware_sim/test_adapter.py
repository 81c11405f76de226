"""The adapter on a real pty against python-can's slcan, which shares no code with it."""

from __future__ import annotations

import os
import select
import threading
import time
from itertools import pairwise

import can
import pytest
import serial

from firmware_sim.car import Car, Options
from firmware_sim.drive import drive
from firmware_sim.errors import SimError
from firmware_sim.frames import Frame
from firmware_sim.pty import BUFFER_BYTES, PtyOutput
from firmware_sim.record import Record
from firmware_sim.slcan import Device, State, Transmitted

OPTIONS = Options("hard-brake", seed=7)
DEADLINE_S = 60.0  # a machine under load is slow, not wrong
FRAMES = [
    Frame(0, 0x123, b"\x01\x02\x03"),
    Frame(0, 0x7FF, b""),
    Frame(0, 0x18FEF31C, bytes(range(8)), extended=True),
    Frame(0, 0x100, b"", remote=True, requested=5),
    Frame(0, 0x1ABCDEFF, b"", extended=True, remote=True),
    Frame(0, 0x2F0, bytes(range(64)), fd=True, brs=True),
    Frame(0, 0x2F1, bytes(12), fd=True),
    Frame(0, 0x12345678, bytes(48), extended=True, fd=True, brs=True),
]


class Adapter:
    """A PtyOutput that keeps what the host transmits."""

    def __init__(self, tmp_path, **device):
        self.told: list[str] = []
        self.seen: list[Frame] = []
        self.stop = threading.Event()
        self.device = Device(**device)
        self.record = Record("can0")
        self.record.log_to(tmp_path / "sent.log")
        self.output = PtyOutput(
            self.device,
            self.record,
            self.stop,
            link=tmp_path / "tty",
            tell=self.told.append,
        )
        inner = self.device.receive

        def receive(data):
            outcome = inner(data)
            self.seen += [e.frame for e in outcome.events if isinstance(e, Transmitted)]
            return outcome

        self.device.receive = receive

    def attend_until(self, condition):
        for _ in range(200):
            if condition():
                return
            self.output.attend(0.01)
        raise AssertionError("nothing happened")


@pytest.fixture
def adapter(tmp_path):
    made = Adapter(tmp_path)
    yield made
    made.output.close()
    made.record.close()


def host(adapter, **settings) -> can.BusABC:
    bus = can.Bus(interface="slcan", channel=adapter.output.path, sleep_after_open=0, **settings)
    adapter.attend_until(lambda: adapter.device.state is not State.CLOSED)
    return bus


def as_frame(message: can.Message) -> Frame:
    return Frame(
        0,
        message.arbitration_id,
        bytes(message.data),
        message.is_extended_id,
        message.is_remote_frame,
        message.is_fd,
        message.bitrate_switch,
        message.dlc if message.is_remote_frame else 0,
    )


def test_python_can_reads_each_kind_of_frame(adapter):
    with host(adapter, bitrate=500_000) as bus:
        adapter.output.deliver(FRAMES)
        got = []
        while len(got) < len(FRAMES):
            message = bus.recv(timeout=2)
            if message is not None:  # python-can returns None for an answer, too
                got.append(as_frame(message))
        assert got == FRAMES


def test_python_can_sends_each_kind_of_frame(adapter):
    with host(adapter, bitrate=500_000) as bus:
        for frame in FRAMES:
            bus.send(
                can.Message(
                    arbitration_id=frame.arbitration_id,
                    is_extended_id=frame.extended,
                    is_remote_frame=frame.remote,
                    is_fd=frame.fd,
                    bitrate_switch=frame.brs,
                    dlc=frame.length,
                    data=frame.data,
                )
            )
        adapter.attend_until(lambda: len(adapter.seen) == len(FRAMES))
    assert adapter.seen == FRAMES
    assert adapter.record.host_frames == len(FRAMES)


def test_python_can_listening_only_cannot_transmit(adapter):
    with host(adapter, bitrate=500_000, listen_only=True) as bus:
        bus.send(can.Message(arbitration_id=1, data=b""))
        adapter.output.attend(0.02)
        assert adapter.device.state is State.LISTEN
        assert adapter.record.host_frames == 0


def test_host_at_another_bit_rate_hears_nothing_and_is_told_why(adapter):
    with host(adapter, bitrate=250_000):
        adapter.output.deliver(FRAMES)
        assert adapter.record.unheard == len(FRAMES)
        assert "250000 bit/s, the bus runs at 500000" in adapter.told[0]


def test_version_and_serial_number_are_readable(adapter):
    with host(adapter, bitrate=500_000) as bus:
        server = threading.Thread(target=adapter.output.attend, args=(5,))
        server.start()
        assert bus.get_version(timeout=2) == (10, 13)
        assert bus.get_serial_number(timeout=2) == "SIM1"
        adapter.stop.set()
        os.write(adapter.output._slave, b"\r")
        server.join()


class Journey:
    """A drive in a thread of its own, to its end: as `firmware_sim` runs one."""

    def __init__(self, adapter, seconds, speed):
        self.adapter, self.seconds, self.speed = adapter, seconds, speed
        self.expected = list(Car(OPTIONS).frames_until(int(seconds * 1e9)))
        self.thread = threading.Thread(target=self._run)

    def _run(self):
        output, stop = self.adapter.output, self.adapter.stop
        drive(
            Car(OPTIONS), output, seconds=self.seconds, speed=self.speed, wait_open=True, stop=stop
        )
        output.finish(DEADLINE_S)  # what is in its buffer when the car stands still is still to go

    def read(self, port):
        """Return the lines that came, until all are there, none can come, or the time is up."""
        text, deadline = b"", time.monotonic() + DEADLINE_S
        self.thread.start()
        try:
            while text.count(b"\r") < len(self.expected) + 2 and time.monotonic() < deadline:
                is_over = not self.thread.is_alive()
                more = port.read(max(1, port.in_waiting))
                text += more
                if is_over and not more:
                    break
        finally:
            self.adapter.stop.set()
            self.thread.join()
        return text.split(b"\r")[2:-1]

    def check(self, lines, log):
        """The host has what the adapter says it handed over, and that is what the car sent."""
        self.adapter.record.close()
        logged = [as_frame(message) for message in can.CanutilsLogReader(log)]
        reference = Device()
        reference.receive(b"O\r")
        assert lines == [reference.frame(frame)[:-1] for frame in logged]
        summary = self.adapter.record.summary()
        assert summary["frames"] == len(logged)
        assert {name: summary[name] for name in ("lost", "unheard")} == {"lost": 0, "unheard": 0}
        assert logged == [frame._replace(timestamp_ns=0) for frame in self.expected]


@pytest.mark.parametrize(("seconds", "speed"), [(1.0, 5.0), (5.0, None)])
def test_drive_reaches_the_host_complete_and_as_recorded(adapter, tmp_path, seconds, speed):
    """What the host reads is what the log says and what the car sent, frame by frame."""
    journey = Journey(adapter, seconds, speed)
    with serial.serial_for_url(str(tmp_path / "tty"), timeout=1) as port:
        port.write(b"S6\rO\r")
        journey.check(journey.read(port), tmp_path / "sent.log")


class SlowHost:
    """An output with room for six; each delivery is four. Its clock runs while it is attended."""

    opened = True

    def __init__(self, takes_every_s):
        self.now_s = self.next_s = 0.0
        self.takes_every_s = takes_every_s
        self.waiting = self.taken = self.lost = 0

    def monotonic(self):
        return self.now_s

    @property
    def has_room(self):
        return self.waiting <= 2

    def deliver(self, frames):
        fits = min(4, 6 - self.waiting)
        self.waiting += fits
        self.lost += 4 - fits

    def attend(self, seconds):
        self.now_s += seconds
        if self.now_s >= self.next_s and self.waiting:
            self.next_s = self.now_s + self.takes_every_s
            self.waiting -= 1
            self.taken += 1


@pytest.mark.parametrize(("takes_every_s", "loses"), [(4.0, False), (60.0, True)])
def test_host_that_reads_slowly_but_steadily_loses_nothing(monkeypatch, takes_every_s, loses):
    """The patience counts from what the host took last, not from when the buffer was full."""
    host = SlowHost(takes_every_s)
    monkeypatch.setattr("firmware_sim.drive.time", host)
    drive(Car(OPTIONS), host, seconds=1.0, speed=None, wait_open=False, stop=threading.Event())
    assert bool(host.lost) is loses
    assert host.taken + host.waiting + host.lost == 4 * 20


def test_host_that_does_not_read_costs_frames_not_time_or_memory(adapter):
    with host(adapter, bitrate=500_000):
        many = [Frame(0, 1, bytes(8))] * 10_000
        adapter.output.deliver(many)
        assert len(adapter.output._out) <= BUFFER_BYTES
        assert not adapter.output.has_room
        adapter.output.finish(0.05)
        summary = adapter.record.summary()
        assert summary["frames"] + summary["lost"] == len(many)
        assert summary["lost"] > 0
        assert summary["unread_bytes"] > 0
        assert adapter.device._flags == 8  # data overrun


def test_host_that_only_writes_is_held_back(adapter):
    """Answers that nobody reads must not fill the memory."""
    port = serial.serial_for_url(adapter.output.path, write_timeout=0)
    os.set_blocking(port.fileno(), False)
    writable = select.poll()
    writable.register(port.fileno(), select.POLLOUT)
    for _ in range(400):
        if writable.poll(0):
            os.write(port.fileno(), b"V\r" * 400)
        adapter.output.attend(0)
    assert len(adapter.output._out) <= BUFFER_BYTES + 6 * 4096
    port.close()


def test_link_replaces_an_old_link_and_goes_with_the_adapter(tmp_path):
    (tmp_path / "tty").symlink_to("/nowhere")
    made = Adapter(tmp_path)
    assert (tmp_path / "tty").readlink().as_posix() == made.output.path
    made.output.close()
    made.record.close()
    assert not (tmp_path / "tty").is_symlink()


def test_link_never_replaces_a_file(tmp_path):
    (tmp_path / "tty").write_text("precious")
    with pytest.raises(SimError, match="a file that is not a link is there"):
        PtyOutput(Device(), Record("can0"), threading.Event(), link=tmp_path / "tty", tell=print)
    assert (tmp_path / "tty").read_text() == "precious"


def test_deadlines_do_not_drift(adapter):
    """The output hears rising moments, and all of the drive although the loop is late."""

    class Ticker:
        def __init__(self):
            self.ends = []

        def frames_until(self, end_ns):
            self.ends.append(end_ns)
            return iter(())

    ticker = Ticker()
    seconds = drive(
        ticker, adapter.output, seconds=0.5, speed=10.0, wait_open=False, stop=adapter.stop
    )
    assert seconds == 0.5
    assert ticker.ends[-1] == 500_000_000
    assert all(a < b <= a + 50_000_000 for a, b in pairwise([0, *ticker.ends]))
