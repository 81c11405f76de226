"""A log that plays as a bus: pace, order, bounds, end."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.capture.bus import open_bus
from agent.capture.logbus import LogBus, open_log, parse_speed
from agent.capture.pace import Pace
from agent.errors import BusError, ConfigError, LogError
from agent.frames import ChannelTable
from agent.pb.ledger_pb2 import Loss

MS = 1_000_000
SECOND = 10**9


def due(stamps, speed=1.0, pieces=1) -> list[int]:
    pace = Pace(speed)
    parts = np.array_split(np.array(stamps, np.int64), pieces)
    return [int(value) for part in parts for value in pace.deadlines(part)]


def test_pace_is_absolute_and_scaled() -> None:
    assert due([5 * SECOND, 6 * SECOND, 8 * SECOND]) == [0, SECOND, 3 * SECOND]
    assert due([0, SECOND], speed=4) == [0, SECOND // 4]


def test_small_disorder_does_not_stall_nor_drift() -> None:
    stamps = [0, 800, 500, 800, 500, 1000]
    assert due(stamps) == [0, 800, 800, 800, 800, 1000]


def test_clock_that_was_set_back_goes_on_from_there() -> None:
    stamps = [100 * SECOND, 101 * SECOND, 0, 1 * SECOND]
    assert due(stamps) == [0, SECOND, SECOND, 2 * SECOND]


def test_single_stamp_from_the_future_does_not_stall() -> None:
    stamps = [0, SECOND, 86_400 * SECOND, 2 * SECOND, 3 * SECOND]
    assert due(stamps)[-1] == 3 * SECOND


@given(st.lists(st.integers(-(10**12), 10**12), min_size=1, max_size=40), st.integers(1, 5))
@settings(max_examples=100, deadline=None)
def test_deadlines_never_fall(stamps, pieces) -> None:
    deadlines = due(stamps, pieces=pieces)
    assert deadlines[0] == 0
    assert all(a <= b for a, b in itertools.pairwise(deadlines))


def write(path, count: int, step_ms: int = 1) -> None:
    lines = [f"(1600000000.{n * step_ms * 1000:06d}) vcan0 123#{n:08X}" for n in range(count)]
    path.write_text("\n".join(lines) + "\n")


def drain(bus, timeout=0.5) -> list:
    batches = []
    while not bus.ended:
        batches.append(bus.recv_batch(timeout))
    return batches


def test_at_full_speed_batches_are_bounded_and_stamps_kept(tmp_path) -> None:
    path = tmp_path / "a.log"
    path.write_text("".join(f"(16.{n:06d}) vcan0 001#\n" for n in range(10_000)))
    channels = ChannelTable()
    bus = open_bus(
        {"interface": "log", "channel": str(path), "speed": "max", "map": {"vcan0": "can0"}},
        channels,
    )
    batches = drain(bus)
    assert max(len(batch) for batch in batches) <= 4096
    stamps = np.concatenate([batch["timestamp_ns"] for batch in batches])
    assert stamps.tolist() == [16 * SECOND + n * 1000 for n in range(10_000)]
    assert channels.names == ("can0",)
    bus.close()
    with pytest.raises(BusError, match="closed"):
        bus.recv_batch(0)


def test_recorded_pace_gives_frames_when_due(tmp_path) -> None:
    path = tmp_path / "a.log"
    write(path, 4, step_ms=100)
    now = [100 * SECOND]
    bus = LogBus(path, ChannelTable(), clock_ns=lambda: now[0])
    assert len(bus.recv_batch(0)) == 1
    assert len(bus.recv_batch(0)) == 0
    now[0] += 250 * MS
    assert len(bus.recv_batch(0)) == 2
    assert not bus.ended
    now[0] += 50 * MS
    assert len(bus.recv_batch(0)) == 1
    assert len(bus.recv_batch(0)) == 0
    assert bus.ended


def test_loop_plays_again(tmp_path) -> None:
    path = tmp_path / "a.log"
    write(path, 3)
    bus = LogBus(path, ChannelTable(), speed=None, loop=3)
    assert sum(map(len, drain(bus))) == 9


def test_empty_log_without_end_ends(tmp_path) -> None:
    path = tmp_path / "a.log"
    path.write_text("")
    assert drain(LogBus(path, ChannelTable(), speed=None, loop=0))[-1].size == 0


def test_broken_lines_are_counted_or_an_error(tmp_path, caplog) -> None:
    path = tmp_path / "a.log"
    path.write_text("(1.000000) vcan0 001#00\n(1.000001) vcan0 0G1#\n(2.000000) vcan0 001#0\n")
    bus = LogBus(path, ChannelTable(), name="bench", speed=None)
    assert sum(map(len, drain(bus))) == 1
    assert bus.losses() == [("bench", 2, Loss.BROKEN)]
    assert f"{path}:2" in caplog.text
    strict = LogBus(path, ChannelTable(), speed=None, strict=True)
    with pytest.raises(LogError, match=r"a\.log:2"):
        drain(strict)


def test_filters_apply_and_files_that_are_missing_are_named(tmp_path) -> None:
    path = tmp_path / "a.log"
    write(path, 3)
    bus = LogBus(path, ChannelTable(), speed=None)
    bus.set_filters([])
    assert sum(map(len, drain(bus))) == 0
    with pytest.raises(LogError, match="cannot open"):
        LogBus(tmp_path / "missing.log", ChannelTable())


@pytest.mark.parametrize("speed", [0, -1, "fast", None, float("inf"), float("nan")])
def test_impossible_speed_is_refused(speed) -> None:
    with pytest.raises(ConfigError, match="speed"):
        parse_speed(speed)


@pytest.mark.parametrize("wrong", [{"loop": -1}, {"loop": True}, {"map": "x"}, {"map": {"a": 1}}])
def test_wrong_keys_are_refused(tmp_path, wrong) -> None:
    write(tmp_path / "a.log", 1)
    settings = {"interface": "log", "channel": str(tmp_path / "a.log"), **wrong}
    with pytest.raises(ConfigError):
        open_bus(settings, ChannelTable())


def test_a_log_that_is_not_there_is_named_with_the_place_where_it_was_looked_for(tmp_path) -> None:
    with pytest.raises(ConfigError, match=r"no such log: /.*drive\.log; .* not beside agent\.toml"):
        open_log({"channel": "no/drive.log", "name": "can0"}, ChannelTable())
