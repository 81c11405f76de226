"""Who is enrolled: what was told holds, and what was cut is whole or not there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path
from unittest import mock

from agent import shared_file
from agent.owner import register
from agent.owner.presence import NAME, Presence
from agent.owner.slot import KEY, OwnerSlot
from agent.pb.hatch_pb2 import Enroll
from agent.pb.hatch_pb2 import Presence as Question
from agent.pb.ledger_pb2 import OwnerChange
from agent.vault.enrolled import OwnerStep
from tests.owner.people import ANNA, BELA, OwnerKey
from tests.power.vaults import After, Life, whole
from tests.power.workloads import Note, Say, bug, workload
from tests.vault.world import MIB


def obeyed(folder: Path, notes: list[Note]) -> None:
    """Read the register and do with the vault what a started agent does at its first look."""
    if any(note[0] == "log" for note in notes):
        whole(folder, [note for note in notes if note[0] not in ("people", "entered")])
    allowed = next((note[1] for note in notes[::-1] if note[0] == "people"), [()])
    entered = next((note[1] for note in notes[::-1] if note[0] == "entered"), 0)
    path = folder / "state" / register.FILE
    found = register.read(path)
    here = (*(one.id for one in found.people), f"drives {found.driving}")
    assert here in [tuple(one) for one in allowed], f"{here} are enrolled, not one of {allowed}"
    car = After(folder / "state", quota=2 * MIB)
    try:
        look(slot(path, car.vault), car.vault)
        assert len(car.what("owner")) >= entered, "a change is not in the ledger"
        told = [one for one in car.what("owner") if one.what == OwnerChange.ENROLLED]
        assert {one.kid.hex() for one in told} >= set(here[:-1]), "somebody is not in the ledger"
    finally:
        car.crash()
    enroll(folder, OwnerKey(bytes([99]) * 32, "next"), "driver")
    left = {one.name for one in (folder / "state").iterdir() if one.name.startswith("owners")}
    assert left <= {"owners.json", "owners.lock"}, "something is left for ever"


def slot(path, vault) -> OwnerSlot:
    return OwnerSlot(path, 1, None, remembered=vault.remembered(KEY),
                     remember=partial(vault.remember, KEY))  # fmt: skip


def look(people: OwnerSlot, vault) -> None:
    """Look as the sealer does."""
    step = people.look()
    if step is None:
        return
    vault.admit(step.keys)
    for entry in step.entries:
        vault.record(entry)
    people.entered()


def enroll(folder: Path, key: OwnerKey, role: str) -> None:
    """What `inland owner enroll` and the person at the display do."""
    presence = Presence(
        folder / "state" / NAME, folder / "state" / register.FILE, 1, boottime_s=lambda: 0.0,
        now_ns=lambda: 5, rng=os.urandom,
    )  # fmt: skip
    public = key.public
    shown = presence.answer(Question(enroll=Enroll(
        recipient=public.recipient, sign=public.sign, name=public.name, role=role
    )))  # fmt: skip
    assert shown.seconds, shown.refused
    assert presence._shown is not None
    done = presence.answer(Question(code=presence._shown.code))
    assert done.id == key.public.kid, done.refused


@workload(check=obeyed)
def enrollment(folder: Path, say: Say) -> Iterator[None]:
    """An owner, a driver who drives, and the driver gone again."""
    life, path = Life(folder, say), folder / "state" / register.FILE
    people = slot(path, life.vault)
    look(people, life.vault)
    anna, bela = ANNA.public.kid, BELA.public.kid
    nobody, owner = ("drives ",), (anna, f"drives {anna}")
    both, drives = (anna, bela, f"drives {anna}"), (anna, bela, f"drives {bela}")
    say("people", [nobody])
    yield
    entered = 0
    steps = (
        (owner, 2, lambda: enroll(folder, ANNA, register.OWNER)),
        (both, 1, lambda: enroll(folder, BELA, register.DRIVER)),
        (drives, 1, lambda: change(path, lambda found: found.drive(bela))),
        ((anna, "drives "), 2, lambda: change(path, lambda found: found.remove(bela))),
    )
    before = nobody
    for after, changes, act in steps:
        say("people", [before, after])
        act()
        say("people", [after])
        look(people, life.vault)
        entered += changes
        say("entered", entered)
        life.seal(700)
        before = after


def change(path: Path, how) -> None:
    with register.edit(path, epoch=1) as held:
        held.register = how(held.register)


@bug(enrollment)
def written_in_its_place() -> AbstractContextManager[object]:
    """The register is written over the old one: half of it may be there."""

    def write(path: Path, data: bytes) -> None:
        path.write_bytes(data)
        with path.open("r+b") as file:
            os.fsync(file.fileno())

    return mock.patch.object(shared_file, "write", write)


@bug(enrollment)
def told_before_it_is_durable() -> AbstractContextManager[object]:
    """The rename is not synced: who was told "enrolled" is not, after a power cut."""
    return mock.patch.object(shared_file, "sync_folder")


@bug(enrollment)
def not_entered() -> AbstractContextManager[object]:
    """Changes are remembered as entered, and never were."""
    look = OwnerSlot.look

    def silent(self: OwnerSlot) -> OwnerStep | None:
        step = look(self)
        return None if step is None else replace(step, entries=())

    return mock.patch.object(OwnerSlot, "look", silent)
