"""The people that a car seals to beside the region, as far as sealing needs to know them. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from agent.pb.ledger_pb2 import OwnerChange


@dataclass(frozen=True, slots=True)
class Enrolled:
    """Recipient keys, 1216 bytes.

    Attributes:
        owner_key: of the owner; None: no owner is enrolled.
        driver_key: of who drives now; None: nobody who is enrolled.
    """

    owner_key: bytes | None = None
    driver_key: bytes | None = None


@dataclass(frozen=True, slots=True)
class OwnerStep:
    """Who is enrolled from now on.

    Attributes:
        keys: to seal to.
        entries: changes that belong in the ledger, in order.
        count: of people.
        driving: id of who drives; empty: nobody who is enrolled.
    """

    keys: Enrolled = Enrolled()
    entries: tuple[OwnerChange, ...] = ()
    count: int = 0
    driving: str = ""
