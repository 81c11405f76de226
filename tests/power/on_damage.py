"""A damaged spool is put aside and read; a spool of an older version is taken over."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from unittest import mock

from agent.pb import ledger_pb2
from agent.vault import founding, salvage, schema, unfinished
from agent.vault.log import Log
from agent.vault.shelves import BODILESS, WAITING, Shelf
from tests.power.on_spool import EVENT, INCIDENT, ROUTINE, S, drive
from tests.power.vaults import Life, whole
from tests.power.workloads import Say, bug, workload
from tests.vault.test_incidents import make_version_1
from tests.vault.test_salvage import scar


def lived(folder: Path, say: Say) -> Life:
    """A car with a backlog, an event that is open, and a consent that was withdrawn."""
    life = Life(folder, say)
    drive(life, range(12), 3_000)
    life.remember("drive", b"7")
    record = life.seal(300, lane=INCIDENT)
    assert record is not None
    life.hold(record, 5 * S, 90 * S, upload=True)
    life.withdraw("location.track")
    life.cosign()
    for lane in (EVENT, ROUTINE, INCIDENT, EVENT, ROUTINE):
        life.seal(2_000, lane=lane)  # the region has nothing of these
    return life


def say_damaged(life: Life, say: Say) -> None:
    """Say what of the file is good, although the file as a whole is not."""
    spool, log = life.vault._spool, life.vault._log.log
    wanted = [shelf for shelf in (*WAITING, Shelf.KEPT) if shelf != Shelf.RECORDER]
    rows = spool.rows(
        f"SELECT i FROM item WHERE bytes>0 AND shelf IN ({','.join(str(int(s)) for s in wanted)})"
    )
    good = [(log, i) for (i,) in rows]
    assert len(good) > 5
    assert set(wanted) & BODILESS
    say("damaged", log, good, len(good))


@workload(check=whole)
def damage_at_the_start(folder: Path, say: Say) -> Iterator[None]:
    """The first page is destroyed: quarantine, a new log with a gap, the rest read and carried."""
    life = lived(folder, say)
    say_damaged(life, say)
    life.shut()
    scar(life.car.database, [0])
    yield
    life.car.start()
    life.began()
    drive(life, range(12, 18), 3_000)
    life.cosign()


@workload(check=whole)
def damage_again(folder: Path, say: Say) -> Iterator[None]:
    """The same, little enough to be done again over what a killed process left of it."""
    life = lived(folder, say)
    say_damaged(life, say)
    life.shut()
    scar(life.car.database, [0])
    yield
    life.car.start()
    life.began()
    life.seal(2_000)


@workload(check=whole)
def damage_while_running(folder: Path, say: Say) -> Iterator[None]:
    """The file is exchanged under a running agent, which goes on with what it had open."""
    life = lived(folder, say)
    say_damaged(life, say)
    yield
    life.vault._is_damaged = True  # as the hatch's thread notes it
    life.car.tick()
    life.began()
    drive(life, range(12, 18), 3_000)
    life.cosign()


@workload(check=whole)
def older_version(folder: Path, say: Say) -> Iterator[None]:
    """A spool of version 1 is migrated by a process of its own, and used."""
    life = Life(folder, say)
    drive(life, range(8), 3_000)
    life.cosign()
    life.shut()
    make_version_1(life.car)
    yield
    life.car.start()
    drive(life, range(8, 12), 3_000)


# --- bugs ----------------------------------------------------------------------------------------


@bug(damage_at_the_start)
def gap_told_before_it_is_marked() -> AbstractContextManager[object]:
    """The gap entry, and then in another transaction that the file was read."""
    append = Log.append

    def in_two(self: Log, news: Any, **more: Any) -> int:
        if not (news and isinstance(news[0].what, ledger_pb2.Gap)):
            return append(self, news, **more)
        first = append(self, news)
        with self.spool.write() as transaction:
            more["also"](transaction, first)
        return first

    return mock.patch.object(Log, "append", in_two)


@bug(damage_at_the_start)
def floor_left_behind() -> AbstractContextManager[object]:
    """The new file does not know what time it was."""
    return mock.patch.object(unfinished, "_floor", return_value=0)


@bug(damage_at_the_start)
def schema_in_its_place() -> AbstractContextManager[object]:
    """A file that was made in two goes has its tables in other places."""
    return mock.patch.object(founding, "migrate_apart", schema._bring_up)


@bug(damage_while_running)
def put_aside_file_by_file() -> AbstractContextManager[object]:
    """The file and its WAL are moved one after the other."""

    def put_aside(folder: Path) -> None:
        target = folder / "quarantine" / "0001"
        target.mkdir(parents=True)
        for path in sorted((folder / "spool").iterdir()):
            path.rename(target / path.name)

    return mock.patch.object(salvage, "put_aside", put_aside)
