"""From the queue to sealed segments: policy, recorder and vault in one thread.

Each step takes what waits, asks the policy, lets the recorder fill segments, and has the vault seal
those that are due. Twice a second it looks for another policy; once a second it writes down what
was lost and lets the vault keep house.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from agent.capture.faults import Faults
from agent.capture.queue import FrameQueue
from agent.capture.reader import Reader
from agent.capture.recorder import Recorder, merge
from agent.capture.slot import Change, PolicySlot
from agent.digest import sha256
from agent.frames import ChannelTable
from agent.pb.ledger_pb2 import BusState, Loss, PolicyInForce
from agent.pb.moment_pb2 import Moment
from agent.policy.engine import Engine
from agent.vault.segment import Draft
from agent.vault.vault import Vault

STEP_S: Final = 0.1  # rows gather meanwhile: a batch costs far less per frame than a frame alone
# A frame may have waited so long in a reader, and the next look is a step away: a segment is closed
# so much early that none of its frames is unsealed for longer than its `flush`.
AHEAD_NS: Final = 200_000_000
BATCH_FRAMES: Final = 16_384
LOOK_NS: Final = 500_000_000  # for another policy
HOUSE_NS: Final = 1_000_000_000

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Counters:
    """What the sealer has done since the start, for the status."""

    frames: int = 0  # that reached the policy
    kept: int = 0  # frames that a rule wanted
    samples: int = 0  # signal samples that a rule wanted
    segments: int = 0
    lost: int = 0  # frames and samples that were wanted and are not kept


class Sealer:
    """One unit of work a step; the thread around it is the service's.

    Args:
        vault: where segments and entries go.
        queue: where the readers put batches.
        readers: asked for their losses, given the policy's filters.
        channels: names of the buses by number.
        slot: the policy in force.
        moment: reads the clocks.
    """

    def __init__(
        self,
        *,
        vault: Vault,
        queue: FrameQueue,
        readers: Sequence[Reader],
        channels: ChannelTable,
        slot: PolicySlot,
        moment: Callable[[], Moment],
    ) -> None:
        self._vault, self._queue, self._readers = vault, queue, readers
        self._channels, self._slot, self._moment = channels, slot, moment
        self._engine: Engine | None = None
        self._recorder: Recorder | None = None
        self._faults = Faults()
        self._notices: deque[tuple[str, str]] = deque(maxlen=1024)
        self._looked_ns = self._housed_ns = -HOUSE_NS
        self.counters = Counters()
        self.in_force: Change | None = None
        self.drained = False  # every bus has ended and all that was kept is sealed

    def notice(self, channel: str, state: str) -> None:
        """Take note of a bus that came or went; any thread."""
        self._notices.append((channel, state))

    def step(self) -> float:
        """Do what is due; return how long to wait before the next step, in seconds."""
        now = self._moment()
        if now.boottime_ns - self._looked_ns >= LOOK_NS:
            self._looked_ns = now.boottime_ns
            self._look(now)
        over = all(reader.ended for reader in self._readers) and bool(self._readers)
        busy = self._take(now)
        if self._recorder is not None:
            self._seal(self._recorder.due(self._channels.names, now, ahead_ns=AHEAD_NS))
        if now.boottime_ns - self._housed_ns >= HOUSE_NS:
            self._housed_ns = now.boottime_ns
            self._keep_house()
        if over and not busy and not self.drained:
            self.finish()
            self.drained = True
        return 0.0 if busy else STEP_S

    def finish(self) -> None:
        """Seal what is open and write down what was lost: at the end of a run."""
        while self._take(self._moment()):
            pass
        self._flush(self._moment())
        self._keep_house()

    def _take(self, now: Moment) -> bool:
        """Pass on what waits; return whether more than one step's worth was waiting."""
        arrivals = self._queue.drain(BATCH_FRAMES)
        batch = merge(arrivals)
        for number, state, count in self._faults.see(batch, now.boottime_ns):
            channel = self._channels.names[number]
            log.warning("bus %s: %s, %d error frames", channel, state, count)
            self._vault.record(BusState(channel=channel, state=state, count=count))
        if not arrivals:
            return False
        self.counters.frames += len(batch)
        if self._engine is not None and self._recorder is not None:
            kept = self._engine.decide(batch)
            self.counters.kept += sum(len(part.frames) for part in kept)
            self.counters.samples += sum(len(part.signals) for part in kept)
            self._seal(self._recorder.add(kept, self._channels.names, now))
        return len(batch) >= BATCH_FRAMES

    def _seal(self, drafts: list[Draft]) -> None:
        for draft in drafts:
            if self._vault.seal(draft) is not None:
                self.counters.segments += 1
            else:
                self.counters.lost += len(draft.frames) + len(draft.signals)

    def _flush(self, now: Moment) -> None:
        if self._recorder is not None:
            self._seal(self._recorder.flush(self._channels.names, now))

    def _look(self, now: Moment) -> None:
        change = self._slot.look(now.unix_ns)
        if change is None:
            return
        self._flush(now)  # first: no segment mixes two policies
        entry = PolicyInForce(why=change.why)
        if change.policy is None:
            self._engine = self._recorder = None
        else:
            entry.body, entry.name = change.hash, change.policy.name
            entry.version = change.policy.version
            self._engine = Engine(change.policy, self._channels)
            self._recorder = Recorder(
                policy_hash=change.hash,
                dictionary_hash=sha256(change.policy.dictionary),
            )
        self._vault.decide_by(entry, change.data)
        self.in_force = change
        for reader in self._readers:
            # Without a policy nothing passes: what nobody may keep is not even read.
            reader.set_filters(self._engine.kernel_filters(reader.name) if self._engine else [])
        log.info("policy %s: %s %s", change.why, entry.name or "none", entry.version or "")

    def _keep_house(self) -> None:
        while self._notices:
            channel, state = self._notices.popleft()
            self._vault.record(BusState(channel=channel, state=state))
        for reader in self._readers:
            for channel, count, cause in reader.losses():
                self.counters.lost += count
                self._vault.record(Loss(channel=channel, count=count, cause=Loss.Cause.Name(cause)))
        self._vault.housekeep()
