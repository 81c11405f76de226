"""Drives are counted over restarts and boots, and end when the bus is silent."""

from __future__ import annotations

import numpy as np

from agent.capture.drives import SILENT_NS, Drives

BOOT = b"b" * 16


class Memory:
    def __init__(self) -> None:
        self.value: bytes | None = None
        self.writes = 0

    def __call__(self, value: bytes) -> None:
        self.value, self.writes = value, self.writes + 1


def truths(*values: int) -> np.ndarray:
    return np.array(values, np.bool_)


def test_each_rising_edge_is_a_drive_and_so_is_a_boot():
    memory = Memory()
    drives = Drives(None, memory, BOOT)
    assert (drives.number, drives.driving) == (1, False)
    drives.see(truths(0, 1, 1), 1)
    drives.see(truths(1, 0, 1), 2)
    assert (drives.number, drives.driving) == (3, True)
    writes = memory.writes
    drives.see(truths(1, 1), 3)
    assert memory.writes == writes  # only changes are worth a write
    assert Drives(memory.value, memory, b"c" * 16).number == 4


def test_a_restart_within_a_drive_is_no_new_one():
    memory = Memory()
    Drives(None, memory, BOOT).see(truths(1), 1)
    drives = Drives(memory.value, memory, BOOT)
    assert (drives.number, drives.driving) == (2, True)
    drives.see(truths(1), 5)
    assert drives.number == 2


def test_a_silent_bus_ends_the_drive_and_the_next_is_another():
    drives = Drives(None, Memory(), BOOT)
    drives.see(truths(1), 10)
    drives.see(truths(), 10 + SILENT_NS - 1)
    assert drives.driving
    drives.see(truths(), 10 + SILENT_NS)
    assert (drives.number, drives.driving) == (2, False)
    drives.see(truths(1), 11 + SILENT_NS)
    assert drives.number == 3


def test_what_is_remembered_ends_too_if_nothing_is_heard_after_a_restart():
    memory = Memory()
    Drives(None, memory, BOOT).see(truths(1), 1)
    drives = Drives(memory.value, memory, BOOT)
    drives.see(truths(), 1000)
    assert drives.driving
    drives.see(truths(), 1000 + SILENT_NS)
    assert not drives.driving


def test_a_damaged_memory_begins_anew():
    assert Drives(b"?", Memory(), BOOT).number == 1
