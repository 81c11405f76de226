"""Interfaces of python-can: what is sent arrives, what is refused is counted or told."""

from __future__ import annotations

import contextlib
import errno
import threading

import can
import pytest

from firmware_sim.car import Car, Options
from firmware_sim.drive import drive
from firmware_sim.errors import OutputError
from firmware_sim.frames import Frame, candump_line
from firmware_sim.outputs import CanOutput, LogOutput
from firmware_sim.record import Record


@pytest.fixture
def output():
    made = CanOutput("virtual", "sim-test", fd=True, record=Record("can0"), stop=threading.Event())
    yield made
    made.close()


def test_drive_arrives_on_a_bus_of_python_can(output):
    options = Options("hard-brake", seed=7, fd=True)
    with can.Bus(interface="virtual", channel="sim-test", fd=True) as bus:
        drive(Car(options), output, seconds=0.2, speed=None, wait_open=True, stop=threading.Event())
        expected = list(Car(options).frames_until(200_000_000))
        for frame in expected:
            message = bus.recv(timeout=1)
            assert message is not None
            assert (message.arbitration_id, bytes(message.data), message.is_extended_id) == (
                frame.arbitration_id,
                frame.data,
                frame.extended,
            )
            assert (message.is_fd, message.bitrate_switch) == (frame.fd, frame.brs)
    assert output._record.summary()["frames"] == len(expected)


def refuse(output, monkeypatch, code: int) -> None:
    def send(message, timeout):
        if message.arbitration_id == 2:
            raise can.CanOperationError("Failed to transmit", code)

    monkeypatch.setattr(output._bus, "send", send)
    output.deliver([Frame(0, number, b"") for number in (1, 2, 3)])


def test_full_queue_loses_the_frame_and_counts_it(output, monkeypatch):
    refuse(output, monkeypatch, errno.ENOBUFS)
    summary = output._record.summary()
    assert (summary["frames"], summary["lost"]) == (2, 1)


def test_interface_that_went_down_ends_the_drive(output, monkeypatch):
    with pytest.raises(OutputError, match="virtual sim-test: Failed to transmit"):
        refuse(output, monkeypatch, errno.ENETDOWN)
    assert output._record.summary()["frames"] == 1


def test_full_disk_is_told():
    log = LogOutput("/dev/full", Record("can0"), threading.Event())
    with pytest.raises(OutputError, match="/dev/full: cannot be written: No space left"):
        log.deliver([Frame(0, 1, bytes(8))] * 2000)
    with contextlib.suppress(OutputError):
        log.close()


@pytest.mark.parametrize(
    ("frame", "line"),
    [
        (
            Frame(1_793_520_000_123_456_789, 0xA2, b"\xab\x01"),
            "(1793520000.123456) can0 0A2#AB01\n",
        ),
        (Frame(0, 0x18FEF31C, b"", True), "(0000000000.000000) can0 18FEF31C#\n"),
        (Frame(1000, 1, b"", remote=True), "(0000000000.000001) can0 001#R\n"),
        (Frame(1000, 1, b"", remote=True, requested=8), "(0000000000.000001) can0 001#R8\n"),
        (Frame(0, 1, b"\x05", fd=True), "(0000000000.000000) can0 001##005\n"),
        (Frame(0, 1, b"\x05", fd=True, brs=True), "(0000000000.000000) can0 001##105\n"),
    ],
)
def test_line_is_that_of_candump(frame, line):
    assert candump_line(frame, "can0") == line
