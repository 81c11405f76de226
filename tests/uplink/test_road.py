"""The link on the kernel's own TCP: packets vanish and come again; the car loses its network.

A real Mosquitto, and an uplink in a network of its own (tests/road.py). The cars are of a large
fleet: what is not there again by itself comes in half an hour.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from agent.uplink.run import Uplink
from agent.uplink.timing import Timing
from tests.pki import Pki
from tests.road import Road, needs_road
from tests.uplink.fakes import QUICK, Capture, Station, make_uplink, resolver, running
from tests.uplink.test_mosquitto import Mosquitto, eventually, needs_mosquitto, station_at

pytestmark = [needs_mosquitto, needs_road, pytest.mark.slow, pytest.mark.timeout(120)]

# The broker is said to wait for 18 s; three seconds of silence are noticed.
TIMING = replace(
    QUICK, probe_s=2.0, silence_s=3.0, resend_s=30.0, resend_cap_s=60.0, puback_s=60.0,
    connect_s=10.0,
)  # fmt: skip
NOTICED_S = 1.5  # beyond silence_s, on a busy machine


class Car:
    """An uplink at the end of a road."""

    def __init__(self, road: Road, broker: Mosquitto, capture: Capture) -> None:
        self.road, self.broker, self.capture = road, broker, capture

    def connected(self) -> bool:
        return self.capture.report.connected

    def delivers(self) -> None:
        self.capture.add(5)
        assert eventually(lambda: not self.capture.pending, 30), self.capture.report


@pytest.fixture
def station() -> Station:
    station = Station()
    station.regroup_s = 3600
    return station


@pytest.fixture
def car(
    pki: Pki, station: Station, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Car]:
    run = Uplink.run
    capture = Capture(station)
    with Road() as road, mosquitto(pki, tmp_path, road.region) as broker:

        def inside(uplink: Uplink, stop: threading.Event) -> None:
            road.enter()
            run(uplink, stop)

        monkeypatch.setattr(Uplink, "run", inside)
        uplink = make_uplink(
            pki, broker.port, capture, card=pki.card(broker.port, prefixes=(road.prefix,)),
            timing=TIMING, rng=lambda: 0.5, getaddrinfo=resolver(road.region),
        )  # fmt: skip
        with station_at(broker, lambda payload: [station.store(payload)]), running(uplink):
            made = Car(road, broker, capture)
            made.delivers()
            yield made


@contextmanager
def mosquitto(pki: Pki, folder: Path, address: str) -> Iterator[Mosquitto]:
    broker = Mosquitto(pki, folder, address)
    try:
        yield broker
    finally:
        broker.kill()


def check_silence(car: Car, station: Station, *, busy: bool) -> None:
    connects = car.capture.report.connects
    car.road.open = False
    begun_s = time.monotonic()
    if busy:
        car.capture.add(40)
    assert eventually(lambda: not car.connected())
    noticed_s = time.monotonic() - begun_s
    assert noticed_s <= TIMING.silence_s + NOTICED_S
    car.road.open = True
    opened_s = time.monotonic()
    assert eventually(car.connected, 10), car.capture.report
    print(f"noticed after {noticed_s:.1f} s, back after {time.monotonic() - opened_s:.1f} s")
    car.delivers()
    assert car.capture.report.connects == connects
    assert station.duplicates == 0


@pytest.mark.parametrize("busy", [True, False])
def test_a_road_that_swallows_packets_is_noticed_and_costs_no_second_connection(
    car: Car, station: Station, busy: bool
) -> None:
    """A tunnel, or a silent region: nobody knows which."""
    check_silence(car, station, busy=busy)


def test_the_check_finds_a_kernel_that_gives_up_too_early(
    car: Car, station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TCP_USER_TIMEOUT is no longer than the silence that counts as dead: so it was."""
    monkeypatch.setattr(Timing, "given_up_s", property(lambda own: own.silence_s / 2))
    car.road.down()  # makes another link, with that time
    assert eventually(lambda: not car.connected())
    car.road.up()
    assert eventually(car.connected)
    with pytest.raises(AssertionError):
        check_silence(car, station, busy=True)


def test_a_broker_that_was_restarted_in_the_silence_meets_no_crowd(car: Car) -> None:
    """The kernels tell all cars at once; each waits for its turn all the same."""
    car.road.open = False
    assert eventually(lambda: not car.connected())
    car.broker.kill()
    car.broker.start()
    car.road.open = True
    assert eventually(lambda: "the link ended" in car.capture.report.last_error, 15), (
        car.capture.report
    )
    eventually(lambda: car.capture.report.connects > 1, 2)
    assert car.capture.report.connects == 1


def test_a_network_that_is_gone_is_noticed_in_two_seconds_and_waited_for(car: Car) -> None:
    """No silence has to be waited for, and the fleet is not regarded."""
    car.road.down()
    begun_s = time.monotonic()
    assert eventually(lambda: not car.connected())
    noticed_s = time.monotonic() - begun_s
    assert noticed_s < TIMING.silence_s, "by silence"
    assert "own network is gone" in car.capture.report.last_error, car.capture.report
    car.road.up()
    up_s = time.monotonic()
    assert eventually(car.connected, 10), car.capture.report
    print(f"noticed after {noticed_s:.1f} s, back after {time.monotonic() - up_s:.1f} s")
    car.delivers()
    assert car.capture.report.connects == 2
