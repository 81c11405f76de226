"""What the kernel says of the way to the region, asked in network namespaces of their own."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from agent.errors import OwnNetworkError
from agent.uplink import way
from agent.uplink.way import Way
from tests.rig import wait_for
from tests.road import ip

needs_namespaces = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("ip") is None,
    reason="needs root and ip (iproute2): network namespaces",
)
# A process in the car's network. Each line says what to tell.
ASKED = """
import json, sys
from agent.uplink.way import interface_of, is_running, leads_to, source_to
for line in sys.stdin:
    address, bound = json.loads(line)
    source = source_to(address)
    name = interface_of(source) if source else ""
    told = {"source": source, "interface": name, "running": bool(name) and is_running(name),
            "leads": leads_to(address), "bound": source_to(address, bound)}
    print(json.dumps(told), flush=True)
"""


class Ends:
    """A cable between two namespaces: the car's, where questions are asked, and another."""

    def __init__(self) -> None:
        self.car, self.other = f"iway-{os.getpid()}", f"iwayo-{os.getpid()}"
        for name in (self.car, self.other):
            ip("netns", "add", name)
        ip("link", "add", "car0", "netns", self.car, "type", "veth", "peer", "name", "far0",
           "netns", self.other)  # fmt: skip
        ip("-n", self.car, "link", "set", "car0", "up")
        ip("-n", self.other, "link", "set", "far0", "up")
        ip("-n", self.car, "addr", "add", "198.19.0.1/24", "dev", "car0")
        ip("-n", self.car, "addr", "add", "fd77::1/64", "dev", "car0", "nodad")
        command = ["ip", "netns", "exec", self.car, sys.executable, "-c", ASKED]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def close(self) -> None:
        self.process.communicate(timeout=10)
        for name in (self.car, self.other):
            ip("netns", "del", name)

    def ask(self, address: str, bound: str) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps([address, bound]).encode() + b"\n")
        self.process.stdin.flush()
        return dict(json.loads(self.process.stdout.readline()))


@pytest.fixture
def ends() -> Iterator[Ends]:
    made = Ends()
    yield made
    made.close()


@needs_namespaces
@pytest.mark.parametrize(("region", "own"), [("198.19.0.2", "198.19.0.1"), ("fd77::2", "fd77::1")])
def test_a_way_that_is_there_and_each_way_in_which_it_can_go(
    ends: Ends, region: str, own: str
) -> None:
    there = {"source": own, "interface": "car0", "running": True, "leads": True, "bound": own}
    wait_for(lambda: ends.ask(region, own) == there, 10, "a way")
    # The kernel says so within a second.
    ip("-n", ends.other, "link", "set", "far0", "down")
    wait_for(lambda: not ends.ask(region, own)["leads"], 5, "no carrier")
    ip("-n", ends.other, "link", "set", "far0", "up")
    wait_for(lambda: ends.ask(region, own) == there, 5, "a carrier")
    ip("-n", ends.car, "link", "set", "car0", "down")
    gone = ends.ask(region, own)
    assert (gone["source"], gone["leads"], gone["bound"]) == ("", False, "")


@needs_namespaces
def test_an_address_that_is_taken_away_while_another_comes(ends: Ends) -> None:
    """What a modem does when its network gives it another one."""
    wait_for(lambda: ends.ask("198.19.0.2", "198.19.0.1")["leads"], 10, "a way")
    ip("-n", ends.car, "addr", "del", "198.19.0.1/24", "dev", "car0")
    ip("-n", ends.car, "addr", "add", "198.19.0.9/24", "dev", "car0")
    wait_for(lambda: ends.ask("198.19.0.2", "198.19.0.1")["bound"] == "", 5, "the address gone")
    found = ends.ask("198.19.0.2", "198.19.0.9")
    assert found["leads"]
    assert found["bound"] == found["source"] == "198.19.0.9"


def test_what_cannot_be_found_out_counts_as_there(monkeypatch: pytest.MonkeyPatch) -> None:
    assert way.interface_of("203.0.113.77") == ""
    assert way.interface_of("2001:db8::77") == ""
    assert way.interface_of("no address") == ""
    assert way.is_running("")
    assert not way.is_running("none-such0")
    assert way.interface_of("127.0.0.1") == "lo"
    assert way.is_running("lo")
    monkeypatch.setattr(way, "_IF_INET6", way._IF_INET6 / "none")
    assert way.interface_of("::1") == ""


@pytest.mark.parametrize("number", [errno.EPERM, errno.EMFILE])
def test_a_sandbox_or_a_shortage_ends_no_link(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    link = Way("127.0.0.1", "127.0.0.1", 100.0)

    def refuse(*_: object) -> None:
        raise OSError(number, "")

    monkeypatch.setattr(way.socket, "socket", refuse)
    for now_s in (101.0, 102.0, 103.0):
        link.look(now_s)
    assert way.leads_to("127.0.0.1")


def test_a_way_is_gone_when_two_looks_a_second_apart_say_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    way_ = Way("127.0.0.1", "127.0.0.1", 100.0)
    for now_s in (100.5, 101.0, 102.1):
        way_.look(now_s)
    assert not way_.is_another
    monkeypatch.setattr(way, "is_running", lambda _: False)
    way_.look(102.5)  # not yet time
    way_.look(103.2)
    monkeypatch.undo()
    way_.look(104.3)
    monkeypatch.setattr(way, "is_running", lambda _: False)
    way_.look(105.4)
    way_.look(105.9)
    with pytest.raises(OwnNetworkError, match="lo has no carrier"):
        way_.look(106.5)
    monkeypatch.undo()
    way_ = Way("127.0.0.1", "127.0.0.1", 100.0)
    monkeypatch.setattr(way, "source_to", lambda *_: "")
    assert way_.is_another
    way_.look(101.0)
    with pytest.raises(OwnNetworkError, match=r"no way there from 127\.0\.0\.1"):
        way_.look(102.0)
