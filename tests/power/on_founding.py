"""A car's first start: nothing is there yet, not even the state folder."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from threading import Event
from typing import Any
from unittest import mock

from agent.vault import founding
from agent.vault.spool import Spool, Transaction
from tests.power.on_spool import EVENT, ROUTINE, drive
from tests.power.vaults import Life, whole
from tests.power.workloads import Say, bug, workload


@workload(check=whole)
def first_start(folder: Path, say: Say) -> Iterator[None]:
    """The folder, the schema (made by a process of its own), the log, the first segments."""
    yield
    life = Life(folder, say)
    life.remember("drive", b"1")
    life.seal(3_000)
    life.upload()
    life.cosign()


@workload(check=whole)
def start_and_seal(folder: Path, say: Say) -> Iterator[None]:
    """Little enough to be done again over what a killed process left of it."""
    yield
    life = Life(folder, say)
    life.remember("drive", b"1")
    life.seal(3_000)
    life.seal(3_000)


@workload(check=whole)
def two_threads(folder: Path, say: Say) -> Iterator[None]:
    """The sealer seals while the hatch uploads, as in the agent: no two runs are the same."""
    life = Life(folder, say)
    drive(life, range(30), 16_000)
    yield
    over = Event()

    def hatch() -> None:
        while not over.is_set():
            life.upload(5, arrive=4)

    with ThreadPoolExecutor(1) as pool:
        uploading = pool.submit(hatch)
        try:
            for second in range(30, 60):
                life.seal(8_000, lane=(ROUTINE, EVENT)[second % 2])
                life.car.tick()
        finally:
            over.set()
        uploading.result()


@bug(first_start)
def folder_without_a_name() -> AbstractContextManager[object]:
    """The state folder is made, and its own name is never synced."""
    return mock.patch.object(founding, "make_folder", lambda path: path.mkdir(exist_ok=True))


@bug(start_and_seal)
def late_commit() -> AbstractContextManager[object]:
    """One commit for three transactions is faster."""
    count = [0]

    class Write:
        def __init__(self, spool: Spool) -> None:
            self.spool = spool

        def __enter__(self) -> Transaction:
            if not self.spool.connection.in_transaction:
                self.spool.connection.execute("BEGIN IMMEDIATE")
            return Transaction(self.spool.connection)

        def __exit__(self, *_: Any) -> None:
            count[0] += 1
            if count[0] % 3 == 0:
                self.spool.connection.execute("COMMIT")

    return mock.patch.object(Spool, "write", lambda spool, **_: Write(spool))
