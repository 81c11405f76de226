"""Cuts the power after each operation of a recording, in every way, and looks at what is left."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tests.power import disk
from tests.power.disk import FATES, Disk, State
from tests.power.recording import SAID, Recording, said
from tests.power.workloads import Check, Note

MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None  # where no power is cut


@dataclass(frozen=True, slots=True)
class Cut:
    """One power cut.

    Attributes:
        after: so many operations were done.
        names: JOURNAL or FOLDERS.
        fate: of FATES: what survived.
        state: what is left.
        notes: what had been said.
    """

    after: int
    names: str
    fate: str
    state: State
    notes: list[Note]


class PowerCutError(AssertionError):
    """A promise that one power cut breaks."""


def cuts(recording: Recording, *, seed: int, at: Collection[int] | None = None,
         anything: int = 2) -> Iterator[Cut]:  # fmt: skip
    """Yield power cuts that differ: in what is left, or in what had been said.

    Args:
        recording: of a process.
        seed: the same seed, the same cuts.
        at: cut after so many operations, for each of these numbers; None: at all `places`.
        anything: random mixes at each place, beside the fixed fates.
    """
    disks = [Disk(recording.before, names) for names in (disk.JOURNAL, disk.FOLDERS)]
    operations, seen = recording.operations, set[int]()
    fates = [*(name for name in FATES if name != "anything"), *["anything"] * anything]
    where = frozenset(places(recording) if at is None else at)
    for after in range(len(operations) + 1):
        for one in disks if after else ():
            one.apply(operations[after - 1])
        if after not in where:
            continue
        notes = said(operations[:after])
        # Without names on their way the two differ in nothing.
        for one in disks if any(one.pending for one in disks) else disks[:1]:
            for number, name in enumerate(fates):
                state = FATES[name](one, Random(f"{seed} {after} {one.names} {number}"))
                mark = hash((len(notes), *((path, hash(state[path])) for path in sorted(state))))
                if mark not in seen:
                    seen.add(mark)
                    yield Cut(after, one.names, name, state, notes)


def places(recording: Recording) -> list[int]:
    """Return after how many operations to cut: not between two notes, where nothing happens.

    Nor before what was said of the time before the recording.
    """
    says = [True, *(one.kind == SAID for one in recording.operations), False]
    return [at for at in range(len(says) - 1) if not (says[at] and says[at + 1])]


def some_places(recording: Recording, count: int, rng: Random) -> set[int]:
    """Return some places: half of them are where something has just been acknowledged."""
    every = places(recording)
    told = [at for at in every if at and recording.operations[at - 1].kind == SAID]
    half = rng.sample(told, min(len(told), count // 2))
    return {*half, *rng.sample(every, min(len(every), count - len(half)))}


def survive(cut: Cut, check: Check) -> None:
    """Make the folder that a cut leaves, and look at it.

    Raises:
        PowerCutError: something that was promised does not hold.
    """
    with tempfile.TemporaryDirectory(prefix="inland-cut-", dir=MEMORY) as place:
        folder = Path(place) / "folder"
        disk.write(cut.state, folder)
        if cut.fate == "anything":  # the memory that SQLite shares may have been written back
            for name in cut.state:
                if name.endswith("-wal"):
                    noise = Random(cut.after).randbytes(32768)
                    (folder / f"{name.removesuffix('-wal')}-shm").write_bytes(noise)
        try:
            check(folder, cut.notes)
        except Exception as error:
            where = f"after operation {cut.after}, {cut.fate}, names by {cut.names}"
            raise PowerCutError(f"{where}: {type(error).__name__}: {error}") from error


def first_broken(
    recording: Recording, check: Check, *, seed: int, at: Collection[int] | None = None
) -> PowerCutError | None:
    """Return the first promise that is broken; None if none is. Arguments as of `cuts`."""
    for cut in cuts(recording, seed=seed, at=at):
        try:
            survive(cut, check)
        except PowerCutError as error:
            return error
    return None
