"""The computer slept: CLOCK_BOOTTIME has gone on, CLOCK_MONOTONIC has not. A virtual clock.

Brokers are real sockets; only what the uplink reads as CLOCK_BOOTTIME jumps.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from agent.clock import boottime_s
from agent.uplink import backoff, dial, way
from agent.uplink.vigil import Vigil
from tests.hostile_broker import CONNACK, CONNECT, PUBLISH, HostileBroker, Script, packet, publish
from tests.pki import VEHICLE, Pki
from tests.uplink.fakes import QUICK, Capture, Station, make_uplink, running

DOWN = f"inland/1/north/down/{VEHICLE}/receipt"
SLOW = {"probe_s": 20, "silence_s": 28, "answer_s": 15, "handshake_s": 20, "resend_s": 30,
        "resend_cap_s": 3600, "backoff_low_s": 300, "backoff_cap_s": 600}  # fmt: skip


class Clock:
    """CLOCK_BOOTTIME of a computer that can be suspended for any time."""

    def __init__(self) -> None:
        self.slept_s = 0.0

    def __call__(self) -> float:
        return boottime_s() + self.slept_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def station() -> Station:
    return Station()


@pytest.fixture
def capture(station: Station) -> Capture:
    return Capture(station)


def receipting(station: Station) -> Callable[[str, bytes, int], bytes]:
    return lambda topic, payload, mid: publish(DOWN, station.store(payload))


def slow(**more: float) -> object:
    """The product's intervals, but for how often it looks at what is to be done."""
    values = {name: getattr(QUICK, name) for name in QUICK.__dataclass_fields__}
    return type(QUICK)(**(values | {"wake_s": 0.7, "gap_s": 3.0} | SLOW | more))


def refusal(code: int) -> bytes:
    """A CONNACK; 0x88 is "server unavailable"."""
    return packet(CONNACK, bytes([0, code, 0]))


def connects(broker: HostileBroker) -> int:
    return sum(command == CONNECT for command, _ in broker.packets)


def check_wake(
    pki: Pki, capture: Capture, station: Station, clock: Clock, *, seconds: float,
    is_dead: bool, again: int,
) -> None:  # fmt: skip
    """Sleep on a link that works; return when what came meanwhile is confirmed."""
    script = Script(on_publish=receipting(station))
    broker = HostileBroker(pki.leaf("wake"), script)
    with broker, running(make_uplink(pki, broker.port, capture, timing=slow(), clock=clock)):
        capture.add(3)
        assert broker.wait(lambda: not capture.pending)
        if is_dead:
            broker.forget()
        clock.slept_s += seconds
        begun_s = time.monotonic()
        capture.add(5)
        assert broker.wait(lambda: not capture.pending, 3.0), capture.report
        assert time.monotonic() - begun_s < 2.0
        assert connects(broker) == 1 + again


@pytest.mark.parametrize("seconds", [5, 29, 44])
def test_a_link_that_lives_is_asked_once_and_kept(
    pki: Pki, capture: Capture, station: Station, clock: Clock, seconds: float
) -> None:
    check_wake(pki, capture, station, clock, seconds=seconds, is_dead=False, again=0)


@pytest.mark.parametrize("seconds", [5, 29, 44, 8 * 3600])
def test_a_link_that_is_dead_is_made_anew_within_two_seconds(
    pki: Pki, capture: Capture, station: Station, clock: Clock, seconds: float
) -> None:
    check_wake(pki, capture, station, clock, seconds=seconds, is_dead=True, again=1)


def test_after_a_night_the_link_is_made_anew_without_asking(
    pki: Pki, capture: Capture, station: Station, clock: Clock
) -> None:
    """No broker waits so long."""
    check_wake(pki, capture, station, clock, seconds=8 * 3600, is_dead=False, again=1)


@pytest.mark.slow
@pytest.mark.parametrize("bug", ["asleep", "back-off", "monotonic"])
def test_the_check_finds_planted_bugs(
    pki: Pki, capture: Capture, station: Station, clock: Clock, bug: str, monkeypatch
) -> None:
    if bug == "asleep":  # nobody notices
        monkeypatch.setattr(Vigil, "turned", lambda *_: None)
    elif bug == "back-off":  # a sleep is a failure like any other
        monkeypatch.setattr(backoff.Backoff, "slept", lambda *_: False)
    else:  # by a clock that stands still in a suspend
        clock = type("Standing", (Clock,), {"__call__": lambda self: time.monotonic()})()
    with pytest.raises(AssertionError):
        check_wake(pki, capture, station, clock, seconds=29, is_dead=True, again=1)


