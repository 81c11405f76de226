"""Five hang-ups within ten minutes are a fight over the id; five cuts by a network are none.

Real sockets. What tells them apart is TLS's goodbye, which a broker sends and a network does not.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from agent.uplink.timing import MAX_HANG_UPS
from tests.hostile_broker import CONNECT, HostileBroker
from tests.pki import Pki
from tests.uplink.fakes import QUICK, Capture, Station, make_uplink, running

FIGHT = "another client"
TIMING = replace(QUICK, backoff_cap_s=0.05)  # the cuts follow each other, no receipt resets it


@pytest.fixture(scope="module")
def leaf(pki: Pki) -> Path:
    return pki.leaf("hang-ups")


def links(broker: HostileBroker) -> int:
    return sum(command == CONNECT for command, _ in broker.packets)


def worked(broker: HostileBroker, capture: Capture, number: int) -> bool:
    """Wait until the link of that number, from 1, is ready."""
    return broker.wait(lambda: links(broker) == number and capture.report.connected)


def test_lines_that_are_cut_are_no_fight(pki: Pki, leaf: Path) -> None:
    capture, broker = Capture(Station()), HostileBroker(leaf)
    with broker, running(make_uplink(pki, broker.port, capture, timing=TIMING)):
        for number in range(1, 2 * MAX_HANG_UPS + 1):
            assert worked(broker, capture, number), capture.report
            broker.cut()
            assert broker.wait(lambda: "was cut" in capture.report.last_error), capture.report
        assert worked(broker, capture, 2 * MAX_HANG_UPS + 1), capture.report


def test_a_broker_that_says_goodbye_each_time_is_one(pki: Pki, leaf: Path) -> None:
    capture, broker = Capture(Station()), HostileBroker(leaf)
    with broker, running(make_uplink(pki, broker.port, capture, timing=TIMING)):
        for number in range(1, MAX_HANG_UPS + 1):
            assert worked(broker, capture, number), capture.report
            assert FIGHT not in capture.report.last_error
            broker.hang_up()
        assert broker.wait(lambda: FIGHT in capture.report.last_error), capture.report
        assert links(broker) == MAX_HANG_UPS
