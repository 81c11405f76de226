"""A car's ledger made by hand: right hashes and headers, opaque bodies."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.frames import SIGNAL, FrameBatch, SignalBatch
from agent.pb import delivery_pb2, ledger_pb2, policy_pb2, sealed_pb2
from agent.pb.moment_pb2 import Moment
from agent.pb.record_pb2 import Record
from agent.vault import checkpoint, keys, seal, tree
from agent.vault.segment import Draft, encode_payload
from agent.vault.session import Session

START_NS = 1_795_000_000 * 10**9


@dataclass
class Car:
    vehicle: str
    region: str
    ledger_key: Ed25519PrivateKey
    log: bytes = field(default_factory=lambda: os.urandom(16))
    entries: list[bytes] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    session: bytes = b""

    @classmethod
    def load(cls, bundle: Path, vehicle: str, region: str) -> Car:
        return cls(vehicle, region, keys.load_ledger_key(bundle / "ledger.key"))

    def add(self, body: bytes = b"", **what: Any) -> int:
        index = len(self.entries)
        entry = ledger_pb2.Entry(index=index, **what)
        entry.at.unix_ns = START_NS + index * 10**9
        self.entries.append(entry.SerializeToString())
        self.bodies.append(body)
        return index

    def genesis(self) -> int:
        return self.add(
            genesis=ledger_pb2.Genesis(
                region=self.region, vehicle=self.vehicle, log=self.log,
                ledger_key=self.ledger_key.public_key().public_bytes_raw(),
            )
        )  # fmt: skip

    def begin(self, recipients: int = 1) -> int:
        self.session = os.urandom(16)
        header = sealed_pb2.SessionHeader(
            kem=1, aead=1, region=self.region, vehicle=self.vehicle, log=self.log,
            index=len(self.entries), session=self.session, epoch=1, recipients=recipients,
        ).SerializeToString()  # fmt: skip
        body = b"iSE1" + len(header).to_bytes(2, "big") + header + b"wraps"
        return self.add(
            body,
            session=ledger_pb2.SessionBegun(
                body=hashlib.sha256(body).digest(), session=self.session, recipients=recipients
            ),
        )

    def segment(self, payload: bytes = b"x" * 100, lane: int = 2) -> int:
        header = sealed_pb2.SegmentHeader(
            log=self.log, index=len(self.entries), session=self.session, epoch=1, lane=lane
        ).SerializeToString()
        body = b"iSG1" + len(header).to_bytes(2, "big") + header + payload
        return self.add(
            body,
            segment=ledger_pb2.SegmentSealed(
                body=hashlib.sha256(body).digest(), session=self.session, lane=lane,
                bytes=len(body),
            ),
        )  # fmt: skip

    def loss(self) -> int:
        return self.add(loss=ledger_pb2.Loss(channel="can0", count=3, cause=1))

    def drop(self, first: int, last: int) -> int:
        return self.add(
            drop=ledger_pb2.Drop(range=[ledger_pb2.Range(first=first, last=last)], reason=2)
        )

    def upload(self, index: int, *, body: bytes | None = None) -> bytes:
        return delivery_pb2.Upload(
            log=self.log, index=index, entry=self.entries[index],
            body=self.bodies[index] if body is None else body,
        ).SerializeToString()  # fmt: skip

    def leaf(self, index: int) -> bytes:
        return tree.leaf_hash(self.entries[index])

    def root(self, size: int) -> bytes:
        grown = tree.CompactRange()
        for index in range(size):
            grown, _ = grown.append(self.leaf(index))
        return grown.root()

    def node(self, height: int, index: int) -> bytes:
        if height == 0:
            return self.leaf(index)
        return tree.node_hash(
            self.node(height - 1, 2 * index), self.node(height - 1, 2 * index + 1)
        )

    def checkpoint(self, size: int | None = None, from_size: int = 0) -> bytes:
        size = len(self.entries) if size is None else size
        origin = checkpoint.origin_of(self.vehicle, self.log)
        note = checkpoint.sign(
            checkpoint.Checkpoint(origin, size, self.root(size)), self.ledger_key
        )
        return delivery_pb2.CheckpointUpload(
            log=self.log, note=note, from_size=from_size,
            proof=tree.consistency_proof(from_size, size, self.node),
        ).SerializeToString()  # fmt: skip

    def topic(self, lane: str = "routine") -> str:
        return f"inland/1/{self.region.rpartition(':')[2]}/up/{self.vehicle}/{lane}"


@dataclass
class SealingCar(Car):
    """A car whose sessions and segments really open."""

    recipient: bytes = b""
    owner: bytes | None = None
    driver: bytes | None = None
    policy: bytes = b""
    live: Session | None = None

    def set_policy(
        self, dictionary: policy_pb2.Dictionary, camera: policy_pb2.Camera | None = None
    ) -> int:
        self.policy = policy_pb2.Policy(
            name="p", version=1, region=self.region, camera=camera,
            dictionary=dictionary.SerializeToString(),
        ).SerializeToString()  # fmt: skip
        return self.add(
            self.policy,
            policy=ledger_pb2.PolicyInForce(
                body=hashlib.sha256(self.policy).digest(), name="p", version=1
            ),
        )

    def begin_sealed(self, recipients: int = sealed_pb2.REGION) -> int:
        self.session, secret = os.urandom(16), os.urandom(32)
        self.live = Session(secret, session=self.session, aead=1)
        header = sealed_pb2.SessionHeader(
            aead=1, region=self.region, vehicle=self.vehicle, log=self.log,
            index=len(self.entries), session=self.session, epoch=1, recipients=recipients,
        )  # fmt: skip
        wraps = seal.wraps_for(
            recipients, region_key=self.recipient, owner_key=self.owner, driver_key=self.driver
        )
        assert wraps is not None
        body = seal.seal_session(header, secret, wraps)
        return self.add(
            body,
            session=ledger_pb2.SessionBegun(
                body=hashlib.sha256(body).digest(), session=self.session, recipients=recipients
            ),
        )

    def seal(
        self,
        frames: FrameBatch,
        signals: SignalBatch | None = None,
        channels: tuple[str, ...] = ("can0", "can1"),
        payload: bytes | None = None,
        *,
        records: tuple[Record, ...] = (),
        lane: int = sealed_pb2.ROUTINE,
    ) -> int:
        dictionary = policy_pb2.Policy.FromString(self.policy).dictionary
        draft = Draft(
            frames, np.zeros(0, SIGNAL) if signals is None else signals, channels, 1, lane, 1000,
            keep_order=False, opened=Moment(boottime_ns=1), closed=Moment(boottime_ns=2),
            policy=bytes(32),
            dictionary=hashlib.sha256(dictionary).digest(), keep_s=0,
            records=records,
        )  # fmt: skip
        if payload is None:
            payload = encode_payload(draft, salt=os.urandom(32), boot_id=bytes(16))
        named = hashlib.sha256(self.policy).digest()[:8] if self.policy else b""
        header = sealed_pb2.SegmentHeader(
            log=self.log, index=len(self.entries), epoch=1, lane=lane, policy=named
        )
        assert self.live is not None
        body = seal.seal_segment(self.live, header, payload)
        return self.add(
            body,
            segment=ledger_pb2.SegmentSealed(
                body=hashlib.sha256(body).digest(), plain=hashlib.sha256(payload).digest(),
                session=self.session, lane=lane, bytes=len(body),
            ),
        )  # fmt: skip
