"""Who looks on sees what was kept before the disk is asked for it; what comes later waits for it.

On a disk that stalls something happens meanwhile: here it is what the test wants to see then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.capture.force import Force
from agent.capture.live import LiveFeed
from agent.capture.queue import Arrival
from agent.frames import FRAME
from agent.pb.sealed_pb2 import REGION
from agent.vault.segment import Draft
from agent.vault.vault import Vault
from tests.capture import driving
from tests.capture.driving import DRIVE, Car, S

ROWS = [(DRIVE, bytes([number])) for number in range(7)]
LATE = 11  # frames that come during a stall


class Looked(Car):
    """A car at which somebody looks."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.vault.close()
        self.feed = LiveFeed()
        self.start(live=self.feed)
        self.slot.put(driving.policy(
            rules=(driving.rule("all", frames=(driving.EVERY,)),), events=(), recorder=None
        ))  # fmt: skip
        self.step()
        self.feed.wanted = frozenset({int(REGION)})
        self.feed.take()

    def seen(self) -> int:
        """How many frames the live thread finds now."""
        return sum(one.rows for one in self.feed.take() if isinstance(one, Draft))

    def bring(self) -> None:
        """As a reader does it: from another thread, whatever the sealer's is doing."""
        batch = np.zeros(LATE, FRAME)
        batch["timestamp_ns"], batch["arbitration_id"], batch["length"] = self.unix_ns, DRIVE, 1
        assert self.queue.put(Arrival(0, batch))


@pytest.fixture
def looked(tmp_path: Path) -> Iterator[Looked]:
    made = Looked(tmp_path)
    yield made
    made.vault.close()
    made.feed.close()


def stall(monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[], None]) -> None:
    """Have something happen whenever a segment is on its way to the disk."""
    seal = Vault.seal

    def stalled(vault: Vault, draft: Draft) -> int | None:
        meanwhile()
        return seal(vault, draft)

    monkeypatch.setattr(Vault, "seal", stalled)


def check_seen_before_the_disk_has_it(car: Looked, monkeypatch: pytest.MonkeyPatch) -> None:
    during: list[int] = []
    stall(monkeypatch, lambda: during.append(car.seen()))
    car.step(ROWS)  # opens a segment
    assert (car.seen(), during) == (len(ROWS), [])
    car.step(ROWS, 2 * S)  # closes it
    assert during[0] == len(ROWS)


def test_what_is_kept_is_seen_while_the_disk_stalls(looked: Looked, monkeypatch):
    check_seen_before_the_disk_has_it(looked, monkeypatch)


def test_the_check_finds_rows_that_wait_for_the_disk(looked: Looked, monkeypatch):
    keep = Force._keep

    def disk_first(force: Force, kept: Any, now: Any) -> None:
        live, force._live = force._live, None
        keep(force, kept, now)
        force._live = live
        assert live is not None
        live.keep(kept, force._channels.names, now)

    monkeypatch.setattr(Force, "_keep", disk_first)
    with pytest.raises(AssertionError):
        check_seen_before_the_disk_has_it(looked, monkeypatch)


def test_what_comes_during_a_stall_is_seen_after_it_and_none_is_lost(looked: Looked, monkeypatch):
    """One thread decides and stores: it waits for the step that is under way, and for no other.

    What came meanwhile is seen before the next step asks the disk for anything.
    """
    during: list[int] = []
    looked.step(ROWS)
    assert looked.seen() == len(ROWS)
    with monkeypatch.context() as first:
        stall(first, looked.bring)
        looked.step(ROWS, 2 * S)
    assert looked.queue.frames == LATE  # it waits
    assert looked.seen() == len(ROWS)
    stall(monkeypatch, lambda: during.append(looked.seen()))
    looked.step(pass_ns=2 * S)
    assert during == [LATE]
    looked.sealer.finish()
    assert looked.sealer.counters.lost == 0
    assert looked.sealer.counters.kept == 2 * len(ROWS) + LATE
