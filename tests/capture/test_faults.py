"""Bus-off and storms are told once when they begin and once when they end; overruns are losses."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.capture import faults as module
from agent.capture.faults import BUS_OFF, REPEAT_NS, RESTARTED, STORM_COUNT, WINDOW_NS, Faults
from agent.capture.logs import read_log
from agent.capture.queue import Arrival
from agent.frames import ERROR, FRAME, ChannelTable, FrameBatch, concatenate, widen
from agent.pb.ledger_pb2 import Loss
from tests.capture import driving
from tests.capture.driving import Car, S


def errors(count: int, *, identifier: int = 0x4, channel: int = 0) -> FrameBatch:
    batch = np.zeros(count, FRAME)
    batch["flags"], batch["arbitration_id"], batch["channel"] = ERROR, identifier, channel
    return batch


def test_storm_is_told_when_it_begins_and_with_its_size_when_it_is_over():
    faults = Faults()
    faults.see(np.zeros(0, FRAME), WINDOW_NS)
    told = []
    for second in range(2, 6):
        told += faults.see(errors(5_000), second * WINDOW_NS)
    told += faults.see(np.zeros(50, FRAME), 6 * WINDOW_NS)
    assert told == [(0, "error-storm", 5_000), (0, "error-storm-over", 20_000)]
    assert faults.see(np.zeros(50, FRAME), 7 * WINDOW_NS) == []


def test_a_few_error_frames_are_no_storm():
    faults = Faults()
    told = [faults.see(errors(STORM_COUNT - 1), n * WINDOW_NS) for n in range(1, 9)]
    assert told == [[]] * 8


def test_bus_off_and_its_end_are_told_once_per_channel():
    faults = Faults()
    assert faults.see(errors(3, identifier=BUS_OFF | 4, channel=2), 1) == [(2, "bus-off", 0)]
    assert faults.see(errors(3, identifier=BUS_OFF, channel=2), 2) == []
    assert faults.see(errors(1, identifier=RESTARTED, channel=1), 3) == []
    assert faults.see(errors(1, identifier=RESTARTED, channel=2), 4) == [(2, "up", 0)]


def check_accounting(faults: Faults, counts: list[int]) -> None:
    """Every error frame of a storm is in the number that ends it; states alternate."""
    told, storm, expected = [], 0, []
    for number, count in enumerate([*counts, 0], 1):
        told += faults.see(errors(count), number * WINDOW_NS)
        if count >= STORM_COUNT:
            expected += [] if storm else [(0, "error-storm", count)]
            storm += count
        elif storm:
            expected.append((0, "error-storm-over", storm + count))
            storm = 0
    assert told == expected


COUNTS = st.lists(st.sampled_from((0, 1, STORM_COUNT - 1, STORM_COUNT, 700)), max_size=12)


@given(COUNTS)
def test_storms_add_up(counts: list[int]):
    check_accounting(Faults(), counts)


def test_planted_bug_is_found():
    class Forgetful(Faults):
        @staticmethod
        def _storm(number, channel):
            told = Faults._storm(number, channel)
            channel.storm = min(channel.storm, STORM_COUNT)  # forgets how large the storm was
            return told

    try:
        check_accounting(Forgetful(), [700, 700])
    except AssertionError:
        return
    raise AssertionError("the check cannot see a wrong total")


# --- overruns -----------------------------------------------------------------------------------


def overruns(count: int, *, channel: int = 0, said: int = 0x01, length: int = 8) -> FrameBatch:
    batch = errors(count, identifier=0x4, channel=channel)
    batch["data"][:, 1], batch["length"] = said, length
    return batch


def test_overruns_are_counted_among_other_frames_of_both_widths_and_both_buses():
    faults = Faults()
    frames = np.zeros(9, FRAME)  # they look like one, and are no error frames
    frames["arbitration_id"], frames["length"], frames["data"][:, 1] = 0x4, 8, 0x01
    mixed = concatenate([frames, overruns(3), errors(2), overruns(2, channel=1, said=0x41)])
    faults.see(mixed, 1)
    faults.see(widen(mixed), 2)
    assert faults.lost(3) == [(0, 6), (1, 4)]
    assert faults.lost(3 + REPEAT_NS) == []


@pytest.mark.parametrize(
    "other",
    [
        overruns(5, said=0x02),  # CAN_ERR_CRTL_TX_OVERFLOW: nothing was lost of what came in
        overruns(5, said=0x30),  # error passive
        overruns(5, length=4),  # a PCAN adapter's stuff error, at place 1 of a frame
        errors(5, identifier=BUS_OFF),
    ],
)
def test_what_is_no_overrun_is_no_loss(other: FrameBatch):
    faults = Faults()
    faults.see(other, 1)
    assert faults.lost(2) == faults.rest() == []


def test_an_overrun_in_a_recorded_log_is_one(tmp_path: Path):
    """As candump writes what a controller's driver says (sja1000, gs_usb and others alike)."""
    log = tmp_path / "drive.log"
    log.write_text("(1.000000) can0 123#01\n(1.000100) can0 20000004#0001000000000000\n")
    faults = Faults()
    for batch in read_log(log, ChannelTable(), on_broken=lambda where, why: pytest.fail(why)):
        faults.see(batch, 1)
    assert faults.lost(2) == [(0, 1)]


def check_overruns_add_up(faults: Faults, counts: list[int]) -> None:
    """Every overrun is told once; the first at once, and then one loss a minute at most."""
    told: list[tuple[int, int]] = []
    for second, count in enumerate(counts):
        faults.see(overruns(count), second * S)
        told += [(second, lost) for number, lost in faults.lost(second * S) if number == 0]
    rest = faults.rest()
    assert sum(lost for _, lost in told) + sum(lost for _, lost in rest) == sum(counts)
    assert all(b[0] - a[0] >= 60 for a, b in pairwise(told))
    began = [second for second, count in enumerate(counts) if count]
    assert [second for second, _ in told][:1] == began[:1]
    assert faults.rest() == []


SECONDS = st.lists(st.sampled_from((0, 0, 1, 300)), max_size=400)


@given(SECONDS)
def test_overruns_add_up(counts: list[int]):
    check_overruns_add_up(Faults(), counts)


def forgets(errors: FrameBatch) -> int:
    """Planted bug: one a look, however often the controller said it."""
    return min(1, original(errors))


original = module._overruns
BUGS = {
    "forgets": (module, "_overruns", forgets),
    "floods": (module, "REPEAT_NS", S),
    "late": (module._Channel, "take", lambda channel: channel.overruns),
}


@pytest.mark.parametrize("bug", BUGS)
def test_the_check_of_overruns_finds_planted_bugs(bug: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(*BUGS[bug])
    with pytest.raises(AssertionError):
        check_overruns_add_up(Faults(), [0, 300, 300, *[1] * 120])


def test_a_quarter_of_an_hour_of_overruns_is_sixteen_entries(car: Car):
    """And the region adds up what the car has seen."""
    car.slot.put(driving.policy(events=(), recorder=None))
    car.step()
    lost = 0
    for second in range(900):
        car.queue.put(Arrival(0, overruns(1 + second % 7)))
        lost += 1 + second % 7
        car.step(pass_ns=S)
    car.sealer.finish()
    entries = car.told("loss")
    assert {(one.channel, one.cause) for one in entries} == {("can0", Loss.OVERRUN)}
    assert sum(one.count for one in entries) == car.sealer.counters.lost == lost
    assert len(entries) == 16
