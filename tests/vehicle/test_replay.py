"""`inland replay` onto a real CAN interface, with candump as the witness."""

from __future__ import annotations

import bz2
import csv
import json
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.policy.making import DATA
from tests.vehicle.guest import Guest
from tests.vehicle.watching import plain, watching

LOGS = DATA / "can_logs"
SIM = "/payload/venv/bin/python -m firmware_sim"


@pytest.fixture(scope="module", autouse=True)
def buses(guest: Guest) -> Iterator[None]:
    """A second CAN FD bus, and a classic one."""
    for name, mtu in (("vcan1", 72), ("vcan2", 16)):
        guest.sh(f"ip link add {name} type vcan && ip link set {name} mtu {mtu} up")
    yield
    for name in ("vcan1", "vcan2"):
        guest.sh(f"ip link del {name}")


@pytest.fixture(scope="module")
def drive(guest: Guest) -> list[str]:
    """A simulated drive of five seconds; /tmp/drive.log in the guest."""
    guest.sh(f"{SIM} --log /tmp/drive.log --scenario hard-brake --seconds 5 --seed 7")
    return guest.read("/tmp/drive.log").decode().splitlines()


def replay(guest: Guest, arguments: str, *, code: int = 0, timeout: float = 90) -> Any:
    """Run it; return its summary."""
    done = guest.run(f"inland replay {arguments} --json", timeout=timeout)
    assert "Traceback" not in done.err
    assert done.code == code, done.err
    return json.loads(done.out) if code in (0, 130) else done.err


def frames(lines: list[str]) -> list[str]:
    return [line.split()[2] for line in lines]


def stamps(lines: list[str]) -> list[float]:
    return [float(line[1:].partition(")")[0]) for line in lines]


def lateness_ms(due: list[float], seen: list[float], speed: float = 1.0) -> list[float]:
    """How long after its moment each frame came, the promptest one being on time."""
    late = [(s - seen[0]) - (d - due[0]) / speed for d, s in zip(due, seen, strict=True)]
    return [1000 * (one - min(late)) for one in late]


@pytest.mark.parametrize("speed", [1.0, 2.5])
def test_frames_come_at_their_moments(guest: Guest, drive: list[str], speed: float):
    """As punctual as canplayer on the same machine, and not later at the end than at the start."""
    thin = drive[::4]  # what the guest's single CPU can play and show while others use the machine
    guest.write("/tmp/thin.log", "".join(line + "\n" for line in thin).encode())
    # As punctual once in three, on a machine that may have others to serve in the other two.
    assert any(punctual(guest, thin, speed) for _ in range(3))


def punctual(guest: Guest, lines: list[str], speed: float) -> bool:
    """Play a log, and have canplayer play it; return whether ours was as good."""
    with watching(guest, "vcan0") as seen:
        summary = replay(guest, f"/tmp/thin.log --channel vcan0 --speed {speed}")
    assert seen.frames() == frames(lines)
    assert summary["sent"] == len(lines)
    late = lateness_ms(stamps(lines), seen.stamps(), speed)
    tenth = len(late) // 10
    drift = statistics.median(late[-tenth:]) - statistics.median(late[:tenth])
    with watching(guest, "vcan0") as theirs:
        guest.sh("canplayer -I /tmp/thin.log vcan0=can0")
    canplayer = lateness_ms(stamps(lines), theirs.stamps())
    shown = [f"{statistics.median(x):.2f}/{sorted(x)[int(len(x) * 0.99)]:.2f}"
             for x in (late, canplayer)]  # fmt: skip
    print(f"late, median/p99 ms: inland {shown[0]}, canplayer {shown[1]}; drift {drift:.2f} ms")
    # A sleep a frame, one after the other, is 100 ms late by the end.
    return abs(drift) < 20 and statistics.median(late) < 3 * statistics.median(canplayer) + 2


def test_full_speed_loses_nothing_and_keeps_the_order(guest: Guest, drive: list[str]):
    with watching(guest, "vcan0") as seen:
        summary = replay(guest, "/tmp/drive.log --channel vcan0 --speed max")
    assert seen.frames() == frames(drive)
    recorded = stamps(drive)[-1] - stamps(drive)[0]
    print(f"{len(drive) / summary['seconds']:,.0f} frames/s; recorded in {recorded:.1f} s")
    assert summary["seconds"] < recorded
    assert summary["late_us"] is None


