"""The sealer on a real vault: policies that come, go and expire while frames flow."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from agent.capture.force import AHEAD_NS, Force
from agent.capture.queue import TICK_S, Arrival, FrameQueue
from agent.capture.sealer import HOUSE_NS, LOOK_NS, LOOK_S, SETTLE_S, STEP_S, Sealer
from agent.capture.slot import PolicySlot
from agent.frames import FRAME, ChannelTable
from agent.pb import ledger_pb2, sealed_pb2
from agent.pb.moment_pb2 import Moment
from agent.policy import store
from agent.vault.opening import open_session
from agent.vault.segment import Draft, decode_payload
from agent.vault.vault import Vault
from tests.capture.test_slot import NOW_NS, REGION, built
from tests.capture.world import surroundings
from tests.vault import world


class FakeReader:
    """A reader whose bus says nothing: the test fills the queue itself."""

    name, ended = "can0", False

    def __init__(self) -> None:
        self.filters: list[object] = []
        self.lost: list[tuple[str, int, int]] = []

    def set_filters(self, filters: object) -> None:
        self.filters.append(filters)

    def losses(self) -> list[tuple[str, int, int]]:
        lost, self.lost = self.lost, []
        return lost


class Bench:
    """A sealer with its vault and clocks that a test turns."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.boot_ns = folder / "policy", 10**12
        self.unix_ns = NOW_NS
        self.vault = Vault.open(
            folder / "state", identity=world.identity(), now=self.moment, rng=np.random.bytes,
            boot_id=bytes(16), version="0", quota_bytes=8 << 20,
        )  # fmt: skip
        self.queue, self.reader, self.channels = FrameQueue(10**6), FakeReader(), ChannelTable()
        self.channels.number("can0")
        self.sealer = Sealer(
            vault=self.vault, queue=self.queue, readers=[self.reader],  # type: ignore[list-item]
            channels=self.channels, slot=PolicySlot(self.folder, REGION), moment=self.moment,
            around=surroundings(folder, rng=np.random.bytes),
        )  # fmt: skip
        self.given = 0

    def moment(self) -> Moment:
        return Moment(unix_ns=self.unix_ns, boottime_ns=self.boot_ns)

    def step(self, frames: int = 0, pass_ns: int = 10**8) -> None:
        """Let time pass, let frames arrive, turn the sealer once."""
        self.boot_ns += pass_ns
        self.unix_ns += pass_ns
        batch = np.zeros(frames, FRAME)
        batch["timestamp_ns"] = (NOW_NS // 1000 + self.given + np.arange(frames)) * 1000
        if frames:
            self.queue.put(Arrival(0, batch))
        self.given += frames
        self.sealer.step()

    def entries(self) -> list[tuple[ledger_pb2.Entry, bytes]]:
        """The ledger with the bodies that go to the region."""
        outgoing, _ = self.vault.take(10_000, 1 << 30, {})
        found = [(ledger_pb2.Entry.FromString(o.upload.entry), o.upload.body) for o in outgoing]
        return sorted(found, key=lambda pair: pair[0].index)

    def kept(self) -> list[tuple[bytes, list[int]]]:
        """(first bytes of the policy's hash, numbers of its frames) of each segment."""
        found, session = [], None
        for entry, body in self.entries():
            if entry.WhichOneof("what") == "session":
                session = open_session(body, world.PRIVATES)
            if entry.WhichOneof("what") == "segment":
                assert session is not None
                rows = decode_payload(session.open_segment(body)).frames["timestamp_ns"]
                size = int.from_bytes(body[4:6], "big")
                header = sealed_pb2.SegmentHeader.FromString(body[6 : 6 + size])
                found.append((header.policy, ((rows - NOW_NS) // 1000).tolist()))
        return found

    def policies(self) -> list[tuple[int, str]]:
        """(version, why) of each policy entry."""
        entries = [entry for entry, _ in self.entries()]
        return [(e.policy.version, e.policy.why) for e in entries if e.HasField("policy")]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.vault.close()


def test_without_a_policy_nothing_is_kept_or_even_read(bench: Bench):
    bench.step(100)
    bench.sealer.finish()
    assert bench.kept() == []
    assert bench.reader.filters == [[]]
    assert bench.policies() == [(0, "started")]


def test_exchange_while_frames_flow_loses_and_mixes_nothing(bench: Bench, tmp_path: Path):
    both = [built(tmp_path, 1), built(tmp_path, 2)]
    for data in both:
        store.install(bench.folder, data)
        for _ in range(20):
            bench.step(37)
    bench.sealer.finish()
    names = [hashlib.sha256(data).digest()[:8] for data in both]
    kept = bench.kept()
    assert [n for _, numbers in kept for n in numbers] == list(range(bench.given))
    order = [names.index(policy) for policy, _ in kept]
    assert order == sorted(order)
    assert set(order) == {0, 1}
    # What came before the sealer looked again was decided by the policy that was in force.
    first = [n for policy, numbers in kept for n in numbers if policy == names[0]]
    assert 20 * 37 <= len(first) <= (20 + LOOK_NS // 10**8) * 37
    assert bench.policies() == [(1, "started"), (2, "installed")]


def test_forgotten_flush_at_an_exchange_is_caught(bench: Bench, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(Force, "end", lambda self, now: None)
    with pytest.raises(AssertionError):
        test_exchange_while_frames_flow_loses_and_mixes_nothing(bench, tmp_path)


@pytest.mark.parametrize("how", ["expired", "removed"])
def test_policy_that_ends_keeps_what_came_before_and_nothing_after(
    bench: Bench, tmp_path: Path, how: str
):
    store.install(bench.folder, built(tmp_path))
    bench.step(50)
    assert bench.sealer.in_force is not None
    assert bench.sealer.in_force.policy is not None
    if how == "expired":
        bench.unix_ns = bench.sealer.in_force.policy.not_after_ns
    else:
        (bench.folder / store.ACTIVE).unlink()
    bench.step(0, LOOK_NS)
    assert bench.sealer.in_force.policy is None
    assert bench.sealer.in_force.why == how
    for _ in range(20):
        bench.step(50)
    bench.sealer.finish()
    assert [n for _, numbers in bench.kept() for n in numbers] == list(range(50))
    assert bench.policies() == [(1, "started"), (0, how)]
    assert bench.reader.filters[-1] == []


class Stop:
    """Notes how long somebody waits for it."""

    def __init__(self) -> None:
        self.waited_s: list[float] = []

    def wait(self, seconds: float) -> bool:
        self.waited_s.append(seconds)
        return False


def test_steps_follow_the_frames_but_not_each_of_them(bench: Bench):
    stop = Stop()
    bench.queue.put(Arrival(0, np.zeros(1, FRAME)))
    bench.sealer.wait(stop, 60.0)  # type: ignore[arg-type]
    assert stop.waited_s == []  # the last step is long ago
    wait_s = bench.sealer.step()
    bench.queue.put(Arrival(0, np.zeros(1, FRAME)))
    bench.sealer.wait(stop, wait_s)  # type: ignore[arg-type]
    (waited_s,) = stop.waited_s
    assert 0 < waited_s <= LOOK_S
    bench.sealer._readers = [bench.reader, bench.reader]  # type: ignore[list-item]
    bench.sealer._began_s = 0.0
    bench.sealer.wait(stop, wait_s)  # type: ignore[arg-type]
    assert stop.waited_s.pop() == SETTLE_S  # what the other one brings is looked at with it
    bench.sealer.wait(stop, 0.0)  # type: ignore[arg-type] # there is more to do
    assert len(stop.waited_s) == 1


def test_a_gate_and_a_flush_have_their_time():
    """From a frame on the wire: its tick, and the look before it or the readers that lag."""
    assert TICK_S + max(LOOK_S, SETTLE_S) < 0.2
    assert (TICK_S + STEP_S) * 1e9 <= AHEAD_NS  # if nothing comes any more


def test_losses_are_entries_and_counted(bench: Bench, tmp_path: Path, monkeypatch):
    store.install(bench.folder, built(tmp_path))
    bench.step(10)
    bench.reader.lost = [("can0", 5, ledger_pb2.Loss.KERNEL)]
    bench.step(0, HOUSE_NS)
    losses = [e.loss for e, _ in bench.entries() if e.HasField("loss")]
    assert [(one.channel, one.count, one.cause) for one in losses] == [
        ("can0", 5, ledger_pb2.Loss.KERNEL)
    ]
    assert bench.sealer.counters.lost == 5

    def no_room(_: Draft) -> None:
        return None

    monkeypatch.setattr(bench.vault, "seal", no_room)
    bench.step(7)
    bench.sealer.finish()
    assert bench.sealer.counters.lost == 12
