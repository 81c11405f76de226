"""What is kept now, on its way to people who may see it at once.

The sealer puts in what it hands to the recorder, and the records that it seals; the thread of the
live socket takes it out. What nobody who watches can open is not even put in, so without a reader
this costs the sealer a look at an empty set.

- The order is the sealer's own: what was kept before the people or the policy changed comes out
  before the change does.
- At most MAX_ROWS wait. Beyond that new rows are counted and gone, for the stream alone: segments
  are not touched by anything here. Their count comes out last.
- What waits under a consent that ends is thrown away, like the recorder's open rows.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Final

import numpy as np

from agent.capture.recorder import SAMPLE_COST, frame_costs, slices
from agent.digest import sha256
from agent.frames import FRAME, SIGNAL, FrameBatch, SignalBatch
from agent.pb.moment_pb2 import Moment
from agent.policy.engine import Kept
from agent.policy.model import Policy, RuleSet
from agent.vault.enrolled import Onlooker
from agent.vault.segment import Draft

MAX_ROWS: Final = 65_536  # two seconds of eight full buses
_NO_FRAMES: Final = np.zeros(0, FRAME)
_NO_SIGNALS: Final = np.zeros(0, SIGNAL)


@dataclass(frozen=True, slots=True)
class People:
    """From here on these may watch; whoever watched before may not go on."""

    onlookers: tuple[Onlooker, ...]


@dataclass(frozen=True, slots=True)
class Decides:
    """From here on this policy decides.

    Attributes:
        compiled: as its entry has it; empty: nothing is kept.
    """

    compiled: bytes


@dataclass(frozen=True, slots=True)
class Lost:
    """Rows that there was no room for here.

    Attributes:
        recipients: who would have seen them.
        frames: how many.
        samples: how many.
    """

    recipients: int
    frames: int
    samples: int


Item = People | Decides | Draft | Lost


class LiveFeed:
    """See the module. Two threads: the sealer's, and the one that takes."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._items: list[Item] = []
        self._rows = 0
        self._lost: dict[int, tuple[int, int]] = {}  # (frames, samples) by recipient set
        self._policy = self._dictionary = bytes(32)
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.wanted: frozenset[int] = frozenset()  # recipient sets that somebody watches

    # --- the sealer's thread ------------------------------------------------------------------

    def admit(self, onlookers: tuple[Onlooker, ...]) -> None:
        """Note who may watch from here on."""
        self._put([People(onlookers)])

    def decide(self, policy: Policy | None, compiled: bytes) -> None:
        """Note what decides from here on."""
        if policy is not None:
            self._policy, self._dictionary = policy.digest, sha256(policy.dictionary)
        self._put([Decides(compiled if policy is not None else b"")])

    def keep(self, kept: Sequence[Kept], channels: tuple[str, ...], now: Moment) -> None:
        """Hand on what was kept of one batch, as far as somebody watches."""
        found = []
        for part in kept:
            if part.rule_set.recipients not in self.wanted:
                continue
            for frames in slices(part.frames, frame_costs(part.frames)):
                found.append(self._draft(part.rule_set, channels, now, frames=frames))
            for signals in slices(part.signals, np.full(len(part.signals), SAMPLE_COST)):
                found.append(self._draft(part.rule_set, channels, now, signals=signals))
        if found:
            self._put(found)

    def note(self, draft: Draft) -> None:
        """Hand on the records of a draft, if somebody watches."""
        if draft.recipients in self.wanted:
            self._put([draft])

    def discard(self, category: str) -> None:
        """Throw away what waits under a consent that ended."""
        with self._lock:
            self._items = [
                one
                for one in self._items
                if not (isinstance(one, Draft) and one.consent == category)
            ]
            self._rows = sum(one.rows for one in self._items if isinstance(one, Draft))

    def _draft(
        self, rule_set: RuleSet, channels: tuple[str, ...], now: Moment, *,
        frames: FrameBatch = _NO_FRAMES, signals: SignalBatch = _NO_SIGNALS,
    ) -> Draft:  # fmt: skip
        return Draft(
            frames=frames, signals=signals, channels=channels, recipients=rule_set.recipients,
            lane=rule_set.lane, resolution_ns=rule_set.resolution_ns,
            keep_order=rule_set.keep_order, opened=now, closed=now, policy=self._policy,
            dictionary=self._dictionary, keep_s=0, consent=rule_set.consent,
        )  # fmt: skip

    def _put(self, items: Sequence[Item]) -> None:
        with self._lock:
            for item in items:
                if isinstance(item, Draft) and self._rows + item.rows > MAX_ROWS:
                    frames, samples = self._lost.get(item.recipients, (0, 0))
                    self._lost[item.recipients] = (
                        frames + len(item.frames), samples + len(item.signals),
                    )  # fmt: skip
                    continue
                self._items.append(item)
                self._rows += item.rows if isinstance(item, Draft) else 0
        os.eventfd_write(self._wake, 1)

    # --- the thread that takes ------------------------------------------------------------------

    def fileno(self) -> int:
        """Return what is readable while something waits."""
        return self._wake

    def take(self) -> list[Item]:
        """Return all that waits, in order."""
        try:
            os.eventfd_read(self._wake)
        except BlockingIOError:
            return []
        with self._lock:
            items, self._items, self._rows = self._items, [], 0
            items += [Lost(one, *count) for one, count in self._lost.items()]
            self._lost.clear()
        return items

    def close(self) -> None:
        """Close what wakes the thread; both threads are over."""
        os.close(self._wake)
