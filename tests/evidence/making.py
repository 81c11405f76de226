"""A car's log in memory, its region's co-signatures, and bundles made of them."""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.evidence import verifier
from agent.evidence.bundle import About, Asked, BundleWriter
from agent.evidence.disclosure import LeaveOut, disclose
from agent.evidence.proof import AFTER_NS
from agent.frames import FRAME, SIGNAL
from agent.pb import ledger_pb2, policy_pb2, sealed_pb2
from agent.vault import checkpoint, keys
from tests.station.car import START_NS, SealingCar

VEHICLE = "v-0123456789"
REGION = "urn:inland:region:cn"
LEDGER_KEY = Ed25519PrivateKey.from_private_bytes(b"l" * 32)
COSIGN_KEY = Ed25519PrivateKey.from_private_bytes(b"c" * 32)
WITNESS = checkpoint.VerifierKey("inland-region-cn", 4, COSIGN_KEY.public_key().public_bytes_raw())
RECIPIENT, OWNER = b"R" * 96, b"O" * 96
S = 10**9
DICTIONARY = policy_pb2.Dictionary(
    signal=[policy_pb2.Signal(name="speed", unit="km/h", factor=0.5, kind=1)]
)


@functools.cache
def public(private: bytes) -> bytes:
    return keys.public_of(private)


@dataclass
class Ledger(SealingCar):
    """A log that a bundle can be made of; entry i is written i seconds after START_NS."""

    heads: list[tuple[int, str, bool]] = field(default_factory=list)

    def sign(self, *, cosigned: bool = True, key: Ed25519PrivateKey = LEDGER_KEY) -> None:
        size = len(self.entries)
        origin = checkpoint.origin_of(self.vehicle, self.log)
        note = checkpoint.sign(checkpoint.Checkpoint(origin, size, self.root(size)), key)
        if cosigned:
            note = cosign(note, START_NS // S + size)
        self.heads = [head for head in self.heads if head[0] != size and head[2]]
        self.heads.append((size, note, cosigned))


def cosign(note: str, unix_s: int, key: Ed25519PrivateKey = COSIGN_KEY) -> str:
    return checkpoint.cosign(note, name=WITNESS.name, key=key, unix_s=unix_s)


class View:
    """The log as `disclosure.Ledger` wants it: `Car` has its entries under the same name."""

    def __init__(self, car: Ledger) -> None:
        self.car, self.log = car, car.log

    def size(self) -> int:
        return len(self.car.entries)

    def entries(self, first: int, end: int) -> Iterator[tuple[int, bytes]]:
        yield from list(enumerate(self.car.entries))[first:end]

    def body(self, index: int) -> bytes | None:
        return self.car.bodies[index] or None

    def node(self, height: int, position: int) -> bytes:
        return self.car.node(height, position)

    def notes(self) -> list[tuple[int, str, bool]]:
        return self.car.heads


def frames(count: int = 20, start_ns: int = START_NS) -> np.ndarray:  # type: ignore[type-arg]
    batch = np.zeros(count, FRAME)
    batch["timestamp_ns"] = start_ns + np.arange(count) * 10**6
    batch["arbitration_id"], batch["length"] = 0x100 + np.arange(count) % 3, 2
    batch["data"][:, 0] = np.arange(count) % 251
    return batch


def samples(count: int = 5, start_ns: int = START_NS) -> np.ndarray:  # type: ignore[type-arg]
    batch = np.zeros(count, SIGNAL)
    batch["timestamp_ns"] = start_ns + np.arange(count) * 10**6
    batch["raw"] = np.arange(count)
    return batch


def new_car(log: bytes | None = None) -> Ledger:
    car = Ledger(VEHICLE, REGION, LEDGER_KEY, log or os.urandom(16))
    car.recipient, car.owner = public(RECIPIENT), public(OWNER)
    return car


def drive(car: Ledger, segments: int = 12, recipients: int = sealed_pb2.SHARED) -> Ledger:
    """Entries: 0 genesis, 1 boot, 2 policy, 3 session, 4… segments, losses between; co-signed."""
    if not car.entries:
        car.genesis()
        car.add(boot=ledger_pb2.Boot(boot_id=bytes(16), clean=True, version="1"))
        car.set_policy(DICTIONARY)
    car.begin_sealed(recipients)
    for number in range(segments):
        start = START_NS + len(car.entries) * S - S // 2
        car.seal(frames(start_ns=start), samples(start_ns=start))
        if number % 5 == 4:
            car.loss()
            car.sign()
    car.sign()
    return car


def asked(first: int | None = None, last: int | None = None) -> Asked:
    """The time of entries, without the two minutes that an entry may come later."""
    to_ns = None if last is None else START_NS + last * S - AFTER_NS
    return Asked(None if first is None else START_NS + first * S, to_ns)


def about() -> About:
    return About("car", REGION, VEHICLE, "2026-11-28T09:00:00Z", (WITNESS.text(),))


ALL = Asked()


def make(
    folder: Path, *cars: Ledger, asked: Asked = ALL, leave_out: LeaveOut = lambda *_: ""
) -> Path:
    """Write a bundle of some logs."""
    with BundleWriter(folder) as writer:
        for car in cars:
            found = disclose(View(car), asked.from_ns, asked.to_ns, leave_out=leave_out)
            if found is not None:
                writer.add(View(car), found)
        writer.place(about(), asked)
    return folder


def verdict(folder: Path, card: str = "") -> tuple[int, str]:
    """The verdict, and all that is said of why."""
    result = verifier.verify(folder, card)
    return result["verdict"], "\n".join(result["altered"] + result["missing"])


def forge(folder: Path) -> None:
    """Let bundle.json name the files as they are now: whoever alters one can do that as well."""
    path = folder / "bundle.json"
    told = json.loads(path.read_text())
    told["files"] = {
        one.name: hashlib.sha256(one.read_bytes()).hexdigest()
        for one in sorted(folder.iterdir())
        if one != path
    }
    path.write_text(json.dumps(told))
