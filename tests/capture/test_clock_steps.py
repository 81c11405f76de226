"""The wall clock is set while frames flow: all that is kept is what would be kept without.

Random settings at random moments, from a wink to half a century, held against the same drive with
a clock that nobody touches: the same frames in the same order, each with the stamp that the kernel
gave it; the same samples, events, holds and camera records; the same black box.

What may differ, and how far:
- `every` cuts stamps into cells: a setting may begin one more cell, or make one longer.
- Up to 0.3 s, about as long as frames wait to be taken, a setting may be noticed that much too
  early: an event whose condition or `retrigger` looks back over it may come or not.
- What is set back before anybody looked shows in the frames alone: those of its time stand
  somewhere between those around them, in the order of their bus.
- Below 50 ms it is not noticed: for a tenth of a second frames of one bus may stand before those
  of another. Within a bus the order never changes.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from itertools import dropwhile, pairwise
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from agent.capture import recorded, recorder, sealer, steady
from agent.clock import STEP_NS
from tests.capture import stepping
from tests.capture.driving import NOW_NS, S
from tests.capture.stepping import MS, Frame, Outcome, Step, drive, frames_of, offset_at

WAIT_NS = 300 * MS
FRAME_NS = 22 * MS  # at most between two of a bus's signals
DRIVES = (1, 2, 3)


class Drives:
    """Some drives, each driven once with a clock that nobody sets."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._count = folder, 0
        self.frames = {seed: frames_of(seed) for seed in DRIVES}
        self._quiet: dict[int, Outcome] = {}

    def quiet(self, seed: int) -> Outcome:
        if seed not in self._quiet:
            self._quiet[seed] = self.drive(seed, [])
        return self._quiet[seed]

    def drive(self, seed: int, steps: list[Step]) -> Outcome:
        self._count += 1
        folder = self._folder / f"drive{self._count}"
        folder.mkdir()
        try:
            return drive(folder, self.frames[seed], steps, seed=seed)
        finally:
            shutil.rmtree(folder)


@pytest.fixture(scope="module")
def drives(empty_spool: Path) -> Any:
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(dir=memory) as folder:
        patch.setattr(
            "agent.vault.founding.migrate_apart", lambda path: shutil.copy(empty_spool, path)
        )
        yield Drives(Path(folder))


def check(drives: Drives, seed: int, steps: list[Step]) -> None:
    """Hold a drive with settings against the one without."""
    frames, quiet, found = drives.frames[seed], drives.quiet(seed), drives.drive(seed, steps)
    uncertain = uncertain_of(steps)
    placed = {(bus, int.from_bytes(data[-2:], "little")) for at, bus, _, data in frames
              if not any(begin <= at <= end for begin, end in uncertain)}  # fmt: skip

    def certain(order: list[tuple[int, int]]) -> list[tuple[int, int]]:
        return [one for one in order if one in placed]

    if all(abs(by) >= steady.NOISE_NS for _, by in steps):
        assert certain(found.order) == certain(quiet.order)
    for bus in range(len(stepping.BUSES)):
        assert by_bus(found, bus) == by_bus(quiet, bus)
    assert_stamps(frames, steps, found)
    assert found.changes == quiet.changes
    assert_samples(frames, steps, found)
    # A setting that is shorter than frames wait may be seen in full only with the next one.
    tiny = [at for at, _ in dropwhile(lambda step: not MS < abs(step[1]) <= WAIT_NS, steps)]
    # What changed under a clock that nobody saw is known to the frame, and no better.
    undone = stepping.undone(steps)
    tiny += [a for a, b in undone if stepping.changes(frames, a - FRAME_NS, b + FRAME_NS)]
    number = {int.from_bytes(data[-2:], "little"): at for at, bus, _, data in frames if not bus}

    def told(outcome: Outcome) -> list[tuple[object, ...]]:
        return [
            (one.rule, one.count, one.triggers, one.complete, one.held)
            for one in outcome.events
            if not any(0 <= number[one.count] - at + S <= stepping.REACH_NS + S for at in tiny)
            and not any(a - FRAME_NS <= number[one.count] <= b + FRAME_NS for a, b in undone)
        ]

    if tiny:  # holds begin and end up to so much sooner or later: whole segments, more or less
        assert [one[:4] for one in told(found)] == [one[:4] for one in told(quiet)]
    else:
        assert told(found) == told(quiet)
        assert (certain(found.box), set(found.box)) == (certain(quiet.box), set(quiet.box))
        assert found.holes == quiet.holes
    assert (found.camera, found.gate) == (quiet.camera, quiet.gate)
    assert found.longest_ns <= S
    assert_entries(steps, found)


