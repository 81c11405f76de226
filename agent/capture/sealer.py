"""From the queue to sealed segments: policy, recorder and vault in one thread.

Each step takes what waits and lets the policy in force decide (`force.py`); `wait` lets the next
one begin when the readers have brought more. Twice a second it looks for another policy and other
consents; once a second it writes down what was lost, rolls the recorder's window on and lets the
vault keep house; once an hour it accounts for what was kept.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from threading import Event
from typing import Final, Protocol

from agent.capture import drives
from agent.capture.accounts import MonthBook
from agent.capture.consent import ConsentSlot
from agent.capture.faults import Faults
from agent.capture.force import Counters, Force, Surroundings
from agent.capture.incidents import close_interrupted
from agent.capture.queue import FrameQueue
from agent.capture.reader import Reader
from agent.capture.recorded import Axis
from agent.capture.recorder import merge
from agent.capture.slot import Change, PolicySlot
from agent.capture.steady import Steady
from agent.frames import ChannelTable
from agent.pb.ledger_pb2 import BusState, Loss, PolicyInForce
from agent.pb.moment_pb2 import Moment
from agent.vault.enrolled import OwnerStep
from agent.vault.vault import Vault

STEP_S: Final = 0.15  # at most between two steps
LOOK_S: Final = 0.06  # at least, for a bus that does not keep to the ticks
SETTLE_S: Final = 0.015  # readers that keep to a tick hand over within this of each other
BATCH_FRAMES: Final = 16_384
LOOK_NS: Final = 500_000_000  # for another policy, for other consents
HOUSE_NS: Final = 1_000_000_000
HOUR_NS: Final = 3600 * 10**9
PROVEN_NS: Final = 600 * 10**9

log = logging.getLogger(__name__)


class Trial(Protocol):
    """Keeps count of starts under a policy that has not proved itself yet."""

    def began(self, digest: bytes, boottime_ns: int) -> bool:
        """Note that a policy is about to be used; return whether it was put back instead."""
        ...

    def proven(self) -> None:
        """Note that the policy in force has run for PROVEN_NS: it is no longer on trial."""
        ...

    def ended_clean(self) -> None:
        """Note that the run ends because it was told to."""
        ...


class Sealer:
    """One unit of work a step; the thread around it is the service's.

    Args:
        vault: where segments and entries go.
        queue: where the readers put batches.
        readers: asked for their losses, given the policy's filters.
        channels: names of the buses by number.
        slot: the policy in force.
        moment: reads the clocks.
        around: files and ids.
        trial: told about policies; None: none is ever put back.
    """

    def __init__(
        self, *, vault: Vault, queue: FrameQueue, readers: Sequence[Reader], channels: ChannelTable,
        slot: PolicySlot, moment: Callable[[], Moment], around: Surroundings,
        trial: Trial | None = None,
    ) -> None:  # fmt: skip
        self._vault, self._queue, self._readers = vault, queue, readers
        self._channels, self._slot, self._moment = channels, slot, moment
        self._around, self._trial = around, trial
        close_interrupted(vault)
        self._steady = Steady()
        self._axis = Axis(vault.recorded_ns(), self._steady)
        self._drives = drives.Drives(
            vault.remembered(drives.KEY), partial(vault.remember, drives.KEY), around.boot_id
        )
        self._book = MonthBook(vault)
        self._faults = Faults()
        self._notices: deque[tuple[str, str]] = deque(maxlen=1024)
        self._looked_ns = self._housed_ns = -HOUSE_NS
        self._accounted_ns = self._since_ns = 0
        self._began_s = 0.0  # the last step
        self._is_proven = True
        self.counters = Counters()
        self.in_force: Change | None = None
        self.force: Force | None = None
        self.consents: ConsentSlot | None = None
        self.people = OwnerStep()
        self.drained = False  # every bus has ended and all that was kept is sealed

    def notice(self, channel: str, state: str) -> None:
        """Take note of a bus that came or went; any thread."""
        self._notices.append((channel, state))

    @property
    def recorded_ns(self) -> int:
        """Recorded time since the log began, ns."""
        return self._axis.end_ns

    def step(self) -> float:
        """Do what is due; return how long to wait before the next step, in seconds."""
        now = self._moment()
        self._began_s = time.monotonic()
        if now.boottime_ns - self._looked_ns >= LOOK_NS:
            self._looked_ns = now.boottime_ns
            self._look(now)
        over = all(reader.ended for reader in self._readers) and bool(self._readers)
        busy = self._take(now)
        if self.force is not None:
            self.force.turn(now)
        if now.boottime_ns - self._housed_ns >= HOUSE_NS:
            self._housed_ns = now.boottime_ns
            self._keep_house(now)
        if over and not busy and not self.drained:
            self.finish()
            self.drained = True
        return 0.0 if busy else STEP_S

    def wait(self, stop: Event, seconds: float) -> None:
        """Wait until the readers have brought something, at most so long; less if told to stop."""
        self._queue.wait(seconds)
        pause_s = LOOK_S - (time.monotonic() - self._began_s)
        if len(self._readers) > 1:
            pause_s = max(pause_s, SETTLE_S)
        if seconds > 0 and pause_s > 0:
            stop.wait(pause_s)

    def finish(self) -> None:
        """Seal and close what is open and write down what was lost: at the end of a run."""
        while self._take(self._moment()):
            pass
        self._end(self._moment())
        self._keep_house(self._moment())
        self._note_overruns(self._faults.rest())
        if self._trial is not None:
            self._trial.ended_clean()

    def _take(self, now: Moment) -> bool:
        """Pass on what waits; return whether more than one step's worth was waiting."""
        arrivals = self._queue.drain(BATCH_FRAMES)
        clocks = self._vault.reading()  # after the last stamp of what was taken
        self._steady.look(clocks.wall_ns, clocks.boottime_ns)
        batch = merge(arrivals, self._steady)
        for number, state, count in self._faults.see(batch, now.boottime_ns):
            channel = self._channels.names[number]
            log.warning("bus %s: %s, %d error frames", channel, state, count)
            self._vault.record(BusState(channel=channel, state=state, count=count))
        self.counters.frames += len(batch)
        if self.force is not None:
            self.force.take(batch, now)
        return len(batch) >= BATCH_FRAMES

    def _end(self, now: Moment) -> None:
        if self.force is not None:
            self.force.end(now)

    def _look(self, now: Moment) -> None:
        self._look_at_owners(now)
        until_ns = self._vault.highest_ns()
        change = self._slot.look(until_ns)
        if change is not None:
            if change.policy is not None and self._is_put_back(change, now):
                change = self._slot.put_back(until_ns)
            self._put_in_force(change, now)
        self._look_at_consents(now)
        if not self._is_proven and now.boottime_ns - self._since_ns >= PROVEN_NS:
            self._is_proven = True
            if self._trial is not None:
                self._trial.proven()

    def _is_put_back(self, change: Change, now: Moment) -> bool:
        return self._trial is not None and self._trial.began(change.hash, now.boottime_ns)

    def _put_in_force(self, change: Change, now: Moment) -> None:
        self._end(now)  # first: no segment mixes two policies, no event is open under two
        entry = PolicyInForce(why=change.why)
        policy = change.policy
        self.force = None if policy is None else Force(
            policy, vault=self._vault, channels=self._channels, axis=self._axis,
            drives=self._drives, book=self._book, around=self._around, counters=self.counters,
        )  # fmt: skip
        if self.consents is not None:
            self.consents.begin_anew()
        self._set_filters()  # before anybody is told: from then on, what it wants is heard
        if policy is not None:
            entry.body, entry.name, entry.version = change.hash, policy.name, policy.version
        self._vault.decide_by(entry, change.data)
        if self._around.live is not None:
            self._around.live.decide(policy, change.data)
        self.in_force = change
        self._since_ns = self._accounted_ns = now.boottime_ns
        self._is_proven = policy is None
        log.info("policy %s: %s %s", change.why, entry.name or "none", entry.version or "")

    def _look_at_owners(self, now: Moment) -> None:
        """Seal to those who are enrolled now; what came before is theirs who were it then."""
        owners = self._around.owners
        step = owners.look() if owners is not None else None
        if owners is None or step is None:
            return
        if self.force is not None:
            self.force.hand_over(now)
        self._vault.admit(step.keys)
        if self._around.live is not None:
            self._around.live.admit(step.onlookers)
        for entry in step.entries:
            self._vault.record(entry)
        owners.entered()
        self.people = step

    def _look_at_consents(self, now: Moment) -> None:
        """Obey what people agreed to."""
        if self.force is None:
            return
        policy = self.force.policy
        if policy.consents and self.consents is None:
            self.consents = ConsentSlot(self._around.consents)
        if self.consents is None:
            return
        step = self.consents.look(
            policy, now, drive=self._drives.number,
            driving=policy.driving is None or self._drives.driving,
        )  # fmt: skip
        if step is None:
            return
        if self.force.consent(step):
            self._set_filters()
        for entry in step.entries:
            self._vault.record(entry)
        self.consents.entered()

    def _set_filters(self) -> None:
        for reader in self._readers:
            # Without a policy nothing passes: what nobody may keep is not even read.
            reader.set_filters(self.force.filters(reader.name) if self.force else [])

    def _keep_house(self, now: Moment) -> None:
        while self._notices:
            channel, state = self._notices.popleft()
            self._vault.record(BusState(channel=channel, state=state))
        for reader in self._readers:
            for channel, count, cause in reader.losses():
                self.counters.lost += count
                self._vault.record(Loss(channel=channel, count=count, cause=Loss.Cause.Name(cause)))
        self._note_overruns(self._faults.lost(now.boottime_ns))
        if self.force is not None:
            self.force.roll()
            if now.boottime_ns - self._accounted_ns >= HOUR_NS:
                self._accounted_ns = now.boottime_ns
                self.force.account(now)
        self._vault.housekeep()

    def _note_overruns(self, lost: Sequence[tuple[int, int]]) -> None:
        for number, count in lost:
            self.counters.lost += count
            channel = self._channels.names[number]
            log.warning("bus %s: the controller ran over %d times", channel, count)
            self._vault.record(Loss(channel=channel, count=count, cause=Loss.OVERRUN))
