"""Whose doing the end of a link was: after the region's a fleet regroups, after silence not.

Real sockets; the back-off is asked what it was told.
"""

from __future__ import annotations

import socket
import struct
from pathlib import Path
from typing import Any

import pytest

from agent.uplink.backoff import Backoff
from tests.hostile_broker import CONNACK, DISCONNECT, HostileBroker, Script, packet
from tests.pki import Pki
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


@pytest.mark.parametrize("when", ["in the handshake", "later"])
def test_a_reset_is_the_regions(pki: Pki, leaf: Path, told: list[bool], when: str) -> None:
    """What a killed broker's kernel sends."""

    def reset(sock: socket.socket, *_: object) -> None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if when == "in the handshake":
            sock.recv(4096)
        sock.close()

    assert ends(pki, HostileBroker(leaf, raw=reset), told)


def test_silence_is_nobodys(pki: Pki, leaf: Path, told: list[bool]) -> None:
    for script in (Script(deaf=True), Script(connack=None)):
        told.clear()
        assert not ends(pki, HostileBroker(leaf, script), told), script


def test_a_peer_that_is_not_the_region_is_nobodys(pki: Pki, told: list[bool]) -> None:
    """Cars that are led astray one by one are no fleet."""
    broker = HostileBroker(pki.leaf("astray", issuer=pki.sibling))
    assert not ends(pki, broker, told)