def uncertain_of(steps: list[Step]) -> list[tuple[int, int]]:
    """Return from when to when the place of a frame is not certain.

    That is while the clock was set by what may have gone by before anybody looked.
    """
    late = WAIT_NS if any(abs(by) <= WAIT_NS for _, by in steps) else 0
    return [(begin, end + late) for begin, end in stepping.undone(steps)]


def by_bus(outcome: Outcome, bus: int) -> list[int]:
    """Numbers of a bus's frames in the order in which they are stored."""
    return [number for at, number in outcome.order if at == bus]


def assert_stamps(frames: list[Frame], steps: list[Step], found: Outcome) -> None:
    """Each frame has the stamp that the kernel gave it, to the microsecond."""
    offsets = [(0, NOW_NS - stepping.BOOT_NS)]
    for at, by in steps:
        offsets.append((at, offsets[-1][1] + by))
    for at, bus, _, data in frames:
        stamp = stepping.BOOT_NS + at + offset_at(offsets, at)
        assert found.stamps[bus, int.from_bytes(data[-2:], "little")] == stamp // 1000 * 1000


def assert_samples(frames: list[Frame], steps: list[Step], found: Outcome) -> None:
    """At most one sample more for each setting, and never a gap of two whole cells."""
    number = {int.from_bytes(data[-2:], "little"): at for at, bus, _, data in frames if not bus}
    moments = [number[count] for count in found.slow]
    cells = frames[-1][0] // stepping.EVERY_NS + 1
    assert cells - len(steps) <= len(moments) <= cells + 1 + len(steps)
    assert max(b - a for a, b in pairwise(moments)) <= 2 * stepping.EVERY_NS + 100 * MS


def assert_entries(steps: list[Step], found: Outcome) -> None:
    """Settings by more than 5 s stand in the ledger, each once, with its size."""
    alone = [
        (at, by) for at, by in steps
        if all(abs(at - other) > 1300 * MS or at == other for other, _ in steps)
    ]  # fmt: skip
    large = [(at, by) for at, by in alone if abs(by) > STEP_NS]
    for at, by in large:
        told = [(new - old) for when, old, new in found.clocks if 0 <= when - at <= 1300 * MS]
        assert len(told) == 1
        assert abs(told[0] - by) < MS
    if len(alone) == len(steps):
        assert len(found.clocks) == len(large)


@settings(max_examples=3, deadline=None, phases=(Phase.generate,))
@given(number=st.integers(0, 2**32 - 1))
def test_a_clock_that_is_set_changes_nothing_that_is_kept(drives: Drives, number: int):
    check(drives, DRIVES[number % len(DRIVES)], stepping.steps_of(Random(number)))


@pytest.mark.slow
@pytest.mark.timeout(600)
@settings(max_examples=20, deadline=None, phases=(Phase.generate,))
@given(number=st.integers(0, 2**32 - 1))
def test_nor_do_twenty_other_settings(drives: Drives, number: int):
    check(drives, DRIVES[number % len(DRIVES)], stepping.steps_of(Random(number)))


