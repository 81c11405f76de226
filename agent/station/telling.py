"""What the owner of a vehicle is told of the openings of it."""

from __future__ import annotations

from typing import Any, Final

from agent.evidence.disclosures import Disclosures
from agent.station.journal import Journal

TELL_FROM: Final = "tell_from_s"  # of an entry: Unix time before which an order bars telling


def told_of(journal: Journal, vehicle: str, now_s: int) -> Disclosures:
    """Return the openings of a vehicle that its owner may know of now.

    Raises:
        StationError: the ledger of openings was altered.
    """
    entries, head = journal.check()
    mine = [one for one in entries if one["vehicle"] == vehicle and may_be_told(one, now_s)]
    return Disclosures(vehicle, journal.origin, mine, head)


def may_be_told(entry: dict[str, Any], now_s: int) -> bool:
    """Return whether nothing bars telling of an opening any more."""
    return bool(entry.get(TELL_FROM, 0) <= now_s)
