"""A drive in virtual time during which somebody sets the wall clock; the kernel stamps by it.

The same drive can be driven without, so that both can be held side by side. Each frame carries its
number on its bus, so it is known again whatever its stamp says. Real parts from the queue on.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from agent.capture.queue import Arrival, FrameQueue
from agent.capture.sealer import Sealer
from agent.frames import FRAME, ChannelTable, FrameBatch
from agent.pb import ledger_pb2, sealed_pb2
from agent.pb.moment_pb2 import Moment
from agent.policy.clauses import SignalSelector
from agent.policy.model import SignalInfo, SignalLayout
from agent.vault.opening import open_session
from agent.vault.segment import Payload, decode_payload
from agent.vault.vault import Vault
from tests.capture import driving
from tests.capture.driving import CAM, DRIVE, NAMES, NOW_NS, PLACE, S, condition
from tests.capture.world import surroundings
from tests.vault import world

MS = S // 1000
BOOT_NS = 10**12  # CLOCK_BOOTTIME when a drive begins
BUSES = ("can0", "can1")
COUNT = len(NAMES)  # signal: number of the frame on its bus
BEFORE_NS, AFTER_NS, WINDOW_NS = 6 * S, 3 * S, 20 * S
EVERY_NS = 2 * S
LOOK_NS = 105 * MS  # at most between two looks at the clocks, see `_turns`
REACH_NS = 3 * S  # how far back any condition or `retrigger` below looks, with a second to spare
Frame = tuple[int, int, int, bytes]  # moment of the drive in ns, bus, id, data
Step = tuple[int, int]  # moment of the drive, by how much the clock is set


def frames_of(seed: int, seconds: int = 75) -> list[Frame]:
    """Two buses: speed and brake 50 times a second, the place 20 times, a camera now and then."""
    rng = Random(seed)
    brakes = [(t, t + rng.randrange(300, 1500) * MS) for t in _moments(rng, seconds, 13, 22)]
    fast = [(t, t + rng.randrange(1, 6) * S) for t in _moments(rng, seconds, 7, 13)]
    clips = _moments(rng, seconds, 3, 6)
    found: list[Frame] = []
    for number in range(seconds * 50):
        at = number * 20 * MS + rng.randrange(2 * MS)
        speed = 90 if any(a <= at < b for a, b in fast) else 40
        brake = 200 if any(a <= at < b for a, b in brakes) else 0
        found.append((at, 0, DRIVE, bytes([speed, brake, *number.to_bytes(2, "little")])))
    other = [(t, CAM, bytes([1, 2, 3, at + 1])) for at, t in enumerate(clips)]
    other += [
        (number * 50 * MS + rng.randrange(2 * MS), PLACE, bytes([number // 8 % 250, 9]))
        for number in range(seconds * 20)
    ]
    for number, (at, identifier, data) in enumerate(sorted(other)):
        found.append((at, 1, identifier, data.ljust(4, b"\0") + number.to_bytes(2, "little")))
    return sorted(found)


def _moments(rng: Random, seconds: int, least: int, most: int) -> list[int]:
    at, found = 0, []
    while (at := at + rng.randrange(least * S, most * S)) < (seconds - 6) * S:
        found.append(at)
    return found


def steps_of(rng: Random, seconds: int = 75) -> list[Step]:
    """Up to four settings of the clock, from a wink to half a century; some are undone at once."""
    sizes = (20 * MS, 300 * MS, 900 * MS, 2 * S, 8 * S, 30 * S, 3600 * S, 50 * 365 * 86_400 * S)
    moments = sorted(rng.sample(range(3 * S, (seconds - 3) * S), rng.randrange(1, 5)))
    offset, found = 0, []
    for at in moments:
        by = rng.choice(sizes) * rng.choice((1, -1))
        if rng.random() < 0.2:
            by = -(NOW_NS + offset) + 86_400 * S  # 1970
        if NOW_NS + offset + by < 0:
            by = abs(by)
        found.append((at, by))
        if rng.random() < 0.1:
            found.append((at + rng.randrange(150 * MS), -by))
        else:
            offset += by
    return sorted(found)


def undone(steps: Sequence[Step]) -> list[tuple[int, int]]:
    """From when to when the clock was set by what may have gone by before anybody looked."""
    return [(a, b) for (a, _), (b, _) in pairwise(steps) if b - a <= LOOK_NS]


def changes(frames: Sequence[Frame], since: int, until: int) -> bool:
    """Return whether speed or brake is not the same all this time."""
    return len({data[:2] for at, bus, _, data in frames if not bus and since <= at <= until}) > 1


def policy(**more: Any) -> driving.Policy:
    """Everything raw and in order; samples; the black box; three events; the camera gate."""
    signals = (*driving.policy().signals, SignalInfo("Count", "M", "", 1.0, 0.0, 0, ()))
    layouts = (*driving.policy().layouts, SignalLayout(DRIVE, False, 16, 16, False, 0))
    count = (SignalSelector("*", COUNT),)
    wanted = {"before_ns": BEFORE_NS, "after_ns": AFTER_NS, "retrigger_ns": 2 * S,
              "snapshot": count}  # fmt: skip
    events = (
        driving.event(id="brake", **wanted),
        driving.event(id="fast", when=condition("Speed > 60 for 500ms", "Speed"),
                      **wanted | {"before_ns": 0, "after_ns": 0}),
        driving.event(id="rise", when=condition("rate(Speed, 1s) > 20", "Speed"),
                      **wanted | {"before_ns": 0, "after_ns": 0}),
    )  # fmt: skip
    rules = (
        driving.rule("all", frames=(driving.EVERY,), order=True, flush_ns=S),
        driving.rule("slow", signals=count, every_ns=EVERY_NS),
        driving.rule("speed", signals=(SignalSelector("*", driving.SPEED),), on_change=True,
                     lane=sealed_pb2.EVENT),
    )  # fmt: skip
    fields: dict[str, Any] = {
        "signals": signals, "layouts": layouts, "events": events, "rules": rules,
        "recorder": driving.Recorder(WINDOW_NS, (driving.EVERY,), 1000, S, driving.WHY),
        "camera": driving.camera(),
    }  # fmt: skip
    return driving.policy(**(fields | more))


@dataclass
class Event:
    """One that was recorded, as its last record tells it."""

    rule: str
    count: int  # number of the frame that made it true
    triggers: int
    complete: bool
    boottime_ns: int  # when it was noted
    held: set[tuple[int, int]] = field(default_factory=set)  # (bus, number)


@dataclass
class Outcome:
    """What the region can open of a drive, and what the ledger tells."""

    order: list[tuple[int, int]]  # (bus, number) of every frame of the rule "all"
    stamps: dict[tuple[int, int], int]
    slow: list[int]
    changes: list[int]
    events: list[Event]
    camera: list[tuple[int, bool, str]]  # clip, open, why not
    gate: list[bool]  # at each step
    clocks: list[tuple[int, int, int]]  # moment of the drive, from, to
    box: list[tuple[int, int]]  # (bus, number) of the black box's frames that are still here
    longest_ns: int  # that a segment was open
    holes: list[tuple[int, int]]  # from where to where the pieces of recorded time do not adjoin


class Stepped(driving.Car):
    """A car whose wall clock is its own: it can be set while CLOCK_BOOTTIME goes on."""

    def __init__(self, folder: Path, wall_ns: int = NOW_NS) -> None:
        self.offset_ns = wall_ns - BOOT_NS
        super().__init__(folder)
        self.boot_ns = BOOT_NS

    def start(self, boot_id: bytes = bytes(16), **more: Any) -> None:
        self.vault = Vault.open(
            self.folder / "state", identity=world.identity(), now=self.moment,
            rng=np.random.bytes, boot_id=boot_id, version="0", quota_bytes=64 << 20,
        )  # fmt: skip
        self.queue, self.channels = FrameQueue(10**6), ChannelTable(BUSES)
        self.sealer = Sealer(
            vault=self.vault, queue=self.queue, readers=[self.reader],  # type: ignore[list-item]
            channels=self.channels, slot=self.slot, moment=self.vault.moment,  # type: ignore[arg-type]
            around=surroundings(self.folder, rng=np.random.bytes, boot_id=boot_id, **more),
        )  # fmt: skip

    def moment(self) -> Moment:
        return Moment(unix_ns=max(0, self.boot_ns + self.offset_ns), boottime_ns=self.boot_ns)


def drive(
    folder: Path, frames: Sequence[Frame], steps: Sequence[Step], *, under: driving.Policy | None
    = None, seed: int = 0,
) -> Outcome:  # fmt: skip
    """Drive, setting the clock at these moments; return what came of it."""
    car = Stepped(folder)
    car.slot.put(under or policy())
    gate = []
    try:
        for boot_ns, arrivals, offset_ns in _turns(frames, steps, Random(seed)):
            car.boot_ns, car.offset_ns = boot_ns, offset_ns
            for source, batch in arrivals:
                car.queue.put(Arrival(source, batch))
            car.sealer.step()
            gate.append(driving.gate_of(car).open)
        car.sealer.finish()
        return _outcome(car, gate)
    finally:
        car.vault.close()


def _turns(
    frames: Sequence[Frame], steps: Sequence[Step], rng: Random
) -> Iterator[tuple[int, list[tuple[int, FrameBatch]], int]]:
    """Yield each turn of the sealer: CLOCK_BOOTTIME, what the readers have put, wall - boot."""
    offsets = [(0, NOW_NS - BOOT_NS)]
    for at, by in steps:
        offsets.append((at, offsets[-1][1] + by))
    waiting = {bus: [one for one in frames if one[1] == bus] for bus in range(len(BUSES))}
    reads = dict.fromkeys(waiting, 0)
    at, end = 0, frames[-1][0] + S
    while at < end:
        at += LOOK_NS - rng.randrange(10 * MS)
        arrivals: list[tuple[int, int, FrameBatch]] = []
        for bus, mine in waiting.items():
            while reads[bus] <= at:
                if ready := mine[: bisect_right(mine, reads[bus], key=_at)]:
                    arrivals.append((reads[bus], bus, _batch(ready, offsets)))
                    del mine[: len(ready)]
                reads[bus] += rng.randrange(40, 90) * MS
        arrivals.sort(key=lambda one: one[:2])
        yield BOOT_NS + at, [(bus, batch) for _, bus, batch in arrivals], offset_at(offsets, at)


def offset_at(offsets: Sequence[tuple[int, int]], at: int) -> int:
    """Wall time less CLOCK_BOOTTIME at a moment of the drive."""
    return offsets[bisect_right(offsets, at, key=_at) - 1][1]


def _at(one: Frame | Step) -> int:
    return one[0]


def _batch(frames: Sequence[Frame], offsets: Sequence[tuple[int, int]]) -> FrameBatch:
    batch = np.zeros(len(frames), FRAME)
    for row, (at, bus, identifier, data) in zip(batch, frames, strict=True):
        row["timestamp_ns"] = BOOT_NS + at + offset_at(offsets, at)
        row["channel"], row["arbitration_id"], row["length"] = bus, identifier, len(data)
        row["data"][: len(data)] = list(data)
    return batch


def _numbers(batch: FrameBatch) -> list[tuple[int, int]]:
    """(bus, number) of frames."""
    rows = zip(
        batch["channel"].tolist(), batch["length"].tolist(), batch["data"].tolist(), strict=True
    )
    return [(bus, data[size - 2] | data[size - 1] << 8) for bus, size, data in rows]


def _outcome(car: Stepped, gate: list[bool]) -> Outcome:
    entries = car.entries()
    lanes = {entry.index: lane for entry, _, lane in entries}
    opened = car.opened()
    routine = {i: p for i, p in opened.items() if lanes[i] == "routine"}
    order = [one for p in routine.values() for one in _numbers(p.frames)]
    stamps = [int(t) for p in routine.values() for t in p.frames["timestamp_ns"]]
    changes = [p.signals["raw"] for i, p in opened.items() if lanes[i] == "event"]
    records = [r for p in opened.values() for r in p.records]
    box, pieces = _box(car)
    payloads = [*opened.values(), *box]
    return Outcome(
        order=order, stamps=dict(zip(order, stamps, strict=True)),
        slow=np.concatenate([p.signals["raw"] for p in routine.values()]).tolist(),
        changes=np.concatenate(changes).tolist(),
        events=_events([r.event for r in records if r.HasField("event")], opened),
        camera=[(r.camera.clip, r.camera.open, r.camera.why) for r in records
                if r.HasField("camera")],
        gate=gate,
        clocks=[(e.at.boottime_ns - BOOT_NS, e.clock.from_unix_ns, e.clock.to_unix_ns)
                for e, _, _ in entries if e.HasField("clock")],
        box=[one for payload in box for one in _numbers(payload.frames)],
        longest_ns=max(p.closed.boottime_ns - p.opened.boottime_ns for p in payloads),
        holes=[(a[1], b[0]) for a, b in pairwise(pieces) if a[1] != b[0]],
    )  # fmt: skip


def _box(car: Stepped) -> tuple[list[Payload], list[tuple[int, int]]]:
    """What is here of the black box, and its pieces of recorded time."""
    sessions = {}
    for entry, body, _ in car.entries():
        if entry.HasField("session"):
            sessions[entry.session.session] = open_session(body, world.PRIVATES)
    found, pieces = [], []
    for raw, body, begin, end in car.vault._spool.rows(
        "SELECT entry, blob, recorded_from, recorded_to FROM item JOIN ledger USING (i)"
        " JOIN body USING (i) WHERE recorded_to>=0 ORDER BY i"
    ):
        session = sessions[ledger_pb2.Entry.FromString(raw).segment.session]
        found.append(decode_payload(session.open_segment(body)))
        pieces.append((begin, end))
    return found, pieces


def _events(records: Sequence[Any], opened: dict[int, Any]) -> list[Event]:
    """Events in order; of each its last record."""
    found: dict[bytes, Event] = {}
    for one in records:
        (count,) = [v.raw for v in one.snapshot if v.signal == COUNT]
        found[one.id] = event = Event(
            one.rule, count, one.triggers, one.complete, one.at.boottime_ns - BOOT_NS
        )
        for part in one.held:
            for index in range(part.first, part.last + 1):
                if index in opened:
                    event.held.update(_numbers(opened[index].frames))
    return list(found.values())
