"""The command as users and the demo run it."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import can
import pytest
import serial

from firmware_sim.__main__ import main
from firmware_sim.car import Car, Options

COMMAND = [sys.executable, "-m", "firmware_sim"]
# ff11: a multicast group whose scope is this machine (RFC 4291, interface-local).
GROUP = "ff11:7079:7468:6f6e:6465:6d6f:6d63:6173"
ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=30, check=False
    )


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def in_process(monkeypatch):
    """Run the command here (no start of an interpreter), and give the signals back."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def call(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["firmware_sim", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0)

    yield call
    for number, handler in before.items():
        signal.signal(number, handler)


def test_help_explains_itself(capsys, in_process):
    assert in_process("--help") == 0
    told = capsys.readouterr().out
    for word in (
        "hard-brake",
        "commute",
        "parked-watch",
        "military-zone",
        "no-fix",
        "flood",
        "sold",
        "--pty-link /tmp/ttyCar",
        "Exit: 0 done",
    ):
        assert word in told


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["--scenaro", "x"], 2, "Did you mean"),
        (["--scenario", "x"], 2, "'commute', 'hard-brake'"),
        (["--seconds", "-1"], 2, "--seconds"),
        (["--speed", "fast"], 2, "neither max nor a factor"),
        (["--start", "noon"], 2, "ISO 8601"),
        (["--log", "/no/such/folder/x"], 2, "No such file"),
        (["--log", "-", "--seconds", "0"], 2, "fill the disk"),
        (["--log", "-", "--channel", "a b"], 2, "without spaces"),
        (["--log", "-", "--socketcan", "vcan0"], 2, "exclude each other"),
        (["--log", "-", "--brake-at", "3"], 2, "does not brake hard"),
        (["--pty-link", "/no/such/folder/x"], 2, "cannot make the link"),
        (["--socketcan", "nosuchcan"], 75, "socketcan nosuchcan"),
    ],
)
def test_wrong_use_is_one_line(arguments, code, text, capsys, in_process):
    assert in_process(*arguments) == code
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("error: ")
    assert told.err.count("\n") == 1
    assert text in told.err


def test_multicast_without_msgpack_says_what_to_install(capsys, in_process, monkeypatch):
    monkeypatch.setattr("can.interfaces.udp_multicast.utils.msgpack", None)
    assert in_process("--udp-multicast", GROUP) == 75
    said = capsys.readouterr().err
    assert said.startswith(f"error: udp_multicast {GROUP}: msgpack not installed")
    assert said.count("\n") == 1


def test_multicast_reaches_another_process(in_process):
    """python-can's own bus is the other side; the group's scope is this machine alone."""
    with can.Bus(interface="udp_multicast", channel=GROUP) as other:
        assert in_process("--udp-multicast", GROUP, "--seconds", "0.2", "--json") == 0
        frames = list(Car(Options("commute")).frames_until(200_000_000))
        heard = [other.recv(5) for _ in frames]
    expected = [(f.arbitration_id, f.data) for f in frames]
    assert [(m.arbitration_id, bytes(m.data)) for m in heard] == expected


def test_log_is_what_candump_writes_and_repeats(tmp_path, capsys, in_process):
    arguments = ["--scenario", "hard-brake", "--seconds", "2", "--seed", "7", "--fd"]
    logs = [tmp_path / "a.log", tmp_path / "b.log"]
    summaries = []
    for log in logs:
        assert in_process("--log", str(log), "--json", *arguments) == 0
        summaries.append(json.loads(capsys.readouterr().out))
    assert logs[0].read_bytes() == logs[1].read_bytes()
    messages = list(can.CanutilsLogReader(logs[0]))
    assert summaries[0] == summaries[1]
    assert summaries[0]["frames"] == len(messages) == sum(summaries[0]["by_id"].values())
    assert summaries[0]["by_id"]["18FEF31C"] == 20
    assert summaries[0]["seconds"] == 2.0
    assert messages[0].timestamp == 1_793_520_000
    assert all(m.channel == "can0" for m in messages)
    assert any(m.is_fd and m.bitrate_switch and m.dlc == 64 for m in messages)


def test_log_on_standard_output_keeps_the_summary_apart():
    done = run(
        *[
            "--log",
            "-",
            "--seconds",
            "0.1",
            "--start",
            "2027-01-02T03:04:05Z",
            "--json",
            "--channel",
            "vcan7",
        ]
    )
    lines = done.stdout.splitlines()
    assert lines[0].startswith("(1798859045.0")
    assert all(line.split()[1] == "vcan7" for line in lines)
    assert json.loads(done.stderr)["frames"] == len(lines)


def test_reader_that_goes_away_is_one_line():
    process = start("--log", "-", "--seconds", "60")
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr is not None
    told = process.stderr.read()
    process.stderr.close()
    assert process.wait(30) == 75
    assert told == "error: <stdout>: cannot be written: Broken pipe\n"


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    assert select.select([process.stderr], [], [], 20)[0], "it says nothing"
    return process.stderr.readline()


def test_demo_drive_over_a_pty_is_complete(tmp_path):
    """As the demo runs it: a link, a log of what was sent, and JSON at the end."""
    link, log = tmp_path / "ttyCar", tmp_path / "sent.log"
    process = start(
        "--pty-link", str(link), "--scenario", "hard-brake", "--seconds", "2", "--seed", "7",
        "--speed", "4", "--sent-log", str(log), "--json",
    )  # fmt: skip
    assert "SLCAN adapter at /dev/pts/" in first_line(process)
    heard = 0
    with serial.serial_for_url(str(link), timeout=0) as port:
        port.write(b"C\rS6\r\rO\rO\r")
        while process.poll() is None:
            if select.select([port.fileno()], [], [], 0.1)[0]:
                try:
                    heard += os.read(port.fileno(), 65536).count(b"\r")
                except OSError:
                    break  # the adapter was unplugged: the drive is over
        out, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (0, "")
    summary = json.loads(out)
    assert summary["frames"] == heard - 3 == len(list(can.CanutilsLogReader(log)))
    assert (summary["lost"], summary["unread_bytes"], summary["host_frames"]) == (0, 0, 0)
    assert not link.is_symlink()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_with_the_summary(tmp_path, number):
    link = tmp_path / "tty"
    process = start("--pty-link", str(link), "--json", "--seconds", "0")
    first_line(process)
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (0, "")
    assert json.loads(out)["frames"] == 0
    assert not link.is_symlink()


def test_it_runs_without_cantools_and_without_the_agent():
    """In a car's computer neither is there."""
    probe = (
        "import sys; sys.modules['cantools'] = None; sys.modules['agent'] = None; "
        "sys.modules['numpy'] = None; sys.argv = ['x', '--log', '-', '--seconds', '0.05']; "
        "from firmware_sim.__main__ import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.count("\n") > 10
