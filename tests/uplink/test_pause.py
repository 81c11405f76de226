"""A link that falls silent is kept: what it comes to, and what else ends a wait early.

Real sockets; the broker stands still as a process does that is stopped. The cars are of a large
fleet, so that a second attempt would come in half an hour. On a road: test_road.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from agent.uplink import way
from agent.uplink.delivery import Delivery
from agent.uplink.run import Uplink
from tests.hostile_broker import (
    CONNECT,
    DISCONNECT,
    HostileBroker,
    Script,
    packet,
    publish,
)
from tests.pki import VEHICLE, Pki
from tests.uplink.fakes import QUICK, Capture, Running, Station, make_uplink, running

DOWN = f"inland/1/north/down/{VEHICLE}/receipt"
# It stays silent for less than the broker is said to wait; capture may be slow.
TIMING = replace(QUICK, probe_s=1.0, silence_s=1.2, resend_s=30.0, resend_cap_s=60.0)
LARGE_S = 3600


@pytest.fixture
def station() -> Station:
    station = Station()
    station.regroup_s = LARGE_S
    return station


@pytest.fixture
def capture(station: Station) -> Capture:
    return Capture(station)


@pytest.fixture
def broker(pki: Pki, station: Station) -> Iterator[HostileBroker]:
    script = Script(on_publish=lambda _, payload, mid: publish(DOWN, station.store(payload)))
    with HostileBroker(pki.leaf("pause"), script) as broker:
        yield broker


@pytest.fixture
def car(pki: Pki, broker: HostileBroker, capture: Capture) -> Iterator[Running]:
    uplink = make_uplink(pki, broker.port, capture, timing=TIMING, rng=lambda: 0.5)
    with running(uplink) as state:
        capture.add(1)
        assert broker.wait(lambda: not capture.pending), capture.report
        yield state


def connects(broker: HostileBroker) -> int:
    return sum(command == CONNECT for command, _ in broker.packets)


def fall_silent(broker: HostileBroker, capture: Capture) -> None:
    broker.is_held = True
    assert broker.wait(lambda: not capture.report.connected), capture.report
    assert "dead: nothing heard" in capture.report.last_error


def check_it_lives_again(broker: HostileBroker, capture: Capture, station: Station) -> None:
    fall_silent(broker, capture)
    broker.is_held = False
    assert broker.wait(lambda: capture.report.connected, 3.0), "no link"
    capture.add(1)
    assert broker.wait(lambda: not capture.pending, 3.0), capture.report
    assert (connects(broker), capture.report.connects) == (1, 1)
    assert station.duplicates == 0


def test_a_silent_link_lives_again_without_an_attempt(
    broker: HostileBroker, capture: Capture, station: Station, car: Running
) -> None:
    for _ in range(2):
        check_it_lives_again(broker, capture, station)


def test_what_was_under_way_is_not_sent_again(
    broker: HostileBroker, capture: Capture, station: Station, car: Running
) -> None:
    broker.is_held = True
    capture.add(20)
    check_it_lives_again(broker, capture, station)
    assert len(station.stored) == 22


def bug_closed(patch: pytest.MonkeyPatch) -> None:
    """As it was: a silent link is closed."""
    patch.setattr(Uplink, "_keeps", lambda *_: False)


def bug_forgotten(patch: pytest.MonkeyPatch) -> None:
    """What was under way is taken for lost."""
    patch.setattr(Delivery, "resumed", lambda self, now_s: self.disconnected(now_s))


@pytest.mark.slow
@pytest.mark.parametrize("plant", [bug_closed, bug_forgotten])
def test_the_check_finds_planted_bugs(
    broker: HostileBroker, capture: Capture, station: Station, car: Running,
    plant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    plant(monkeypatch)
    broker.is_held = True
    capture.add(20)
    with pytest.raises(AssertionError):
        check_it_lives_again(broker, capture, station)


@pytest.mark.parametrize("how", ["hang_up", "cut"])
def test_a_kept_link_that_ends_brings_no_attempt_nearer(
    broker: HostileBroker, capture: Capture, car: Running, how: str
) -> None:
    """A broker that was restarted in the silence ends all of them at once."""
    fall_silent(broker, capture)
    assert car.uplink._pause.kept is not None
    getattr(broker, how)()
    assert broker.wait(lambda: car.uplink._pause.kept is None)
    broker.wait(lambda: connects(broker) > 1, 0.5)
    assert connects(broker) == 1
    assert not car.uplink._backoff.is_long


def test_a_kept_link_that_another_client_took_over_ends_in_a_long_wait(
    broker: HostileBroker, capture: Capture, car: Running
) -> None:
    """It is heard of, and what it says needs a person."""
    fall_silent(broker, capture)
    broker._answer = lambda *_: packet(DISCONNECT, b"\x8e\0")
    broker.is_held = False
    assert broker.wait(lambda: "another client" in capture.report.last_error), capture.report
    assert broker.wait(lambda: car.uplink._backoff.is_long)
    assert car.uplink._pause.kept is None
    assert connects(broker) == 1


def test_the_car_of_a_small_fleet_makes_another_link(
    pki: Pki, broker: HostileBroker, capture: Capture, station: Station
) -> None:
    station.regroup_s = 0
    with running(make_uplink(pki, broker.port, capture, timing=TIMING)) as car:
        capture.add(1)
        assert broker.wait(lambda: not capture.pending)
        broker.is_held = True
        assert broker.wait(lambda: broker.accepted > 1)
        broker.is_held = False
        capture.add(1)
        assert broker.wait(lambda: not capture.pending), capture.report
        assert connects(broker) == 2
        assert car.uplink._pause.kept is None


def test_a_sleep_ends_the_wait_beside_a_kept_link(
    broker: HostileBroker, capture: Capture, car: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    fall_silent(broker, capture)
    clock = car.uplink._pause._clock
    monkeypatch.setattr(car.uplink._pause, "_clock", lambda: clock() + 3600)
    assert broker.wait(lambda: broker.accepted > 1)
    broker.is_held = False
    assert broker.wait(lambda: connects(broker) == 2)


def test_the_end_of_the_agent_says_goodbye_on_a_kept_link(
    pki: Pki, broker: HostileBroker, capture: Capture
) -> None:
    with running(make_uplink(pki, broker.port, capture, timing=TIMING, rng=lambda: 0.5)):
        capture.add(1)
        assert broker.wait(lambda: not capture.pending)
        fall_silent(broker, capture)
    broker.is_held = False
    assert broker.wait(lambda: broker.packets[-1][0] == DISCONNECT)


def test_a_link_that_lives_again_while_capture_is_away_waits_for_it(
    broker: HostileBroker, capture: Capture, car: Running
) -> None:
    fall_silent(broker, capture)
    kept = car.uplink._pause.kept
    assert kept is not None
    capture.failing = True
    broker.is_held = False
    assert broker.wait(lambda: kept.is_alive)
    assert not capture.report.connected
    capture.failing = False
    assert broker.wait(lambda: capture.report.connected)
    assert connects(broker) == 1


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Where packets leave from; empty: the car's own network is away."""
    source = ["127.0.0.1"]
    monkeypatch.setattr(way, "source_to", lambda *_: source[0] if source else "")
    monkeypatch.setattr(way, "LOOK_S", 0.02)
    return source