def test_loops(guest: Guest, drive: list[str]):
    guest.sh("head -200 /tmp/drive.log >/tmp/short.log")
    with watching(guest, "vcan0") as seen:
        replay(guest, "/tmp/short.log --channel vcan0 --loop 3")
    assert seen.frames() == 3 * frames(drive[:200])
    span = stamps(drive)[199] - stamps(drive)[0]
    # Each round begins anew and is paced by itself; a machine that stalls spoils one of three.
    parts = [seen.stamps()[200 * number : 200 * (number + 1)] for number in range(3)]
    spans = sorted(part[-1] - part[0] for part in parts)
    assert spans[1] == pytest.approx(span, abs=0.05)
    assert spans[0] > span / 2


def test_an_endless_loop_ends_with_ctrl_c_and_says_what_it_did(guest: Guest, drive: list[str]):
    guest.sh("head -200 /tmp/drive.log >/tmp/short.log")
    with watching(guest, "vcan0") as seen:
        guest.begin("loop", "exec inland replay /tmp/short.log --channel vcan0 --loop 0 --json")
        guest.until("[ $(wc -l </run/candump.txt) -gt 500 ]")
        ended = guest.end("loop", number="INT")
    assert ended.code == 130
    summary = json.loads(ended.out)
    assert summary["interrupted"]
    assert summary["sent"] == len(seen.frames()) > 500
    assert seen.frames() == (frames(drive[:200]) * 99)[: summary["sent"]]


MIXED = """\
(100.000000) can0 123#1122334455667788
(100.000100) can1 18FEF100#AA
(100.000200) can0 7FF#R4
(100.000300) can2 001#00
(100.000400) can0 123##1{wide}
(100.000500) can1 1ABCDEF0##3{odd}
(100.000600) can0 000#
(100.000700) can1 124##0
(100.000800) can0 20000080#0000000000000000
(100.000900) can1 7FE#R
"""
WIDE, ODD = bytes(range(64)).hex().upper(), "C0FFEE" * 4


def mixed(guest: Guest) -> list[list[str]]:
    """A log of three channels with every kind of frame; its rows."""
    text = MIXED.format(wide=WIDE, odd=ODD)
    guest.write("/tmp/mixed.log", text.encode())
    return [line.split() for line in text.splitlines()]


def sent(rows: list[list[str]], *channels: str, fd: bool = True) -> list[str]:
    """What goes onto the bus: error frames never."""
    return [t for _, name, t in rows
            if name in channels and not t.startswith("2000") and (fd or "##" not in t)]  # fmt: skip


def test_each_channel_goes_where_it_is_mapped(guest: Guest):
    rows = mixed(guest)
    with watching(guest, "vcan0", "vcan1") as seen:
        summary = replay(guest, "/tmp/mixed.log --fd --map can0=vcan0 --map can1=vcan1")
    for interface, channel in (("vcan0", "can0"), ("vcan1", "can1")):
        # `R` without a length is how candump writes a remote frame that asks for 0 bytes.
        assert [plain(f) for f in seen.frames(interface)] == sent(rows, channel)
    assert summary["skipped"] == {"channel can2 is not mapped": 1, "error frames": 1}
    with watching(guest, "vcan0", "vcan1") as swapped:
        replay(guest, "/tmp/mixed.log --fd --map can0=vcan1 --channel vcan0")
    assert [plain(f) for f in swapped.frames("vcan1")] == sent(rows, "can0")
    assert [plain(f) for f in swapped.frames("vcan0")] == sent(rows, "can1", "can2")


def test_without_fd_only_classic_frames_are_sent(guest: Guest):
    rows = mixed(guest)
    with watching(guest, "vcan2") as seen:
        summary = replay(guest, "/tmp/mixed.log --channel vcan2")
    assert seen.frames() == sent(rows, "can0", "can1", "can2", fd=False)
    assert summary["skipped"] == {"CAN FD frames, sent with --fd": 3, "error frames": 1}


