"""Whose doing the end of a link was: after the region's a fleet regroups, after silence not.

Real sockets; the back-off is asked what it was told.
"""

from __future__ import annotations

import errno
import socket
import ssl
import struct
from pathlib import Path
from typing import Any

import pytest

from agent.uplink.backoff import Backoff
from agent.uplink.tls import is_of_the_peer
from tests.hostile_broker import (
    CONNACK,
    CONNECT,
    DISCONNECT,
    HostileBroker,
    Script,
    packet,
    publish,
)
from tests.pki import VEHICLE, Pki
from tests.uplink.fakes import Capture, Station, make_uplink, running


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """What the back-off is told of each end: by_peer."""
    found: list[bool] = []
    failed = Backoff.failed

    def spy(self: Backoff, now_s: float, *, by_peer: bool = False, **more: Any) -> float:
        found.append(by_peer)
        return failed(self, now_s, by_peer=by_peer, **more)

    monkeypatch.setattr(Backoff, "failed", spy)
    return found


@pytest.fixture(scope="module")
def leaf(pki: Pki) -> Path:
    return pki.leaf("who")


def ends(pki: Pki, broker: HostileBroker, told: list[bool]) -> bool:
    with broker, running(make_uplink(pki, broker.port, Capture(Station()))):
        assert broker.wait(lambda: bool(told))
    return told[0]


def test_a_goodbye_a_refusal_and_a_closed_connection_are_the_regions(
    pki: Pki, leaf: Path, told: list[bool]
) -> None:
    shutting_down = packet(DISCONNECT, b"\x8b\0")
    for script in (
        Script(after_suback=shutting_down),
        Script(connack=packet(CONNACK, b"\0\x88\0")),
        Script(close_after_connect=True),
    ):
        told.clear()
        assert ends(pki, HostileBroker(leaf, script), told), script


def test_a_port_that_nobody_listens_on_is_the_regions(pki: Pki, told: list[bool]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    broker = HostileBroker(pki.leaf("nobody"))
    with broker, running(make_uplink(pki, port, Capture(Station()))):
        assert broker.wait(lambda: bool(told))
    assert told[0]


@pytest.mark.parametrize("when", ["at once", "in the handshake"])
@pytest.mark.parametrize("reset", [True, False])
def test_a_connection_that_does_not_get_far_is_the_regions(
    pki: Pki, leaf: Path, told: list[bool], when: str, reset: bool
) -> None:
    """What the kernel of a killed broker sends, or one that is overrun."""

    def close(sock: socket.socket, *_: object) -> None:
        if reset:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if when == "in the handshake":
            sock.recv(4096)
        sock.close()

    assert ends(pki, HostileBroker(leaf, raw=close), told)


@pytest.mark.parametrize(
    ("number", "theirs"),
    [
        (errno.ECONNRESET, True), (errno.EPIPE, True), (errno.ECONNREFUSED, True),
        (errno.ETIMEDOUT, False), (errno.EHOSTUNREACH, False), (errno.ENETUNREACH, False),
        (errno.ENETDOWN, False), (errno.ECONNABORTED, False),
    ],
)  # fmt: skip
def test_what_our_own_kernel_says_is_not_the_regions(number: int, theirs: bool) -> None:
    assert is_of_the_peer(OSError(number, "")) is theirs


def test_why_a_link_ended_may_show_while_we_send(
    pki: Pki, leaf: Path, told: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A time that is over, in the kernel: without the reason it would look like a goodbye."""

    def send(*_: object) -> int:
        raise TimeoutError(errno.ETIMEDOUT, "Connection timed out")

    capture, broker = Capture(Station()), HostileBroker(leaf)
    with broker, running(make_uplink(pki, broker.port, capture)):
        assert broker.wait(lambda: capture.report.connected)
        monkeypatch.setattr(ssl.SSLSocket, "send", send)
        capture.add(1)
        assert broker.wait(lambda: bool(told))
    assert not told[0]


def test_silence_is_nobodys(pki: Pki, leaf: Path, told: list[bool]) -> None:
    for script in (Script(deaf=True), Script(connack=None)):
        told.clear()
        assert not ends(pki, HostileBroker(leaf, script), told), script


def test_a_peer_that_is_not_the_region_is_nobodys(pki: Pki, told: list[bool]) -> None:
    """Cars that are led astray one by one are no fleet."""
    broker = HostileBroker(pki.leaf("astray", issuer=pki.sibling))
    assert not ends(pki, broker, told)


@pytest.mark.parametrize("how", ["hang_up", "cut"])
@pytest.mark.parametrize(("regroup_s", "attempts"), [(3600, 1), (0, 2)])
def test_a_car_waits_as_long_as_its_region_says(
    pki: Pki, leaf: Path, how: str, regroup_s: int, attempts: int
) -> None:
    """A broker that goes away in good order, and one that is killed."""
    station = Station()
    station.regroup_s = regroup_s
    capture = Capture(station)
    down = f"inland/1/north/down/{VEHICLE}/receipt"
    script = Script(on_publish=lambda topic, payload, mid: publish(down, station.store(payload)))
    broker = HostileBroker(leaf, script)
    with broker, running(make_uplink(pki, broker.port, capture, rng=lambda: 0.5)):
        capture.add(1)
        assert broker.wait(lambda: not capture.pending), capture.report
        getattr(broker, how)()
        links = lambda: sum(command == CONNECT for command, _ in broker.packets)  # noqa: E731
        broker.wait(lambda: links() > 1, 1.0)
        assert links() == attempts