def test_a_back_off_ends_with_a_sleep_and_one_that_a_person_has_to_mend_does_not(
    pki: Pki, capture: Capture, station: Station, clock: Clock
) -> None:
    broker = HostileBroker(pki.leaf("later"), Script(connack=refusal(0x88)))
    timing = slow(wake_every_s=0)
    with broker, running(make_uplink(pki, broker.port, capture, timing=timing, clock=clock)):
        assert broker.wait(lambda: connects(broker) == 1)
        threading.Event().wait(0.3)
        assert connects(broker) == 1  # the wait is 300 s at least
        for number in range(2, 4):
            clock.slept_s += 10
            assert broker.wait(lambda number=number: connects(broker) == number)
            threading.Event().wait(0.2)  # a sleep within an attempt is seen only if it is long
        broker.script.connack = refusal(0x8A)  # banned
        clock.slept_s += 10
        assert broker.wait(lambda: connects(broker) == 4)
        assert broker.wait(lambda: "anned" in capture.report.last_error), capture.report
        clock.slept_s += 10
        threading.Event().wait(0.3)
        assert connects(broker) == 4
        clock.slept_s += 1300  # but its time passes in a sleep, too
        assert broker.wait(lambda: connects(broker) == 5)


def test_a_network_that_wakes_later_is_waited_for(
    pki: Pki, capture: Capture, station: Station, clock: Clock, monkeypatch
) -> None:
    """No attempt fails meanwhile, so none is paid for with a back-off of minutes."""
    there = threading.Event()
    there.set()
    monkeypatch.setattr(dial, "leads_to", lambda _: there.is_set())
    script = Script(on_publish=receipting(station))
    broker = HostileBroker(pki.leaf("route"), script)
    with broker, running(make_uplink(pki, broker.port, capture, timing=slow(), clock=clock)):
        capture.add(1)
        assert broker.wait(lambda: not capture.pending)
        there.clear()
        clock.slept_s += 3600
        capture.add(1)
        assert broker.wait(lambda: not capture.report.connected)
        threading.Event().wait(0.5)
        assert connects(broker) == 1
        there.set()
        assert broker.wait(lambda: not capture.pending), capture.report


def test_sleeps_on_a_link_are_no_fight_over_the_id(
    pki: Pki, capture: Capture, station: Station, clock: Clock
) -> None:
    """A car that sleeps at each red light: the broker closes its link each time, without a word."""
    script = Script(on_publish=receipting(station))
    broker = HostileBroker(pki.leaf("lights"), script)
    timing = slow(wake_every_s=0)
    with broker, running(make_uplink(pki, broker.port, capture, timing=timing, clock=clock)):
        for number in range(1, 9):
            capture.add(1)
            assert broker.wait(lambda: not capture.pending), capture.report
            assert connects(broker) == number
            clock.slept_s += 20
            broker.hang_up()
        assert "another client" not in capture.report.last_error


def test_a_broker_that_restarts_long_after_a_sleep_meets_back_off(
    pki: Pki, capture: Capture, station: Station, clock: Clock
) -> None:
    script = Script(on_publish=receipting(station))
    broker = HostileBroker(pki.leaf("outlived"), script)
    with broker, running(make_uplink(pki, broker.port, capture, timing=slow(), clock=clock)):
        capture.add(1)
        assert broker.wait(lambda: not capture.pending)
        clock.slept_s += 20
        capture.add(1)
        assert broker.wait(lambda: not capture.pending)
        for _ in range(3):  # six seconds, in turns that are no sleep
            clock.slept_s += 2
            threading.Event().wait(0.1)
        broker.hang_up()
        assert broker.wait(lambda: not capture.report.connected)
        threading.Event().wait(0.5)
        assert connects(broker) == 1


def test_what_waited_for_its_receipt_is_due_after_a_sleep(
    pki: Pki, capture: Capture, station: Station, clock: Clock
) -> None:
    """Ages count through suspend: thirty seconds are over."""
    script = Script()  # takes everything, confirms nothing
    broker = HostileBroker(pki.leaf("due"), script)
    with broker, running(make_uplink(pki, broker.port, capture, timing=slow(), clock=clock)):
        capture.add(1)
        assert broker.wait(lambda: any(command & 0xF0 == PUBLISH for command, _ in broker.packets))
        script.on_publish = receipting(station)
        clock.slept_s += 40
        assert broker.wait(lambda: not capture.pending), capture.report


def test_a_way_to_the_region_is_looked_for_without_a_packet(pki: Pki) -> None:
    card = pki.card(1)
    assert way.has_route(card.prefixes)  # loopback is always there
    assert not way.has_route(())
