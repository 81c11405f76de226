"""The clocks of a real car: set to anywhere during a drive, wrong from the first start, suspended.

Order, delivery, policy and consents do not follow the wall clock. The car of this module has met
its region for the first time with its clock in 1970.
Figures: python -m tests.vehicle tests/vehicle/test_clocks.py -s
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.rig import wait_for
from tests.vehicle.car import Car, car, unit
from tests.vehicle.outcome import (
    Drive,
    Table,
    catalogue,
    gained,
    tidy,
    wait_delivered,
    wait_status,
)

DELIVERED_S = 2.0  # after a suspend
WATCHDOG_S = 30.0  # of capture, see car.py
POLICY = """\
policy = "clocks"
version = 1
region = "cn"
not_after = 2027-12-31

[[consent]]
category = "powertrain"
max_days = 30
each_drive = false

[[consent]]
category = "diag.dtc"
max_days = 30
each_drive = false

[[collect]]
id = "all"
category = "vehicle.state"
purpose = "diagnostics_repair"
basis = "law:GB/T 32960"
necessity = "a test compares every frame"
frames = ["*:0x100-0x6FF"]
keep = "1d"
recipients = "region"
order = true
timestamp_resolution = "1us"
flush = "100ms"

[[collect]]
id = "agreed"
category = "powertrain"
purpose = "product_improvement"
basis = "consent"
necessity = "a test agrees"
frames = ["*:0x710"]
keep = "1d"
recipients = "region"
flush = "100ms"

[[collect]]
id = "withdrawn"
category = "diag.dtc"
purpose = "diagnostics_repair"
basis = "consent"
necessity = "a test changes its mind"
frames = ["*:0x720"]
keep = "1d"
recipients = "region"
flush = "100ms"
"""
CONSENTS = {"powertrain": "granted", "diag.dtc": "withdrawn"}
AGREED, WITHDRAWN = "710", "720"
CLOCKS = {  # what the clock is set to; Linux takes no moment before its own boot in 1970
    "1970": lambda: 86_400.0,
    "+50 years": lambda: time.time() + 50 * 365.25 * 86_400,
    "-1 hour": lambda: time.time() - 3600,
}


@pytest.fixture(scope="module")
def first(
    tmp_path_factory: pytest.TempPathFactory, image: Path, payload: Path, table: Table
) -> Iterator[tuple[Car, dict]]:
    """A car that met its region in 1970, and what it said of itself then; its clock is right now.

    One consent was given, another was given and taken back.
    """
    with car(tmp_path_factory.mktemp("region"), image, payload) as made:
        made.region.publish(POLICY, 1)
        made.guest.sh("date -s '1970-01-01 00:02:00'")
        began = time.monotonic()
        made.start("capture", "uplink")
        met = wait_status(
            made,
            lambda s: (s["policy_update"] or {}).get("outcome") == "installed"
            and s["policy"]["version"] == 1,
            120, "the policy in 1970",
        )  # fmt: skip
        met["seconds"] = time.monotonic() - began
        met["year"] = made.guest.sh("date +%Y").strip()
        set_right(made)
        for category in CONSENTS:
            made.inland(f"consent grant {category} --for 20d --yes")
        wait_status(made, lambda s: s["consents"].get("diag.dtc") == "granted", 20, "consent")
        made.inland("consent withdraw diag.dtc")
        wait_status(made, lambda s: s["consents"] == CONSENTS, 20, "withdrawal")
        yield made, met


@pytest.fixture
def made(first: tuple[Car, dict]) -> Iterator[Car]:
    """The car, connected, nothing waiting, its clock right; and again so afterwards."""
    made = first[0]
    wait_status(made, lambda s: s["link"]["connected"], 60, "a link")
    wait_delivered(made, 60)
    yield made
    made.guest.resume()
    made.guest.sh("systemctl service-watchdogs yes")
    tidy(made)
    set_right(made)
    if not made.region.broker_answers():
        made.region.start_broker()


def set_right(made: Car) -> None:
    made.guest.sh(f"date -s @{time.time():.3f}")


def restarts(made: Car) -> dict[str, int]:
    """How often systemd has started the services again."""
    show = "systemctl show --value -p NRestarts "
    return {name: int(made.guest.sh(show + unit(name))) for name in ("capture", "uplink")}


def ledger(made: Car, kind: str, *, after: int = 0) -> list[dict]:
    """The ledger's entries of a kind, as `inland ledger` says them."""
    lines = made.inland("ledger --last 100000 --json").splitlines()
    entries = [json.loads(line) for line in lines]
    return [one for one in entries if one["what"] == kind and one["entry"] >= after]


def opened(made: Car) -> Counter[str]:
    """How many frames of each id the region opens."""
    return Counter(line.split()[2].partition("#")[0] for line in made.region.opened())


def sealed_after(made: Car, moment_ns: int) -> list[int]:
    """When the station received the segments that the car sealed after a moment, ns."""
    path = made.region.region / "station.db"
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as store:
        rows = store.execute(
            "SELECT received_ns FROM entries WHERE kind = 'segment' AND at_ns > ?", (moment_ns,)
        ).fetchall()
    return sorted(row[0] for row in rows)


def test_the_first_connection_works_in_1970(first: tuple[Car, dict], table: Table):
    _, met = first
    table.row("first connection in 1970", policy_in_force_s=met["seconds"])
    assert met["year"] == "1970"
    assert met["link"]["connected"]
    assert met["link"]["refused"] == {}
    assert met["policy"]["version"] == 1


