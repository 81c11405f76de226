"""A car whose state lies on a small disk of its own, and what happens to such disks.

The disk is a file of this machine below the guest's kernel: a bit that flips there is what the
guest reads as soon as it has forgotten what it had in memory.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.rig import wait_for
from tests.vehicle.car import PYTHON, Car
from tests.vehicle.guest import Guest
from tests.vehicle.watching import begin_candump

DISK_MB = 32
STATE = "/data/inland"
INSIDE = Path(__file__).parent / "inside"
SEEN = "/root/seen.log"
_BOOTED = """
import time
print(min(-time.clock_gettime(time.CLOCK_BOOTTIME) + time.time() for _ in range(99)))
"""
NOT_ALL = 3  # exit code of `station open`


@dataclass(slots=True)
class Seen:
    """What candump saw on the bus.

    Attributes:
        lines: of the region's logs.
        booted_s: when the guest was booted, by the clock that stamps frames.
    """

    lines: list[str] = field(default_factory=list)
    booted_s: float = 0.0


@contextmanager
def watching(guest: Guest) -> Iterator[Seen]:
    """Take note of all frames, on the disk that nothing happens to."""
    seen = Seen(booted_s=float(guest.sh(f"{PYTHON} -c '{_BOOTED}'")))
    begin_candump(guest, f"exec stdbuf -oL candump -L -r 33554432 vcan0 >{SEEN}", ["vcan0"])
    try:
        yield seen
    finally:
        guest.end("candump")
        text = guest.read(SEEN).decode("ascii")
        # To CANFD_FDF, 4, in the flags of an FD frame candump's "##" says the same.
        seen.lines += [
            line.replace(" vcan0 ", " can0 ").replace("##4", "##0") for line in text.splitlines()
        ]


def begin(stand: Car, policy: str, **settings: Any) -> Car:
    """A new car on the small disk, its policy in force, its network pulled."""
    make_room(stand.guest)
    car = stand.another(state=STATE, **settings)
    car.guest.sh("journalctl -q --rotate && journalctl -q --vacuum-size=1")  # of the car before
    car.guest.push(INSIDE, "/root/inside")
    car.region.publish(policy, car.region.version + 1)
    car.start("capture", "uplink")
    wait_for(lambda: car.policy_version() == car.region.version, 90, "the policy over the air")
    car.guest.link(False)
    return car


def arrived(car: Car) -> bool:
    """Whether nothing waits for the region any more."""
    status = car.status()
    return bool(status and not sum(status["spool"]["pending"].values())
                and not status["frames"]["waiting"] and status["receipts"])  # fmt: skip


def fill(guest: Guest) -> None:
    """Somebody else takes all the room there is, and what the agent gives up meanwhile."""
    append = "dd if=/dev/zero of=/data/fill oflag=append conv=notrunc status=none 2>/dev/null"
    guest.sh(f"for try in {{1..20}}; do {append} bs=4k; {append} bs=1k; sync; "
             "test $(df --output=avail /data | tail -1) = 0 && exit; done; exit 1")  # fmt: skip


def make_room(guest: Guest) -> None:
    """And gives it back."""
    guest.sh("rm -f /data/fill; sync")


def events(car: Car) -> int:
    """How many events the policy finds in the classic frames of the bus: of a log, without a disk.

    It goes by the stamps of what came: whoever sends may have stood still meanwhile.
    """
    log = car.region.folder / "bus.log"
    car.guest.sh(f"grep -v '##' {SEEN} >{SEEN}.classic")
    whole = car.guest.read(f"{SEEN}.classic").rpartition(b"\n")[0]  # the last line may be half one
    log.write_bytes(whole + b"\n")
    policy = car.region.folder / f"v{car.region.version}.toml"
    found = json.loads(
        car.region.inland(
            "policy", "simulate", str(policy), str(log), "--map", "vcan0=can0", "--json"
        )
    )
    return sum(len(one["events"]) for one in found["logs"])


def places(car: Car, what: str) -> list[dict[str, Any]]:
    """Where something stands; see `inside/places.py`."""
    found: list[dict[str, Any]] = json.loads(
        car.guest.sh(f"{PYTHON} /root/inside/places.py {car.state} {what}")
    )
    return found


def rot(guest: Guest, mark: bytes) -> None:
    """Flip a bit of every place of the disk where these bytes begin, and let the guest forget."""
    guest.sh("sync")
    disk = guest.folder / "data"
    data, at, found = disk.read_bytes(), -1, 0
    with disk.open("r+b") as file:
        while (at := data.find(mark, at + 1)) >= 0:
            file.seek(at)
            file.write(bytes([data[at] ^ 1]))
            found += 1
    assert found, "these bytes are nowhere on the disk"
    guest.sh("echo 3 >/proc/sys/vm/drop_caches")


def opened(car: Car, *, lacks: bool = True) -> list[str]:
    """What the region opens of a car's frames, and that it says whether entries have not come."""
    region, out = car.region, car.region.folder / "opened.log"
    region.inland("station", "open", str(region.region), "--vehicle", region.vehicle,
                  "--frames", str(out), code=NOT_ALL if lacks else 0)  # fmt: skip
    return out.read_text("ascii").splitlines()


def missing(seen: list[str], opened: list[str]) -> list[str]:
    """Frames that the region lacks; what it has is what was on the bus, in that order."""
    lacking, at = [], 0
    for line in seen:
        if at < len(opened) and opened[at] == line:
            at += 1
        else:
            lacking.append(line)
    assert at == len(opened), f"the bus has not seen, or not then: {opened[at]}"
    return lacking


def logs(car: Car) -> list[dict[str, Any]]:
    """What the region lists of the car's logs; nothing of it is an alarm."""
    region = car.region
    listing = json.loads(region.inland("station", "ls", str(region.region), "--json"))
    assert listing["alarms"] == []
    ours = [one for one in listing["vehicles"] if one["vehicle"] == region.vehicle]
    return [log for one in ours for log in one["logs"]]


def said_s(car: Car, words: str) -> float:
    """When capture said something for the first time, Unix seconds."""
    text = car.guest.sh("journalctl -b -o short-unix --no-pager -u inland-capture")
    return float(next(line for line in text.splitlines() if words in line).split()[0])


def new_file_s(car: Car) -> float:
    """How long this guest takes now for a new spool file, which a fast one makes in half a second.

    It is the one part of beginning a log anew that has no bound in the agent: a process of its own.
    """
    began_s = time.monotonic()
    car.guest.sh(f"{PYTHON} -m agent.vault.schema /root/probe.db && rm /root/probe.db*")
    return time.monotonic() - began_s


def readable(car: Car, folder: Path) -> tuple[set[int], set[int]]:
    """Entries of the file that was put aside: those that SQLite still reads, and those it does not.

    Args:
        car: whose spool it is.
        folder: for a copy.
    """
    for name in ("spool.db", "spool.db-wal"):
        path = f"{car.state}/quarantine/0001/{name}"
        if car.guest.run(f"test -s {path}").code == 0:
            car.guest.pull(path, folder / name)
    intact, lost = set(), set()
    with closing(sqlite3.connect(folder / "spool.db")) as file:
        for i in range(last_entry(file) + 1):
            try:
                row = file.execute("SELECT entry FROM ledger WHERE i=?", (i,)).fetchone()
            except sqlite3.DatabaseError:
                row = None
            (lost if row is None else intact).add(i)
    return intact, lost


def last_entry(file: sqlite3.Connection) -> int:
    """Index of the newest entry: the right edge of the tree of pages, which is not the damaged."""
    (last,) = file.execute("SELECT max(i) FROM ledger").fetchone()
    return int(last)
