"""What is for people opens with their keys and with no others, through engine and vault."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.capture.force import Force
from agent.digest import sha256
from agent.owner import register
from agent.owner.slot import OwnerSlot
from agent.pb import ledger_pb2
from agent.vault import seal
from agent.vault.scribe import Scribe
from agent.vault.vault import Vault
from tests.owner.people import (
    ANNA,
    BELA,
    CARL,
    SETS,
    PeopledCar,
    drive,
    enroll,
    for_everybody,
    privates,
    remove,
)


@pytest.fixture
def car(tmp_path: Path) -> Iterator[PeopledCar]:
    """A car under a policy for every recipient set; nobody is enrolled."""
    made = PeopledCar(tmp_path)
    made.slot.put(for_everybody())
    made.drive(2)
    yield made
    made.vault.close()


def sets_with_rows(car: PeopledCar, keys: dict[bytes, bytes]) -> set[str]:
    return {name for name, stamps in car.stamps_by(keys).items() if stamps}


def test_before_anybody_is_enrolled_only_the_region_has_something(car: PeopledCar):
    """The loss says why; nothing is narrowed to the region instead."""
    car.stand(1)
    assert sets_with_rows(car, privates(ANNA, BELA, region=True)) == {"region"}
    losses = {(one.cause) for one in car.told("loss")}
    assert losses == {ledger_pb2.Loss.NO_RECIPIENT}
    assert car.changes() == []


def test_after_enrolment_every_set_opens_with_its_keys_alone(car: PeopledCar):
    """owner, shared, both, driver: with each combination of the keys there are."""
    enroll(car.people, ANNA)
    enroll(car.people, BELA, register.DRIVER)
    drive(car.people, BELA)
    car.stand(1)
    car.drive(5)
    car.stand(2)
    assert sets_with_rows(car, privates(ANNA, BELA, region=True)) == set(SETS)
    assert sets_with_rows(car, privates(ANNA)) == {"owner", "shared"}
    assert sets_with_rows(car, privates(BELA)) == {"driver"}
    assert sets_with_rows(car, privates(region=True)) == {"region", "shared"}
    assert sets_with_rows(car, privates(ANNA, region=True)) == set(SETS) - {"driver"}
    assert sets_with_rows(car, privates(CARL)) == set()


def test_an_owner_drives_until_somebody_else_does(car: PeopledCar):
    """Without a word about who drives, what is for the driver is the owner's."""
    enroll(car.people, ANNA)
    car.stand(1)
    car.drive(3)
    car.stand(2)
    assert "driver" in sets_with_rows(car, privates(ANNA))


def handed_over(car: PeopledCar) -> tuple[set[int], set[int], int]:
    """Anna drives, then Bela, without a stop: stamps that each opens, and when it was said."""
    enroll(car.people, ANNA)
    enroll(car.people, BELA, register.DRIVER)
    car.stand(1)
    car.drive(3)
    said_ns = car.unix_ns
    drive(car.people, BELA)
    car.drive(4)
    car.stand(2)
    return (
        car.stamps_by(privates(ANNA))["driver"], car.stamps_by(privates(BELA))["driver"], said_ns
    )  # fmt: skip


def test_two_drivers_each_have_their_own_time(car: PeopledCar):
    """Every row is one's or the other's, none is both's; within half a second of the word."""
    annas, belas, said_ns = handed_over(car)
    assert len(annas) > 25
    assert len(belas) > 30
    assert annas.isdisjoint(belas)
    assert max(annas) < min(belas)
    assert min(belas) - said_ns <= 600_000_000
    everything = car.stamps_by(privates(region=True))["region"]
    assert annas | belas == {one for one in everything if one >= min(annas)}


def test_planted_rows_that_were_open_go_to_the_next_driver(car: PeopledCar, monkeypatch):
    """If what is open were not sealed first, its rows would be the next one's."""
    monkeypatch.setattr(Force, "hand_over", lambda self, now: None)
    annas, belas, said_ns = handed_over(car)
    assert min(belas) <= said_ns or max(annas) > said_ns or len(annas) < 25


def test_planted_session_that_outlives_its_people_is_found(car: PeopledCar, monkeypatch):
    """If sessions went on, Bela's rows would still be sealed to Anna."""

    def readdress(self: Scribe, identity: object) -> None:
        self._identity = identity

    monkeypatch.setattr(Scribe, "readdress", readdress)
    annas, belas, said_ns = handed_over(car)
    assert max(annas) > said_ns + 10**9
    assert not belas


