"""The whole error tree on one page.

An error is one line: what happened, where (file:line, key, entry), what to do. Each class carries
the exit code of the command that fails with it, so nothing else has to decide:

- 1  the answer is no (an altered entry, a refused policy)
- 2  wrong use or configuration
- 3  cannot be decided (says what is missing)
- 75 try again later (sysexits.h EX_TEMPFAIL): a full disk, a second copy, a dead link

Misuse of a function by our own code stays ValueError or RuntimeError and ends the process.
"""

from __future__ import annotations

# What binds the sockets of a start imports this file: `typing` alone would take it 15 ms in a car.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self


class InlandError(Exception):
    """Any failure that a user or operator can act on.

    Args:
        what: what happened, lower case, no full stop.
        where: file:line, configuration key, entry or peer; empty if the text already says it.
        todo: what to do about it; empty if there is nothing to do.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str = "", todo: str = "") -> None:
        super().__init__(what, where, todo)
        self.what, self.where, self.todo = what, where, todo

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        return f"{place}{self.what}" + (f"; {self.todo}" if self.todo else "")


class ConfigError(InlandError):
    """agent.toml, region.toml or a command line that cannot be used."""

    exit_code = 2


class WallError(InlandError):
    """The service manager's wall around a process is not there. The process does not start."""

    exit_code = 2


class ServiceError(InlandError):
    """The boot service: a unit that does not start, a step that the service manager refuses."""

    exit_code = 1


class BusError(InlandError):
    """A CAN interface that cannot be opened or read. Transient: the reader reopens it."""

    exit_code = 75


class BusDownError(BusError):
    """The interface is down but there. It stays open and brings frames again when it is up."""


class LogError(InlandError):
    """A recorded CAN log with a line or record that cannot be read."""

    exit_code = 1


class PolicyError(InlandError):
    """A policy that is refused. The one in force stays."""

    exit_code = 1


class PolicyLaterError(PolicyError):
    """A policy that cannot be stored now: a full or failing disk. The one in force stays."""

    exit_code = 75


class PolicyTextError(PolicyError):
    """A policy text with more than one mistake. Says the first, and how many there are.

    Args:
        each: all of them, in the order of the text.
    """

    def __init__(self, each: Sequence[PolicyError]) -> None:
        first, more = each[0], len(each) - 1
        also = f"{more} more such line{'s' if more > 1 else ''}: `inland policy check` lists them"
        todo = f"{first.todo}; {also}" if first.todo else also
        super().__init__(first.what, where=first.where, todo=todo)
        self.each = tuple(each)


class DiskError(InlandError):
    """A full or failing disk, where a command writes what it was asked for."""

    exit_code = 75


class BusyError(InlandError):
    """Another command is doing it just now."""

    exit_code = 75


class SealError(InlandError):
    """A sealed entry that does not open: altered, for somebody else, or not one of ours."""

    exit_code = 1


class SpoolError(InlandError):
    """The spool cannot be used now: full, locked, failing storage."""

    exit_code = 75


class SpoolCorruptError(SpoolError):
    """The spool file is damaged; it is put into quarantine and a new log is begun."""


class SpoolFullError(SpoolError):
    """No room in the quota or on the disk. Capture goes on; the loss is counted."""


class SpoolQuotaError(SpoolFullError):
    """Nothing that is less urgent is left to evict: trying again changes nothing."""


class HatchError(InlandError):
    """The Unix socket between capture and uplink: closed, refused, or talking nonsense."""

    exit_code = 75


class LinkError(InlandError, OSError):
    """The connection to the region. An OSError too: paho's loop survives nothing else.

    Attributes:
        by_peer: the other end did it: it reset, ended or refused the connection.
    """

    exit_code = 75
    by_peer = False

    __str__ = InlandError.__str__

    def of_the_peer(self) -> Self:
        """Return this error, marked as the other end's doing."""
        self.by_peer = True
        return self


class SilentLinkError(LinkError):
    """Nothing was heard of the region for too long. The connection may come alive again."""


class OwnNetworkError(LinkError):
    """The car itself has no network: no address, no route, no carrier. The region did nothing."""


class RegionRefusedError(LinkError):
    """The peer is not the region's broker. Never retried elsewhere, never weaker.

    Args:
        code: stable reason for logs, counters and tests, e.g. "address", "tls", "region-uri".
        detail: what was seen.
    """

    def __init__(self, code: str, detail: str = "") -> None:
        super().__init__(f"region refused ({code})" + (f": {detail}" if detail else ""))
        self.code = code


class StationError(InlandError):
    """The region's end: a vehicle, a store or a broker that cannot be used."""

    exit_code = 1


class OwnerError(InlandError):
    """An owner's key, sheet or enrollment that is refused. Nothing has changed."""

    exit_code = 1


class TransferPendingError(OwnerError):
    """A transfer was begun: the agent ends, and the next start completes it first."""

    exit_code = 75


class TpmError(InlandError):
    """The TPM does not answer, or says no. Nothing is started without it."""

    exit_code = 75


class UndecidedError(InlandError):
    """A question that cannot be answered; says what is missing."""

    exit_code = 3
