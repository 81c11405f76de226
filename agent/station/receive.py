"""From MQTT messages to committed entries and signed receipts; knows nothing of MQTT's client.

`Receiver.offer` takes one message and never raises for what is in it: what is not an enrolled
car's sound upload is counted, and logged the first time. `Receiver.flush` commits what was offered
in one transaction and returns the receipts to send: never before the commit, again for duplicates.
`Receiver.chunks` gives the pieces of policies that were asked for, to be sent after receipts.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.pb import delivery_pb2
from agent.station.authority import RegionFolder
from agent.station.courier import Courier, Read, nothing
from agent.station.examine import (
    CHECKPOINT,
    POLICY,
    Arrival,
    RefusedError,
    Vehicle,
    examine,
    parse_topic,
)
from agent.station.store import RECEIPTED, Outcome, Store
from agent.station.witness import Witness
from agent.vault import keys

BATCH: Final = 64  # messages in one transaction, and entries in one receipt
RECEIPT_DOMAIN: Final = b"inland/receipt/1\0"
NO_LOG: Final = bytes(16)  # of a receipt that only tells what policy is on offer, and the time
MAX_DETAIL: Final = 200  # characters of a refusal's detail
ALARMS: Final = frozenset({"conflict", "fork"})
MAX_VEHICLES: Final = 10_000  # enrolled vehicles kept in memory
# Cars that may come back in one second when all have lost their links. A core does some 400 TLS
# handshakes with client certificates a second.
REGROUP_PER_S: Final = 300
COUNT_S: Final = 60.0  # between two counts of the vehicles

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Counters:
    """What a receiver has done since it was made."""

    stored: int = 0
    duplicates: int = 0
    waiting: int = 0
    conflicts: int = 0
    refused: int = 0
    receipts: int = 0
    chunks: int = 0
    cosigned: int = 0
    body_bytes: int = 0


@dataclass(slots=True)
class Receiver:
    """One region's receiving end, for one thread.

    Attributes:
        region: whose.
        store: where entries go.
        now_ns: the station's clock, ns since the Unix epoch.
        counters: since the start.
        bundle: the policy bundle on offer to a group; every receipt names its SHA-256.
        clock: monotonic seconds.
    """

    region: RegionFolder
    store: Store
    now_ns: Callable[[], int]
    counters: Counters = field(default_factory=Counters)
    bundle: Read = nothing
    clock: Callable[[], float] = time.monotonic
    _arrivals: list[Arrival] = field(default_factory=list)
    _checkpoints: list[tuple[Vehicle, bytes]] = field(default_factory=list)
    _questions: set[str] = field(default_factory=set)  # of vehicles, that a receipt answers
    _refusals: dict[tuple[str, str], tuple[int, str]] = field(default_factory=dict)
    _vehicles: OrderedDict[str, Vehicle] = field(default_factory=OrderedDict)
    _fleet: tuple[float, int] = (float("-inf"), 0)  # when they were counted, and how many
    _signer: Signer = field(init=False)
    _witness: Witness = field(init=False)
    _courier: Courier = field(init=False)

    def __post_init__(self) -> None:
        self._signer = Signer.of(self.region, self._named, self._regroup_s)
        self._courier = Courier(self.bundle, self._signer.base, clock=self.clock)
        self._witness = Witness(self.region.cosign_name, self.region.signing_key("cosign"))

    @property
    def pending(self) -> int:
        """What was offered and is not committed."""
        asked = len(self._checkpoints) + len(self._questions)
        return len(self._arrivals) + asked + len(self._refusals)

    def offer(self, topic: str, payload: bytes) -> None:
        """Take one message.

        Raises:
            SpoolError: the store failed; nothing may be acknowledged.
        """
        vehicle = topic.split("/")[4][:40] if topic.count("/") >= 4 else "(none)"
        try:
            vehicle, lane = parse_topic(topic, self.region.region_id)
            enrolled = self._vehicle(vehicle)
            if lane == CHECKPOINT:
                self._checkpoints.append((enrolled, payload))
            elif lane == POLICY:
                if not self._courier.ask(enrolled, payload):
                    self._questions.add(vehicle)
            else:
                self._arrivals.append(examine(payload, enrolled, self.region.card.region))
        except RefusedError as error:
            self._refuse(vehicle, error)

    def flush(self) -> list[tuple[str, bytes]]:
        """Commit what was offered; return (topic, payload) of each receipt, ready to send.

        Raises:
            SpoolError: the store failed; nothing of the batch was stored or receipted.
        """
        now_ns = self.now_ns()
        receipts: list[tuple[str, bytes]] = []
        if self._arrivals:
            arrivals, self._arrivals = self._arrivals, []
            outcomes = self.store.commit(arrivals, now_ns)
            receipts += self._receipts(arrivals, outcomes, now_ns)
        checkpoints, self._checkpoints = self._checkpoints, []
        for vehicle, payload in checkpoints:  # after the entries: they may be what it covers
            try:
                log_id, note = self._witness.cosign(self.store, vehicle, payload, now_ns)
            except RefusedError as error:
                self._refuse(vehicle.name, error)
                continue
            self.counters.cosigned += 1
            receipts.append(self._signer.receipt(vehicle.name, log_id, (), now_ns, cosigned=note))
        questions, self._questions = self._questions, set()
        receipts += [self._signer.receipt(name, NO_LOG, (), now_ns) for name in questions]
        if self._refusals:
            self._write_refusals(now_ns)
        self.counters.receipts += len(receipts)
        return receipts

    def chunks(self, count: int) -> list[tuple[str, bytes]]:
        """Return (topic, payload) of pieces of policies that cars asked for, at most so many."""
        chunks = self._courier.chunks(count)
        self.counters.chunks += len(chunks)
        return chunks

    def _vehicle(self, name: str) -> Vehicle:
        known = self._vehicles.get(name)
        if known is None:
            known = self.store.vehicle(name)
            if known is None:
                raise RefusedError("unknown-vehicle", name)
            if len(self._vehicles) >= MAX_VEHICLES:
                self._vehicles.popitem(last=False)
            self._vehicles[name] = known
        return known

    def _named(self, vehicle: str) -> bytes:
        return self._courier.named(self._vehicle(vehicle))

    def _regroup_s(self) -> int:
        """Return over how many seconds all cars have to come back, if all have lost their links."""
        if self.clock() - self._fleet[0] >= COUNT_S:
            self._fleet = (self.clock(), self.store.vehicles())
        return self._fleet[1] // REGROUP_PER_S

    def _receipts(
        self, arrivals: list[Arrival], outcomes: list[Outcome], now_ns: int
    ) -> list[tuple[str, bytes]]:
        groups: dict[tuple[str, bytes], dict[int, bytes]] = {}
        hollow: dict[tuple[str, bytes], set[int]] = {}
        for arrival, outcome in zip(arrivals, outcomes, strict=True):
            self._count(arrival, outcome)
            if outcome in RECEIPTED:
                # By index: the same entry twice in one batch is receipted once.
                log_of = (arrival.vehicle, arrival.log)
                groups.setdefault(log_of, {})[arrival.index] = arrival.leaf
                if self.store.is_hollow(arrival):
                    hollow.setdefault(log_of, set()).add(arrival.index)
        return [
            self._signer.receipt(
                *log_of, tuple(leaves.items()), now_ns, hollow=sorted(hollow.get(log_of, ()))
            )
            for log_of, leaves in groups.items()
        ]

    def _count(self, arrival: Arrival, outcome: Outcome) -> None:
        counters = self.counters
        if outcome is Outcome.STORED:
            counters.stored += 1
            counters.body_bytes += len(arrival.body or b"")
        elif outcome is Outcome.DUPLICATE:
            counters.duplicates += 1
        elif outcome is Outcome.CONFLICT:
            counters.conflicts += 1
            detail = f"log {arrival.log.hex()} entry {arrival.index}"
            self._refuse(arrival.vehicle, RefusedError("conflict", detail))
        else:
            counters.waiting += 1

    def _refuse(self, vehicle: str, error: RefusedError) -> None:
        self.counters.refused += 1
        count, detail = self._refusals.get((vehicle, error.code), (0, error.detail[:MAX_DETAIL]))
        self._refusals[vehicle, error.code] = (count + 1, detail)

    def _write_refusals(self, now_ns: int) -> None:
        """Count them in one transaction, whatever a flood of them brings; log what is new."""
        refusals, self._refusals = self._refusals, {}
        for vehicle, code in self.store.count_refusals(refusals, now_ns):
            level = logging.ERROR if code in ALARMS else logging.WARNING
            log.log(level, "refused %s from %s: %s", code, vehicle, refusals[vehicle, code][1])


@dataclass(frozen=True, slots=True)
class Signer:
    """Signs receipts with the region's receipt key."""

    base: str
    key: Ed25519PrivateKey
    kid: bytes
    named: Callable[[str], bytes]  # SHA-256 of a vehicle's bundle; empty: none
    regroup_s: Callable[[], int]

    @classmethod
    def of(
        cls, region: RegionFolder, named: Callable[[str], bytes], regroup_s: Callable[[], int]
    ) -> Signer:
        """Return the signer of a region.

        Raises:
            ConfigError: its receipt key cannot be read.
        """
        key = region.signing_key("receipt")
        base = f"inland/1/{region.region_id}/down"
        kid = keys.kid(key.public_key().public_bytes_raw())
        return cls(base, key, kid, named, regroup_s)

    def receipt(
        self,
        vehicle: str,
        log_id: bytes,
        leaves: tuple[tuple[int, bytes], ...],
        now_ns: int,
        *,
        cosigned: str = "",
        hollow: Sequence[int] = (),
    ) -> tuple[str, bytes]:
        """Return (topic, SignedReceipt bytes) for entries that are committed.

        Args:
            vehicle: whose.
            log_id: 16 bytes.
            leaves: index and leaf hash of each.
            now_ns: the station's clock.
            cosigned: a co-signed checkpoint.
            hollow: indices of those that are here without the body that they name.
        """
        receipt = delivery_pb2.Receipt(
            vehicle=vehicle,
            log=log_id,
            index=[index for index, _ in leaves],
            leaf=[leaf for _, leaf in leaves],
            policy=self.named(vehicle),
            region_unix_ns=now_ns,
            cosigned=cosigned,
            hollow=hollow,
            regroup_s=self.regroup_s(),
        ).SerializeToString()
        signed = delivery_pb2.SignedReceipt(
            receipt=receipt, kid=self.kid, signature=self.key.sign(RECEIPT_DOMAIN + receipt)
        )
        return f"{self.base}/{vehicle}/receipt", signed.SerializeToString()
