"""An authority's order, served: entered first, then exactly its window is opened, into one folder.

What is opened is what the region's key opens. If the order names a key, what is opened is sealed to
it while it is made (box.py): nothing readable touches the disk. Segments are chosen by the window,
and rows, events and triggers outside of it are cut: an order is never answered with more than it
names.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.digest import sha256
from agent.draft import draft_of
from agent.errors import ConfigError
from agent.evidence import box, signed
from agent.evidence.opening import Opened
from agent.evidence.proof import LANES
from agent.evidence.selection import Request
from agent.files import cannot_write, place_folder, sync_folder, write_new, write_whole
from agent.station.authority import RegionFolder
from agent.station.disclose import Order, disclose, open_recorded
from agent.station.order import AuthorityOrder, read, refused
from agent.station.order_keys import trusted
from agent.station.telling import TELL_FROM

FRAMES: Final = "frames.log"
SIGNALS: Final = "signals.csv"
ORDER: Final = "order.json"
SEALED: Final = ".sealed"


@dataclass(frozen=True, slots=True)
class Served:
    """What an order got.

    Attributes:
        order: the authority's.
        opened: what was opened of its window.
        place: the folder, or the box.
    """

    order: AuthorityOrder
    opened: Opened
    place: Path


def serve(
    region: RegionFolder,
    data: bytes,
    folder: Path,
    *,
    who: str,
    now: dt.datetime,
    begin: Callable[[int], None] = lambda _: None,
    progress: Callable[[int], None] = lambda _: None,
) -> Served:
    """Serve an order.

    Args:
        region: with its recipient key.
        data: the order's file.
        folder: to be made: rows, events, and the order itself. If the order names a key, a file
            of that name and SEALED.
        who: user of the operating system that serves it.
        now: the region's clock.
        begin: called with the number of segments before the first.
        progress: called with 1 after each.

    Raises:
        StationError: it is refused; or the ledger of openings was altered.
        BusyError: another command is writing there.
        ConfigError: the folder cannot stand there, no such vehicle, or more rows than fit.
        DiskError: the disk has no room for it.
    """
    order, kid = checked(region, data, int(now.timestamp()))
    place = folder.with_name(f"{folder.name}{SEALED}") if order.recipient else folder
    if place.exists():
        raise ConfigError("is there already", where=str(place), todo="name another with -o")
    try:
        with draft_of(place) as draft:  # also of a box: two never serve into one place
            wanted = _opening(order, kid, draft, who, now)
            if order.recipient:
                opened = open_recorded(region, wanted, begin=begin, progress=progress)
                content = box.seal(_files(opened, data), order.recipient, sha256(data))
                write_whole(draft / place.name, content)
                (draft / place.name).replace(place)
                sync_folder(place.parent)
            else:
                write_new(draft / ORDER, data)
                opened = disclose(region, wanted, begin=begin, progress=progress)
                place_folder(draft, folder)
    except OSError as error:
        raise cannot_write(error, folder) from None
    return Served(order, opened, place)


def _files(opened: Opened, order: bytes) -> dict[str, box.Content]:
    """Return what makes each file of a box: those of a folder, under the same names."""
    beside = Path(FRAMES).stem
    records = {f"{beside}.events.jsonl": opened.events, f"{beside}.cameras.jsonl": opened.cameras}
    return {
        ORDER: lambda: [order], FRAMES: opened.candump, SIGNALS: opened.csv,
        **{name: made for name, made in records.items() if any(made())},
    }  # fmt: skip


def checked(region: RegionFolder, data: bytes, now_s: int) -> tuple[AuthorityOrder, str]:
    """Return an order that this region has to serve, and the kid of its key.

    Raises:
        StationError: it is refused.
        ConfigError: the keys of authorities cannot be read.
    """
    known = trusted(region.path)
    try:
        order, kid = read(data, known)
    except ValueError as error:
        raise refused(str(error)) from None
    if order.region != region.card.region:
        raise refused(f"it is for {order.region}, this is {region.card.region}")
    if signed.expired(order.expires_s, now_s):
        raise refused("it has expired", todo="the authority has to sign another one")
    return order, kid


def window_of(order: AuthorityOrder) -> Request:
    """Return what is opened: the window of the order, and nothing else."""
    lanes = tuple(LANES.index(lane) for lane in order.lanes)
    return Request(order.vehicle, from_ns=order.from_ns, to_ns=order.to_ns, lanes=lanes)


def _opening(order: AuthorityOrder, kid: str, draft: Path, who: str, now: dt.datetime) -> Order:
    return Order(
        window_of(order), str(draft / FRAMES), str(draft / SIGNALS), who=who,
        reason=order.reference, at=now.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        more={
            "kind": "order", "id": order.id, "authority": order.authority, "basis": order.basis,
            "officer": order.officer, "order_key": kid, TELL_FROM: order.tell_from_s,
        },
    )  # fmt: skip
