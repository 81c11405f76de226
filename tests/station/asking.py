"""A car with people whose log the region has co-signed, and what they ask the region for."""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path

import numpy as np

from agent.digest import sha256
from agent.evidence import owner_request
from agent.evidence.bundle_source import BundleSource
from agent.evidence.owner_request import OwnerRequest
from agent.owner.keyfile import OwnerKey
from agent.pb import ledger_pb2, policy_pb2, sealed_pb2
from agent.pb.ledger_pb2 import OwnerChange
from agent.station.answer import Answer, answer
from agent.station.receive import Receiver
from tests.station.car import START_NS, SealingCar
from tests.station.conftest import Place
from tests.station.test_receive import give, receiver

S = 10**9
ANNA, BELA = (OwnerKey(bytes([at]) * 32, name) for at, name in enumerate(("A", "B"), 1))
NOW = dt.datetime.fromtimestamp(START_NS // S + 3600, dt.UTC)
DICTIONARY = policy_pb2.Dictionary(
    signal=[policy_pb2.Signal(name="speed", unit="km/h", factor=0.5, kind=1)]
)
SETS = (sealed_pb2.REGION, sealed_pb2.OWNER, sealed_pb2.SHARED, sealed_pb2.BOTH, sealed_pb2.DRIVER)


def begins_ns(index: int) -> int:
    """When the first frame of a segment came: half a second before its entry was written."""
    return START_NS + index * S - S // 2


class PeopledCar(SealingCar):
    """Entry i is written i seconds after START_NS; each segment has 20 frames, a ms apart."""

    def change(
        self, key: OwnerKey, what: OwnerChange.What, *, role: int = OwnerChange.OWNER_OF_CAR,
        sign: bytes | None = None,
    ) -> int:  # fmt: skip
        found = OwnerChange(
            kid=bytes.fromhex(key.public.kid), role=OwnerChange.Role.Name(role), what=what
        )
        if what == OwnerChange.ENROLLED:
            found.sign = sha256(key.public.sign) if sign is None else sign
        return self.add(owner=found)

    def enroll(self, key: OwnerKey, **more: object) -> int:
        """As owner, if nothing else is said; and they drive."""
        self.driver = key.public.recipient
        if "role" not in more:
            self.owner = key.public.recipient
        return self.change(key, OwnerChange.ENROLLED, **more)  # type: ignore[arg-type]

    def drive(self, *recipients: int) -> list[int]:
        """A session and two segments for each set; returns the segments."""
        found = []
        for who in recipients:
            self.begin_sealed(who)
            for _ in range(2):
                start = begins_ns(len(self.entries))
                batch = np.zeros(20, self.frame_type())
                batch["timestamp_ns"] = start + np.arange(20) * 10**6
                batch["arbitration_id"], batch["length"] = 0x100, 2
                found.append(self.seal(batch))
        return found

    @staticmethod
    def frame_type() -> np.dtype[np.void]:
        from agent.frames import FRAME

        return FRAME

    def sold(self) -> int:
        return self.add(transfer=ledger_pb2.Transfer(from_epoch=1, to_epoch=2, custody="file"))


def new_car(place: Place) -> PeopledCar:
    """Its log has begun: 0 genesis, 1 boot, 2 policy."""
    car = PeopledCar(place.car.vehicle, place.car.region, place.car.ledger_key)
    car.recipient = place.region.card.recipient_key
    car.genesis()
    car.add(boot=ledger_pb2.Boot(boot_id=bytes(16), clean=True, version="1"))
    car.set_policy(DICTIONARY)
    return car


def deliver(place: Place, car: PeopledCar, *, cosign: bool = True) -> Receiver:
    """Everything comes to the region; it co-signs, unless told not to."""
    station = receiver(place)
    give(station, car, *range(len(car.entries)))
    if cosign:
        station.offer(car.topic("checkpoint"), car.checkpoint())
        station.flush()
    return station


def ask(place: Place, key: OwnerKey, **more: object) -> OwnerRequest:
    """What a person asks for, by default everything, for an hour."""
    values: dict[str, object] = {
        "id": os.urandom(16).hex(), "region": place.region.card.region,
        "vehicle": place.car.vehicle, "from_ns": None, "to_ns": None, "categories": (),
        "purpose": "my accident", "expires_s": int(NOW.timestamp()) + 3600,
        "kid": key.public.kid, "sign": key.public.sign,
    }  # fmt: skip
    return OwnerRequest(**{**values, **more})  # type: ignore[arg-type]


def signed(place: Place, key: OwnerKey, **more: object) -> bytes:
    """The file of it."""
    return owner_request.write(ask(place, key, **more), key.signing)


def answered(place: Place, out: Path, data: bytes, *, now: dt.datetime = NOW) -> Answer:
    """The region's bundle."""
    out.mkdir(exist_ok=True)
    return answer(place.region, place.store, data, out, who="tester", now=now)


def inside(folder: Path) -> tuple[set[int], set[int]]:
    """Entries of a bundle's only log, and of what it has the body."""
    source = BundleSource(folder)
    [log] = source.logs()
    entries = set(source.entries(log))
    return entries, {i for i in entries if source.stored(log, i).body is not None}
