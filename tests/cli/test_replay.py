"""`inland replay` onto python-can's virtual interface."""

import errno
import json
import os
import signal
import threading
from pathlib import Path

import can
import click
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.cli import replay
from agent.cli.replay import Player, command
from agent.cli.replay_view import Summary
from agent.errors import BusError, ConfigError, InlandError, LogError
from agent.frames import FRAME, ChannelTable


@pytest.fixture
def log(tmp_path) -> Path:
    path = tmp_path / "drive.log"
    path.write_text(
        "(100.000000) can0 123#1122\n(100.010000) can1 18FEF100#\n(100.020000) can0 7FF#R4\n"
        "(100.030000) can0 20000080#0000000000000000\n(100.040000) can0 123##1AABB\nbroken\n"
    )
    return path


def run(*words: str):
    return CliRunner().invoke(command, list(words), catch_exceptions=False)


def listen(channel: str) -> can.BusABC:
    return can.Bus(interface="virtual", channel=channel)


def heard(bus: can.BusABC) -> list[can.Message]:
    messages = []
    while (message := bus.recv(0)) is not None:
        messages.append(message)
    return messages


def test_frames_arrive_as_recorded_and_the_rest_is_counted(log) -> None:
    with listen("replay-a") as bus:
        result = run(str(log), "--interface", "virtual", "--channel", "replay-a", "--json")
        messages = heard(bus)
    assert result.exit_code == 0
    assert [(m.arbitration_id, m.is_extended_id, m.is_remote_frame) for m in messages] == [
        (0x123, False, False),
        (0x18FEF100, True, False),
        (0x7FF, False, True),
    ]
    assert messages[2].dlc == 4
    summary = json.loads(result.stdout)
    assert (summary["sent"], summary["broken"]) == (3, 1)
    assert summary["skipped"] == {"error frames": 1, "CAN FD frames, sent with --fd": 1}
    assert summary["seconds"] >= 0.04
    assert summary["late_us"]["max"] >= 0
    assert f"{log}:6" in result.stderr


def test_fd_loop_and_full_speed(log) -> None:
    with listen("replay-b") as bus:
        words = ["--interface", "virtual", "--channel", "replay-b", "--fd"]
        result = run(str(log), *words, "--speed", "max", "--loop", "3")
        messages = heard(bus)
    assert len(messages) == 12
    assert (messages[3].is_fd, messages[3].bitrate_switch, bytes(messages[3].data)) == (
        True,
        True,
        b"\xaa\xbb",
    )
    assert "sent 12 frames" in result.stdout
    assert "not sent: 3 (error frames)" in result.stdout
    assert "broken lines: 3" in result.stdout
    assert "late" not in result.stdout


def test_map_sends_each_channel_to_its_own_interface(log) -> None:
    with listen("replay-c") as first, listen("replay-d") as second:
        maps = ["--map", "can0=replay-c", "--map", "can1=replay-d"]
        run(str(log), "--interface", "virtual", "--speed", "max", *maps)
        assert len(heard(first)) == 2
        assert len(heard(second)) == 1
    result = run(
        str(log), "--interface", "virtual", "--speed", "max", "--json", "--map", "can1=replay-d"
    )
    assert json.loads(result.stdout)["skipped"] == {"channel can0 is not mapped": 4}


def test_strict_names_the_line(log) -> None:
    with pytest.raises(LogError, match=r"drive\.log:6"):
        run(str(log), "--interface", "virtual", "--channel", "x", "--strict", "--speed", "max")


@pytest.mark.parametrize(
    ("words", "error", "text"),
    [
        ([], ConfigError, "--channel vcan0"),
        (["--channel", "x", "--speed", "0"], ConfigError, "speed"),
        (["--map", "can0"], ConfigError, "LOG_CHANNEL=INTERFACE_CHANNEL"),
        (["--channel", "x", "--interface", "nothing-like-it"], ConfigError, "nothing-like-it"),
        (["--channel", "nocan99", "--interface", "socketcan"], BusError, "ip link add dev vcan0"),
    ],
)
def test_wrong_use_is_one_line(log, words, error, text) -> None:
    with pytest.raises(error, match=text) as caught:
        run(str(log), *words)
    assert isinstance(caught.value, InlandError)
    assert "\n" not in str(caught.value)


