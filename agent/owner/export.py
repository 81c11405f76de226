"""The owner's copy of what the car has kept: a bundle, written while the agent goes on.

Nothing is opened: sealed bodies go out as they are, and the car has no key that could do more.
Three kinds of logs go along: the agent's own, those in quarantine, and, of those before them, what
was carried over (carried.py).
"""

from __future__ import annotations

import base64
import errno
from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

from agent.errors import SpoolError, SpoolFullError
from agent.evidence import verifier
from agent.evidence.bundle import About, Asked, BundleWriter
from agent.evidence.categories import check
from agent.evidence.disclosure import disclose, parse
from agent.evidence.leaving_out import OtherCategories, bounded
from agent.owner.carried import CarriedLedger
from agent.owner.spool_ledger import Acting, SpoolLedger, open_ledgers
from agent.owner.witness import Witness
from agent.region import RegionCard

SUFFIX: Final = ".inland"

AskWitness = Callable[[SpoolLedger], Witness]


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be exported, and where to.

    Attributes:
        state: the agent's state folder.
        out: folder in which the bundle is made.
        card: the region's.
        vehicle: pseudonym.
        asked: time and categories.
        made: now, ISO 8601 UTC to the second.
    """

    state: Path
    out: Path
    card: RegionCard
    vehicle: str
    asked: Asked
    made: str


@dataclass(slots=True)
class Progress:
    """What is told while it goes on; each is called with a number."""

    reading: Callable[[int], None] = lambda _: None  # entries in all
    read: Callable[[int], None] = lambda _: None
    writing: Callable[[int], None] = lambda _: None  # bodies in all
    wrote: Callable[[int], None] = lambda _: None


@dataclass(slots=True)
class Exported:
    """What became of it.

    Attributes:
        folder: the bundle.
        witness: who vouches for the newest entries.
        result: the verifier's word on the bundle.
        unread: logs in quarantine of which nothing could be read.
    """

    folder: Path
    witness: Witness
    result: dict[str, Any] = field(default_factory=dict)
    unread: int = 0


def export(
    order: Order,
    *,
    ask_witness: AskWitness,
    acting: Acting = nullcontext,
    progress: Progress | None = None,
) -> Exported:
    """Write a bundle, whole or not at all.

    Args:
        order: what, and where to.
        ask_witness: see `witness.ask_for_witness`.
        acting: entered while the state folder is touched.
        progress: is told how far it is.

    Raises:
        UndecidedError: there is no ledger.
        ConfigError: an unknown category, or something that stands where the bundle would.
        SpoolError: the spool cannot be read, or the bundle not be written.
    """
    check(order.asked.categories)
    told = progress or Progress()
    folder = order.out / f"{order.vehicle}-{_stamp(order.made)}{SUFFIX}"
    with ExitStack() as stack:
        ledgers = open_ledgers(order.state, acting=acting)
        for ledger in ledgers:
            stack.callback(ledger.close)
        witness = ask_witness(ledgers[-1])
        asked = _bounded(order.asked, ledgers[-1])
        logs: list[CarriedLedger | SpoolLedger] = [*carried_over(ledgers), *ledgers]
        told.reading(sum(ledger.size() for ledger in logs))
        chosen = [
            (ledger, disclose(
                ledger, asked.from_ns, asked.to_ns,
                size=witness.size if ledger is ledgers[-1] else None,
                leave_out=OtherCategories(ledger, asked.categories, ledger.consent),
                progress=told.read,
            ))
            for ledger in logs
        ]  # fmt: skip
        there = [
            (ledger, found) for ledger, found in chosen
            if found and (found.has(0) or isinstance(ledger, CarriedLedger))
        ]  # fmt: skip
        told.writing(sum(len(found.bodies) for _, found in there))
        try:
            with BundleWriter(folder) as writer:
                for one, found in there:
                    sign = partial(ask_witness, ledgers[-1])
                    carried = isinstance(one, CarriedLedger)
                    writer.add(one, found, sign=sign, progress=told.wrote, carried=carried)
                writer.place(_about(order), asked)
        except OSError as error:
            raise _unwritable(error, order.out) from None
    keys = "\n".join(order.card.cosign_keys)
    result = verifier.verify(writer.folder, keys)
    return Exported(writer.folder, witness, result, unread=len(chosen) - len(there))


def carried_over(ledgers: Sequence[SpoolLedger]) -> list[CarriedLedger]:
    """Return the logs of which only rows are left that another one's file carried over."""
    files: dict[bytes, list[SpoolLedger]] = {}
    own = {ledger.log for ledger in ledgers}
    for ledger in reversed(ledgers):  # the newest file knows best what is still here
        for log in ledger.carried():
            if log not in own:
                files.setdefault(log, []).append(ledger)
    return [CarriedLedger(log, some) for log, some in files.items()]


def _about(order: Order) -> About:
    receipts = tuple(base64.b64encode(key).decode() for key in order.card.receipt_keys)
    return About(
        "car", order.card.region, order.vehicle, order.made, order.card.cosign_keys, receipts
    )


def _bounded(asked: Asked, live: SpoolLedger) -> Asked:
    newest = 0
    for index, stored in live.entries(max(0, live.size() - 1), live.size()):
        newest = parse(live.log, index, stored).at.unix_ns
    return bounded(asked, newest)


def _stamp(made: str) -> str:
    return made.replace("-", "").replace(":", "")


def _unwritable(error: OSError, out: Path) -> SpoolError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return SpoolFullError(
            "no room for the bundle: nothing was written", where=str(out),
            todo="make room, or ask for a shorter time with --from and --to",
        )  # fmt: skip
    return SpoolError(
        f"the bundle cannot be written: {error.strerror}", where=str(out),
        todo="name a folder that can be written with -o",
    )  # fmt: skip
