"""Policy bundles on their way to cars: which one is on offer, and a piece for each question.

- What is on offer for a group is looked up once a second at most. A repository that cannot be read,
  or a bundle that no car would take, changes nothing: what was on offer stays, and the log says so.
- One question, one piece of 32 KiB: the car asks for the next one when it has this one. So nothing
  is kept for a car but its last question, and a receipt never waits behind more than a piece.
- A car has 64 pieces, and one more every two seconds: a bundle and its repeats, not without end.
- What cannot be answered by a piece is answered by a receipt, which names what is on offer.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from google.protobuf.message import DecodeError

from agent.digest import sha256
from agent.errors import InlandError
from agent.pb.delivery_pb2 import PolicyChunk, PolicyQuestion
from agent.station.examine import RefusedError, Vehicle

MAX_BUNDLE_BYTES: Final = 1 << 20
CHUNK_BYTES: Final = 32 << 10  # two seconds at 128 kbit/s
MAX_QUESTION_BYTES: Final = 64
MAX_ASKING: Final = 10_000  # cars with an open question; the others ask again in a minute
BURST: Final = 64.0  # pieces that a car may have at once: two bundles of the largest size
PER_S: Final = 0.5  # pieces a second after that
LOOK_S: Final = 1.0

log: Final = logging.getLogger(__name__)

Read = Callable[[str], bytes | None]


def nothing(_group: str) -> bytes | None:
    """Offer nothing, to any group: a region that publishes no policies."""
    return None


@dataclass(frozen=True, slots=True)
class Offer:
    """A bundle and its SHA-256; both empty: none."""

    digest: bytes = b""
    data: bytes = b""


class Courier:
    """See the module's contract. For one thread.

    Args:
        read: the bundle for a group, or None; cheap if nothing was published since.
        base: topic above the vehicle's name, e.g. "inland/1/cn/down".
        clock: monotonic seconds.
    """

    def __init__(self, read: Read, base: str, *, clock: Callable[[], float]) -> None:
        self._read, self._base, self._clock = read, base, clock
        self._offers: dict[str, tuple[float, Offer]] = {}
        self._said: dict[str, str] = {}
        self._asked: OrderedDict[str, tuple[Vehicle, PolicyQuestion]] = OrderedDict()
        self._budget: OrderedDict[str, tuple[float, float]] = OrderedDict()

    @property
    def asking(self) -> int:
        """How many cars wait for a piece."""
        return len(self._asked)

    def named(self, vehicle: Vehicle) -> bytes:
        """Return the SHA-256 of the bundle on offer to a vehicle; empty: none."""
        return self._offer(vehicle.group).digest

    def ask(self, vehicle: Vehicle, payload: bytes) -> bool:
        """Take a PolicyQuestion; return whether a piece will follow. If not, a receipt shall.

        Raises:
            RefusedError: no question, or one too many.
        """
        question = _parse(payload)
        self._pay(vehicle.name)
        offer = self._offer(vehicle.group)
        if not offer.data or question.bundle != offer.digest or question.offset >= len(offer.data):
            return False
        if vehicle.name not in self._asked and len(self._asked) >= MAX_ASKING:
            raise RefusedError("policy-crowd")
        self._asked[vehicle.name] = (vehicle, question)
        return True

    def chunks(self, count: int) -> list[tuple[str, bytes]]:
        """Return (topic, PolicyChunk) for those who asked first, at most so many."""
        out: list[tuple[str, bytes]] = []
        while self._asked and len(out) < count:
            name, (vehicle, question) = self._asked.popitem(last=False)
            offer = self._offer(vehicle.group)
            if question.bundle != offer.digest:
                continue  # another one was published meanwhile: the next receipt names it
            end = question.offset + CHUNK_BYTES
            chunk = PolicyChunk(
                bundle=offer.digest, size=len(offer.data), offset=question.offset,
                data=offer.data[question.offset : end],
            )  # fmt: skip
            out.append((f"{self._base}/{name}/policy", chunk.SerializeToString()))
        return out

    def _pay(self, name: str) -> None:
        now_s = self._clock()
        left, at_s = self._budget.pop(name, (BURST, now_s))
        left = min(BURST, left + PER_S * (now_s - at_s))
        self._budget[name] = (max(0.0, left - 1), now_s)
        if len(self._budget) > MAX_ASKING:
            self._budget.popitem(last=False)  # who has not asked for longest
        if left < 1:
            raise RefusedError("policy-rate")

    def _offer(self, group: str) -> Offer:
        now_s = self._clock()
        looked_s, offer = self._offers.get(group, (None, Offer()))
        if looked_s is not None and now_s - looked_s < LOOK_S:
            return offer
        fresh = self._look(group, offer)
        self._offers[group] = (now_s, fresh)
        return fresh

    def _look(self, group: str, offer: Offer) -> Offer:
        try:
            data = self._read(group) or b""
        except InlandError as error:
            self._say(group, f"nothing new is offered to group {group}: {error}")
            return offer
        if data == offer.data:
            return offer
        if len(data) > MAX_BUNDLE_BYTES:
            self._say(group, f"group {group}: a bundle of {len(data)} bytes, no car would take it")
            return offer
        digest = sha256(data) if data else b""
        self._say(group, f"on offer to group {group}: {digest.hex()[:16] or 'nothing'}")
        return Offer(digest, data)

    def _say(self, group: str, text: str) -> None:
        if self._said.get(group) != text:
            log.warning("%s", text)
        self._said[group] = text


def _parse(payload: bytes) -> PolicyQuestion:
    if len(payload) > MAX_QUESTION_BYTES:
        raise RefusedError("malformed", "policy question")
    try:
        return PolicyQuestion.FromString(payload)
    except DecodeError:
        raise RefusedError("malformed", "policy question") from None
