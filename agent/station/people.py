"""Who was enrolled in a car, when: what its co-signed ledger says. Nothing else is believed.

A stay goes from the entry of an enrollment to that of its end: the person was taken out, or the car
has another owner. What is in a log outside of a person's stays is of others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from agent.evidence.disclosure import parse
from agent.pb.ledger_pb2 import OwnerChange
from agent.station.store_ledger import StoreLedger

_ROLES: Final = {OwnerChange.OWNER_OF_CAR: "owner", OwnerChange.DRIVER_OF_CAR: "driver"}


@dataclass(frozen=True, slots=True)
class Stay:
    """One time in which somebody was enrolled.

    Attributes:
        role: "owner" or "driver".
        sign: SHA-256 of the key that checks what the person signs; empty: an older agent wrote it.
        first: entry of the enrollment.
        last: entry that ended it; None: still enrolled.
        from_ns, to_ns: moments of these entries; to_ns None as well.
    """

    role: str
    sign: bytes
    first: int
    from_ns: int
    last: int | None = None
    to_ns: int | None = None


def stays(ledger: StoreLedger, kid: bytes) -> list[Stay]:
    """Return when a log says that somebody was enrolled, oldest first.

    Raises:
        SpoolError: it cannot be read.
    """
    done: list[Stay] = []
    now: Stay | None = None
    for index, stored in ledger.of_kinds("owner", "transfer"):
        entry = parse(ledger.log, index, stored)
        change, at_ns = entry.owner, entry.at.unix_ns
        mine = entry.HasField("owner") and change.kid == kid
        enrolls = mine and change.what == OwnerChange.ENROLLED
        ends = entry.HasField("transfer") or (mine and change.what == OwnerChange.REMOVED)
        role = _ROLES.get(change.role, "")
        if enrolls and now is not None and (now.role, now.sign) == (role, change.sign):
            continue  # a crash may have it entered again
        if now is not None and (ends or enrolls):
            done.append(_ended(now, index, at_ns))
            now = None
        if enrolls:
            now = Stay(role, change.sign, index, at_ns)
    return [*done, now] if now is not None else done


def entered_again(ledger: StoreLedger, stay: Stay) -> bool:
    """Return whether a log begins with a stay: all that it says of people before is who else is.

    A car whose log was lost enters everybody again, one behind the other, in the next log.
    """
    before = [one for one in ledger.of_kinds("owner", "transfer") if one[0] <= stay.first]
    together = [index for index, _ in before] == [*range(before[0][0], stay.first + 1)]
    changes = [parse(ledger.log, *one).owner.what for one in before]
    return together and set(changes) == {OwnerChange.ENROLLED}


def _ended(stay: Stay, index: int, at_ns: int) -> Stay:
    return Stay(stay.role, stay.sign, stay.first, stay.from_ns, index, at_ns)
