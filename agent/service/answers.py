"""What capture answers at the hatch. Everything that comes in there is untrusted.

Uplink may take sealed entries and hand in receipts; it cannot delete, choose or read. The status is
a JSON object, the one that `inland status --json` prints.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any, Final

from agent.capture.queue import FrameQueue
from agent.capture.reader import Reader
from agent.capture.sealer import Sealer
from agent.clock import boottime_s
from agent.config import Config
from agent.errors import InlandError
from agent.owner.presence import Presence
from agent.pb.delivery_pb2 import CheckpointUpload, PolicyQuestion
from agent.pb.hatch_pb2 import Accepted, Batch, HatchReply, HatchRequest, LinkReport
from agent.pb.moment_pb2 import ClockQuality
from agent.policy import consent_file
from agent.policy.camera import CLOSED
from agent.policy.consent import State
from agent.service.policy_fetch import PolicyFetch
from agent.vault.vault import Vault

MAX_ENTRIES: Final = 256  # of one answer
NO_ANSWER: Final = "not a request that capture answers"
MAX_BYTES: Final = 768 << 10  # of one answer: a message of the hatch is 1 MiB at most


class Answers:
    """Answers one request at a time; runs in the hatch's thread.

    Args:
        config: for the names in the status.
        region: urn:inland:region:<id>.
        vault: gives entries, takes receipts.
        sealer: its counters.
        queue: its depth.
        readers: their states.
        fetch: gets policies that the region offers.
        presence: enrolls people; None: nobody can be.
    """

    def __init__(
        self,
        config: Config,
        region: str,
        *,
        vault: Vault,
        sealer: Sealer,
        queue: FrameQueue,
        readers: Sequence[Reader],
        fetch: PolicyFetch,
        presence: Presence | None = None,
    ) -> None:
        self._config, self._region, self._vault = config, region, vault
        self._sealer, self._queue, self._readers = sealer, queue, readers
        self._fetch, self._presence = fetch, presence
        self._link = LinkReport()
        self._receipts = 0
        self._started_s = boottime_s()

    def __call__(self, request: HatchRequest) -> HatchReply:
        """Return the reply to a request."""
        answer = {
            "next": self._next,
            "deliver": self._deliver,
            "report": self._report,
            "status": self._status,
            "checkpoint": self._checkpoint,
            "policy": self._policy,
            "presence": self._ask_for_presence,
        }.get(request.WhichOneof("what") or "")
        return answer(request) if answer else HatchReply(error=NO_ANSWER)

    def _deliver(self, request: HatchRequest) -> HatchReply:
        payload = request.deliver.payload
        if request.deliver.kind == "receipt":
            return HatchReply(accepted=self._receipt(payload))
        if request.deliver.kind == "policy":
            return HatchReply(accepted=self._fetch.chunk(payload))
        return HatchReply(error=NO_ANSWER)

    def _report(self, request: HatchRequest) -> HatchReply:
        self._link = request.report
        return HatchReply(accepted=Accepted(valid=True))

    def _status(self, _request: HatchRequest) -> HatchReply:
        return HatchReply(status=json.dumps(self.status()).encode())

    def _checkpoint(self, request: HatchRequest) -> HatchReply:
        upload = self._vault.checkpoint(now=request.checkpoint.now)
        return HatchReply(checkpoint=upload or CheckpointUpload())

    def _policy(self, _request: HatchRequest) -> HatchReply:
        return HatchReply(policy=self._fetch.wanted() or PolicyQuestion())

    def _ask_for_presence(self, request: HatchRequest) -> HatchReply:
        if self._presence is None:
            return HatchReply(error=NO_ANSWER)
        return HatchReply(presence=self._presence.answer(request.presence))

    def _next(self, request: HatchRequest) -> HatchReply:
        asked = request.next
        skip = {awaiting.log: awaiting.index for awaiting in asked.skip}
        entries, pending = self._vault.take(
            min(asked.count, MAX_ENTRIES), min(asked.bytes, MAX_BYTES), skip
        )
        trusted_ns, quality = self._vault.trusted()
        return HatchReply(
            batch=Batch(
                entry=entries,
                pending=pending,
                trusted_unix_ns=trusted_ns,
                quality=ClockQuality.Name(quality),
                head_wanted=self._vault.wants_head(),
            )
        )

    def _receipt(self, payload: bytes) -> Accepted:
        confirmed, valid = self._vault.receipt(payload)
        self._receipts += confirmed
        wants = self._fetch.named(self._vault.offered[1])
        return Accepted(confirmed=confirmed, valid=valid, wants_policy=wants)

    def status(self) -> dict[str, Any]:
        """Return what the agent is doing, as plain values; sizes in bytes, times in s or ns."""
        counters = self._sealer.counters
        change = self._sealer.in_force
        policy = change.policy if change else None
        return {
            "vehicle": self._config.vehicle.id,
            "region": self._region,
            "uptime_s": round(boottime_s() - self._started_s, 3),
            "policy": {
                "name": policy.name if policy else None,
                "version": policy.version if policy else None,
                "why": change.why if change else "starting",
            },
            "buses": [
                {"name": reader.name, "state": reader.state, "received": reader.received}
                for reader in self._readers
            ],
            "frames": {
                "received": counters.frames,
                "kept": counters.kept,
                "lost": counters.lost,
                "waiting": self._queue.frames,
            },
            "samples": counters.samples,
            "events": dataclasses.asdict(counters.events),
            "gate": self._gate(),
            "consents": self._consents(),
            "people": {
                "enrolled": self._sealer.people.count,
                "driving": self._sealer.people.driving,
            },
            "recorder": {"recorded_s": round(self._sealer.recorded_ns / 1e9, 3)},
            "segments": counters.segments,
            "receipts": self._receipts,
            "policy_update": self._fetch.status(),
            "spool": dataclasses.asdict(self._vault.status()),
            "link": {
                "connected": self._link.connected,
                "peer": self._link.peer,
                "last_error": self._link.last_error,
                "connects": self._link.connects,
                "sent": self._link.sent,
                "refused": dict(self._link.refused),
            },
        }

    def _gate(self) -> dict[str, str]:
        force = self._sealer.force
        decision = force.decision if force is not None else CLOSED
        return {"decision": "open" if decision.open else "closed", "reason": decision.reason}

    def _consents(self) -> dict[str, str]:
        """Return where the consent to each category of the policy stands."""
        force = self._sealer.force
        if force is None or not force.policy.consents:
            return {}
        wanted = [term.category for term in force.policy.consents]
        try:
            book = consent_file.read(self._config.state / consent_file.FILE)
        except InlandError:
            return dict.fromkeys(wanted, "unreadable")
        states = {category: book.state(category) for category in wanted}
        # The file and the running agent may differ for a moment. Nobody is told "withdrawn" while
        # frames are still kept, or "granted" of what the agent holds for ended.
        consented = force.consented
        return {
            category: state.value if (state is State.GRANTED) == (category in consented)
            else "changing"
            for category, state in states.items()
        }  # fmt: skip
