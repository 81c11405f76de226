"""A sold car: after any cut the next start ends in one of two states, not begun or complete."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from unittest import mock

from agent.owner import certificate, custody, register, transfer
from agent.pb import ledger_pb2, sealed_pb2
from agent.policy import consent_file
from agent.vault import parting
from agent.vault.enrolled import Enrolled
from agent.vault.memory import Memory
from tests.owner import selling
from tests.owner.people import ANNA
from tests.owner.people import enroll as enroll_by_hand
from tests.power.on_consent import grant
from tests.power.vaults import After, Life
from tests.power.workloads import Note, Say, bug, workload
from tests.vault.world import MIB

DRIVE = b"of the drive of the owner before"


def forgotten(folder: Path, notes: list[Note]) -> None:
    """Start as an agent does, and look whether it is wholly before or wholly after."""
    said = {note[0]: note[1:] for note in notes}
    state, run = folder / "state", folder / "run"
    number, _ = selling.go_on(state, run)
    assert transfer.pending(state) is None
    assert number == custody.number(state)
    if "begun" in said:
        assert number == 2, "a transfer that was begun is not completed"
    if "asked" not in said:
        assert number == 1, "a transfer that nobody asked for"
    car = After(state, quota=2 * MIB)
    try:
        _look(car, state, run, number)
    finally:
        car.crash()
    again, place = selling.go_on(state, run)
    assert (again, place) == (number, None), "it is done twice"
    selling.sell(state, run)  # and it can be sold again
    assert custody.number(state) == number + 1
    left = {one.name for one in state.iterdir()}
    assert not {one for one in left if one.endswith(".new")}, "something is left for ever"


def _look(car: After, state: Path, run: Path, number: int) -> None:
    owners = [
        entry.index for entry in car.entries()
        if entry.HasField("session") and entry.session.recipients == sealed_pb2.OWNER
    ]  # fmt: skip
    here = {row[0] for row in car.vault._spool.rows("SELECT i FROM body")}
    kept = "SELECT count(*) FROM item WHERE consent<>'' AND bytes>0"
    marks = {
        "transfer": len(car.what("transfer")) == 1,
        "bodies": bool(owners) and not set(owners) & here,
        "consents": car.vault._spool.one(kept) == 0,
        "people": not (state / register.FILE).exists(),
        "consent file": not (state / consent_file.FILE).exists(),
        "memory": car.vault.remembered("drive") is None,
        "counts": not (run / "events.json").exists(),
    }
    assert set(marks.values()) == {number == 2}, f"ownership {number}, and {marks}"
    place = transfer.certificate_of(state, 1)
    assert place.exists() == (number == 2), "the certificate"
    if number == 1:
        return
    found = certificate.check(place.read_bytes())
    counts = {(one["recipients"], one["lane"]): one["bodies"] for one in found["erased"]}
    assert counts == {("owner", "routine"): 3, ("region", "routine"): 1}, f"counted {counts}"
    assert found["forgotten"] == {"people": 1, "consents": 1, "quarantined": 0}
    reasons = {one.reason for one in car.what("drop")}
    assert ledger_pb2.Drop.TRANSFERRED in reasons


@workload(check=forgotten)
def selling_a_car(folder: Path, say: Say) -> Iterator[None]:
    """An owner with data, a consent and a drive; then the transfer, to its end."""
    state, run = folder / "state", folder / "run"
    run.mkdir()
    (run / "events.json").write_text("{}")
    life = Life(folder, say)
    life.vault.admit(Enrolled(ANNA.public.recipient, None))
    for _ in range(3):
        life.seal(700, recipients=sealed_pb2.OWNER)
    life.seal(700, consent="location.track")
    life.seal(700)
    life.vault.remember("drive", DRIVE)
    life.vault.close()
    enroll_by_hand(state / register.FILE, ANNA)
    grant(state, each_drive=False)
    custody.present(state, None)
    yield
    say("asked")
    selling.begin(state)
    say("begun")
    selling.go_on(state, run)
    say("told")


# --- bugs ----------------------------------------------------------------------------------------


@bug(selling_a_car)
def intent_removed_first() -> AbstractContextManager[object]:
    """The intent goes before the people do: who is cut between keeps them for the next owner."""
    forget = transfer._forget

    def hasty(state: Path, run: Path) -> None:
        (state / transfer.FILE).unlink(missing_ok=True)
        forget(state, run)

    return mock.patch.object(transfer, "_forget", hasty)


@bug(selling_a_car)
def counted_anew() -> AbstractContextManager[object]:
    """The counts are not written down: a second attempt finds less, and says so."""
    write = transfer._write

    def uncounted(state: Path, intent: transfer.Intent) -> None:
        write(state, transfer.Intent(intent.before))

    return mock.patch.object(transfer, "_write", uncounted)


@bug(selling_a_car)
def entered_at_each_attempt() -> AbstractContextManager[object]:
    """Nobody looks whether the transfer is in the ledger already."""
    return mock.patch.object(parting, "set_meta")


@bug(selling_a_car)
def memory_left_alone() -> AbstractContextManager[object]:
    """What is remembered of drives stays."""
    return mock.patch.object(Memory, "forget")
