"""The camera gate: whether cameras may record now, and what is noted of their triggers.

The gate is closed unless everything allows it. What closes it, the first that holds:

| reason | the gate is closed because |
|---|---|
| parked | the car is not driven, and the policy has no camera for a parked car |
| zone | the place is protected (agent/policy/place.py) |
| no_fix | nobody knows where the car is |
| consent | the car is parked, and the owner has not agreed to `exterior.parked` |
| policy | the policy has no [camera], or none while driving |

- A trigger is a frame that holds the four signals and says another (state, clip) of its camera than
  the frame before. It is noted with the gate's answer at its own place in the stream, not at the
  end of the batch.
- Nothing at all is noted where the policy wants no camera or the owner has not agreed: those
  triggers are counted, and that is all. What is noted of a parked car is for the owner alone.
- More than `at_most` in a minute: the others become one record for each answer of the gate, with a
  count, when the minute is over or `finish` is called.
- Records name a zone's class and never a place. Nothing here returns a position.
- While the place is protected or unknown, and the policy has zones, what tells the position is not
  kept either: `place_closed` holds for the whole batch if it holds for a moment of it.

Time is the caller's one clock. Pure but for what it remembers.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Final

from agent.frames import SignalBatch
from agent.pb import record_pb2
from agent.policy.camera_signals import CameraSignals, Trigger
from agent.policy.clauses import DRIVING_METADATA, PARKED_OWNER, Camera
from agent.policy.model import Policy
from agent.policy.place import OPEN, PROTECTED, UNKNOWN, Place, PlaceGuard
from agent.policy.watching import Watched
from agent.policy.zones import Zones

PARKED: Final = "parked"
ZONE: Final = "zone"
NO_FIX: Final = "no_fix"
CONSENT: Final = "consent"
POLICY: Final = "policy"
PARKED_CATEGORY: Final = "exterior.parked"

MINUTE_NS: Final = 60 * 10**9
MAX_CAMERAS: Final = 256  # remembered; ids beyond are noise, and noise is held in bounds
COUNTS: Final = ("triggers", "recorded", "merged", "unrecorded", "openings")
WORD: Final = 0xFFFF_FFFF  # what a record has room for

Records = tuple[record_pb2.CameraRecord, ...]


@dataclass(frozen=True, slots=True)
class Decision:
    """What the gate says.

    Attributes:
        open: cameras may record.
        reason: why not; "" if open.
        zone_class: of the zone, if the reason is one and its class is known.
    """

    open: bool
    reason: str
    zone_class: str = ""


CLOSED: Final = Decision(open=False, reason=POLICY)  # what holds without a policy


@dataclass(frozen=True, slots=True)
class GateStep:
    """What a batch has brought.

    Attributes:
        decision: at the end of the batch.
        changed: another one than at the end of the batch before.
        records: triggers to be kept for the recipients that [camera] names.
        owner_records: triggers of the parked car, to be kept for the owner alone.
        place_closed: what tells the position in this batch is not to be kept.
    """

    decision: Decision
    changed: bool
    records: Records
    owner_records: Records
    place_closed: bool


class CameraGate:
    """The gate of one policy.

    Args:
        policy: as it came through the door.
        zones: of this policy, opened; None if it has none or they cannot be opened.
    """

    def __init__(self, policy: Policy, zones: Zones | None) -> None:
        self._gate = None if policy.camera is None else _Gate(policy, policy.camera, zones)

    def update(
        self, watched: SignalBatch | Watched, now_ns: int, *, driving: bool,
        consented: frozenset[str],
    ) -> GateStep:  # fmt: skip
        """Take the samples of a batch; an empty one only lets time pass.

        Args:
            watched: samples of the watch points, in arrival order.
            now_ns: when the batch ended, on any clock that does not fall.
            driving: the car is driven.
            consented: categories that the owner has agreed to.
        """
        if self._gate is None:
            return GateStep(CLOSED, changed=False, records=(), owner_records=(), place_closed=False)
        return self._gate.update(watched, now_ns, driving, PARKED_CATEGORY in consented)

    def finish(self) -> GateStep:
        """Close the gate for good, and return what has not been handed out yet."""
        if self._gate is None:
            return GateStep(CLOSED, changed=False, records=(), owner_records=(), place_closed=False)
        return self._gate.finish()

    def counts(self) -> dict[str, int]:
        """Return totals: triggers, those noted one by one, merged, and not noted; openings."""
        counts = Counter[str]() if self._gate is None else self._gate.counts
        return {name: counts[name] for name in COUNTS}


class _Gate:
    """A gate that has a [camera] to obey."""

    def __init__(self, policy: Policy, camera: Camera, zones: Zones | None) -> None:
        self.counts: Counter[str] = Counter()
        self._camera = camera
        self._signals = CameraSignals(policy)
        self._guard = PlaceGuard(camera, zones)
        self._place = Place(UNKNOWN)
        self._decision = CLOSED
        self._driving = self._agreed = False
        self._last: dict[int, tuple[int, int]] = {}  # camera: its last state and clip
        self._notes = _Notes(camera.at_most)

    def update(
        self, watched: SignalBatch | Watched, now_ns: int, driving: bool, agreed: bool
    ) -> GateStep:
        before, hidden = self._decision, self._hides_place()
        if self._agreed and not agreed:
            self._notes.forget_parked()
        self._driving, self._agreed = driving, agreed
        for one in self._signals.read(watched, now_ns):
            if one.position is not None:
                self._guard.position(one.at_ns, *one.position, one.speed)
            self._look(one.at_ns, one.speed)
            hidden |= self._hides_place()
            if one.trigger is not None:
                self._take(one.trigger, one.at_ns)
        end_ns = max(now_ns, self._signals.now_ns or now_ns)
        self._look(end_ns, self._signals.speed(end_ns))
        hidden |= self._hides_place()
        changed = self._decision != before
        return GateStep(self._decision, changed, *self._notes.due(end_ns), place_closed=hidden)

    def finish(self) -> GateStep:
        changed, self._decision = self._decision != CLOSED, CLOSED
        self._notes.end_minute()
        return GateStep(CLOSED, changed, *self._notes.take(), place_closed=self._hides_place())

    def _look(self, at_ns: int, speed: float | None) -> None:
        """Decide anew."""
        self._place = self._guard.look(at_ns, speed)
        before, self._decision = self._decision, self._decide()
        self.counts["openings"] += self._decision.open and not before.open

    def _decide(self) -> Decision:
        if not self._driving and self._camera.parked != PARKED_OWNER:
            return Decision(open=False, reason=PARKED)
        if self._place.state == PROTECTED:
            return Decision(open=False, reason=ZONE, zone_class=self._place.zone_class)
        if self._place.state != OPEN:
            return Decision(open=False, reason=NO_FIX)
        if not self._driving and not self._agreed:
            return Decision(open=False, reason=CONSENT)
        if self._driving and self._camera.driving != DRIVING_METADATA:
            return CLOSED
        return Decision(open=True, reason="")

    def _hides_place(self) -> bool:
        """Return whether positions are kept from being kept; without zones nothing is hidden."""
        return bool(self._camera.zones) and self._place.state != OPEN

    def _is_noted(self) -> bool:
        """Return whether triggers are recorded at all."""
        if self._driving:
            return self._camera.driving == DRIVING_METADATA
        return self._camera.parked == PARKED_OWNER and self._agreed

    def _take(self, trigger: Trigger, at_ns: int) -> None:
        news = (trigger.state, trigger.clip)
        if self._last.get(trigger.camera) == news:
            return
        if len(self._last) >= MAX_CAMERAS:
            self._last.clear()
        self._last[trigger.camera] = news
        self.counts["triggers"] += 1
        if not self._is_noted():
            self.counts["unrecorded"] += 1
            return
        record = record_pb2.CameraRecord(
            stamp_ns=trigger.stamp_ns, camera=trigger.camera & WORD, reason=trigger.reason & WORD,
            state=trigger.state & WORD, clip=trigger.clip & WORD, open=self._decision.open,
            why=self._decision.reason, zone_class=self._decision.zone_class, count=1,
        )  # fmt: skip
        alone = self._notes.add(record, at_ns, self._decision, parked=not self._driving)
        self.counts["recorded" if alone else "merged"] += 1


class _Notes:
    """Records that wait to be handed out, at most so many a minute one by one."""

    def __init__(self, at_most: int) -> None:
        self._at_most = at_most
        self._begun_ns: int | None = None  # of the minute
        self._count = 0
        self._ready: list[tuple[bool, record_pb2.CameraRecord]] = []  # (parked, record)
        self._merged: dict[tuple[bool, Decision], record_pb2.CameraRecord] = {}

    def add(
        self, record: record_pb2.CameraRecord, at_ns: int, decision: Decision, *, parked: bool
    ) -> bool:
        """Take a record; return whether it stands for itself alone."""
        if self._begun_ns is None or at_ns - self._begun_ns >= MINUTE_NS:
            self.end_minute()
            self._begun_ns = at_ns
        self._count += 1
        if not self._at_most or self._count <= self._at_most:
            self._ready.append((parked, record))
            return True
        first = self._merged.get((parked, decision))
        if first is None:
            self._merged[parked, decision] = record
        else:
            first.count = min(first.count + 1, WORD)
        return False

    def due(self, now_ns: int) -> tuple[Records, Records]:
        """Return what can be handed out now, see `take`."""
        if self._begun_ns is not None and now_ns - self._begun_ns >= MINUTE_NS:
            self.end_minute()
        return self.take()

    def end_minute(self) -> None:
        """Make what was merged ready."""
        self._ready += [(parked, record) for (parked, _), record in self._merged.items()]
        self._merged.clear()
        self._begun_ns, self._count = None, 0

    def take(self) -> tuple[Records, Records]:
        """Return (those of the driven car, those of the parked one) that are ready."""
        ready, self._ready = self._ready, []
        return (
            tuple(record for parked, record in ready if not parked),
            tuple(record for parked, record in ready if parked),
        )

    def forget_parked(self) -> None:
        """Throw away what the owner has withdrawn the consent for."""
        self._merged = {key: record for key, record in self._merged.items() if not key[0]}
