"""Which segments of a source a request asks for.

Segments are chosen by the moment of their ledger entry: it is written when a segment is closed,
after its rows came in. A gap in a log counts if the entries around it could enclose the moments
asked for.
"""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from agent.errors import ConfigError
from agent.evidence.source import Source

AFTER_NS: Final = 120 * 10**9  # an entry is written at most this long after its rows came in
FOREVER_NS: Final = (1 << 63) - 1
BEGIN_NS: Final = -(1 << 63)  # before any stamp: a wrapped clock leaves negative ones in a log


def moment_ns(text: str) -> int:
    """Return ns since the Unix epoch of ISO 8601 (UTC if it names no zone) or of Unix seconds.

    Raises:
        ValueError: neither, or before 1970 or after 2262.
    """
    number = re.fullmatch(r"([0-9]{1,10})(?:\.([0-9]{1,9}))?", text)
    if number is not None:
        found = int(number[1]) * 10**9 + int((number[2] or "").ljust(9, "0"))
    else:
        when = dt.datetime.fromisoformat(text)
        when = when if when.tzinfo else when.replace(tzinfo=dt.UTC)
        past = when - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
        found = (past.days * 86_400 + past.seconds) * 10**9 + past.microseconds * 1000
    if not 0 <= found <= FOREVER_NS:
        raise ValueError(f"{text} is out of range")
    return found


class Problem(NamedTuple):
    """Something that could not be opened."""

    kind: Literal["altered", "missing"]
    where: str
    why: str


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be opened.

    Attributes:
        vehicle: pseudonym.
        log: beginning of a log id in hex; empty: all logs.
        from_ns: first moment, ns since the Unix epoch; BEGIN_NS: from the first row on.
        to_ns: last moment, inclusive.
        lanes: sealed_pb2.Lane numbers; empty: all. An event's frames are on the recorder's.
    """

    vehicle: str
    log: str = ""
    from_ns: int = BEGIN_NS
    to_ns: int = FOREVER_NS
    lanes: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Found:
    """A segment's entry that a request asks for.

    Attributes:
        log: id of the log, 16 bytes.
        index: of the entry in the log.
        session: whose key it has, 16 bytes.
    """

    log: bytes
    index: int
    session: bytes


def find(source: Source, request: Request) -> list[Found]:
    """Return the segments that a request asks for, in ledger order.

    Raises:
        ConfigError: no such log.
    """
    logs = [log for log in source.logs() if log.hex().startswith(request.log.lower())]
    if request.log and not logs:
        raise ConfigError(f"no log '{request.log}' of {request.vehicle}", where="--log")
    return [
        Found(log, segment.index, segment.session)
        for log in logs
        for segment in source.segments(log, *window(request))
        if not request.lanes or segment.lane in request.lanes
    ]


def window(request: Request) -> tuple[int, int]:
    """Return between which moments the entries of what a request asks for were written."""
    return request.from_ns, min(request.to_ns + AFTER_NS, FOREVER_NS)
