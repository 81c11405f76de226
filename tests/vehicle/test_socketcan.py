"""Capture on a real SocketCAN interface: the bulk reader, filters, drops, errors, ups and downs.

candump and a plain socket are the witnesses, /proc/net/can tells what the kernel was asked for.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from agent.frames import BRS, ERROR, ESI, EXTENDED, FD, REMOTE
from agent.pb.ledger_pb2 import Loss
from tests.vehicle.guest import Guest
from tests.vehicle.watching import plain, watching

INSIDE = Path(__file__).parent / "inside"
PYTHON = "/payload/venv/bin/python"
SIM = f"{PYTHON} -m firmware_sim"
WIDE = bytes(range(64)).hex().upper()
KINDS = f"""\
123#1122334455667788
000#
7FF#R4
7FE#R
18FEF100#AA
00000123#0102
123##1{WIDE}
1ABCDEF0##3{"C0FFEE" * 4}
124##0
125##2FF
20000040#0011223344556677
"""


@dataclass(slots=True)
class Read:
    """What read_bus.py found."""

    granted: int = 0
    frames: list[list[Any]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    losses: dict[str, int] = field(default_factory=dict)
    plain: list[tuple[int, str]] = field(default_factory=list)

    def texts(self) -> list[str]:
        """The frames as candump writes them."""
        return [text_of(*frame[1:]) for frame in self.frames]


def text_of(identifier: int, flags: int, length: int, data: str) -> str:
    """One frame, from the description of candump's format; see tests/candump.py."""
    if flags & ERROR:
        return f"{identifier | 0x20000000:08X}#{data.upper()}"
    shown = f"{identifier:08X}" if flags & EXTENDED else f"{identifier:03X}"
    if flags & FD:
        return f"{shown}##{bool(flags & BRS) + 2 * bool(flags & ESI)}{data.upper()}"
    return f"{shown}#R{length or ''}" if flags & REMOTE else f"{shown}#{data.upper()}"


def planted(guest: Guest, bug: str) -> str:
    """Have Python in the guest begin with some code; return what to put before its command."""
    if not bug:
        return ""
    guest.write("/run/planted/sitecustomize.py", bug.encode())
    return "PYTHONPATH=/run/planted "


@contextmanager
def reading(guest: Guest, channel: str = "vcan0", bug: str = "", **wanted: Any) -> Iterator[Read]:
    """Run read_bus.py meanwhile."""
    found = Read()
    guest.write("/run/read_bus.py", (INSIDE / "read_bus.py").read_bytes())
    argument = json.dumps({"channel": channel, **wanted})
    guest.begin("reader", f"{planted(guest, bug)}exec {PYTHON} /run/read_bus.py '{argument}'")
    try:
        guest.until("grep -q . /run/reader.txt")
        yield found
    finally:
        said = guest.end("reader").out
    for line in said.splitlines():
        value = json.loads(line)
        if isinstance(value, list):
            found.frames.append(value)
        elif "error" in value:
            found.errors.append(value["kind"])
        elif "losses" in value:
            found.losses, found.plain = value["losses"], value["plain"] or []
        else:
            found.granted = value["ready"]


def play(guest: Guest, frames: list[str], interface: str = "vcan0") -> None:
    """Send frames, as canplayer does from a log."""
    lines = [f"({number}.000000) {interface} {text}\n" for number, text in enumerate(frames, 1)]
    guest.write("/tmp/play.log", "".join(lines).encode())
    guest.sh(f"canplayer -t -I /tmp/play.log {interface}={interface}")


def flood(guest: Guest, count: int, interface: str = "vcan0") -> None:
    guest.sh(f"cangen {interface} -g 0 -n {count} -I i -L 8 -D i", timeout=120)


def sent_by_anybody(guest: Guest, interface: str = "vcan0") -> int:
    (link,) = json.loads(guest.sh(f"ip -j -s link show {interface}"))
    return int(link["stats64"]["tx"]["packets"])