def test_the_cars_own_network_is_missed_at_once_and_the_link_made_when_it_is_back(
    network: list[str], broker: HostileBroker, capture: Capture, car: Running
) -> None:
    """However large its fleet is: nothing was heard of the region, and it did nothing."""
    network.clear()
    assert broker.wait(lambda: not capture.report.connected, 1.0), capture.report
    assert "own network is gone" in capture.report.last_error
    broker.wait(lambda: connects(broker) > 1, 0.5)
    assert not capture.report.connected
    network.append("127.0.0.1")
    assert broker.wait(lambda: capture.report.connected, 3.0), capture.report


def test_one_look_that_finds_no_network_is_none(
    broker: HostileBroker, capture: Capture, car: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cable that is plugged again."""
    seen = []

    def source_to(*_: object) -> str:
        seen.append(True)
        return "" if len(seen) % 2 else "127.0.0.1"

    monkeypatch.setattr(way, "source_to", source_to)
    monkeypatch.setattr(way, "LOOK_S", 0.02)
    assert broker.wait(lambda: len(seen) > 20)
    assert capture.report.connected
    assert connects(broker) == 1


def test_a_car_that_has_changed_its_network_comes_at_once(
    network: list[str], broker: HostileBroker, capture: Capture, car: Running,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The link's address still works, says the kernel; but what leaves now leaves elsewhere."""
    monkeypatch.setattr(way, "interface_of", lambda address: f"if-{network[0]}")
    monkeypatch.setattr(way, "is_running", lambda _: True)
    broker.is_held = True
    network[0] = "127.0.0.2"
    assert broker.wait(lambda: broker.accepted > 1), capture.report
    broker.is_held = False
    assert broker.wait(lambda: capture.report.connected)
