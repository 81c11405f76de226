"""Events: what is noted of a trigger, and which part of the recorder's window it holds.

- What happened stands in a sealed EventRecord, sealed when the trigger comes and again when all is
  over; the public entry names only the segments that are kept because of it.
- An event that holds is *open* until its `after` is recorded and sealed, or until the recorder has
  been silent for 10 s: a car that stands still is not recorded any further, nor is one that slept
  as long. A new policy and the end of the run interrupt it. What an interrupted run left open is
  closed at the next start.
- An edge while an event of its rule is open, or within `retrigger` of it, belongs to it.
- Beyond `at_most` in a period (hours or days of trusted time, see `limits.py`) events are counted
  in an entry, once a minute at most.
- Events are numbered. The number is remembered before the record is sealed: a power cut may leave a
  number out, and never gives one twice.

Moments, stamps and ids come from the caller.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from agent.capture.keeper import Keeper
from agent.capture.limits import Limits
from agent.capture.recorded import Axis
from agent.capture.records import Seals
from agent.pb.ledger_pb2 import Incident, Range
from agent.pb.moment_pb2 import Moment
from agent.pb.record_pb2 import EventRecord, Record
from agent.pb.sealed_pb2 import EVENT, INCIDENT
from agent.policy.clauses import EventRule
from agent.policy.events import Fired, Merged
from agent.vault.segment import Piece
from agent.vault.vault import Vault

SILENT_NS: Final = 10 * 10**9  # without recorded time, and `after` is over
AGAIN_NS: Final = 10 * 10**9  # between two seals of a closed event whose edges go on
REPEAT_NS: Final = 60 * 10**9  # between two entries of suppressed events
ID_BYTES: Final = 16
NUMBER_BYTES: Final = 8
KEY: Final = "events"


@dataclass(slots=True)
class Tally:
    """Events since the start, for the status."""

    recorded: int = 0
    merged: int = 0
    suppressed: int = 0
    open: int = 0


@dataclass(slots=True)
class _Event:
    """One that was recorded; the last of its rule."""

    rule: EventRule
    record: EventRecord
    index: int  # of its first record
    at_ns: int  # where the trigger stands on the axis
    sealed_ns: int  # when it was sealed last, CLOCK_BOOTTIME
    is_open: bool
    is_stale: bool = False  # edges came since it was sealed


def close_interrupted(vault: Vault) -> None:
    """Close what an interrupted run left open: at the start, before anything is decided.

    Raises:
        SpoolError: the storage failed.
    """
    for hold in vault.holds():
        vault.release(hold.record, state=Incident.INTERRUPTED)


class Incidents:
    """The events of one policy.

    Args:
        vault: releases segments, remembers counts.
        seals: seals records under the policy.
        limits: counts events by rule.
        rng: returns so many random bytes.
        version: of the agent.
        tally: counted on.
    """

    def __init__(
        self, vault: Keeper, seals: Seals, limits: Limits, *, rng: Callable[[int], bytes],
        version: str, tally: Tally,
    ) -> None:  # fmt: skip
        self._vault, self._seals, self._rng, self._version = vault, seals, rng, version
        self._limits = limits
        limits.follow(seals.policy.events)
        self._number = int.from_bytes(vault.remembered(KEY) or b"", "big")  # of the last event
        self._last: dict[str, _Event] = {}  # by rule
        self._suppressed = 0  # not yet in an entry
        self._told_ns: int | None = None
        self._axis_ns, self._moved_ns = -1, 0
        self._looked_ns, self._end_ns = 0, -1  # CLOCK_BOOTTIME, and the axis, at the last step
        self.tally = tally

    @property
    def open(self) -> frozenset[str]:
        """The rules whose last event is still open."""
        return frozenset(rule for rule, event in self._last.items() if event.is_open)

    def take(self, news: Sequence[Fired | Merged], axis: Axis, now: Moment) -> list[str]:
        """Note events; the recorder has taken the frames of the same batch before.

        Returns:
            The rules of the events that were recorded.

        Raises:
            SpoolError: the storage failed.
        """
        recorded = []
        for one in news:
            last = self._last.get(one.rule.id)
            if isinstance(one, Fired) and not (last is not None and last.is_open):
                if self._begin(one, axis.at(one.stamp_ns), now):
                    recorded.append(one.rule.id)
            elif last is not None:
                last.record.triggers += 1
                last.is_stale = True
                self.tally.merged += 1
        return recorded

    def follow(self, sealed_ns: int, end_ns: int, now: Moment) -> None:
        """Close what is over, and write down what waited.

        Args:
            sealed_ns: the end of the axis, as far as it is sealed.
            end_ns: the end of the axis.
            now: this step.

        Raises:
            SpoolError: the storage failed.
        """
        slept_before_ns = self._slept(end_ns, now)
        if sealed_ns != self._axis_ns:
            self._axis_ns, self._moved_ns = sealed_ns, now.boottime_ns
        for event in self._last.values():
            if event.is_open:
                since_ns = max(self._moved_ns, event.sealed_ns)
                began_ns = event.record.at.boottime_ns
                silent = began_ns <= slept_before_ns or now.boottime_ns - since_ns >= SILENT_NS
                if silent or sealed_ns >= event.at_ns + event.rule.after_ns:
                    self._end(event, now, complete=True)
            elif event.is_stale and now.boottime_ns - event.sealed_ns >= AGAIN_NS:
                self._seal(event, now)
        if self._told_ns is None or now.boottime_ns - self._told_ns >= REPEAT_NS:
            self._tell(now)

    def _slept(self, end_ns: int, now: Moment) -> int:
        """Return when the car fell asleep, CLOCK_BOOTTIME, if it did since the last step; else -1.

        Time went by that is not recorded. After a stall of ours the frames of that time come.
        """
        before_ns, recorded_ns = self._looked_ns, end_ns - self._end_ns
        is_first, self._looked_ns, self._end_ns = self._end_ns < 0, now.boottime_ns, end_ns
        slept = now.boottime_ns - before_ns - recorded_ns >= SILENT_NS
        return before_ns if slept and not is_first else -1

    def interrupt(self, now: Moment) -> None:
        """Close everything: before another policy decides, and at the end of a run.

        Raises:
            SpoolError: the storage failed.
        """
        for event in self._last.values():
            if event.is_open:
                self._end(event, now, complete=False)
            elif event.is_stale:
                self._seal(event, now)
        self._last.clear()
        self._tell(now)

    def _begin(self, fired: Fired, at_ns: int, now: Moment) -> bool:
        """Record an event, unless there were too many or it cannot be stored."""
        rule, limits = fired.rule, self._limits
        if rule.at_most and limits.so_far(rule, now.unix_ns) >= rule.at_most:
            self._last.pop(rule.id, None)  # its edges belong to an event that is not recorded
            self._suppressed += 1
            self.tally.suppressed += 1
            return False
        number = self._number + 1
        self._vault.remember(KEY, number.to_bytes(NUMBER_BYTES, "big"))
        record = EventRecord(
            id=self._rng(ID_BYTES), rule=rule.id, trigger=rule.when.text, stamp_ns=fired.stamp_ns,
            at=now, number=number, triggers=1,
            since_previous_ms=limits.since_last_ns(now) // 10**6,
            complete=not rule.holds, before_ns=min(rule.before_ns, at_ns), snapshot=fired.snapshot,
            policy=self._seals.policy.name, policy_version=self._seals.policy.version,
            agent_version=self._version,
        )  # fmt: skip
        event = _Event(rule, record, -1, at_ns, now.boottime_ns, is_open=rule.holds)
        # With the record, or not at all: a power cut leaves no record whose drive is rolled away.
        index = self._seal(event, now, holds=Piece(
            at_ns - record.before_ns, at_ns + rule.after_ns, rule.upload, rule.keep_s
        ) if rule.holds else None)  # fmt: skip
        if index is None:
            return False
        event.index = index
        self.tally.open += rule.holds
        self._number = number
        limits.add(rule, now)
        self._last[rule.id] = event
        self.tally.recorded += 1
        return True

    def _end(self, event: _Event, now: Moment, *, complete: bool) -> None:
        state = Incident.COMPLETE if complete else Incident.INTERRUPTED
        held: list[Range] = []
        # A damaged spool that is exchanged may have closed it, if a new record got the same index.
        if any(hold.record == event.index for hold in self._vault.holds()):
            held, _ = self._vault.release(event.index, state=state)
        event.is_open = False
        self.tally.open -= 1
        record = event.record
        record.complete = complete
        record.after_ns = max(0, min(event.rule.after_ns, self._axis_ns - event.at_ns))
        record.held.extend(held)
        self._seal(event, now)

    def _seal(self, event: _Event, now: Moment, *, holds: Piece | None = None) -> int | None:
        """Seal what is known of an event; None if it could not be stored, which is counted."""
        event.sealed_ns, event.is_stale = now.boottime_ns, False
        rule = event.rule
        copy = Record()
        copy.event.CopyFrom(event.record)
        return self._seals.seal(
            [copy], now, lane=INCIDENT if rule.holds else EVENT,
            recipients=rule.why.recipients, keep_s=rule.keep_s, holds=holds,
        )  # fmt: skip

    def _tell(self, now: Moment) -> None:
        if self._suppressed:
            self._vault.record(Incident(state=Incident.SUPPRESSED, count=self._suppressed))
            self._suppressed, self._told_ns = 0, now.boottime_ns