def test_a_queue_that_is_full_is_waited_for(guest: Guest, drive: list[str]):
    """A slow interface (netem) answers ENOBUFS; nothing is lost for it."""
    guest.sh("head -300 /tmp/drive.log >/tmp/short.log")
    guest.sh("tc qdisc add dev vcan1 root netem delay 20ms limit 10")
    try:
        with watching(guest, "vcan1") as seen:
            summary = replay(guest, "/tmp/short.log --channel vcan1 --speed max")
    finally:
        guest.sh("tc qdisc del dev vcan1 root")
    assert seen.frames() == frames(drive[:300])
    assert summary["retries"] > 0


@pytest.mark.parametrize(
    ("before", "arguments", "words", "code"),
    [
        ("", "--channel vcan9", "no such CAN interface", 75),
        ("ip link set vcan1 down", "--channel vcan1", "down", 75),
        ("", "--channel vcan2 --fd", "CAN FD", 75),
    ],
    ids=["missing", "down", "classic"],
)
def test_an_interface_that_cannot_be_used_is_named_with_what_to_do(
    guest: Guest, before: str, arguments: str, words: str, code: int
):
    mixed(guest)
    guest.sh(before or "true")
    try:
        said = replay(guest, f"/tmp/mixed.log {arguments}", code=code)
    finally:
        guest.sh("ip link set vcan1 up")
    assert words in said
    assert "ip link" in said
    assert len(said.strip().splitlines()) == 1


def test_an_interface_that_goes_down_on_the_way_ends_it_in_one_line(guest: Guest, drive: list[str]):
    guest.begin("replay", "exec inland replay /tmp/drive.log --channel vcan1 --loop 0")
    guest.until("[ $(cat /sys/class/net/vcan1/statistics/tx_packets) -gt 0 ]")
    guest.sh("ip link set vcan1 down")
    ended = guest.finished("replay")
    guest.sh("ip link set vcan1 up")
    assert ended.code == 75
    assert "vcan1" in ended.out
    assert len(ended.out.strip().splitlines()) == 1


def real(name: str) -> Path:
    path = LOGS / name
    if not path.exists():
        pytest.skip("no test data: set INLAND_DATA")
    return path


@pytest.mark.parametrize(
    "name",
    [
        "tesla_model3_kuksa/it-candump0.log",
        "tesla_model3_ctf/candump-2020-08-07_153716.log.bz2",
        "lincoln_mkz/0x83.candump",
    ],
)
def test_real_candump_logs_come_out_as_they_are(guest: Guest, tmp_path: Path, name: str):
    path = real(name)
    data = bz2.decompress(path.read_bytes()) if name.endswith("bz2") else path.read_bytes()
    lines = data.decode().splitlines()[:3000]
    text = "".join(line + "\n" for line in lines).encode()
    target = f"/tmp/{path.name}"
    guest.write(target, bz2.compress(text) if name.endswith("bz2") else text)
    with watching(guest, "vcan0") as seen:
        replay(guest, f"{target} --channel vcan0 --speed max")
    assert seen.frames() == frames(lines)


@pytest.mark.parametrize(
    "name",
    [
        "kona_ev/230112-7-2019-pcan-ccan-power-off-on-ready-off.csv",
        "outlander_phev/202109061515-steering-lock-to-lock.csv",
    ],
)
def test_real_savvycan_logs_of_several_buses(guest: Guest, name: str):
    """Read here by a second hand: the columns as SavvyCAN names them."""
    text = "\n".join(real(name).read_text("utf-8-sig").splitlines()[:2000]) + "\n"
    guest.write("/tmp/real.csv", text.encode())
    wanted: dict[str, list[str]] = {}
    for row in csv.DictReader(text.splitlines()):
        wide = row["Extended"].lower() == "true"
        data = "".join(row[f"D{n}"].strip() for n in range(1, int(row["LEN"]) + 1))
        shown = f"{int(row['ID'], 16):08X}" if wide else f"{int(row['ID'], 16):03X}"
        wanted.setdefault(row["Bus"], []).append(f"{shown}#{data.upper()}")
    names = sorted(wanted)
    assert 1 <= len(names) <= 2
    maps = " ".join(f"--map can{bus}=vcan{n}" for n, bus in enumerate(names))
    with watching(guest, "vcan0", "vcan1") as seen:
        replay(guest, f"/tmp/real.csv {maps} --speed max")
    for number, bus in enumerate(names):
        assert seen.frames(f"vcan{number}") == wanted[bus]
