"""The queue between readers and sealer: bounded, counted, patient where asked."""

from __future__ import annotations

import threading

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from agent.capture.queue import TICK_S, Arrival, FrameQueue, until_tick
from agent.frames import FRAME


def arrival(rows: int, source: int = 0) -> Arrival:
    return Arrival(source, np.zeros(rows, FRAME))


def test_full_queue_refuses_without_waiting():
    queue = FrameQueue(10)
    assert queue.put(arrival(6))
    assert not queue.put(arrival(5))
    assert queue.put(arrival(4))
    assert queue.frames == 10


def test_drain_gives_oldest_first_and_frees_room():
    queue = FrameQueue(10)
    queue.put(arrival(4, 1))
    queue.put(arrival(4, 2))
    assert [a.source for a in queue.drain(4)] == [1]
    assert queue.put(arrival(6, 3))
    assert [a.source for a in queue.drain(100)] == [2, 3]
    assert queue.frames == 0


def test_patient_put_waits_for_room():
    queue = FrameQueue(10)
    queue.put(arrival(8))
    assert not queue.put_when_room(arrival(8), 0.01)
    done = threading.Event()

    def put() -> None:
        assert queue.put_when_room(arrival(8, 7), 10)
        done.set()

    thread = threading.Thread(target=put)
    thread.start()
    queue.drain(1)
    thread.join()
    assert done.is_set()
    assert [a.source for a in queue.drain(1)] == [7]


def test_whoever_waits_hears_of_a_batch():
    queue = FrameQueue(10)
    queue.wait(0.0)  # nothing is there, and it does not wait
    heard = threading.Event()

    def wait() -> None:
        queue.wait(60)
        heard.set()

    thread = threading.Thread(target=wait)
    thread.start()
    queue.put(arrival(1))
    thread.join()
    assert heard.is_set()
    queue.wait(60)  # it is still there


@given(st.floats(0, 1e9))
def test_ticks_are_the_same_for_all_readers(now_s: float):
    left_s = until_tick(now_s)
    assert 0 < left_s <= TICK_S
    ticks = (now_s + left_s) / TICK_S
    assert abs(ticks - round(ticks)) < 1e-3


def test_batch_larger_than_the_queue_passes_when_it_is_empty():
    queue = FrameQueue(10)
    assert queue.put_when_room(arrival(50), 0.01)
    assert not queue.put(arrival(1))
