"""A car that is driven in a test: every clause, real parts, clocks that a test turns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from agent.capture.gate import GateView, read_gate
from agent.capture.queue import Arrival, FrameQueue
from agent.capture.sealer import Sealer
from agent.capture.slot import Change
from agent.digest import sha256
from agent.frames import FRAME, ChannelTable
from agent.pb import ledger_pb2, sealed_pb2
from agent.pb.moment_pb2 import Moment
from agent.pb.record_pb2 import CameraRecord, EventRecord
from agent.policy.clauses import (
    DRIVING_METADATA,
    PARKED_OFF,
    Camera,
    Condition,
    ConsentTerm,
    EventRule,
    FrameSelector,
    Position,
    Recorder,
    SignalSelector,
    Trigger,
    Why,
)
from agent.policy.model import Policy, RuleOf, SignalInfo, SignalLayout
from agent.vault.opening import open_session
from agent.vault.segment import Payload, decode_payload
from agent.vault.vault import Vault
from tests.capture.world import surroundings
from tests.vault import world

S = 10**9
NOW_NS = 1_800_000_000 * S - (1_800_000_000 * S) % (86_400 * S) + 3600 * S  # one in the morning
SPEED, BRAKE, LATITUDE, LONGITUDE, CAMERA, REASON, STATE, CLIP = range(8)
NAMES = ("Speed", "Brake", "Latitude", "Longitude", "Camera", "Reason", "State", "Clip")
DRIVE, PLACE, CAM = 0x100, 0x101, 0x102  # ids of the frames that hold them
IDS = (DRIVE, DRIVE, PLACE, PLACE, CAM, CAM, CAM, CAM)
TRACK = "location.track"
WHY = Why("safety_event", "safety", "a test", sealed_pb2.REGION)
EVERY = FrameSelector("*", 0, 0, extended=False, every_id=True)


def condition(text: str, *names: str) -> Condition:
    terms = tuple((name, SignalSelector("*", NAMES.index(name))) for name in names)
    return Condition(text, terms)


def event(**more: Any) -> EventRule:
    fields: dict[str, Any] = {
        "id": "brake", "when": condition("Brake > 100", "Brake"), "before_ns": 20 * S,
        "after_ns": 5 * S, "upload": True, "at_most": 0, "period_ns": 86_400 * S,
        "retrigger_ns": 3 * S, "snapshot": (SignalSelector("*", SPEED),), "keep_s": 86_400,
        "why": WHY,
    }  # fmt: skip
    return EventRule(**(fields | more))


def camera(**more: Any) -> Camera:
    at = [SignalSelector("*", number) for number in range(len(NAMES))]
    fields: dict[str, Any] = {
        "parked": PARKED_OFF, "driving": DRIVING_METADATA,
        "trigger": Trigger(at[CAMERA], at[REASON], at[STATE], at[CLIP]),
        "position": Position(
            at[LATITUDE], at[LONGITUDE], at[SPEED], condition("Latitude > 0", "Latitude")
        ),
        "zones": b"", "margin_m": 500, "exit_ns": 60 * S, "no_fix_ns": 10 * S, "keep_s": 86_400,
        "at_most": 60, "why": WHY,
    }  # fmt: skip
    return Camera(**(fields | more))


def rule(name: str, **more: Any) -> Any:
    fields: dict[str, Any] = {
        "id": name, "category": "vehicle.state", "purpose": "safety_event", "basis": "safety",
        "necessity": "a test", "recipients": sealed_pb2.REGION, "lane": sealed_pb2.ROUTINE,
        "keep_s": 86_400, "frames": (), "signals": (), "every_ns": 0, "on_change": False,
        "resolution_ns": 1000, "order": False, "flush_ns": S,
    }  # fmt: skip
    return RuleOf(**(fields | more))


def track(**more: Any) -> Any:
    """A rule that needs a consent."""
    signals = (SignalSelector("*", LATITUDE), SignalSelector("*", LONGITUDE))
    return rule("track", category=TRACK, basis="consent", purpose="navigation", signals=signals,
                **more)  # fmt: skip


def policy(version: int = 1, **more: Any) -> Policy:
    """One with a recorder and an event, but for what `more` says."""
    fields: dict[str, Any] = {
        "name": "fleet", "version": version, "region": "urn:inland:region:cn",
        "not_after_ns": NOW_NS + 10**18, "dictionary": b"words", "rules": (),
        "signals": tuple(
            # A position is 31 degrees and steps of 11 m.
            SignalInfo(one, "M", "", *((1e-4, 31.0) if IDS[at] == PLACE else (1.0, 0.0)), 0, ())
            for at, one in enumerate(NAMES)
        ),
        "layouts": tuple(
            SignalLayout(one, False, 8 * (at % 2 if at < 4 else at - 4), 8, False, 0)
            for at, one in enumerate(IDS)
        ),
        "recorder": Recorder(60 * S, (EVERY,), 1000, S, WHY), "events": (event(),),
        "driving": condition("Speed > 0", "Speed"),
    }  # fmt: skip
    fields |= more
    return Policy(**fields, digest=sha256(repr(sorted(fields.items())).encode()))


def consenting(version: int = 1, **more: Any) -> Policy:
    """One whose only rule needs a consent."""
    terms = (ConsentTerm(TRACK, 90, each_drive=False),)
    return policy(version, rules=(track(),), events=(), recorder=None, consents=terms, **more)


class Slot:
    """Says what the test puts in force."""

    def __init__(self) -> None:
        self.next: Change | None = Change(None, b"", "started")
        self.previous = Change(None, b"", "put-back")

    def put(self, policy: Policy | None, why: str = "installed") -> None:
        self.next = Change(policy, repr(policy).encode() if policy else b"", why)

    def look(self, now_ns: int) -> Change | None:
        change, self.next = self.next, None
        return change

    def put_back(self, now_ns: int) -> Change:
        return self.previous


class Silent:
    """A reader whose bus says nothing: the test fills the queue itself."""

    name, ended = "can0", False

    def __init__(self) -> None:
        self.filters: list[Any] = []

    def set_filters(self, filters: Any) -> None:
        self.filters.append(filters)

    def losses(self) -> list[tuple[str, int, int]]:
        return []


class Car:
    """A sealer with its vault; time passes when frames are given."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.boot_ns, self.unix_ns = folder, 10**12, NOW_NS
        self.slot, self.reader = Slot(), Silent()
        self.trial: Any = None
        self.driven = 0
        self.rows: list[tuple[int, bytes]] = []  # on their way
        self.stamps: list[int] = []
        self.start()

    def start(self, boot_id: bytes = bytes(16), **more: Any) -> None:
        self.vault = Vault.open(
            self.folder / "state", identity=world.identity(), now=self.moment, rng=np.random.bytes,
            boot_id=boot_id, version="0", quota_bytes=16 << 20,
        )  # fmt: skip
        self.queue, self.channels = FrameQueue(10**6), ChannelTable(("can0",))
        self.sealer = Sealer(
            vault=self.vault, queue=self.queue, readers=[self.reader],  # type: ignore[list-item]
            channels=self.channels, slot=self.slot, moment=self.moment,  # type: ignore[arg-type]
            around=surroundings(self.folder, rng=np.random.bytes, boot_id=boot_id, **more),
            trial=self.trial,
        )  # fmt: skip

    def crash(self, **more: Any) -> None:
        """End without an end, and start again."""
        self.vault.close(clean=False)
        self.slot.put(self.sealer.force and self.sealer.force.policy, "started")
        self.start(**more)

    def moment(self) -> Moment:
        return Moment(unix_ns=self.unix_ns, boottime_ns=self.boot_ns)

    def step(self, rows: Sequence[tuple[int, bytes]] = (), pass_ns: int = S // 10) -> None:
        """Let time pass, let frames (id, data) arrive now, turn the sealer once."""
        self.boot_ns += pass_ns
        self.unix_ns += pass_ns
        self.rows, self.stamps = list(rows), [self.unix_ns] * len(rows)
        self.give()

    def drive(
        self, seconds: float, *, speed: int = 50, brake: int = 0, place: bool = False
    ) -> None:
        """Drive: ten frames a second, and as many of the place, which moves, if it is known."""
        for _ in range(round(seconds * 10)):
            self.rows.append((DRIVE, bytes([speed, brake])))
            self.boot_ns += S // 10
            self.unix_ns += S // 10
            self.stamps.append(self.unix_ns)
            if place:
                self.driven += 1
                self.rows.append((PLACE, bytes([self.driven // 8 % 250, 9])))
                self.stamps.append(self.unix_ns)
            if len(self.rows) >= 4 or brake:
                self.give()
        self.give()

    def give(self) -> None:
        """Let the frames so far arrive, turn the sealer once."""
        batch = np.zeros(len(self.rows), FRAME)
        batch["timestamp_ns"] = self.stamps
        for at, (arbitration_id, data) in enumerate(self.rows):
            batch[at]["arbitration_id"], batch[at]["length"] = arbitration_id, len(data)
            batch[at]["data"][: len(data)] = list(data)
        if self.rows:
            self.queue.put(Arrival(0, batch))
        self.rows, self.stamps = [], []
        self.sealer.step()

    def stand(self, seconds: float) -> None:
        """Let time pass on a silent bus."""
        for _ in range(round(seconds * 10)):
            self.step()

    def entries(self) -> list[tuple[ledger_pb2.Entry, bytes, str]]:
        """The ledger with the bodies that go to the region, and the lanes that they go on."""
        outgoing, _ = self.vault.take(10_000, 1 << 30, {})
        found = [
            (ledger_pb2.Entry.FromString(one.upload.entry), one.upload.body, one.lane)
            for one in outgoing
        ]
        return sorted(found, key=lambda one: one[0].index)

    def told(self, kind: str) -> list[Any]:
        """Entries of one kind."""
        return [getattr(e, kind) for e, _, _ in self.entries() if e.WhichOneof("what") == kind]

    def month(self) -> dict[tuple[str, str], ledger_pb2.Amount]:
        """What was kept in the present month, as far as it is entered: by category and purpose."""
        data = self.vault.remembered("kept") or b""
        amounts = ledger_pb2.Kept.FromString(data).amount
        return {(one.category, one.purpose): one for one in amounts}

    def opened(self) -> dict[int, Payload]:
        """What the region can open, by the entry's index."""
        found: dict[int, Payload] = {}
        sessions: dict[bytes, Any] = {}
        for entry, body, _ in self.entries():
            if entry.HasField("session"):
                sessions[entry.session.session] = open_session(body, world.PRIVATES)
            if entry.HasField("segment") and body:
                opened = sessions[entry.segment.session].open_segment(body)
                found[entry.index] = decode_payload(opened)
        return found

    def events(self) -> list[EventRecord]:
        """Every event record, in the order in which they were sealed."""
        return [
            one.event for payload in self.opened().values() for one in payload.records
            if one.HasField("event")
        ]  # fmt: skip

    def triggers(self) -> list[CameraRecord]:
        """Every camera record."""
        return [
            one.camera for payload in self.opened().values() for one in payload.records
            if one.HasField("camera")
        ]  # fmt: skip


def gate_of(car: Car) -> GateView:
    """What a camera reads now."""
    return read_gate(car.folder / "camera-gate.json", car.boot_ns)


def again(before: Policy, **more: Any) -> Policy:
    """Another policy, like one before it but for what `more` says."""
    after = replace(before, **more)
    return replace(after, digest=sha256(repr(after).encode()))