def test_every_kind_of_frame_is_read_as_candump_and_a_plain_socket_see_it(guest: Guest, bug: str):
    """Ids of both widths, remote, FD to 64 bytes with its flags, errors; stamps to the ns."""
    kinds = KINDS.splitlines()
    with watching(guest, "vcan0,0:0,#FFFFFFFF") as seen, reading(
        guest, bug=bug, fd=True, plain=True
    ) as read:  # fmt: skip
        play(guest, kinds * 100)
    mine = read.texts()
    same(mine[: len(kinds) * 100], kinds * 100)
    same(mine[:-1], [plain(text) for text in seen.frames()][: len(mine) - 1])
    same([frame[0] for frame in read.frames], [stamp for stamp, _ in read.plain])
    same(
        [frame[0] // 1000 for frame in read.frames][: len(seen.lines)],
        [round(stamp * 1e6) for stamp in seen.stamps()][: len(mine)],
    )
    assert read.losses == {}


def same(found: list[Any], wanted: list[Any]) -> None:
    """Compare long lists; pytest would take half a minute to show how a thousand rows differ."""
    different = [at for at, pair in enumerate(zip(found, wanted, strict=False)) if len({*pair}) > 1]
    assert (len(found), different[:1]) == (len(wanted), [])


def test_a_classic_socket_reads_classic_frames_and_no_fd(guest: Guest):
    kinds = KINDS.splitlines()
    with reading(guest) as read:
        play(guest, kinds)
    assert read.texts() == [text for text in kinds if "##" not in text]


def test_error_frames_can_be_left_out(guest: Guest):
    with reading(guest, no_errors=True) as read:
        play(guest, ["20000040#0000000000000000", "123#11"])
    assert read.texts() == ["123#11"]


def rows(guest: Guest, which: str, interface: str = "vcan0") -> list[tuple[int, int]]:
    """What raw sockets asked the kernel for: (id, mask) each, from one list of the interface."""
    text = guest.sh(f"cat /proc/net/can/rcvlist_{which}")
    found = [line.split() for line in text.splitlines()]
    return [(int(row[1], 16), int(row[2], 16)) for row in found
            if row and row[0] == interface]  # fmt: skip


def test_the_kernel_itself_drops_what_no_filter_wants(guest: Guest):
    """A sleeping reader is not woken for it: it never reaches the socket."""
    filters = [
        {"can_id": 0x123, "can_mask": 0x7FF, "extended": False},
        {"can_id": 0x18FEF100, "can_mask": 0x1FFFFFFF, "extended": True},
        {"can_id": 0x200, "can_mask": 0x700, "extended": False},
    ]
    others = [f"{number:03X}#{number:04X}" for number in range(0x100, 0x400, 3)]
    frames = ["123#01", "00000123#02", "18FEF100#03", "18FEF101#04", *others]
    wanted = [
        text
        for text in frames
        if text in ("123#01", "18FEF100#03") or (text[3] == "#" and text[0] == "2")
    ]
    with reading(guest, filters=filters, plain=True) as read:
        # Whether a frame is remote is left open, so all stand in the general list.
        asked = [(0x123, 0x800007FF), (0x200, 0x80000700), (0x98FEF100, 0x9FFFFFFF)]
        assert sorted(rows(guest, "fil")) == asked
        assert rows(guest, "all") == [(0, 0)]  # the plain socket's
        play(guest, frames)
    assert read.texts() == wanted
    assert len(read.plain) == len(frames)


def test_no_filter_means_nothing_and_too_many_are_applied_in_the_agent(guest: Guest):
    with reading(guest, filters=[]) as read:
        assert [rows(guest, which) for which in ("all", "fil", "inv", "sff", "eff")] == [[]] * 5
        play(guest, ["123#01", "18FEF100#02", "20000040#0000000000000000"])
    assert read.texts() == ["20000040#0000000000000000"]  # errors do not go through filters
    many = [{"can_id": number, "can_mask": 0x7FF, "extended": False} for number in range(513)]
    with reading(guest, filters=many) as read:
        assert rows(guest, "all") == [(0, 0)]
        play(guest, ["200#01", "201#02"])
    assert read.texts() == ["200#01"]


@pytest.mark.parametrize("rcvbuf", [2304, 100_000])
def test_what_the_kernel_drops_is_counted_to_the_frame(guest: Guest, rcvbuf: int):
    """The reader is stopped, its buffer overflows, it goes on: seen + lost = sent."""
    with reading(guest, rcvbuf=rcvbuf) as read:
        before = sent_by_anybody(guest)
        for last in (0x7F1, 0x7F2):
            guest.sh("systemctl kill -s STOP reader")
            flood(guest, 700)
            guest.sh("systemctl kill -s CONT reader")
            # Sent until one is read: there is no room for it before the reader has gone on.
            there = f"grep -q ', {last}, 0, 0' /run/reader.txt"
            guest.until(f"{{ cansend vcan0 {last:X}#; sleep 0.1; {there}; }}")
        sent = sent_by_anybody(guest) - before
    lost = read.losses[str(int(Loss.KERNEL))]
    held = sum(frame[1] < 700 for frame in read.frames) // 2
    print(f"{read.granted} bytes hold {held} frames; {lost} lost")
    assert lost > 0
    assert len(read.frames) + lost == sent >= 2 * 701
    assert set(read.losses) == {str(int(Loss.KERNEL))}
    # The drain time is computed from what a frame costs: no more than this.
    assert (held + 2) * 768 >= read.granted * 0.9


def test_an_interface_that_goes_down_is_told_and_brings_frames_again(guest: Guest, bug: str):
    """What came before is read before, and the first frame after it is not missed."""
    with reading(guest, bug=bug) as read:
        for first in ("11", "21", "31"):
            guest.sh(f"systemctl kill -s STOP reader; cansend vcan0 001#{first}; "
                     "ip link set vcan0 down; systemctl kill -s CONT reader")  # fmt: skip
            guest.until("[ $(tail -n 1 /run/reader.txt | grep -c BusDownError) = 1 ]")
            guest.sh(f"ip link set vcan0 up; cansend vcan0 002#{first}")
    assert read.texts() == [
        f"00{which}#{first}" for first in ("11", "21", "31") for which in (1, 2)
    ]
    assert set(read.errors) == {"BusDownError"}


def test_an_interface_that_is_removed_is_told_after_its_last_frames(guest: Guest, bug: str):
    guest.sh("ip link add vcan5 type vcan && ip link set vcan5 up")
    with reading(guest, "vcan5", bug) as read:
        guest.sh("systemctl kill -s STOP reader; cangen vcan5 -g 0 -n 20 -I 5 -L 1 -D 00; "
                 "ip link del vcan5; systemctl kill -s CONT reader")  # fmt: skip
        guest.until("grep -q BusError /run/reader.txt")
    assert read.texts() == ["005#00"] * 20
    assert read.errors[-1] == "BusError"


STAMPS = """
import numpy, time
from agent.capture import ancillary
real = ancillary.parse_control
def late(words, lengths):
    stamps, drops = real(words, lengths)
    return numpy.full(len(stamps), time.time_ns()), drops
ancillary.parse_control = late
"""
FLAGS = """
from agent.capture import ancillary
ancillary._CANFD_BRS = 4
"""
AT_ONCE = """
from agent.capture.socketcan import SocketcanBus
real = SocketcanBus._note
def note(self, error):
    real(self, error)
    raise self._fault
SocketcanBus._note = note
"""


@pytest.mark.parametrize(
    ("test", "bug"),
    [
        (test_every_kind_of_frame_is_read_as_candump_and_a_plain_socket_see_it, STAMPS),
        (test_every_kind_of_frame_is_read_as_candump_and_a_plain_socket_see_it, FLAGS),
        (test_an_interface_that_is_removed_is_told_after_its_last_frames, AT_ONCE),
    ],
    ids=["stamps-of-reading", "a-flag-mistaken", "faults-before-frames"],
)
def test_planted_bug_is_found(guest: Guest, test: Callable[..., None], bug: str):
    with pytest.raises(AssertionError):
        test(guest, bug=bug)
