"""What a damaged spool had not ended, and goes on in the new one.

Open holds, what the agent remembers, the end of the axis of recorded time, and the floor of trusted
time. Each value is looked at first: it comes out of a damaged file.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from google.protobuf.message import DecodeError

from agent.clock import PLAUSIBLE_NS
from agent.pb import ledger_pb2
from agent.vault.log import set_meta
from agent.vault.memory import MAX_VALUE
from agent.vault.segment import MAX_RECORDED_NS
from agent.vault.spool import Spool
from agent.vault.timekeeper import MAX_SIGNED_NS

Table = Callable[[str], list[Any]]


def carry_over(table: Table, log: bytes, spool: Spool) -> int:
    """Write into a spool what goes on; return the floor of trusted time, ns, 0 if it is lost.

    Args:
        table: returns the rows of a query on the damaged file, none where it cannot be read.
        log: of the damaged file.
        spool: the new one.

    Raises:
        SpoolError: see `spool.translate`.
    """
    ends = _numbers(table("SELECT v FROM meta WHERE k='recorded'"))
    ends += [end or 0 for (end,) in table("SELECT max(recorded_to) FROM item")]
    end_ns, floor_ns = max([0, *ends]), _floor(table)
    holds = [row for row in table("SELECT * FROM hold") if _is_hold(row)]
    memory = [row for row in table("SELECT k, v FROM memory") if _is_remembered(row)]
    with spool.write() as transaction:
        if 0 < end_ns <= MAX_RECORDED_NS:
            set_meta(transaction, "recorded", end_ns.to_bytes(8, "big"))
        if floor_ns:
            set_meta(transaction, "floor", floor_ns.to_bytes(8, "big"))
        for record, of_log, *rest in holds:
            transaction.run(
                "INSERT OR IGNORE INTO hold VALUES(?,?,?,?,?,?)", (record, of_log or log, *rest)
            )
        for row in memory:
            transaction.run("INSERT OR IGNORE INTO memory VALUES(?,?)", row)
    return floor_ns


def _numbers(rows: list[Any]) -> list[int]:
    return [int.from_bytes(v, "big") for (v,) in rows if isinstance(v, bytes)]


def _floor(table: Table) -> int:
    """Return the floor if the newest entry that can be read bears it out.

    A changed bit must not put the time years ahead: no policy would count any more, for ever.
    """
    (floor_ns,) = _numbers(table("SELECT v FROM meta WHERE k='floor'")) or [0]
    entry = ledger_pb2.Entry()
    for (stored,) in table("SELECT entry FROM ledger ORDER BY i DESC LIMIT 1"):
        try:
            entry.ParseFromString(stored)
        except (DecodeError, TypeError):
            return 0
    latest_ns = min(MAX_SIGNED_NS, entry.at.unix_ns + PLAUSIBLE_NS)
    return floor_ns if entry.at.unix_ns and floor_ns <= latest_ns else 0


def _is_hold(row: tuple[Any, ...]) -> bool:
    record, log, first, last, upload, keep = row
    if not (isinstance(log, bytes) and len(log) in (0, 16) and upload in (0, 1)):
        return False
    whole = all(isinstance(number, int) and number >= 0 for number in (record, first, last, keep))
    return whole and first <= last <= MAX_RECORDED_NS


def _is_remembered(row: tuple[Any, ...]) -> bool:
    key, value = row
    return isinstance(key, str) and isinstance(value, bytes) and len(value) <= MAX_VALUE
