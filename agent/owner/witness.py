"""A signed head that covers what is in the ledger now, with the region's co-signature if it can be.

The running agent is asked over the hatch. It signs within a second; uplink brings the head to the
region at once, and the co-signature comes back with a receipt. Nothing here needs an answer: an
export without one is as whole, and says which entries nobody has witnessed.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.errors import HatchError
from agent.hatch import HatchClient
from agent.owner.spool_ledger import SpoolLedger

SIGN_S: Final = 5.0  # the sealer's round is a second at most
COSIGN_S: Final = 10.0
_LOOK_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class Witness:
    """What could be had.

    Attributes:
        size: entries that the car's newest head covers; None: the agent does not answer.
        cosigned: entries that the region has co-signed.
        why: why not all is co-signed, for people; empty: it is.
    """

    size: int | None
    cosigned: int
    why: str


def ask_for_witness(
    hatch: Path,
    ledger: SpoolLedger,
    *,
    clock: Callable[[], float],
    pause: Callable[[float], object],
) -> Witness:
    """Let the agent sign, and wait for the region if there is a link.

    Args:
        hatch: the socket of the running agent.
        ledger: the live one.
        clock: monotonic, s.
        pause: waits so many s.

    Raises:
        SpoolError: the ledger cannot be read.
    """
    size = ledger.size()
    client = HatchClient(hatch)
    try:
        client.checkpoint(now=True)
        connected = bool(json.loads(client.status())["link"]["connected"])
    except HatchError:
        return Witness(None, _heads(ledger)[1], "the agent does not run, or does not answer")
    finally:
        client.close()
    until_s = clock() + SIGN_S
    while _heads(ledger)[0] < size:
        if clock() > until_s:
            return Witness(None, _heads(ledger)[1], "the agent did not sign in time")
        pause(_LOOK_S)
    until_s = clock() + COSIGN_S
    while connected and _heads(ledger)[1] < size and clock() <= until_s:
        pause(_LOOK_S)
    signed, cosigned = _heads(ledger)
    if cosigned >= size:
        return Witness(cosigned, cosigned, "")
    why = "the region did not answer in time" if connected else "there is no link to the region"
    return Witness(signed, cosigned, why)


def _heads(ledger: SpoolLedger) -> tuple[int, int]:
    """Return up to where the car has signed, and the region."""
    newest = ledger.rows(
        "SELECT coalesce(max(size), 0),"
        " coalesce(max(CASE WHEN cosigned IS NULL THEN 0 ELSE size END), 0) FROM checkpoint"
    )
    return int(newest[0][0]), int(newest[0][1])
