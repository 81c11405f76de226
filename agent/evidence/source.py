"""What an opener reads from: the station's store, or a bundle. Nothing here opens, or is trusted.

A source is of one vehicle. It hands out bytes as they came; whether they fit their hashes and keys
is judged by whoever opens (opening.py), the same for every source.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from agent.pb import ledger_pb2

if TYPE_CHECKING:
    from agent.evidence.selection import Problem, Request

DROP_REASONS: Final = {value: name.lower() for name, value in ledger_pb2.Drop.Reason.items()}
LOST_LOG: Final = "gap"  # beside them: the log itself was lost, and what is here was salvaged
OTHERS: Final = "sealed to others"  # why a region leaves a body out of a person's bundle


class Stored(NamedTuple):
    """An entry as a source holds it.

    Attributes:
        entry: bytes of the Entry.
        leaf: its hash when it came, 32 bytes.
        body: what it names by hash, None if that is not here.
    """

    entry: bytes
    leaf: bytes
    body: bytes | None


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment's entry, before anything of it was checked.

    Attributes:
        index: of the entry in its log.
        session: whose key it has, 16 bytes.
        lane: sealed_pb2.Lane number.
    """

    index: int
    session: bytes
    lane: int


class Source(Protocol):
    """Where the entries and bodies of one vehicle are read from. Logs are named by their 16 bytes.

    Each method raises SpoolError if what is beneath cannot be read.
    """

    def logs(self) -> list[bytes]:
        """Return the logs, oldest first."""

    def segments(self, log: bytes, from_ns: int, to_ns: int) -> Iterator[Segment]:
        """Yield the segments of a log whose entries are of these moments, both inclusive."""

    def stored(self, log: bytes, index: int) -> Stored:
        """Return an entry that `segments` or `session_index` named."""

    def session_index(self, log: bytes, session: bytes) -> int | None:
        """Return the entry with which a session began, None if it is not here."""

    def drop_reason(self, log: bytes, index: int) -> str | None:
        """Return why the car dropped the body of an entry, None if no entry says so."""

    def policies(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield (entry, body) of each policy whose body is here."""

    def missing(self, request: Request) -> list[Problem]:
        """Return the gaps in what is here of the logs, as far as they touch the request."""
