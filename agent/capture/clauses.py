"""The clauses of the policy in force at work: driving, events and the camera gate, batch by batch.

They see the samples of watch points and nothing else. What they find is handed to whoever acts on
it; only the gate file is written here, in the step in which the gate has decided.

Conditions look at stamps from which the settings of the clock are taken out (`steady.py`); what is
told of an event has the stamp of its frame. The gate runs on CLOCK_BOOTTIME as it is.

A policy without a [camera] has no gate file: cameras take a file that is missing or old for a
closed gate.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from agent.capture.drives import Drives
from agent.capture.keeper import GateWriter
from agent.capture.records import Seals
from agent.capture.steady import Steady
from agent.frames import SignalBatch
from agent.pb.moment_pb2 import Moment
from agent.pb.record_pb2 import CameraRecord, Record
from agent.pb.sealed_pb2 import EVENT, OWNER
from agent.policy.camera import CLOSED, PARKED_CATEGORY, CameraGate, Decision, GateStep
from agent.policy.conditions import Conditions
from agent.policy.events import Events, Fired, Merged
from agent.policy.model import Policy
from agent.policy.zones import Zones

# A condition costs the same for one sample as for fifty: so events are looked for less often than
# frames come. The gate is not: it has to close within 200 ms.
EVENTS_NS: Final = 400_000_000
EVENTS_BATCHES: Final = 32  # a recorded log comes faster than that


@dataclass(frozen=True, slots=True)
class Seen:
    """What the clauses made of a batch.

    Attributes:
        camera: records that were sealed.
        place_closed: what tells the position in this batch is not to be kept.
    """

    camera: int
    place_closed: bool


class Clauses:
    """The clauses of one policy.

    Args:
        policy: in force.
        zones: of its camera, opened; None: it has none or they cannot be opened.
        drives: counts the drives; it outlives the policy.
        gate: the file that cameras watch.
        seals: seals camera records.
        steady: knows when the clock was set.

    Attributes:
        decision: of the camera gate.
    """

    def __init__(
        self, policy: Policy, *, zones: Zones | None, drives: Drives, gate: GateWriter,
        seals: Seals, steady: Steady,
    ) -> None:  # fmt: skip
        self._policy, self._drives, self._file, self._seals = policy, drives, gate, seals
        self._steady = steady
        self._driving = Conditions([policy.driving] if policy.driving else [], policy)
        self._events = Events(policy) if policy.events else None
        self._gate = CameraGate(policy, zones) if policy.camera else None
        # For the events: samples as they came, and with steady stamps.
        self._waiting: list[tuple[SignalBatch, SignalBatch]] = []
        self._looked_ns = 0
        self.decision: Decision = CLOSED

    def see(self, watched: SignalBatch, now: Moment, *, consented: frozenset[str]) -> Seen:
        """Take the samples of a batch; an empty one lets time pass.

        Args:
            watched: samples of watch points, whole frames, in arrival order.
            now: when the batch ended.
            consented: categories with a consent in force.

        Raises:
            SpoolError: the storage failed.
        """
        steady = self._steady.samples(watched)
        if self._events is not None and len(watched):
            self._waiting.append((watched, steady))
        for truth in self._driving.update(steady):
            self._drives.see(truth.true, now.boottime_ns)
        if self._gate is None:
            return Seen(0, place_closed=False)
        step = self._gate.update(
            watched, now.boottime_ns, driving=self._drives.driving, consented=consented
        )
        self.decision = step.decision
        self._file.write(step.decision, now.boottime_ns)
        return Seen(self._note(step, now), step.place_closed)

    def events(
        self, now: Moment, *, open_incidents: Set[str], at_once: bool = False
    ) -> Sequence[Fired | Merged]:
        """Return the events of the batches so far, a few batches at a time.

        Args:
            now: this step.
            open_incidents: rules whose last event is still open.
            at_once: do not wait for more: this policy has ended.
        """
        if self._events is None or not self._waiting:
            return ()
        since_ns = now.boottime_ns - self._looked_ns
        if not at_once and since_ns < EVENTS_NS and len(self._waiting) < EVENTS_BATCHES:
            return ()
        self._looked_ns = now.boottime_ns
        watched, steady = (np.concatenate(side) for side in zip(*self._waiting, strict=True))
        self._waiting = []
        news = self._events.update(steady, open_incidents=open_incidents)
        return [replace(one, stamp_ns=_as_it_came(one, watched, steady)) for one in news]

    def end(self, now: Moment) -> int:
        """Close the gate: before another policy decides, and at the end of a run.

        Returns:
            Camera records that were still sealed.

        Raises:
            SpoolError: the storage failed.
        """
        if self._gate is None:
            return 0
        self.decision = CLOSED
        self._file.close(now.boottime_ns)
        return self._note(self._gate.finish(), now)

    def _note(self, step: GateStep, now: Moment) -> int:
        camera = self._policy.camera
        assert camera is not None  # or there is no gate
        for found, recipients, consent in (
            (step.records, camera.why.recipients, ""),
            (step.owner_records, OWNER, PARKED_CATEGORY),
        ):
            if found:
                self._seals.seal(
                    [_wrap(one) for one in found], now, lane=EVENT, recipients=recipients,
                    keep_s=camera.keep_s, consent=consent,
                )  # fmt: skip
        return len(step.records) + len(step.owner_records)


def _as_it_came(event: Fired | Merged, watched: SignalBatch, steady: SignalBatch) -> int:
    """Return the stamp of an event's frame as the kernel made it."""
    (rows,) = np.nonzero(steady["timestamp_ns"] == event.stamp_ns)
    return int(watched["timestamp_ns"][rows[0]])


def _wrap(record: CameraRecord) -> Record:
    wrapped = Record()
    wrapped.camera.CopyFrom(record)
    return wrapped
