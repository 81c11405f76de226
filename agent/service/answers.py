"""What capture answers at the hatch. Everything that comes in there is untrusted.

Uplink may take sealed entries and hand in receipts; it cannot delete, choose or read. The status is
a JSON object, the one that `inland status --json` prints.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Sequence
from typing import Any, Final

from agent.capture.queue import FrameQueue
from agent.capture.reader import Reader
from agent.capture.sealer import Sealer
from agent.config import Config
from agent.errors import InlandError
from agent.pb.delivery_pb2 import CheckpointUpload
from agent.pb.hatch_pb2 import Accepted, Batch, HatchReply, HatchRequest, LinkReport, Next
from agent.policy import consent_file
from agent.policy.camera import CLOSED
from agent.policy.consent import State
from agent.vault.vault import Vault

MAX_ENTRIES: Final = 256  # of one answer
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
    ) -> None:
        self._config, self._region, self._vault = config, region, vault
        self._sealer, self._queue, self._readers = sealer, queue, readers
        self._link = LinkReport()
        self._receipts = 0
        self._started_s = time.monotonic()

    def __call__(self, request: HatchRequest) -> HatchReply:
        """Return the reply to a request."""
        what = request.WhichOneof("what")
        if what == "next":
            return HatchReply(batch=self._next(request.next))
        if what == "deliver" and request.deliver.kind == "receipt":
            return HatchReply(accepted=self._receipt(request.deliver.payload))
        if what == "report":
            self._link = request.report
            return HatchReply(accepted=Accepted(valid=True))
        if what == "status":
            return HatchReply(status=json.dumps(self.status()).encode())
        if what == "checkpoint":
            return HatchReply(checkpoint=self._vault.checkpoint() or CheckpointUpload())
        return HatchReply(error="not a request that capture answers")

    def _next(self, request: Next) -> Batch:
        skip = {awaiting.log: awaiting.index for awaiting in request.skip}
        entries, pending = self._vault.take(
            min(request.count, MAX_ENTRIES), min(request.bytes, MAX_BYTES), skip
        )
        return Batch(entry=entries, pending=pending, trusted_unix_ns=self._vault.trusted()[0])

    def _receipt(self, payload: bytes) -> Accepted:
        confirmed, valid = self._vault.receipt(payload)
        self._receipts += confirmed
        return Accepted(confirmed=confirmed, valid=valid)

    def status(self) -> dict[str, Any]:
        """Return what the agent is doing, as plain values; sizes in bytes, times in s or ns."""
        counters = self._sealer.counters
        change = self._sealer.in_force
        policy = change.policy if change else None
        return {
            "vehicle": self._config.vehicle.id,
            "region": self._region,
            "uptime_s": round(time.monotonic() - self._started_s, 3),
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
            "recorder": {"recorded_s": round(self._sealer.recorded_ns / 1e9, 3)},
            "segments": counters.segments,
            "receipts": self._receipts,
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
        # What the running agent holds for ended has ended, even if the file does not say so yet.
        return {
            category: "ending" if state is State.GRANTED and category not in force.consented
            else state.value
            for category, state in states.items()
        }  # fmt: skip
