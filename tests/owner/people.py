"""A car with people: keys that are the same in every run, and a register that a test changes."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

from agent.errors import SealError
from agent.owner import register
from agent.owner.keyfile import OwnerKey
from agent.owner.slot import KEY, OwnerSlot
from agent.pb import ledger_pb2, sealed_pb2
from agent.vault import keys
from agent.vault.enrolled import OwnerStep
from agent.vault.opening import open_session, parse_session
from agent.vault.segment import Payload, decode_payload
from tests.capture import driving
from tests.vault import world

ANNA, BELA, CARL = (OwnerKey(bytes([at]) * 32, name) for at, name in enumerate(("A", "B", "C"), 1))
SETS = ("region", "owner", "shared", "both", "driver")


def privates(*people: OwnerKey, region: bool = False) -> dict[bytes, bytes]:
    """Private recipient keys by kid."""
    found = {keys.kid(one.public.recipient): one.private for one in people}
    if region:
        found[keys.kid(world.REGION[1])] = world.REGION[0]
    return found


def enroll(path: Path, key: OwnerKey, role: str = register.OWNER, *, epoch: int = 1) -> str:
    """What the presence code leads to."""
    with register.edit(path, epoch=epoch, mend=True) as held:
        held.register = held.register.enroll(role, key.public, time.time_ns())
    return key.public.kid


def drive(path: Path, key: OwnerKey | None) -> None:
    """What `inland owner drive` does."""
    with register.edit(path, epoch=1) as held:
        held.register = held.register.drive(key.public.kid if key is not None else "")


def remove(path: Path, key: OwnerKey) -> None:
    """What `inland owner remove` does."""
    with register.edit(path, epoch=1) as held:
        held.register = held.register.remove(key.public.kid)


class Owners:
    """The slot, made as soon as the car has its vault."""

    def __init__(self, car: PeopledCar) -> None:
        self._car = car
        self.slot: OwnerSlot | None = None

    def look(self) -> OwnerStep | None:
        if self.slot is None:
            vault = self._car.vault
            self.slot = OwnerSlot(
                self._car.people, 1, None, remembered=vault.remembered(KEY),
                remember=partial(vault.remember, KEY),
            )  # fmt: skip
        return self.slot.look()

    def entered(self) -> None:
        assert self.slot is not None
        self.slot.entered()


class PeopledCar(driving.Car):
    """A driven car that looks at a register of people."""

    def __init__(self, folder: Path) -> None:
        self.people = folder / register.FILE
        super().__init__(folder)

    def start(self, boot_id: bytes = bytes(16), **more: object) -> None:
        super().start(boot_id, owners=Owners(self), **more)

    def opened_by(self, keys_at_hand: dict[bytes, bytes]) -> dict[str, list[Payload]]:
        """What these keys open, by recipient set."""
        found: dict[str, list[Payload]] = {name: [] for name in SETS}
        sessions = {}
        for entry, body, _ in self.entries():
            if entry.HasField("session"):
                name = sealed_pb2.Recipients.Name(parse_session(body)[1].recipients).lower()
                try:
                    sessions[entry.session.session] = name, open_session(body, keys_at_hand)
                except SealError:
                    continue
            if entry.HasField("segment") and entry.segment.session in sessions:
                name, reader = sessions[entry.segment.session]
                found[name].append(decode_payload(reader.open_segment(body)))
        return found

    def stamps_by(self, keys_at_hand: dict[bytes, bytes]) -> dict[str, set[int]]:
        """Time stamps of the samples that these keys open, by recipient set."""
        return {
            name: {int(at) for one in payloads for at in one.signals["timestamp_ns"]}
            for name, payloads in self.opened_by(keys_at_hand).items()
        }

    def changes(self) -> list[tuple[str, str]]:
        """What the ledger says of people: (what, kid)."""
        what = ledger_pb2.OwnerChange.What
        return [(what.Name(one.what), one.kid.hex()) for one in self.told("owner")]


def for_everybody() -> driving.Policy:
    """A policy that keeps the speed for every recipient set there is."""
    signals = (driving.SignalSelector("*", driving.SPEED),)
    rules = tuple(
        driving.rule(name, recipients=sealed_pb2.Recipients.Value(name.upper()), signals=signals)
        for name in SETS
    )
    return driving.policy(rules=rules, events=(), recorder=None)
