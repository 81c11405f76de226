"""What a policy wants is heard from the moment at which it is said to be in force.

A silent bus is the hard case: its reader waits for a frame, and must not have to get one first.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from agent.capture import early
from agent.capture.bus import BatchBus
from agent.capture.consent import ConsentSlot
from agent.capture.force import Force
from agent.capture.queue import FrameQueue
from agent.capture.reader import Reader
from agent.capture.sealer import Sealer
from agent.capture.sieve import Sieve
from agent.capture.slcan import DescriptorSource, SlcanBus
from agent.capture.socketcan import SocketcanBus
from agent.errors import BusError
from agent.frames import ChannelTable
from agent.policy import consent_file
from agent.policy.terms import terms
from agent.vault.vault import Vault
from tests.capture import driving
from tests.capture.driving import DRIVE, PLACE, TRACK, Car, S

WANTED = [{"can_id": 0x123, "can_mask": 0x7FF, "extended": False}]


# --- one bus ----------------------------------------------------------------------------------


class CanSocket(socket.socket):
    """A pair's end that takes CAN filters, and drops what they do not want as the kernel does."""

    def watch(self, sender: socket.socket) -> None:
        self.sender, self.passes = sender, True

    def setsockopt(self, level: int, option: int, value: Any) -> None:  # type: ignore[override]
        if level == socket.SOL_CAN_RAW:
            self.passes = bool(value)
        else:
            super().setsockopt(level, option, value)

    def bring(self) -> None:
        if self.passes:
            self.sender.send(struct.pack("<IB3x8s", 0x123, 1, b"\x07"))
        self.sender.send(b"no frame")  # a read that heard nothing must come back too


Made = tuple[BatchBus, Callable[[], object]]  # a bus, and what lets it have frame 0x123


@pytest.fixture
def socketcan() -> Iterator[Made]:
    sender, taken = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    receiver = CanSocket(fileno=taken.detach())
    receiver.watch(sender)
    early.prepare(receiver)
    yield SocketcanBus(receiver, "can0", ChannelTable()), receiver.bring
    sender.close()
    receiver.close()


@pytest.fixture
def slcan() -> Iterator[Made]:
    adapter, host = socket.socketpair()
    host.setblocking(False)
    bus = SlcanBus(DescriptorSource(host.fileno()), "can0", ChannelTable())
    yield bus, partial(adapter.sendall, b"t123107\r")
    adapter.close()
    host.close()


class Watched:
    """A bus that tells when its read has begun."""

    def __init__(self, bus: BatchBus) -> None:
        self._bus, self.name, self.ended = bus, bus.name, False
        self.reads = threading.Event()
        self.losses, self.set_filters, self.close = bus.losses, bus.set_filters, bus.close

    def recv_batch(self, timeout_s: float) -> Any:
        self.reads.set()
        return self._bus.recv_batch(60)


def check_a_waiting_reader_hears(made: Made, reader_of: type[Reader]) -> None:
    bus, bring = Watched(made[0]), made[1]
    queue = FrameQueue(100)
    reader = reader_of(
        0, "can0", lambda: bus, queue, patient=False, notice=lambda channel, state: None
    )
    reader.open_now()
    reader.set_filters([])
    thread = threading.Thread(target=reader.step)
    thread.start()
    assert bus.reads.wait(30)  # it waits for a frame, and none is wanted
    reader.set_filters(WANTED)
    bring()
    thread.join()
    found = [int(one) for part in queue.drain(100) for one in part.batch["data"][:, 0]]
    assert found == [7]


class Late(Reader):
    """Planted bug: filters wait for the read that is under way."""

    def set_filters(self, filters: Any) -> None:
        with self._lock:
            self._filters, self._filters_new = filters, True


@pytest.mark.parametrize("kind", ["socketcan", "slcan"])
def test_new_filters_do_not_wait_for_a_frame(kind: str, request: pytest.FixtureRequest):
    check_a_waiting_reader_hears(request.getfixturevalue(kind), Reader)


@pytest.mark.parametrize("kind", ["socketcan", "slcan"])
def test_the_check_finds_filters_that_wait(kind: str, request: pytest.FixtureRequest):
    with pytest.raises(AssertionError):
        check_a_waiting_reader_hears(request.getfixturevalue(kind), Late)


class Refusing(Sieve):
    """An interface that was just removed: it takes no filters, and cannot be read."""

    ended = False

    def set_filters(self, wanted: object) -> None:
        raise BusError("the interface was removed", where=self.name)

    def recv_batch(self, timeout_s: float) -> Any:
        raise AssertionError("read without its filters")

    def close(self) -> None:
        pass