EACH = {
    "1970": [(31 * S, -NOW_NS + 7 * 86_400 * S)],
    "1970 until now": [(2 * S, -NOW_NS + 7 * 86_400 * S), (40 * S, NOW_NS - 7 * 86_400 * S)],
    "half a century": [(31 * S, 50 * 365 * 86_400 * S)],
    "and back": [(31 * S, 50 * 365 * 86_400 * S), (36 * S, -50 * 365 * 86_400 * S)],
    "an hour back": [(31 * S, -3600 * S)],
    "an hour ahead": [(31 * S, 3600 * S)],
    "eight seconds ahead": [(31 * S, 8 * S)],
    "set back after two milliseconds": [(44_599 * MS, 8 * S), (44_602 * MS, -8 * S)],
    "ahead after two milliseconds": [(44_599 * MS, -8 * S), (44_602 * MS, 8 * S)],
    "an hour for a blink": [(31 * S, 3600 * S), (31 * S + 50 * MS, -3600 * S)],
    "thrice in a blink": [(31 * S, 3600 * S), (31_030 * MS, -9000 * S), (31_060 * MS, 50 * S)],
    "two daemons fight": [(at * S // 2, (1, -1)[at % 2] * 9 * S) for at in range(40, 100)],
    "slowly away": [(at * S // 10, 20 * MS) for at in range(40, 600)],
}


@pytest.mark.parametrize("steps", EACH.values(), ids=EACH)
def test_settings_that_cars_see(drives: Drives, steps: list[Step]):
    check(drives, 1, steps)


def bug_flush(patch: pytest.MonkeyPatch) -> None:
    """Segments are closed by the time of day."""
    due = recorder.Recorder.due

    def wrong(self: Any, channels: Any, now: Any, *, ahead_ns: int = 0) -> Any:
        over = [one for one in self._open.values()
                if now.unix_ns - one.opened.unix_ns + ahead_ns >= S]  # fmt: skip
        return due(self, channels, now, ahead_ns=ahead_ns) if over else []

    patch.setattr(recorder.Recorder, "due", wrong)
    put = recorder.Recorder._put

    def never_late(self: Any, rule_set: Any, *rest: Any, **more: Any) -> Any:
        if rule_set in self._open:
            self._open[rule_set].opened.boottime_ns = rest[1].boottime_ns
        return put(self, rule_set, *rest, **more)

    patch.setattr(recorder.Recorder, "_put", never_late)


def bug_order(patch: pytest.MonkeyPatch) -> None:
    """Buses are merged by the stamps as they are."""
    patch.setattr(sealer, "merge", lambda arrivals, _: recorder.merge(arrivals))


def bug_window(patch: pytest.MonkeyPatch) -> None:
    """Recorded time is that of the stamps as they are."""
    take = recorded.Axis.take

    def wrong(self: Any, stamps: Any) -> Any:
        told, self.steady = self.steady, steady.Steady()
        places = take(self, stamps)
        self.steady = told
        return places

    patch.setattr(recorded.Axis, "take", wrong)


def bug_conditions(patch: pytest.MonkeyPatch) -> None:
    """Conditions look at the stamps as they are."""
    patch.setattr(steady.Steady, "samples", lambda self, samples: samples)


def bug_undone(patch: pytest.MonkeyPatch) -> None:
    """What was set back before anybody looked is not looked for."""
    patch.setattr(steady.Steady, "follow", lambda self, source, stamps: None)


def bug_stamps(patch: pytest.MonkeyPatch) -> None:
    """What is stored has the steady stamps."""
    merge = recorder.merge

    def wrong(arrivals: Any, told: Any) -> Any:
        batch = merge(arrivals, told).copy()
        batch["timestamp_ns"] = told.stamps(np.ascontiguousarray(batch["timestamp_ns"]))
        return batch

    patch.setattr(sealer, "merge", wrong)


def bug_silent(patch: pytest.MonkeyPatch) -> None:
    """Settings do not reach the ledger."""
    patch.setattr("agent.vault.timekeeper.stepped", lambda before, now: False)


@pytest.mark.slow
@pytest.mark.parametrize(
    "plant",
    [bug_flush, bug_order, bug_window, bug_conditions, bug_undone, bug_stamps, bug_silent],
)
def test_planted_bugs_are_found(
    drives: Drives, plant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
):
    for seed in DRIVES:
        drives.quiet(seed)
    plant(monkeypatch)

    def all_hold() -> None:
        for number in range(12):
            check(drives, DRIVES[number % 3], stepping.steps_of(Random(number)))

    with pytest.raises(AssertionError):
        all_hold()
