"""Events: what is noted of a trigger, and which part of the recorder's window it holds.

- What happened stands in a sealed EventRecord, sealed when the trigger comes and again when all is
  over; the public entry names only the segments that are kept because of it.
- An event that holds is *open* until its `after` is recorded and sealed, or until the recorder has
  been silent for 10 s: a car that stands still is not recorded any further, nor is one that slept
  as long. A new policy and the end of the run interrupt it. What an interrupted run left open is
  closed at the next start.
- An edge while an event of its rule is open, or within `retrigger` of it, belongs to it.
- Beyond `at_most` in a period (UTC hours or days of trusted time, counted over restarts) events are
  counted in an entry, once a minute at most. The two latest periods are remembered, so that a clock
  that is set to and fro does not begin one anew each time.

Moments, stamps and ids come from the caller.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from agent.capture.keeper import Keeper
from agent.capture.recorded import Axis
from agent.capture.records import Seals
from agent.digest import sha256
from agent.pb.ledger_pb2 import Incident, Range
from agent.pb.moment_pb2 import Moment
from agent.pb.record_pb2 import EventRecord, Record
from agent.pb.sealed_pb2 import EVENT, INCIDENT
from agent.policy.clauses import EventRule
from agent.policy.events import Fired, Merged
from agent.vault.vault import Vault

SILENT_NS: Final = 10 * 10**9  # without recorded time, and `after` is over
AGAIN_NS: Final = 10 * 10**9  # between two seals of a closed event whose edges go on
REPEAT_NS: Final = 60 * 10**9  # between two entries of suppressed events
PERIODS: Final = 2
ID_BYTES: Final = 16
KEY: Final = "events"

log = logging.getLogger(__name__)


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


class _Counts:
    """What survives a restart: few bytes, and rules by a piece of the hash of their ids.

    Args:
        data: as packed; None: nothing yet.
        rules: of the policy in force; counts of others are forgotten.
    """

    def __init__(self, data: bytes | None, rules: Sequence[EventRule]) -> None:
        self.number = self.last_unix_ns = 0
        self._last_ns: int | None = None  # CLOCK_BOOTTIME, if the last one was in this run
        # By rule: the two latest periods, and how many in each.
        self._of_period: dict[str, dict[int, int]] = {}
        mine = {_short(rule) for rule in rules}
        try:
            told: dict[str, Any] = json.loads(data or b"{}")
            self.number, self.last_unix_ns = int(told.get("n", 0)), int(told.get("last", 0))
            for rule, counts in told.get("of", {}).items():
                if rule in mine:
                    numbers = list(map(int, counts))
                    self._of_period[rule] = dict(zip(numbers[::2], numbers[1::2], strict=True))
        except (ValueError, TypeError, AttributeError):
            log.error("the counts of events are damaged: they begin anew")

    def so_far(self, rule: EventRule, now_ns: int) -> int:
        """Return how many events of a rule were recorded in the present period."""
        return self._of_period.get(_short(rule), {}).get(_period(rule, now_ns), 0)

    def add(self, rule: EventRule, now: Moment) -> None:
        """Count an event that was recorded."""
        counts = self._of_period.setdefault(_short(rule), {})
        period = _period(rule, now.unix_ns)
        counts[period] = counts.pop(period, 0) + 1
        if len(counts) > PERIODS:
            del counts[next(iter(counts))]
        self.number, self.last_unix_ns, self._last_ns = (
            self.number + 1,
            now.unix_ns,
            now.boottime_ns,
        )

    def since_last_ns(self, now: Moment) -> int:
        """Return how long ago the last event was, ns; 0 if there was none."""
        if self._last_ns is not None:
            return now.boottime_ns - self._last_ns
        return max(0, now.unix_ns - self.last_unix_ns) if self.last_unix_ns else 0

    def pack(self) -> bytes:
        """Return what is remembered."""
        of = {
            rule: [one for pair in counts.items() for one in pair]
            for rule, counts in self._of_period.items()
        }
        told = {"n": self.number, "last": self.last_unix_ns, "of": of}
        return json.dumps(told, separators=(",", ":")).encode()


def _period(rule: EventRule, now_ns: int) -> int:
    return now_ns // rule.period_ns if rule.period_ns else 0


def _short(rule: EventRule) -> str:
    return sha256(rule.id.encode()).hex()[:12]


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
        vault: holds and releases segments, remembers counts.
        seals: seals records under the policy.
        rng: returns so many random bytes.
        version: of the agent.
        tally: counted on.
    """

    def __init__(
        self, vault: Keeper, seals: Seals, *, rng: Callable[[int], bytes], version: str,
        tally: Tally,
    ) -> None:  # fmt: skip
        self._vault, self._seals, self._rng, self._version = vault, seals, rng, version
        self._counts = _Counts(vault.remembered(KEY), seals.policy.events)
        self._last: dict[str, _Event] = {}  # by rule
        self._suppressed = 0  # not yet in an entry
        self._told_ns: int | None = None
        self._axis_ns, self._moved_ns = -1, 0
        self._followed_ns: int | None = None  # CLOCK_BOOTTIME of the last step
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
        if recorded:
            self._vault.remember(KEY, self._counts.pack())
        return recorded

    def follow(self, sealed_ns: int, now: Moment) -> None:
        """Close what is over, and write down what waited.

        Args:
            sealed_ns: the end of the axis, as far as it is sealed.
            now: this step.

        Raises:
            SpoolError: the storage failed.
        """
        before_ns, self._followed_ns = self._followed_ns, now.boottime_ns
        slept = before_ns is not None and now.boottime_ns - before_ns >= SILENT_NS
        if sealed_ns != self._axis_ns:
            self._axis_ns, self._moved_ns = sealed_ns, now.boottime_ns
        for event in self._last.values():
            if event.is_open:
                since_ns = max(self._moved_ns, event.sealed_ns)
                silent = slept or now.boottime_ns - since_ns >= SILENT_NS
                if silent or sealed_ns >= event.at_ns + event.rule.after_ns:
                    self._end(event, now, complete=True)
            elif event.is_stale and now.boottime_ns - event.sealed_ns >= AGAIN_NS:
                self._seal(event, now)
        if self._told_ns is None or now.boottime_ns - self._told_ns >= REPEAT_NS:
            self._tell(now)

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
        rule, counts = fired.rule, self._counts
        if rule.at_most and counts.so_far(rule, now.unix_ns) >= rule.at_most:
            self._last.pop(rule.id, None)  # its edges belong to an event that is not recorded
            self._suppressed += 1
            self.tally.suppressed += 1
            return False
        record = EventRecord(
            id=self._rng(ID_BYTES), rule=rule.id, trigger=rule.when.text, stamp_ns=fired.stamp_ns,
            at=now, number=counts.number + 1, triggers=1,
            since_previous_ms=counts.since_last_ns(now) // 10**6,
            complete=not rule.holds, before_ns=min(rule.before_ns, at_ns), snapshot=fired.snapshot,
            policy=self._seals.policy.name, policy_version=self._seals.policy.version,
            agent_version=self._version,
        )  # fmt: skip
        event = _Event(rule, record, -1, at_ns, now.boottime_ns, is_open=rule.holds)
        index = self._seal(event, now)
        if index is None:
            return False
        event.index = index
        if rule.holds:
            self._vault.hold(
                index, at_ns - record.before_ns, at_ns + rule.after_ns,
                upload=rule.upload, keep_s=rule.keep_s,
            )  # fmt: skip
            self.tally.open += 1
        counts.add(rule, now)
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

    def _seal(self, event: _Event, now: Moment) -> int | None:
        """Seal what is known of an event; None if it could not be stored, which is counted."""
        event.sealed_ns, event.is_stale = now.boottime_ns, False
        rule = event.rule
        copy = Record()
        copy.event.CopyFrom(event.record)
        return self._seals.seal(
            [copy], now, lane=INCIDENT if rule.holds else EVENT,
            recipients=rule.why.recipients, keep_s=rule.keep_s,
        )  # fmt: skip

    def _tell(self, now: Moment) -> None:
        if self._suppressed:
            self._vault.record(Incident(state=Incident.SUPPRESSED, count=self._suppressed))
            self._suppressed, self._told_ns = 0, now.boottime_ns
