"""When an event happens: the rising edges of each [[event]]'s condition, storms merged.

- An edge is an instant at which the condition is true while it was not at the instant before, or
  there was none: after a restart, a condition that is true from the first instant on is an edge.
- An edge is a new event (`Fired`) unless it belongs to the last one (`Merged`): an incident of the
  rule is open, or the last event of the rule was less than `retrigger` ago by stamp. After a
  clock that stepped back by more than 1 s there is no telling how long ago that was: a new event.
- The snapshot shows the signals of the condition, then those of `snapshot`, each once, as they were
  when the frame had passed that made the condition true; no finer than `snapshot` says.

How many events are too many (`at_most`) and what is done about one is the caller's. Pure but for
what it remembers; a stream and the open incidents give the same events in whatever batches.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from operator import itemgetter

import numpy as np

from agent.frames import SignalBatch
from agent.pb import record_pb2
from agent.policy.clauses import EventRule, SignalSelector
from agent.policy.conditions import BACK_NS, Conditions, Latest, Truth
from agent.policy.model import Policy


@dataclass(frozen=True, slots=True)
class Fired:
    """A new event.

    Attributes:
        rule: whose.
        stamp_ns: of the frame that made the condition true.
        snapshot: values at that moment.
    """

    rule: EventRule
    stamp_ns: int
    snapshot: tuple[record_pb2.Value, ...]


@dataclass(frozen=True, slots=True)
class Merged:
    """An edge that belongs to the last event of its rule."""

    rule: EventRule
    stamp_ns: int


class Events:
    """Follows the [[event]]s of a policy."""

    def __init__(self, policy: Policy) -> None:
        self._rules = policy.events
        self._conditions = Conditions([rule.when for rule in policy.events], policy)
        self._latest = Latest(policy)
        self._last_ns: list[int | None] = [None] * len(self._rules)

    def update(
        self, watched: SignalBatch, *, open_incidents: Set[str] = frozenset()
    ) -> list[Fired | Merged]:
        """Return what happened in a batch, in order.

        Args:
            watched: samples of watch points, whole frames, in arrival order.
            open_incidents: ids of the rules whose last event still holds what comes after it. An
                event of this batch whose rule holds something is open to the end of the batch.
        """
        if not self._rules or not len(watched):
            return []
        self._latest.update(watched)
        before = [self._conditions.now(number) for number in range(len(self._rules))]
        edges = [
            (int(row), number, int(stamp))
            for number, truth in enumerate(self._conditions.update(watched))
            for row, stamp in _edges(truth, was_true=before[number])
        ]
        open_now = set(open_incidents)
        happened: list[Fired | Merged] = []
        for row, number, stamp_ns in sorted(edges, key=itemgetter(0, 1)):
            rule = self._rules[number]
            if rule.id in open_now or self._is_retrigger(number, stamp_ns):
                happened.append(Merged(rule, stamp_ns))
                continue
            self._last_ns[number] = stamp_ns
            if rule.holds:
                open_now.add(rule.id)
            happened.append(Fired(rule, stamp_ns, self._snapshot(rule, stamp_ns, row)))
        return happened

    def _is_retrigger(self, number: int, stamp_ns: int) -> bool:
        last_ns = self._last_ns[number]
        if last_ns is None:
            return False
        return -BACK_NS <= stamp_ns - last_ns < self._rules[number].retrigger_ns

    def _snapshot(self, rule: EventRule, stamp_ns: int, row: int) -> tuple[record_pb2.Value, ...]:
        found: dict[tuple[str, int], SignalSelector] = {}
        for one in (*(selector for _, selector in rule.when.terms), *rule.snapshot):
            before = found.setdefault((one.channel, one.signal), one)
            if one.grain > before.grain:
                found[one.channel, one.signal] = one
        selectors = tuple(found.values())
        return tuple(self._latest.snapshot(selectors, stamp_ns, row=row))


def _edges(truth: Truth, *, was_true: bool) -> list[tuple[int, int]]:
    """Return (row, stamp) of the instants at which a condition became true."""
    if truth.never or (truth.always and was_true) or 1 not in truth.true.tobytes():
        return []  # the usual cases
    before = np.append(was_true, truth.true[:-1])
    rising = np.flatnonzero(truth.true & ~before)
    return list(zip(truth.row[rising].tolist(), truth.at_ns[rising].tolist(), strict=True))