def test_missing_log_is_named_before_an_interface_is_opened(tmp_path) -> None:
    with pytest.raises(LogError, match="cannot open"):
        run(str(tmp_path / "no.log"), "--channel", "nocan99")


def test_interrupt_ends_with_the_summary(log, monkeypatch) -> None:
    def interrupt(self, bus, message):
        raise KeyboardInterrupt

    monkeypatch.setattr(Player, "_send", interrupt)
    result = run(str(log), "--interface", "virtual", "--channel", "replay-e")
    assert result.exit_code == 130
    assert "sent 0 frames" in result.stdout
    assert "interrupted" in result.stdout


@pytest.mark.parametrize("speed", ["1", "max"])
def test_interrupt_while_a_frame_is_sent_counts_that_frame(log, monkeypatch, speed) -> None:
    """What has gone out is in the summary, whenever Ctrl-C comes."""
    gone: list[can.Message] = []

    def send(self, bus, message):
        gone.append(message)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Player, "_send", send)
    words = ["--interface", "virtual", "--channel", "replay-f", "--speed", speed, "--json"]
    result = run(str(log), *words)
    assert result.exit_code == 130
    assert json.loads(result.stdout)["sent"] == len(gone) == 1
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_interrupt_ends_a_long_wait(tmp_path) -> None:
    path = tmp_path / "gap.log"
    path.write_text("(100.000000) can0 123#\n(9100.000000) can0 124#\n")
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    result = run(str(path), "--interface", "virtual", "--channel", "replay-g", "--json")
    timer.join()
    assert result.exit_code == 130
    assert json.loads(result.stdout)["sent"] == 1


class FullBus:
    """Takes no frame for a while, as an interface with a full queue."""

    channel_info = "full"

    def __init__(self, refusals: int, code: int) -> None:
        self.refusals, self.code, self.sent = refusals, code, 0

    def send(self, message):
        if self.refusals:
            self.refusals -= 1
            raise can.CanOperationError(os.strerror(self.code), self.code)
        self.sent += 1


def one_frame():
    return iter([np.zeros(1, FRAME)])


def test_full_queue_is_tried_again_and_a_dead_one_is_named() -> None:
    summary, bus = Summary(), FullBus(3, errno.ENOBUFS)
    Player({"": bus}, fd=False, summary=summary).play(one_frame(), ChannelTable(("can0",)), None)
    assert (bus.sent, summary.retries, summary.sent) == (1, 3, 1)
    with pytest.raises(BusError, match="full: the interface is down; ip link set IFACE up"):
        Player({"": FullBus(1, errno.ENETDOWN)}, fd=False, summary=summary).play(
            one_frame(), ChannelTable(("can0",)), None
        )
    now = iter(range(0, 10_000, 3))
    stuck = Player(
        {"": FullBus(10**9, errno.ENOBUFS)}, fd=False, summary=summary, clock=lambda: next(now)
    )
    with pytest.raises(BusError, match="cannot send"):
        stuck.play(one_frame(), ChannelTable(("can0",)), None)


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=50))
@settings(max_examples=40, deadline=None)
def test_lateness_bound_holds_for_its_share(late) -> None:
    summary = Summary()
    for value in late:
        summary.note_late(value)
    bound = summary.late_us(0.99)
    assert sum(value < bound for value in late) >= 0.99 * len(late)
    assert summary.as_dict()["late_us"]["max"] == pytest.approx(max(late), abs=0.06)


def test_help_names_the_formats() -> None:
    result = run("--help")
    assert "candump" in result.stdout
    assert isinstance(replay.command, click.Command)
