"""Consents: what a person was told holds, above all a no."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from unittest import mock

from agent.capture.consent import ConsentSlot
from agent.cli.consent import _stop
from agent.files import sync_folder
from agent.pb.ledger_pb2 import ConsentChange
from agent.pb.moment_pb2 import Moment
from agent.policy import consent_file
from agent.policy.consent import Book, State, terms
from agent.vault.vault import Vault
from tests.policy.consenting import DAY_NS, NOW_NS, TRACK, policy, rule
from tests.power.vaults import After, Life, whole
from tests.power.workloads import Note, Say, bug, workload
from tests.vault.world import MIB

POLICY = policy(rule("track"))
NEVER, GRANTED, WITHDRAWN, RESET = (
    State.NEVER_ASKED.value, State.GRANTED.value, State.WITHDRAWN.value, State.RESET.value,
)  # fmt: skip


def obeyed(folder: Path, notes: list[Note]) -> None:
    """Read the book and do with the vault what a started agent does at its first look."""
    if any(note[0] == "log" for note in notes):
        whole(folder, [note for note in notes if note[0] not in ("consent", "changed", "drive")])
    states = next((note[1] for note in notes[::-1] if note[0] == "consent"), (NEVER,))
    changed = [note[1] for note in notes if note[0] == "changed"]
    drive = next((note[1] for note in notes[::-1] if note[0] == "drive"), 0) + 1
    path = folder / "state" / consent_file.FILE
    state = consent_file.read(path).state(TRACK)
    assert state in states, f"the consent is {state}, not one of {states}"
    car = After(folder / "state", quota=2 * MIB)
    try:
        consented = look(ConsentSlot(path), car.vault, drive)
        assert not consented or GRANTED in states
        if not consented:
            kept = "SELECT count(*) FROM item WHERE consent<>'' AND bytes>0"
            assert car.vault._spool.one(kept) == 0, "something is kept without consent"
        entered = iter(ConsentChange.State.Name(one.state).lower() for one in car.what("consent"))
        assert all(one in entered for one in changed), "a change is not in the ledger"
    finally:
        car.crash()
    grant(folder / "state", each_drive=False)
    _stop(folder / "state", TRACK, State.WITHDRAWN)
    assert consent_file.read(path).state(TRACK) is not State.GRANTED
    left = {one.name for one in (folder / "state").iterdir() if one.name.startswith("consent")}
    assert left <= {"consent.json", "consent.lock"}, "something is left for ever"


def look(slot: ConsentSlot, vault: Vault, drive: int) -> bool:
    """Look as the sealer does; return whether the category is consented to."""
    step = slot.look(POLICY, Moment(unix_ns=NOW_NS), drive=drive)
    if step is None:
        return False
    for category in sorted(step.ended):
        vault.withdraw(category)
    for entry in step.entries:
        vault.record(entry)
    slot.entered()
    return TRACK in step.consented


def grant(state: Path, *, each_drive: bool) -> None:
    """What `inland consent grant` does."""
    with consent_file.edit(state / consent_file.FILE, mend=True, wait=True) as held:
        held.book = held.book.grant(
            terms(POLICY, TRACK), now_ns=NOW_NS, until_ns=NOW_NS + 30 * DAY_NS,
            each_drive=each_drive,
        )  # fmt: skip


@workload(check=obeyed)
def consents(folder: Path, say: Say) -> Iterator[None]:
    """Granted, used, withdrawn; granted for a drive, used, over."""
    life, state = Life(folder, say), folder / "state"
    slot = ConsentSlot(state / consent_file.FILE)
    say("drive", 1)
    look(slot, life.vault, 1)
    yield
    for each_drive, end in ((False, WITHDRAWN), (True, RESET)):
        say("consent", (NEVER, WITHDRAWN, GRANTED))
        grant(state, each_drive=each_drive)
        say("consent", (GRANTED,))
        say("changed", GRANTED)
        assert look(slot, life.vault, 1)
        for _ in range(2):
            life.seal(1_500, consent=TRACK)
        life.upload(2)
        say("consent", (GRANTED, end))
        say("withdrawing", TRACK)
        if end == WITHDRAWN:
            assert _stop(state, TRACK, State.WITHDRAWN) == [TRACK]
            say("consent", (WITHDRAWN,))
            say("changed", WITHDRAWN)
        else:
            say("drive", 2)
        look(slot, life.vault, 1 if end == WITHDRAWN else 2)
        say("withdrawn", TRACK, life.vault._log.log, life.vault._log.size)
    say("consent", (RESET,))
    say("changed", RESET)
    life.seal(800)


@workload(check=obeyed)
def withdrawal(folder: Path, say: Say) -> Iterator[None]:
    """A no that was cut short by a kill is said again."""
    state = folder / "state"
    state.mkdir()
    grant(state, each_drive=False)
    say("consent", (GRANTED, WITHDRAWN))
    yield
    _stop(state, TRACK, State.WITHDRAWN)
    say("consent", (WITHDRAWN,))


# --- bugs ----------------------------------------------------------------------------------------


@bug(consents)
def written_in_its_place() -> AbstractContextManager[object]:
    """The book is written over the old one."""

    def write(path: Path, book: Book) -> None:
        path.write_text(json.dumps(consent_file._values(book)))
        with path.open("r+b") as file:
            os.fsync(file.fileno())

    return mock.patch.object(consent_file, "_write", write)


@bug(withdrawal)
@contextmanager
def believed_without_sync() -> Iterator[None]:
    """Nothing has changed, so nothing is synced: but whoever changed it may have been killed."""
    write = consent_file._write

    def synced(path: Path, book: Book) -> None:
        write(path, book)
        sync_folder(path.parent)

    with (
        mock.patch.object(consent_file, "sync_folder"),
        mock.patch.object(consent_file, "_write", synced),
    ):
        yield