def test_planted_driver_who_is_given_to_the_owner_is_found(car: PeopledCar, monkeypatch):
    """If the driver's wrap were the owner's, the keys at hand would show it."""
    wraps_for = seal.wraps_for

    def planted(recipients: int, **keys: bytes | None) -> object:
        return wraps_for(recipients, **{**keys, "driver_key": keys["owner_key"]})

    monkeypatch.setattr(seal, "wraps_for", planted)
    enroll(car.people, ANNA)
    enroll(car.people, BELA, register.DRIVER)
    drive(car.people, BELA)
    car.stand(1)
    car.drive(3)
    car.stand(2)
    assert "driver" in sets_with_rows(car, privates(ANNA))


def test_who_is_removed_gets_nothing_more_and_keeps_what_was(car: PeopledCar):
    """Anna goes while she drives: from then on the driver is nobody, and the owner too."""
    enroll(car.people, ANNA)
    car.stand(1)
    car.drive(3)
    remove(car.people, ANNA)
    car.drive(0.6)
    gone_ns = car.unix_ns
    car.drive(4)
    car.stand(2)
    stamps = car.stamps_by(privates(ANNA))
    assert stamps["owner"]
    assert stamps["driver"]
    assert max(stamps["owner"] | stamps["driver"] | stamps["shared"]) < gone_ns
    kid = ANNA.public.kid
    assert car.changes() == [
        ("ENROLLED", kid), ("DRIVES", kid), ("REMOVED", kid), ("NOBODY_DRIVES", ""),
    ]  # fmt: skip


def test_changes_are_entered_once_over_restarts(car: PeopledCar):
    """Also one that was made while the agent did not run."""
    enroll(car.people, ANNA)
    car.stand(1)
    car.crash()
    car.stand(1)
    car.vault.close()
    enroll(car.people, BELA, register.DRIVER)
    car.start()
    car.slot.put(for_everybody(), "started")
    car.stand(1)
    assert [what for what, _ in car.changes()] == ["ENROLLED", "DRIVES", "ENROLLED"]
    assert car.sealer.people.count == 2
    assert car.sealer.people.driving == ANNA.public.kid


def test_a_damaged_register_is_nobody(car: PeopledCar, caplog: pytest.LogCaptureFixture):
    """What cannot be read is not believed in part, and is said once."""
    enroll(car.people, ANNA)
    car.stand(1)
    car.people.write_text(car.people.read_text().replace('"role": "owner"', '"role": "king"'))
    car.stand(2)
    assert car.sealer.people.count == 0
    assert [what for what, _ in car.changes()] == [
        "ENROLLED", "DRIVES", "REMOVED", "NOBODY_DRIVES",
    ]  # fmt: skip
    assert len([one for one in caplog.records if "people" in one.message]) == 1
    enroll(car.people, BELA)  # puts the damaged one aside
    car.stand(1)
    assert car.sealer.people.count == 1
    assert car.people.with_suffix(".damaged-1").exists()


def test_no_name_and_no_whole_key_is_in_the_ledger(car: PeopledCar):
    """An entry names a key by eight bytes, and no person."""
    enroll(car.people, ANNA)
    car.stand(1)
    raw = b"".join(row[0] for row in car.vault._spool.rows("SELECT entry FROM ledger"))
    assert ANNA.public.recipient[:32] not in raw
    assert ANNA.public.sign not in raw


def test_a_register_of_another_epoch_is_nobody(car: PeopledCar):
    """What a transfer left behind gives nobody anything."""
    enroll(car.people, ANNA, epoch=2)
    car.stand(1)
    car.drive(2)
    car.stand(2)
    assert sets_with_rows(car, privates(ANNA)) == set()
    assert isinstance(car.vault, Vault)


def test_an_enrollment_names_the_key_that_the_person_signs_with(car: PeopledCar):
    """The region never sees the car's code: this is what it knows people's requests by."""
    enroll(car.people, ANNA)
    car.stand(1)
    remove(car.people, ANNA)
    car.stand(1)
    names = {one.what: one.sign for one in car.told("owner")}
    assert names.pop(ledger_pb2.OwnerChange.ENROLLED) == sha256(ANNA.public.sign)
    assert set(names.values()) == {b""}


def test_what_an_older_version_remembered_is_entered_again_with_the_key(tmp_path: Path):
    path, kept = tmp_path / register.FILE, []
    enroll(path, ANNA)
    old = b'[{"%s": true}, "%s"]' % ((ANNA.public.kid.encode(),) * 2)
    for remembered in (old, None):
        slot = OwnerSlot(path, 1, None, remembered=remembered or kept[-1], remember=kept.append)
        step = slot.look()
        assert step is not None
        signs = [one.sign for one in step.entries if one.what == ledger_pb2.OwnerChange.ENROLLED]
        assert signs == ([sha256(ANNA.public.sign)] if remembered else [])
        slot.entered()
