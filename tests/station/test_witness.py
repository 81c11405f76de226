"""The station co-signs what grows, and nothing that contradicts what it has seen."""

from __future__ import annotations

import pytest

from agent.errors import SpoolError
from agent.pb import delivery_pb2, ledger_pb2
from agent.station import witness as witness_module
from agent.station.receive import Receiver
from agent.vault import checkpoint
from tests.station.car import Car
from tests.station.conftest import Place
from tests.station.test_receive import NOW_NS, alarms, checked, give, receiver, refusals


def ask(station: Receiver, car: Car, payload: bytes) -> str | None:
    """Return the note that comes back, None if none does."""
    station.offer(car.topic("checkpoint"), payload)
    receipts = [checked(station, payload) for _, payload in station.flush()]
    return receipts[0].cosigned if receipts else None


def size_of(place: Place, note: str) -> int:
    """Return the size of a co-signed note, whose co-signature verifies."""
    parsed = checkpoint.parse(note)
    key = checkpoint.parse_vkey(place.region.card.cosign_keys[0])
    assert checkpoint.verify(parsed, key) == NOW_NS // 10**9
    return parsed.checkpoint.size


def filled(car: Car, count: int) -> None:
    if not car.entries:
        car.genesis()
    while len(car.entries) < count:
        car.loss()


def test_growing_trees_are_cosigned(place: Place) -> None:
    car, station, last = place.car, receiver(place), 0
    for size in (1, 2, 3, 7, 8, 20):
        filled(car, size)
        give(station, car, *range(last, size))
        note = ask(station, car, car.checkpoint(size, last))
        assert note is not None
        assert size_of(place, note) == size
        last = size
    assert place.store.connection.execute("SELECT size FROM trees").fetchone() == (20,)


def test_entries_in_the_same_batch_are_compared(place: Place) -> None:
    car, station = place.car, receiver(place)
    filled(car, 5)
    for index in range(5):
        station.offer(car.topic(), car.upload(index))
    station.offer(car.topic("checkpoint"), car.checkpoint())
    receipts = [checked(station, payload) for _, payload in station.flush()]
    assert size_of(place, receipts[-1].cosigned) == 5
    assert place.store.connection.execute("SELECT size FROM trees").fetchone() == (5,)


def test_a_checkpoint_ahead_of_its_entries_is_cosigned_and_compared_later(place: Place) -> None:
    car, station = place.car, receiver(place)
    filled(car, 6)
    assert size_of(place, ask(station, car, car.checkpoint(6)) or "") == 6
    assert place.store.connection.execute("SELECT count(*) FROM trees").fetchone() == (0,)
    filled(car, 9)
    give(station, car, *range(9))
    assert size_of(place, ask(station, car, car.checkpoint(9, 6)) or "") == 9
    assert place.store.connection.execute("SELECT size FROM trees").fetchone() == (9,)


def test_the_same_checkpoint_gets_the_same_answer(place: Place) -> None:
    car, station = place.car, receiver(place)
    filled(car, 3)
    note = ask(station, car, car.checkpoint())
    assert ask(station, car, car.checkpoint()) == note


def test_a_car_that_does_not_know_the_last_cosigned_one_is_told(place: Place) -> None:
    car, station = place.car, receiver(place)
    filled(car, 3)
    first = ask(station, car, car.checkpoint())
    filled(car, 8)
    assert ask(station, car, car.checkpoint(8, from_size=0)) == first
    assert size_of(place, ask(station, car, car.checkpoint(8, from_size=3)) or "") == 8


def test_a_car_that_lost_our_answer_goes_on_once_its_entries_are_here(place: Place) -> None:
    """The car forgets a head that was not co-signed: it can never prove from one it lost."""
    car, station = place.car, receiver(place)
    filled(car, 5)
    give(station, car, *range(5))
    ask(station, car, car.checkpoint(5))  # the answer is lost
    filled(car, 9)
    give(station, car, *range(5, 9))
    assert size_of(place, ask(station, car, car.checkpoint(9, from_size=0)) or "") == 9


def test_a_rewritten_history_is_no_lost_answer(place: Place) -> None:
    car, station = place.car, receiver(place)
    filled(car, 5)
    ask(station, car, car.checkpoint(5))
    car.entries[2] = ledger_pb2.Entry(index=2, boot=ledger_pb2.Boot()).SerializeToString()
    filled(car, 9)
    give(station, car, *range(9))
    assert ask(station, car, car.checkpoint(9, from_size=0)) is None
    assert alarms(place) == ["fork"]


def test_a_fork_is_refused_with_an_alarm(place: Place) -> None:
    """History rewritten after a co-signature."""
    car, station = place.car, receiver(place)
    filled(car, 6)
    ask(station, car, car.checkpoint())
    car.entries[2] = ledger_pb2.Entry(index=2, boot=ledger_pb2.Boot()).SerializeToString()
    assert ask(station, car, car.checkpoint()) is None  # same size, another root
    filled(car, 9)
    assert ask(station, car, car.checkpoint(9, 6)) is None
    assert alarms(place) == ["fork", "fork"]
    assert refusals(place) == {"fork": 2}


def test_a_tree_that_is_not_of_what_was_sent_is_a_fork(place: Place) -> None:
    """The car uploads one thing and signs another."""
    car, station = place.car, receiver(place)
    filled(car, 6)
    give(station, car, *range(6))
    car.entries[4] = ledger_pb2.Entry(index=4, boot=ledger_pb2.Boot()).SerializeToString()
    assert ask(station, car, car.checkpoint()) is None
    assert alarms(place) == ["fork"]


def test_an_older_checkpoint_is_refused_without_an_alarm(place: Place) -> None:
    car, station = place.car, receiver(place)
    filled(car, 6)
    ask(station, car, car.checkpoint(6))
    assert ask(station, car, car.checkpoint(4)) is None
    assert refusals(place) == {"stale-checkpoint": 1}
    assert alarms(place) == []


def test_every_truncation_and_flip_of_a_checkpoint_is_refused(place: Place) -> None:
    car, station = place.car, receiver(place)
    filled(car, 4)
    ask(station, car, car.checkpoint(2))
    whole = car.checkpoint(4, 2)
    note = delivery_pb2.CheckpointUpload.FromString(whole).note
    for at in range(0, len(whole), 7):
        assert ask(station, car, whole[:at]) is None
        flipped = bytearray(whole)
        flipped[at] ^= 1
        answer = ask(station, car, bytes(flipped))
        if answer is not None:  # an older head than the flip asked for, or an unsigned byte
            head = checkpoint.parse(answer).checkpoint
            assert head.root == car.root(head.size)
            assert head == checkpoint.parse(note).checkpoint or head.size == 2


def test_a_witness_that_skips_the_proof_is_caught(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(witness_module, "_check_consistent", lambda *_: None)
    with pytest.raises((AssertionError, SpoolError)):
        test_a_fork_is_refused_with_an_alarm(place)


def test_a_witness_that_skips_its_own_copy_is_caught(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(witness_module, "_check_own_copy", lambda *_: None)
    with pytest.raises(AssertionError):
        test_a_tree_that_is_not_of_what_was_sent_is_a_fork(place)
