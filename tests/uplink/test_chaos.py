"""Through a network that delays 50 ms, stalls, and cuts connections in the middle of packets.

The product's intervals, but for the back-off, which would only make the test wait. Real Mosquitto.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.pb.delivery_pb2 import Upload
from agent.uplink.delivery import Delivery
from agent.uplink.timing import Timing
from tests.chaos import Network, Weather
from tests.pki import Pki
from tests.uplink import test_mosquitto
from tests.uplink.fakes import LOG, Capture, Station, make_uplink, running
from tests.uplink.test_mosquitto import Mosquitto, eventually, station_at

pytestmark = [test_mosquitto.pytestmark, pytest.mark.slow]

PATIENT = replace(Timing(), backoff_low_s=0.05, backoff_cap_s=0.5, resend_s=2.0)
ROUGH = Weather(delay_s=0.05, stall=0.1, stall_s=0.5, cut=0.08)
COUNT = 100


def check(pki: Pki, folder: Path, seed: int, weather: Weather, *, within_s: float = 100) -> Any:
    """Everything arrives, once in effect; whatever is received is confirmed."""
    station, broker = Station(), Mosquitto(pki, folder)
    capture = Capture(station)
    capture.add(COUNT, size=3000)
    try:
        with (
            station_at(broker, lambda payload: [station.store(payload)]),
            Network(broker.port, weather, seed=seed) as network,
            running(make_uplink(pki, network.port, capture, timing=PATIENT)),
        ):
            assert eventually(lambda: not capture.pending, within_s), capture.report
            assert sorted(station.stored) == sorted(capture.confirmed)
            assert sorted(capture.confirmed) == [(LOG, i) for i in range(COUNT)]
            return network, station
    finally:
        broker.kill()


@pytest.mark.parametrize("seed", [1, 2])
def test_everything_arrives_through_a_rough_network(pki: Pki, tmp_path: Path, seed: int) -> None:
    network, station = check(pki, tmp_path, seed, ROUGH)
    assert network.cuts > 0
    assert network.connections > network.cuts // 2
    assert all(Upload.FromString(payload).log == LOG for payload in station.stored.values())


def test_a_slow_network_that_holds_ends_no_link(pki: Pki, tmp_path: Path) -> None:
    """Stalls of seconds are what TCP makes of loss: no interval of the uplink is shorter."""
    network, station = check(pki, tmp_path, 3, Weather(delay_s=0.05, stall=0.05, stall_s=3.0))
    assert network.connections == 1
    assert station.duplicates <= COUNT  # receipts that stalled let entries be sent once more


@pytest.mark.parametrize("bug", ["never again", "acknowledged is delivered"])
def test_the_check_finds_planted_bugs(
    pki: Pki, tmp_path: Path, bug: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if bug == "never again":  # what was in flight when a link ended is not sent again
        monkeypatch.setattr(Delivery, "disconnected", lambda self, now_s: self._flights.clear())
        monkeypatch.setattr(
            Delivery, "skip", lambda self, now_s: {LOG: [i for _, i in self._awaiting]}
        )
    else:
        acknowledged = Delivery.acknowledged

        def wrong(self: Any, mid: int, now_s: float) -> None:
            if (flight := self._flights.get(mid)) is not None and flight.key is not None:
                self._parked[flight.key] = now_s + 1e9
            acknowledged(self, mid, now_s)

        monkeypatch.setattr(Delivery, "acknowledged", wrong)
        monkeypatch.setattr(Station, "store", _forgetful(Station.store))
    with pytest.raises(AssertionError):
        check(pki, tmp_path, 1, ROUGH, within_s=12)


def _forgetful(store: Any) -> Any:
    """A station that dies before its commit now and then: the broker had acknowledged."""
    heard: set[bytes] = set()

    def wrong(self: Any, payload: bytes) -> bytes:
        if payload not in heard and len(heard) % 5 == 0:
            heard.add(payload)
            return b""
        heard.add(payload)
        return bytes(store(self, payload))

    return wrong
