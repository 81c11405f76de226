"""How much was kept: by rule in memory, by heading and month in the ledger.

- What a rule or an event kept in an hour is a diary, however it is counted: "hard-brake: 1". So the
  ledger gets one entry a month, which names categories, purposes and recipients and nothing else.
- The month so far is remembered over restarts, in the same form, once an hour, at a policy change
  and at the end of a run. What a power cut ends is not counted to the end: an hour at most.
- A month is over when something is entered after it, by trusted time: the entry may come late.

Clocks come from the caller.
"""

from __future__ import annotations

import datetime
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from google.protobuf.message import DecodeError

from agent.capture.keeper import Keeper
from agent.pb.ledger_pb2 import Amount, Kept
from agent.pb.sealed_pb2 import Recipients
from agent.policy.headings import CAMERA_ID as CAMERA
from agent.policy.headings import Heading, headings
from agent.policy.model import Policy

__all__ = ["CAMERA", "KEY", "Book", "MonthBook", "Use", "Uses"]

KEY: Final = "kept"

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Use:
    """What one rule, the recorder, an event or the camera kept."""

    frames: int = 0
    samples: int = 0
    records: int = 0


class Uses:
    """Counts by rule of one policy, since they were last taken."""

    def __init__(self) -> None:
        self._uses: dict[str, Use] = {}

    def add(self, counts: Mapping[str, tuple[int, int]]) -> None:
        """Add (frames, samples) by rule."""
        for rule, (frames, samples) in counts.items():
            if frames or samples:
                use = self._uses.setdefault(rule, Use())
                use.frames += frames
                use.samples += samples

    def note(self, rule: str, records: int) -> None:
        """Add records of an event, or of the camera."""
        self._uses.setdefault(rule, Use()).records += records

    def take(self) -> dict[str, Use]:
        """Return the counts and begin anew."""
        uses, self._uses = self._uses, {}
        return uses


class Book(Protocol):
    """Where counts go."""

    def enter(self, policy: Policy, uses: Mapping[str, Use], now_ns: int) -> None:
        """Enter what was kept under a policy since the last time.

        Args:
            policy: in force.
            uses: by rule or event id, "recorder", "camera".
            now_ns: trusted time, ns since the Unix epoch.

        Raises:
            SpoolError: the storage failed.
        """


class MonthBook:
    """The book of a car; it goes on over policies and restarts.

    Args:
        vault: remembers the month so far, and takes the entry when it is over.
    """

    def __init__(self, vault: Keeper) -> None:
        self._vault = vault
        try:
            self._month = Kept.FromString(vault.remembered(KEY) or b"")
        except DecodeError:
            log.error("the counts of this month are damaged: they begin anew")
            self._month = Kept()

    def enter(self, policy: Policy, uses: Mapping[str, Use], now_ns: int) -> None:
        """See `Book`."""
        month, before = _month_of(now_ns), self._month
        if before.month != month:
            if before.amount:
                # The entry first: a power cut before the next line enters it again, as it is.
                self._vault.record(before)
            self._month = Kept(month=month, number=before.number + 1)
        by_id = headings(policy)
        for rule, use in uses.items():
            self._add(*by_id[rule], use)
        self._vault.remember(KEY, self._month.SerializeToString(deterministic=True))

    def _add(self, heading: Heading, keep_s: int, use: Use) -> None:
        amount = self._amount(heading, keep_s)
        amount.frames += use.frames
        amount.samples += use.samples
        amount.records += use.records
        amount.shortest_keep_s = min(amount.shortest_keep_s, keep_s)
        amount.longest_keep_s = max(amount.longest_keep_s, keep_s)

    def _amount(self, heading: Heading, keep_s: int) -> Amount:
        for one in self._month.amount:
            if heading == Heading(one.category, one.purpose, one.recipients):
                return one
        return self._month.amount.add(
            category=heading.category, purpose=heading.purpose, shortest_keep_s=keep_s,
            recipients=Recipients.Name(Recipients.ValueType(heading.recipients)),
        )  # fmt: skip


def _month_of(unix_ns: int) -> str:
    when = datetime.datetime.fromtimestamp(unix_ns // 10**9, datetime.UTC)
    return when.strftime("%Y-%m")
