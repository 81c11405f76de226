"""Which entries the station holds, found by car, moment, kind and lane. Nothing is opened."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from agent.errors import ConfigError
from agent.evidence.selection import BEGIN_NS, FOREVER_NS
from agent.pb import ledger_pb2
from agent.station.source import REASONS
from agent.station.store import Store, translated

KINDS: Final = tuple(
    field.name for field in ledger_pb2.Entry.DESCRIPTOR.oneofs_by_name["what"].fields
)


@dataclass(frozen=True, slots=True)
class Search:
    """What to look for; what is left empty is not asked.

    Attributes:
        vehicle: pseudonym.
        log: beginning of a log id in hex.
        from_ns: first moment by the car's ledger, ns since the Unix epoch.
        to_ns: last moment, inclusive.
        kinds: of `KINDS`.
        lanes: sealed_pb2.Lane numbers; only segments have one.
        limit: so many entries at most.
    """

    vehicle: str = ""
    log: str = ""
    from_ns: int = BEGIN_NS
    to_ns: int = FOREVER_NS
    kinds: tuple[str, ...] = ()
    lanes: tuple[int, ...] = ()
    limit: int = 1000


class Hit(NamedTuple):
    """An entry that was found.

    Attributes:
        vehicle: pseudonym.
        log: id, 16 bytes.
        entry: as the car wrote it.
        body: bytes of the sealed body that is here; None if there is none here.
        dropped: why the car let its body go, None if no entry says so.
    """

    vehicle: str
    log: bytes
    entry: ledger_pb2.Entry
    body: int | None
    dropped: str | None


def search(store: Store, asked: Search) -> Iterator[Hit]:
    """Yield what is asked for, by moment, then by log and index.

    Raises:
        ConfigError: no such vehicle, log or kind.
        SpoolError: the store cannot be read.
    """
    _check(store, asked)
    conditions = ["e.at_ns BETWEEN ? AND ?"]
    values: list[int | str] = [asked.from_ns, asked.to_ns]
    if asked.vehicle:
        conditions.append("l.vehicle = ?")
        values.append(asked.vehicle)
    if asked.log:
        conditions.append("lower(hex(l.log_id)) LIKE ? || '%'")
        values.append(asked.log.lower())
    choices: tuple[tuple[str, tuple[int | str, ...]], ...] = (
        ("e.kind", asked.kinds),
        ("e.lane", asked.lanes),
    )
    for column, wanted in choices:
        if wanted:
            conditions.append(f"{column} IN ({', '.join('?' * len(wanted))})")
            values += wanted
    with translated(store.path):
        for vehicle, log, entry, body, reason in store.connection.execute(
            # Every condition is one of the texts above; what was asked is bound.
            "SELECT l.vehicle, l.log_id, e.entry, length(e.body), (SELECT d.reason FROM drops d"  # noqa: S608
            " WHERE d.log = e.log AND e.i BETWEEN d.first AND d.last LIMIT 1)"
            f" FROM entries e JOIN logs l USING (log) WHERE {' AND '.join(conditions)}"
            " ORDER BY e.at_ns, e.log, e.i LIMIT ?",
            (*values, asked.limit),
        ):
            dropped = None if reason is None else REASONS.get(reason, "unspecified")
            yield Hit(vehicle, log, ledger_pb2.Entry.FromString(entry), body, dropped)


def _check(store: Store, asked: Search) -> None:
    """Raise ConfigError for a name that nothing has: no hits would be no answer."""
    if asked.vehicle:
        store.enrolled(asked.vehicle, "--vehicle")
    if not re.fullmatch("[0-9a-fA-F]{0,32}", asked.log):
        raise ConfigError(f"'{asked.log}' begins no log id", where="--log", todo="write hex digits")
    for kind in asked.kinds:
        if kind not in KINDS:
            raise ConfigError(
                f"no entry is a '{kind}'", where="--kind", todo=f"one of {', '.join(KINDS)}"
            )
