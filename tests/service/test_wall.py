"""A wall that is not there is noticed. Here there is none, so every try goes through."""

from __future__ import annotations

import ipaddress
import socket
import subprocess

import pytest

from agent.errors import WallError
from agent.service import wall
from agent.service.wall import Seen, canaries, gap
from tests.rig import INLAND
from tests.service.sites import Image

HOME = [ipaddress.ip_network("203.0.113.0/24")]


def networks(*texts: str) -> list[wall.Network]:
    return [ipaddress.ip_network(text) for text in texts]


# --- what follows from what was seen ---


@pytest.mark.parametrize(
    ("prefixes", "left"),
    [
        (("203.0.113.0/24",), ("127.77.0.1", "::1")),
        (("127.0.0.0/8",), ("::1",)),
        (("127.0.0.1/32",), ("127.77.0.1", "::1")),
        (("::/0",), ("127.77.0.1",)),
        (("0.0.0.0/0", "::1/128"), ()),
    ],
)
def test_a_canary_is_an_address_that_the_region_does_not_have(prefixes, left):
    assert canaries(networks(*prefixes)) == left


@pytest.mark.parametrize(
    ("seen", "told"),
    [
        ({"a": Seen.REFUSED}, ""),
        ({"a": Seen.REFUSED, "b": Seen.ABSENT}, ""),
        ({"a": Seen.REFUSED, "b": Seen.PASSED}, "b went through"),
        ({"a": Seen.REFUSED, "b": Seen.LOST}, "b was neither refused nor heard of"),
        ({"a": Seen.ABSENT}, "nothing could be tried: a"),
        ({}, "nothing could be tried: every loopback address is allowed"),
    ],
)
def test_only_a_refusal_proves_a_wall(seen: dict[str, Seen], told: str):
    assert gap(seen) == told


# --- without a wall ---


def test_without_a_wall_the_canary_hears_itself():
    assert wall.try_address("127.77.0.1") is Seen.PASSED


def test_an_address_that_is_not_there_proves_nothing():
    assert wall.try_address("nobody's") is Seen.ABSENT


def test_without_a_wall_uplink_does_not_start():
    with pytest.raises(
        WallError, match=r"IPAddressDeny= does not hold: 127\.77\.0\.1 went through"
    ):
        wall.prove_uplink(HOME)


def test_without_a_wall_capture_does_not_start():
    with pytest.raises(WallError, match="RestrictAddressFamilies= does not hold: AF_INET went thr"):
        wall.prove_capture()


def test_a_region_that_has_the_whole_loopback_cannot_be_proved():
    with pytest.raises(WallError, match="every loopback address is allowed"):
        wall.prove_uplink(networks("0.0.0.0/0", "::/0"))


@pytest.mark.parametrize("half", ["capture", "uplink"])
def test_the_service_ends_with_one_line_and_the_code_that_is_not_tried_again(
    half: str, image: Image
):
    config = image.outside(image.config)
    image.edit("/var/lib/inland", str(image.root / "state"))
    image.edit("/run/inland", str(image.root / "run"))
    done = subprocess.run(
        [*INLAND, half, "--wall", "--config", str(config)], capture_output=True, text=True,
        check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == WallError.exit_code == 2
    assert done.stderr.startswith(f"error: inland {half}: ")
    assert len(done.stderr.splitlines()) == 1
    assert not (image.root / "state").exists(), "nothing is done before the wall stands"


# --- with a wall ---


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that refuses what leaves, as a filter of a control group does."""

    class Walled(socket.socket):
        def sendto(self, *_: object) -> int:
            raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(wall.socket, "socket", Walled)


@pytest.mark.usefixtures("refusing")
def test_a_refusal_when_it_is_sent_is_the_proof():
    assert wall.try_address("127.77.0.1") is Seen.REFUSED


def test_families_that_seccomp_or_the_kernel_lacks_are_refused():
    """AF_NETLINK is open to everybody where nobody forbids it: the witness of both processes."""
    assert wall.try_family("AF_NETLINK") is Seen.PASSED
    assert wall.try_family("AF_NO_SUCH_FAMILY") is Seen.REFUSED


def test_a_lack_of_rights_is_no_wall(monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(wall.socket, "socket", refuse)
    assert wall.try_family("AF_PACKET") is Seen.PASSED
