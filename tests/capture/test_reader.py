"""A reader never dies silently and loses nothing uncounted."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from agent.capture.queue import FrameQueue
from agent.capture.reader import Reader
from agent.errors import BusDownError, BusError, ConfigError
from agent.frames import FRAME
from agent.pb.ledger_pb2 import Loss


class ScriptedBus:
    """A bus whose every read is written down beforehand: a row count, or an error."""

    def __init__(self, script: list[object]) -> None:
        self.script, self.ended, self.closed = iter(script), False, False
        self.filters: list[object] = []
        self.lost: list[tuple[str, int, int]] = []
        self.name = "can0"

    def recv_batch(self, timeout_s: float):
        what = next(self.script, "end")
        if isinstance(what, Exception):
            raise what
        if what == "end":
            self.ended = True
            what = 0
        return np.zeros(what, FRAME)

    def losses(self):
        lost, self.lost = self.lost, []
        return lost

    def set_filters(self, filters):
        self.filters.append(filters)

    def close(self):
        self.closed = True


def reader_of(
    buses: list[object], *, capacity: int = 100, patient: bool = False,
    clock_s: Callable[[], float] = lambda: 0.0,
):  # fmt: skip
    queue = FrameQueue(capacity)
    notices: list[tuple[str, str]] = []
    supply: Iterator[object] = iter(buses)

    def open_bus():
        bus = next(supply)
        if isinstance(bus, Exception):
            raise bus
        return bus

    def notice(channel: str, state: str) -> None:
        notices.append((channel, state))

    reader = Reader(0, "can0", open_bus, queue, patient=patient, notice=notice, clock_s=clock_s)
    return reader, queue, notices


def test_lost_interface_is_noticed_reopened_and_counted():
    first = ScriptedBus([5, BusError("network is down")])
    first.lost = [("can0", 3, Loss.KERNEL)]
    second = ScriptedBus([7])
    reader, queue, notices = reader_of([first, BusError("no such device"), second])
    reader.open_now()
    waits = [reader.step() for _ in range(5)]
    assert first.closed
    assert notices == [("can0", "down"), ("can0", "up")]
    assert sum(len(a.batch) for a in queue.drain(100)) == 12
    assert reader.losses() == [("can0", 3, Loss.KERNEL)]
    assert waits[1] > 0
    assert waits[2] > waits[1]  # back-off grows


def test_an_interface_that_only_comes_and_goes_is_opened_less_and_less_often():
    """Each coming and going is an entry: an adapter with a loose plug must not fill the ledger."""
    now = [0.0]
    buses = [ScriptedBus([1, BusError("gone")]) for _ in range(5)]
    reader, _, notices = reader_of(buses, clock_s=lambda: now[0])
    reader.open_now()
    waits = []
    for _ in range(5):
        assert reader.step() == 0.0
        waits.append(reader.step())
    assert waits == [0.2, 0.4, 0.8, 1.0, 1.0]
    assert len(notices) == 9


def test_an_interface_that_was_up_for_long_is_opened_again_soon():
    now = [0.0]
    buses = [ScriptedBus([1, BusError("gone")]) for _ in range(3)]
    reader, _, _ = reader_of(buses, clock_s=lambda: now[0])
    reader.open_now()
    waits = []
    for up_s in (1.0, 9.0, 10.0):
        reader.step()
        now[0] += up_s
        waits.append(reader.step())
    assert waits == [0.2, 0.4, 0.2]


def test_interface_that_is_down_stays_open_and_is_told_once():
    """A night with the interface down is two entries, not one every 200 ms."""
    down = BusDownError("the interface is down")
    bus = ScriptedBus([5, down, down, down, 7, 0])
    reader, queue, notices = reader_of([bus])
    reader.open_now()
    waits = [reader.step() for _ in range(6)]
    assert not bus.closed
    assert notices == [("can0", "down"), ("can0", "up")]
    assert sum(len(a.batch) for a in queue.drain(100)) == 12
    assert set(waits) == {0.0}  # the bus itself waits


def test_interface_that_comes_back_but_is_still_down_is_not_called_up():
    buses = [ScriptedBus([1, BusError("removed")]), ScriptedBus([BusDownError("down"), 1])]
    reader, _, notices = reader_of(list(buses))
    reader.open_now()
    for _ in range(4):
        reader.step()
    assert notices == [("can0", "down"), ("can0", "up")]


def test_interface_missing_at_start_is_waited_for():
    reader, _, notices = reader_of([BusError("no such device"), ScriptedBus([1])])
    reader.open_now()
    reader.step()
    assert notices == [("can0", "missing"), ("can0", "up")]


def test_wrong_setting_stops_the_start():
    reader, _, _ = reader_of([ConfigError("unknown key 'chanel'")])
    with pytest.raises(ConfigError):
        reader.open_now()


def test_full_queue_is_a_counted_loss():
    reader, _, _ = reader_of([ScriptedBus([8, 8])], capacity=10)
    reader.open_now()
    reader.step()
    reader.step()
    assert reader.losses() == [("can0", 8, Loss.QUEUE)]
    assert reader.losses() == []
    assert reader.received == 8


def test_log_waits_for_room_and_loses_nothing():
    reader, queue, _ = reader_of([ScriptedBus([8, 8])], capacity=10, patient=True)
    reader.open_now()
    got = 0
    for _ in range(10):
        reader.step()
        got += sum(len(a.batch) for a in queue.drain(100))
    assert got == 16
    assert reader.ended
    assert reader.losses() == []


def test_filters_reach_the_bus_and_a_reopened_one():
    first, second = ScriptedBus([1, BusError("gone")]), ScriptedBus([1])
    reader, _, _ = reader_of([first, second])
    reader.open_now()
    reader.set_filters([{"can_id": 1, "can_mask": 0x7FF, "extended": False}])
    for _ in range(3):
        reader.step()
    assert (
        first.filters == second.filters == [[{"can_id": 1, "can_mask": 0x7FF, "extended": False}]]
    )
