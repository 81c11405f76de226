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
class Onlooker:
    """Somebody who may see at once what is kept, as far as that key alone opens it.

    Attributes:
        kid: of the recipient key, 8 bytes.
        recipient: what they see is sealed to it, 1216 bytes.
        sign: checks that it is them, Ed25519, 32 bytes.
        opens: sealed_pb2.Recipients that the key opens alone; empty: nothing now.
    """

    kid: bytes
    recipient: bytes
    sign: bytes
    opens: frozenset[int]


@dataclass(frozen=True, slots=True)
class OwnerStep:
    """Who is enrolled from now on.

    Attributes:
        keys: to seal to.
        entries: changes that belong in the ledger, in order.
        count: of people.
        driving: id of who drives; empty: nobody who is enrolled.
        onlookers: each of the people.
    """

    keys: Enrolled = Enrolled()
    entries: tuple[OwnerChange, ...] = ()
    count: int = 0
    driving: str = ""
    onlookers: tuple[Onlooker, ...] = ()