def test_a_clock_that_is_set_during_a_drive_changes_nothing(made: Car, table: Table):
    """To 1970, 50 years on, an hour back; the broker is away each time, and is found again."""
    before, counted = made.told(), restarts(made)
    drive = Drive(made, "301", gap_ms=5)
    drive.begin()
    set_to, back_s, jumps = time.time(), [], []
    for clock in CLOCKS.values():
        drive.more(100)
        made.region.kill("broker")
        wait_status(made, lambda s: not s["link"]["connected"], 20, "the broker's end noticed")
        target = clock()
        made.guest.sh(f"date -s @{target:.3f}")
        jumps.append(target - set_to)
        set_to = target
        drive.more(100)
        away = made.told()
        made.region.start_broker()
        began = time.monotonic()
        wait_status(made, lambda s: s["link"]["connected"], 60, "a new link")
        back_s.append(time.monotonic() - began)
        assert away["policy"] == before["policy"]
        assert away["consents"] == CONSENTS
    drive.end()
    status = wait_delivered(made, 60)
    frames = gained(status, before)
    table.row("clock set 3 times", sent=drive.sent, **frames,
              reconnected_s=" ".join(f"{one:.1f}" for one in back_s))  # fmt: skip
    assert status["policy"] == before["policy"]
    assert status["consents"] == CONSENTS
    assert restarts(made) == counted
    assert frames["received"] == frames["kept"] == drive.sent
    drive.check()
    said = "".join(made.said(name) for name in ("capture", "uplink"))
    assert "Traceback" not in said
    check_jumps(made, jumps, after=before["spool"]["size"])
    check_ledger(made)


def test_a_start_under_a_wrong_clock_finds_the_same_policy_and_consents(made: Car, table: Table):
    """A consent that was taken back stays so, one that was given goes on; nothing expires."""
    before = opened(made)
    for clock in ("1970", "+50 years"):
        made.stop("capture")
        made.guest.sh(f"date -s @{CLOCKS[clock]():.3f}")
        made.start("capture")
        again = wait_status(made, lambda s: s["policy"]["version"] == 1, 30, "capture again")
        assert again["policy"]["why"] == "started"
        assert again["consents"] == CONSENTS
        made.guest.sh(f"cansend vcan0 {AGREED}#01; cansend vcan0 {WITHDRAWN}#02")
        wait_status(made, lambda s: s["frames"]["kept"] == 1, 20, "the frame that was agreed to")
        wait_delivered(made, 60)
    after = opened(made)
    table.row("started under 2 wrong clocks", agreed_kept=after[AGREED] - before[AGREED],
              withdrawn_kept=after[WITHDRAWN])  # fmt: skip
    assert after[AGREED] == before[AGREED] + 2
    assert after[WITHDRAWN] == 0
    check_ledger(made)


def check_jumps(made: Car, jumps: list[float], *, after: int) -> None:
    """The ledger names each jump of the clock, in order; a minute or so is the drive's."""
    words = [one["words"] for one in ledger(made, "clock", after=after)]
    told = [float(one.split()[-2].replace(",", "")) for one in words]
    assert len(told) == len(jumps), words
    assert all(abs(one - two) < 300 for one, two in zip(told, jumps, strict=True)), (told, jumps)


def check_ledger(made: Car) -> None:
    """The station has all of it; nothing was thrown away, nothing is called lost."""
    held = catalogue(made)
    assert (held["missing"], held["conflicts"], held["drops"]) == ([], 0, {})
    assert held["losses"] == 0
    assert ledger(made, "drop") == []


@pytest.mark.parametrize("seconds", [5.0, pytest.param(180.0, marks=pytest.mark.slow)])
def test_a_suspended_machine_goes_on_where_it_was(made: Car, table: Table, seconds: float):
    """Stopped, that is; the longer time is one after which its broker has given the link up.

    CLOCK_MONOTONIC, by which systemd measures, stands still while a computer is suspended, but not
    while this one's process is stopped: after the watchdog's time systemd would find everybody
    late. So what a watchdog makes of a long suspend is not shown.
    """
    if seconds > WATCHDOG_S:
        made.guest.sh("systemctl service-watchdogs no")
    before, counted = made.told(), restarts(made)
    drive = Drive(made, f"4{int(seconds) % 256:02X}", gap_ms=4)
    drive.begin()
    drive.more(300)
    new_s: list[float] = []
    # Two seconds, on a machine that has the time for it once in three.
    for _ in range(1 if seconds > WATCHDOG_S else 3):
        new_s.append(suspend(made, seconds))
        drive.more(300)
        if new_s[-1] <= DELIVERED_S:
            break
    drive.end()
    status = wait_delivered(made, 60)
    frames = gained(status, before)
    table.row(f"suspended for {seconds:.0f} s", sent=drive.sent, **frames,
              new_delivered_s=" ".join(f"{one:.1f}" for one in new_s),
              connects=status["link"]["connects"] - before["link"]["connects"])  # fmt: skip
    assert restarts(made) == counted, made.said("capture")
    assert status["uptime_s"] - before["uptime_s"] >= seconds
    assert frames["received"] == frames["kept"] == drive.sent
    assert status["policy"] == before["policy"]
    assert status["consents"] == CONSENTS
    drive.check()
    check_ledger(made)
    assert min(new_s) <= DELIVERED_S, made.said("uplink")[-1500:]


def suspend(made: Car, seconds: float) -> float:
    """Stop the machine for a time; return how long after it new frames were at the station."""
    made.guest.suspend()
    over = time.monotonic() + seconds
    wait_for(lambda: time.monotonic() >= over, seconds + 10, "the suspend's end")
    resumed_ns = time.time_ns()
    made.guest.resume()
    # What is sealed so late (flush is 100 ms) was sent on the bus after the suspend.
    new_ns = resumed_ns + 200_000_000
    wait_for(lambda: sealed_after(made, new_ns), 60, "new frames at the station")
    return (sealed_after(made, new_ns)[0] - resumed_ns) / 1e9
