"""The spool under load: every kind of transaction that the vault makes, in a quota that is full."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from agent.pb import ledger_pb2, sealed_pb2
from agent.vault import log, outbound, spool
from agent.vault.forgetting import Forgetting
from agent.vault.incidents import Incidents
from agent.vault.log import Log, New
from agent.vault.memory import Memory
from agent.vault.outbound import Outbound
from agent.vault.spool import Spool
from tests.power.vaults import Life, whole
from tests.power.workloads import Say, bug, workload

EVENT, INCIDENT = sealed_pb2.EVENT, sealed_pb2.INCIDENT
RECORDER, ROUTINE = sealed_pb2.RECORDER, sealed_pb2.ROUTINE
S = 10**9


def drive(life: Life, seconds: range, size: int) -> None:
    """Seal a segment a second, on all lanes, and bring some to the region."""
    for second in seconds:
        lane = (ROUTINE, RECORDER, EVENT, RECORDER)[second % 4]
        more: dict[str, Any] = {"lane": lane}
        if lane == RECORDER:
            more["recorded"] = (second * S, second * S + S - 1)
        elif second % 8 == 0:
            more["consent"] = "location.track"
        life.seal(size, **more)
        if second % 3 == 2:
            life.upload(5, arrive=4)
        life.car.tick()


@workload(check=whole)
def spool_in_use(folder: Path, say: Say) -> Iterator[None]:
    """Evictions, receipts, a held incident, a withdrawal, heads; the WAL is copied back between."""
    life = Life(folder, say)
    drive(life, range(72), 16_000)
    life.cosign()
    assert life.vault._log.dropped, "the quota is not full yet"
    yield
    life.remember("drive", b"7")
    drive(life, range(72, 76), 4_000)
    record = life.seal(300, lane=INCIDENT)
    assert record is not None
    life.hold(record, 70 * S, 90 * S, upload=True)
    life.seal(500, recipients=sealed_pb2.SHARED)  # in a session of its own
    drive(life, range(76, 82), 4_000)
    life.release(record)
    life.cosign()
    life.withdraw("location.track")
    life.remember("drive", b"8")
    life.record(ledger_pb2.Loss(channel="can0", count=3, cause=ledger_pb2.Loss.KERNEL))
    life.vault.roll(5 * S)
    life.upload(12)
    life.seal(40_000, lane=EVENT)
    life.shut()


# --- bugs ----------------------------------------------------------------------------------------


def _synchronous(how: int) -> AbstractContextManager[object]:
    """Sync no transaction better than that: 1 is NORMAL, 0 OFF."""
    return mock.patch.multiple(spool, FULL=how, NORMAL=how)


@bug(spool_in_use)
def synchronous_normal() -> AbstractContextManager[object]:
    """Fewer fsyncs: the WAL is synced when it is copied back."""
    return _synchronous(1)


@bug(spool_in_use)
def synchronous_off() -> AbstractContextManager[object]:
    """No fsync at all."""
    return _synchronous(0)


@bug(spool_in_use)
def time_that_waits() -> AbstractContextManager[object]:
    """A receipt is not synced, though its time is news that a command may read."""
    real = Outbound.receipt

    def receipt(self: Outbound, payload: bytes) -> tuple[int, bool]:
        with mock.patch.object(spool, "FULL", spool.NORMAL):
            return real(self, payload)

    return mock.patch.object(Outbound, "receipt", receipt)


@bug(spool_in_use)
def deleted_when_sent() -> AbstractContextManager[object]:
    """What the broker acknowledges is taken for delivered."""
    real = Outbound.take

    def take(self: Outbound, *values: Any) -> Any:
        out = real(self, *values)
        with self._spool.write() as transaction:
            for one in out[0]:
                outbound._settle(transaction, one.upload.index, False)
        return out

    return mock.patch.object(Outbound, "take", take)


@bug(spool_in_use)
@contextmanager
def dropped_before_it_is_said() -> Iterator[None]:
    """Drop entries follow in a transaction of their own."""
    append, drop_entries = Log.append, log.drop_entries
    owed: list[Any] = []

    def later(dropped: Any) -> list[Any]:
        owed.extend(drop_entries(dropped))
        return []

    def append_twice(self: Log, news: Any, **more: Any) -> int:
        first = append(self, news, **more)
        if owed:
            drops = [New(drop) for drop in owed]
            owed.clear()
            append(self, drops)
        return first

    with (
        mock.patch.object(log, "drop_entries", later),
        mock.patch.object(Log, "append", append_twice),
    ):
        yield


@bug(spool_in_use)
@contextmanager
def session_after_its_segment() -> Iterator[None]:
    """The wrapped secret is stored with the next transaction."""
    append, one = Log.append, Spool.one
    late: list[tuple[int, bytes]] = []

    def append_late(self: Log, news: Any, **more: Any) -> int:
        first = append(self, news, **more)
        with self.spool.write() as transaction:
            for i, body in late:
                transaction.run("INSERT OR REPLACE INTO body VALUES(?,?)", (i, body))
            if news and isinstance(news[0].what, ledger_pb2.SessionBegun):
                transaction.run("DELETE FROM body WHERE i=?", (first,))
                late.append((first, news[0].body))
        return first

    def read_back(self: Spool, sql: str, values: Any = ()) -> Any:
        return late[-1][1] if sql.startswith("SELECT blob") else one(self, sql, values)

    with mock.patch.object(Log, "append", append_late), mock.patch.object(Spool, "one", read_back):
        yield


@bug(spool_in_use)
def floor_in_memory() -> AbstractContextManager[object]:
    """What the region says of the time is written down with the next checkpoint only."""
    return mock.patch.object(outbound, "set_meta")


@bug(spool_in_use)
def hold_in_memory() -> AbstractContextManager[object]:
    """A hold is written when there is time."""
    return mock.patch.object(Incidents, "write_down")


@bug(spool_in_use)
def withdrawn_later() -> AbstractContextManager[object]:
    """A withdrawal is noted in memory, and housekeeping does it."""
    return mock.patch.object(Forgetting, "withdraw", lambda self, category: self.begin(category))


@bug(spool_in_use)
def memory_later() -> AbstractContextManager[object]:
    """What must not be forgotten is written by housekeeping."""

    def keep(self: Memory, key: str, value: bytes) -> None:
        self._values[key] = value
        self._unwritten.add(key)

    return mock.patch.object(Memory, "set", keep)