def test_a_bus_that_takes_no_filters_is_gone_for_its_reader_and_not_for_who_sets_them():
    notices: list[tuple[str, str]] = []
    reader = Reader(
        0, "can0", lambda: Refusing("can0"), FrameQueue(1), patient=False,
        notice=lambda *what: notices.append(what),
    )  # fmt: skip
    reader.open_now()
    reader.set_filters([])
    assert not notices
    assert reader.step() > 0
    assert notices == [("can0", "down")]


# --- a policy, and what people agree to ---------------------------------------------------------


def ids_of(filters: Any) -> set[int]:
    """Ids that pass."""
    return {
        one
        for one in range(0x800)
        if filters is None
        or any(not (one ^ a["can_id"]) & a["can_mask"] and not a["extended"] for a in filters)
    }


def agree(car: Car) -> None:
    with consent_file.edit(car.folder / "consent.json", wait=True) as held:
        held.book = held.book.grant(
            terms(driving.consenting(), TRACK), now_ns=car.unix_ns,
            until_ns=car.unix_ns + 30 * 86_400 * S, each_drive=False,
        )  # fmt: skip


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch, car: Car) -> list[tuple[str, set[int]]]:
    """What is written in the ledger of policies and consents, with the ids that pass by then."""
    found: list[tuple[str, set[int]]] = []
    record = Vault.record

    def spy(vault: Vault, what: Any, *more: Any) -> Any:
        kind = type(what).__name__
        if kind in ("PolicyInForce", "ConsentChange"):
            found.append((kind, ids_of(car.reader.filters[-1]) if car.reader.filters else set()))
        return record(vault, what, *more)

    monkeypatch.setattr(Vault, "record", spy)
    return found


def check_said_is_heard(car: Car, said: list[tuple[str, set[int]]]) -> None:
    car.step()
    narrow = driving.policy(rules=(), events=(), recorder=None)
    for policy in (narrow, driving.consenting(2), driving.policy(3)):
        before = len(car.reader.filters)
        car.slot.put(policy)
        car.stand(1)
        assert len(car.reader.filters) > before
    car.slot.put(driving.consenting(4))
    car.stand(1)
    agree(car)
    car.stand(1)
    none, *policies = [ids for kind, ids in said if kind == "PolicyInForce"]
    assert (none, policies[0]) == (set(), {DRIVE})
    assert policies[1] == policies[3] == {DRIVE, PLACE}
    assert len(policies[2]) == 0x800
    assert [ids for kind, ids in said if kind == "ConsentChange"] == [{DRIVE, PLACE}]


def test_what_the_ledger_says_is_in_force_is_heard(car: Car, said: list[tuple[str, set[int]]]):
    check_said_is_heard(car, said)


def test_the_check_finds_filters_that_come_after_the_entry(
    car: Car, said: list[tuple[str, set[int]]], monkeypatch: pytest.MonkeyPatch
):
    look, set_filters = Sealer._look, Sealer._set_filters

    def late(sealer: Sealer, now: Any) -> None:
        look(sealer, now)
        set_filters(sealer)

    monkeypatch.setattr(Sealer, "_look", late)
    monkeypatch.setattr(Sealer, "_set_filters", lambda sealer: None)
    with pytest.raises(AssertionError):
        check_said_is_heard(car, said)


def check_consents_stand(car: Car) -> None:
    """Another policy that asks for the same goes on at once with what people agreed to."""
    car.slot.put(driving.consenting())
    agree(car)
    car.drive(2, place=True)
    since = len(car.reader.filters)
    for policy in (driving.consenting(2), None, driving.consenting(2)):
        car.slot.put(policy, "installed" if policy else "expired")
        car.drive(1, place=True)
        kept = car.sealer.counters.samples
        car.drive(2, place=True)
        assert car.sealer.counters.samples == kept + (2 * 2 * 10 if policy else 0)
    heard = [ids_of(one) for one in car.reader.filters[since:]]
    assert set() in heard
    heard.remove(set())
    assert all(ids == {DRIVE, PLACE} for ids in heard)  # nor is it deaf for a moment
    car.sealer.finish()
    assert len(car.told("consent")) == 1


def test_consents_stand_under_the_next_policy(car: Car):
    check_consents_stand(car)


def deaf_at_first(force: Force, policy: Any, **more: Any) -> None:
    """Planted bug: a policy hears nothing that needs a consent until consents were looked at."""
    made(force, policy, **more)
    force._asked = True


made = Force.__init__
BUGS = {
    "silent": (ConsentSlot, "begin_anew", lambda slot: None),
    "deaf": (Force, "__init__", deaf_at_first),
}


@pytest.mark.parametrize("bug", BUGS)
def test_the_check_of_consents_finds_planted_bugs(
    car: Car, bug: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(*BUGS[bug])
    with pytest.raises(AssertionError):
        check_consents_stand(car)
