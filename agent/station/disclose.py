"""One opening from end to end: recorded first, then opened, then written whole or not at all.

Events and camera triggers, if there are any, are written beside the first file of rows:
`drive.log`, `drive.events.jsonl`, `drive.cameras.jsonl`.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from agent.errors import ConfigError
from agent.evidence.opening import Opened, open_segments
from agent.evidence.selection import BEGIN_NS, FOREVER_NS, Request, find
from agent.files import cannot_write, read_private_file, write_output
from agent.pb import sealed_pb2
from agent.station.authority import RegionFolder
from agent.station.journal import Journal
from agent.station.source import StoreSource
from agent.station.store import Store
from agent.vault import keys


@dataclass(frozen=True, slots=True)
class Order:
    """Who wants what opened, and where to.

    Attributes:
        request: vehicle, log, moments.
        frames: path of the candump log, "-" for standard output, None for none.
        signals: path of the CSV file, likewise.
        who: user of the operating system.
        reason: in their words.
        at: now, ISO 8601.
        more: what the ledger of openings says beside that, e.g. whose order it is.
    """

    request: Request
    frames: str | None
    signals: str | None
    who: str
    reason: str
    at: str
    more: Mapping[str, object] = field(default_factory=dict)


def os_user() -> str:
    """Return who runs this, by the kernel's word: the environment can say anything."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"


def disclose(
    region: RegionFolder,
    order: Order,
    *,
    begin: Callable[[int], None] = lambda _: None,
    progress: Callable[[int], None] = lambda _: None,
) -> Opened:
    """Record an opening, open, and write what was asked for; see `open_recorded`.

    Raises:
        ConfigError: as there, or a file that cannot be written.
        StationError: the ledger of openings was altered.
    """
    opened = open_recorded(region, order, begin=begin, progress=progress)
    if order.frames is not None:
        deliver(order.frames, opened.candump())
    if order.signals is not None:
        deliver(order.signals, opened.csv())
    for name, lines in (("events", opened.events()), ("cameras", opened.cameras())):
        _deliver_beside(order, name, b"".join(lines))
    return opened


def open_recorded(
    region: RegionFolder,
    order: Order,
    *,
    begin: Callable[[int], None] = lambda _: None,
    progress: Callable[[int], None] = lambda _: None,
) -> Opened:
    """Record an opening, and open, in memory.

    Args:
        region: with its recipient key.
        order: what, for whom.
        begin: called with the number of segments before the first.
        progress: called with 1 after each.

    Raises:
        ConfigError: no such vehicle or log, or no recipient key.
        StationError: the ledger of openings was altered.
    """
    private = read_private_file(region.path / "recipient.key", "the recipient key")
    if len(private) != keys.PRIVATE_BYTES:
        raise ConfigError(f"a recipient's private key has {keys.PRIVATE_BYTES} bytes",
                          where=str(region.path / "recipient.key"))  # fmt: skip
    privates = {keys.kid(region.card.recipient_key): private}
    with contextlib.closing(Store(region.path / "station.db")) as store:
        source = StoreSource(store, order.request.vehicle)
        found = find(source, order.request)
        journal = Journal(store, region.region_id, region.signing_key("openings"))
        journal.append(_entry(order, sorted({f.log.hex() for f in found}), len(found)))
        begin(len(found))
        opened = open_segments(source, found, order.request, privates, progress)
        opened.problems += source.missing(order.request)
    return opened


def _deliver_beside(order: Order, name: str, content: bytes) -> None:
    """Write records beside the rows: drive.log and drive.events.jsonl."""
    beside = [path for path in (order.frames, order.signals) if path not in (None, "-")]
    if not beside:
        return
    place = Path(str(beside[0]))
    if place.exists() and not place.is_file():
        return  # nothing has a place beside a device
    target = place.with_suffix(f".{name}.jsonl")
    if content or target.exists():  # what an earlier opening left there is not of this one
        deliver(str(target), iter([content]))


def deliver(path: str, chunks: Iterator[bytes]) -> None:
    """Write a file beside its place and rename it, readable by its owner; "-": standard output.

    Raises:
        ConfigError: it cannot be written.
        DiskError: the disk has no room for it.
    """
    if path == "-":
        for chunk in chunks:
            sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()
        return
    target = Path(path).absolute()
    try:
        write_output(target, chunks)
    except OSError as error:
        raise cannot_write(error, target) from None


def _entry(order: Order, logs: list[str], segments: int) -> dict[str, object]:
    request = order.request
    return {
        "at": order.at,
        "who": order.who,
        "vehicle": request.vehicle,
        "logs": logs,
        "from": "begin" if request.from_ns == BEGIN_NS else str(request.from_ns),
        "to": "end" if request.to_ns == FOREVER_NS else str(request.to_ns),
        "lanes": [sealed_pb2.Lane.Name(sealed_pb2.Lane.ValueType(one)) for one in request.lanes],
        "segments": segments,
        "frames": order.frames is not None,
        "signals": order.signals is not None,
        "reason": order.reason,
        **order.more,
    }
