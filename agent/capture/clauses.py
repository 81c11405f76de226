"""The clauses of the policy in force at work: driving, events and the camera gate, batch by batch.

They see the samples of watch points and nothing else. What they find is handed to whoever acts on
it; only the gate file is written here, in the step in which the gate has decided. The gate is shown
every batch at once, since it has to close within 200 ms; events may wait.

A policy without a [camera] has no gate file: cameras take a file that is missing or old for a
closed gate.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass

from agent.capture.drives import Drives
from agent.capture.keeper import GateWriter
from agent.capture.records import Seals
from agent.frames import SignalBatch
from agent.pb.moment_pb2 import Moment
from agent.pb.record_pb2 import CameraRecord, Record
from agent.pb.sealed_pb2 import EVENT, OWNER
from agent.policy.camera import CLOSED, PARKED_CATEGORY, CameraGate, Decision, GateStep
from agent.policy.conditions import Conditions
from agent.policy.events import Events, Fired, Merged
from agent.policy.model import Policy
from agent.policy.watching import Watching
from agent.policy.zones import Zones


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

    Attributes:
        decision: of the camera gate.
        has_gate: the policy has one.
    """

    def __init__(
        self, policy: Policy, *, zones: Zones | None, drives: Drives, gate: GateWriter, seals: Seals
    ) -> None:
        self._policy, self._drives, self._file, self._seals = policy, drives, gate, seals
        self._watching = Watching(policy)
        self._driving = Conditions([policy.driving] if policy.driving else [], policy)
        self._events = Events(policy) if policy.events else None
        self._gate = CameraGate(policy, zones) if policy.camera else None
        self.has_gate = self._gate is not None
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
        seen = self._watching.batch(watched) if len(watched) else watched
        for truth in self._driving.update(seen):
            self._drives.see(truth.true, now.boottime_ns)
        if self._gate is None:
            return Seen(0, place_closed=False)
        step = self._gate.update(
            seen, now.boottime_ns, driving=self._drives.driving, consented=consented
        )
        self.decision = step.decision
        self._file.write(step.decision, now.boottime_ns)
        return Seen(self._note(step, now), step.place_closed)

    def events(self, watched: SignalBatch, *, open_incidents: Set[str]) -> Sequence[Fired | Merged]:
        """Return the events of a batch, in order.

        Args:
            watched: samples of watch points, whole frames, in arrival order.
            open_incidents: rules whose last event is still open.
        """
        if self._events is None:
            return ()
        return self._events.update(watched, open_incidents=open_incidents)

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


def _wrap(record: CameraRecord) -> Record:
    wrapped = Record()
    wrapped.camera.CopyFrom(record)
    return wrapped
