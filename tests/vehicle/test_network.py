"""The network of a real car: gone, half open, lossy, its broker killed. Nothing lost or doubled.

The load goes on meanwhile. Over the whole module a packet socket on the guest's tap looks where its
packets go. Figures: python -m tests.vehicle tests/vehicle/test_network.py -s
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rig import EVERYTHING, wait_for
from tests.vehicle.car import CONFIG, PYTHON, Car, car
from tests.vehicle.outcome import (
    SHORT_FLUSH,
    Drive,
    Table,
    catalogue,
    gained,
    tidy,
    wait_delivered,
    wait_status,
    waiting,
)
from tests.vehicle.packets import Packets

NOTICED_S = 30.0
LONG = (pytest.mark.slow, pytest.mark.timeout(2400))
LOSSY_S = 300.0
STRANGER = "192.0.2.1"  # TEST-NET-1: where nothing of ours has any business
ENTRIES = """
import sys
from pathlib import Path
from agent.config import load_config
from agent.pb.ledger_pb2 import Loss
from agent.service.capture import CaptureProcess
process = CaptureProcess(load_config(Path(sys.argv[1])), {}, askers=frozenset())
for number in range(int(sys.argv[2])):
    process.vault.record(Loss(channel="can0", count=1, cause=Loss.UNKNOWN))
