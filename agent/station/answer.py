"""An owner's request, answered with a bundle. Nothing is opened: the region may not be able to.

Order: the request's own signature, region and time; the person, by the car's co-signed ledger; what
there is for them; then the ledger of openings says so, once for a request; then the bundle is
written. An answer that could not be written needs another request.
"""

from __future__ import annotations

import base64
import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from agent.evidence import disclosures, signed, verifier
from agent.evidence.bundle import About, Asked, BundleWriter
from agent.evidence.disclosure import Disclosure
from agent.evidence.owner_request import OwnerRequest, read
from agent.files import cannot_write
from agent.station.authority import RegionFolder
from agent.station.journal import Journal
from agent.station.store import Store
from agent.station.telling import told_of
from agent.station.theirs import clipped, disclosed, parts_of, refused

SUFFIX: Final = ".inland"


@dataclass(frozen=True, slots=True)
class Answer:
    """What was given out.

    Attributes:
        folder: the bundle.
        request: that it answers.
        role: of the person at that time, "owner" or "driver".
        bodies: sealed bodies of segments in it.
        opening: number of the entry in the ledger of openings.
        result: the verifier's word on the bundle.
        later: entries that came since the last co-signature, and are not in it.
    """

    folder: Path
    request: OwnerRequest
    role: str
    bodies: int
    opening: int
    result: dict[str, Any]
    later: int


def answer(
    region: RegionFolder, store: Store, data: bytes, out: Path, *, who: str, now: dt.datetime
) -> Answer:
    """Serve a request.

    Args:
        region: with its key for openings.
        store: the station's.
        data: the request's file.
        out: folder in which the bundle is made.
        who: user of the operating system that serves it.
        now: the region's clock.

    Raises:
        StationError: it is refused; or the ledger of openings was altered.
        ConfigError: the bundle cannot stand there.
    """
    now_s = int(now.timestamp())
    request = checked(region, data, now_s)
    parts = parts_of(store, request)
    asked, kid = clipped(request, parts), bytes.fromhex(request.kid)
    chosen = [(part.ledger, disclosed(part, asked, kid)) for part in parts]
    there = [(ledger, found) for ledger, found in chosen if found is not None]
    bodies = sum(_segments(found) for _, found in there)
    role, made = parts[-1].stay.role, now.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    folder = out / f"{request.vehicle}-{made.replace('-', '').replace(':', '')}{SUFFIX}"
    journal = Journal(store, region.region_id, region.signing_key("openings"))
    told = _entry(request, role, asked, [ledger.log.hex() for ledger, _ in there], bodies)
    try:
        with BundleWriter(folder) as writer:
            opening = journal.append({"at": made, "who": who, **told})
            for ledger, found in there:
                writer.add(ledger, found)
            known = told_of(journal, request.vehicle, now_s).content()
            writer.place(_about(region, request, made), asked, more={disclosures.FILE: known})
    except OSError as error:
        raise cannot_write(error, folder) from None
    result = verifier.verify(writer.folder, "\n".join(region.card.cosign_keys))
    goes_on = parts[-1].stay.last is None and request.to_ns is None
    later = parts[-1].ledger.later() if goes_on else 0
    return Answer(writer.folder, request, role, bodies, opening, result, later)


def checked(region: RegionFolder, data: bytes, now_s: int) -> OwnerRequest:
    """Return a request that is for this region and not too old.

    Raises:
        StationError: it is refused.
    """
    try:
        request = read(data)
    except ValueError as error:
        raise refused(str(error)) from None
    if request.region != region.card.region:
        raise refused(f"it is for {request.region}, this is {region.card.region}")
    if signed.expired(request.expires_s, now_s):
        raise refused("it has expired", todo="sign another one with `inland owner request`")
    return request


def _segments(found: Disclosure) -> int:
    entries = found.entries
    return sum(entries[index].HasField("segment") for index in found.bodies)


def _about(region: RegionFolder, request: OwnerRequest, made: str) -> About:
    card = region.card
    receipts = tuple(base64.b64encode(key).decode() for key in card.receipt_keys)
    return About("region", card.region, request.vehicle, made, card.cosign_keys, receipts)


def _entry(
    request: OwnerRequest, role: str, asked: Asked, logs: Sequence[str], bodies: int
) -> dict[str, object]:
    return {
        "kind": "request", "id": request.id, "kid": request.kid, "role": role,
        "vehicle": request.vehicle, "logs": sorted(logs), "lanes": [],
        "from": "begin" if asked.from_ns is None else str(asked.from_ns),
        "to": "end" if asked.to_ns is None else str(asked.to_ns),
        "categories": list(asked.categories), "segments": bodies, "frames": False,
        "signals": False, "reason": request.purpose,
    }  # fmt: skip