process.vault.close()
"""


@pytest.fixture(scope="module")
def driven(
    tmp_path_factory: pytest.TempPathFactory, image: Path, payload: Path, table: Table
) -> Iterator[tuple[Car, Packets]]:
    with car(tmp_path_factory.mktemp("region"), image, payload) as made:
        packets = Packets(made.region, made.guest)
        wait_for(packets.ready, 20, "the watch over the packets")
        made.region.publish(EVERYTHING + SHORT_FLUSH, 1)
        made.start("capture", "uplink")
        wait_status(made, lambda s: s["policy"]["version"] == 1, 60, "the policy over the air")
        yield made, packets
        elsewhere = packets.elsewhere()
        packets.end()
        table.row("packets of the guest", all=packets.counts.total(), to_broker=packets.to_broker(),
                  elsewhere=sum(packets.counts[one] for one in elsewhere),
                  not_seen=packets.dropped)  # fmt: skip
        assert elsewhere <= {f"icmp {STRANGER}"}, packets.counts
        assert packets.to_broker() > 100
        assert packets.dropped == 0


@pytest.fixture
def made(driven: tuple[Car, Packets]) -> Iterator[Car]:
    """The car, connected, nothing waiting; and again so afterwards."""
    made = driven[0]
    wait_status(made, lambda s: s["link"]["connected"], 60, "a link")
    wait_delivered(made, 60)
    yield made
    tidy(made)
    made.guest.link(True)
    made.guest.impair(None)
    if not made.region.broker_answers():
        made.region.start_broker()


def check_station(made: Car, status: dict, *, losses: int) -> None:
    """The station has the ledger without a hole, and each entry once."""
    held = catalogue(made)
    assert held["entries"] >= status["spool"]["size"]
    assert held["missing"] == []
    assert held["conflicts"] == 0
    assert held["drops"] == {}
    assert held["losses"] == losses


def losses(made: Car) -> int:
    """Frames that the car says it lacks: entries that this module makes."""
    return int(catalogue(made)["losses"])


@pytest.mark.parametrize("count", [4_000, pytest.param(72_000, marks=LONG)])
def test_a_backlog_drains_faster_than_it_grows(made: Car, table: Table, count: int):
    """Made in a black hole; it begins to drain although nothing new comes.

    72,000 entries are two hours of a segment every 100 ms.
    """
    before = losses(made)
    made.guest.link(False)
    made.stop("uplink", "capture")
    made.guest.write("/root/entries.py", ENTRIES.encode())
    made.guest.sh(f"cd /root && {PYTHON} entries.py {CONFIG} {count}", timeout=900)
    made.start("capture", "uplink")
    start = wait_status(made, lambda s: s["link"]["last_error"], 60, "the black hole noticed")
    drive = Drive(made, f"1{count // 4000:02X}", gap_ms=4)
    drive.begin()
    drive.more(500)
    drive.end()
    cut = wait_status(made, lambda s: waiting(s) >= count, 30, "the backlog")
    assert not cut["link"]["connected"]

    made.guest.link(True)
    plugged = time.monotonic()
    # Nothing is on the bus: what drains now drains by itself.
    quiet = wait_status(made, lambda s: waiting(s) < waiting(cut) - 50, 60, "draining")
    began_s = time.monotonic() - plugged
    made.guest.link(False)  # however quick it drains: most of it is to drain beside the load
    assert quiet["frames"]["received"] == cut["frames"]["received"]
    load = Drive(made, f"2{count // 4000:02X}", gap_ms=4)
    load.begin()
    loaded = wait_status(made, lambda s: s["segments"] > quiet["segments"] + 5, 30, "load")
    made.guest.link(True)
    drained = wait_status(made, lambda s: waiting(s) < 100, 1200, "the backlog gone")
    gone_s = time.monotonic() - plugged
    load.end()
    status = wait_delivered(made, 60)
    assert waiting(loaded) > 500, "the load came too late to measure anything"
    window_s = drained["uptime_s"] - loaded["uptime_s"]
    grown = (drained["spool"]["size"] - loaded["spool"]["size"]) / window_s
    gone = (drained["spool"]["confirmed"] - loaded["spool"]["confirmed"]) / window_s
    frames = gained(status, start)
    table.row(f"backlog of {waiting(cut):,}", sent=drive.sent + load.sent, **frames,
              draining_begun_s=began_s, drained_s=gone_s, drained_per_s=gone,
              produced_per_s=grown)  # fmt: skip
    assert gone > grown
    assert frames["received"] == frames["kept"] == drive.sent + load.sent
    drive.check()
    load.check()
    check_station(made, status, losses=before + count)


def test_a_half_open_link_is_noticed_and_replaced(made: Car, table: Table):
    """The cable is pulled while frames flow; TCP says nothing, the agent does within 30 s."""
    known = losses(made)
    before = made.told()
    drive = Drive(made, "301", gap_ms=4)
    drive.begin()
    drive.more(200)
    cut = float(made.guest.sh("date +%s.%N"))
    made.guest.link(False)
    said = wait_status(made, lambda s: not s["link"]["connected"], NOTICED_S + 10, "noticed")
    lines = made.guest.sh("journalctl -o short-unix --no-pager -u inland-uplink | tail -n 20")
    at = [float(line.split()[0]) for line in lines.splitlines() if "WARNING" in line]
    noticed_s = min(moment for moment in at if moment > cut) - cut
    assert waiting(said) > 50
    made.guest.link(True)
    plugged = time.monotonic()
    wait_status(made, lambda s: s["link"]["connected"], 60, "a new link")
    back_s = time.monotonic() - plugged
    drive.end()
    status = wait_delivered(made, 60)
    frames = gained(status, before)
    table.row("half-open link", sent=drive.sent, **frames, noticed_s=noticed_s,
              waited=waiting(said), reconnected_s=back_s)  # fmt: skip
    assert noticed_s <= NOTICED_S, lines
    assert said["link"]["last_error"]
    assert frames["received"] == frames["kept"] == drive.sent
    drive.check()
    check_station(made, status, losses=known)


def test_half_of_the_packets_lost_and_all_delivered(made: Car, table: Table):
    known = losses(made)
    before = made.told()
    made.guest.impair("loss 50% delay 50ms")
    began = time.monotonic()
    drive = Drive(made, "401", gap_ms=4)
    drive.begin()
    drive.more(1000)
    drive.end()
    status = wait_delivered(made, LOSSY_S)
    passed_s = time.monotonic() - began
    shaped = made.guest.sh("tc -s qdisc show dev vec0")
    made.guest.impair(None)
    frames = gained(status, before)
    table.row("50 % loss, 50 ms delay", sent=drive.sent, **frames, delivered_s=passed_s,
              connects=status["link"]["connects"] - before["link"]["connects"])  # fmt: skip
    assert "loss 50%" in shaped
    assert int(shaped.partition("dropped ")[2].split(",")[0]) > 10, shaped
    assert passed_s <= LOSSY_S
    assert frames["received"] == frames["kept"] == drive.sent
    drive.check()
    check_station(made, status, losses=known)


def test_the_broker_is_killed_under_load_again_and_again(made: Car, table: Table):
    known = losses(made)
    before = made.told()
    drive = Drive(made, "501", gap_ms=4)
    drive.begin()
    back_s = []
    for _ in range(3):
        connects = made.told()["link"]["connects"]
        made.region.kill("broker")
        wait_status(made, lambda s: not s["link"]["connected"], 30, "the broker's end noticed")
        made.region.start_broker()
        started = time.monotonic()
        now = wait_status(
            made, lambda s, n=connects: s["link"]["connected"] and s["link"]["connects"] > n,
            60, "a new link",
        )  # fmt: skip
        back_s.append(time.monotonic() - started)
        wait_status(made, lambda s, n=now: s["receipts"] > n["receipts"], 60, "a receipt")
    drive.end()
    status = wait_delivered(made, 120)
    frames = gained(status, before)
    table.row("broker killed 3 times", sent=drive.sent, **frames,
              reconnected_s=" ".join(f"{one:.1f}" for one in back_s))  # fmt: skip
    assert frames["received"] == frames["kept"] == drive.sent
    drive.check()
    check_station(made, status, losses=known)


def test_packets_go_to_the_broker_alone(driven: tuple[Car, Packets]):
    """The fixture looks again when all is over; here the watch itself is put to the test."""
    made, packets = driven
    assert packets.elsewhere() <= {f"icmp {STRANGER}"}
    made.guest.run(f"ping -c 1 -W 1 {STRANGER}")
    wait_for(lambda: packets.elsewhere() == {f"icmp {STRANGER}"}, 30, "the planted packet seen")
