"""`policy simulate` on J1939 buses: signals are found by parameter group, as by hand.

By hand: cantools takes ids apart and decodes each frame; the rest is as in test_drives.py. A DBC
file names a group with the source address FE and a priority; on the bus it has others.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path

import can
import numpy as np
import pytest
from cantools import j1939
from cantools.database.can import Message
from click.testing import CliRunner

from agent.cli.policy import command
from tests.rig import EVERYTHING, needs_mosquitto, rig
from tests.test_drives import (
    DATA,
    EVENT,
    POLICY,
    Hand,
    S,
    edges,
    extreme,
    for_,
    needs_data,
    rate,
    simulated,
)

CSS = DATA / "can_logs" / "css_canedge_mf4"
DEMO = CSS / "dbc_files" / "CSS-Electronics-SAE-J1939-DEMO.dbc"
MS = 10**6

# Groups of both recorded buses: J1939 and NMEA 2000, which has the same ids. EngineGroup and
# SideGroup are proprietary; their names are ours.
DBC = """\
VERSION ""
BU_: Nobody
BO_ {engine} EEC1: 8 Nobody
 SG_ EngineSpeed : 24|16@1+ (0.125,0) [0|8031.875] "rpm" Nobody
BO_ {date} TimeDate: 8 Nobody
 SG_ Seconds : 0|8@1+ (0.25,0) [0|59.75] "s" Nobody
BO_ {level} EngineGroup: 8 Nobody
 SG_ Level : 0|16@1+ (1,0) [0|0] "" Nobody
BO_ {side} SideGroup: 8 Nobody
 SG_ Side : 0|8@1+ (1,0) [0|0] "" Nobody
BO_ {turn} RateOfTurn: 8 Nobody
 SG_ Turn : 8|32@1- (1.79049E-06,0) [0|0] "deg/s" Nobody
BO_ {clock} SystemTime: 8 Nobody
 SG_ Clock : 32|32@1+ (0.0001,0) [0|86401] "s" Nobody
BA_DEF_ BO_ "VFrameFormat" ENUM "StandardCAN","ExtendedCAN","reserved","J1939PG";
BA_DEF_DEF_ "VFrameFormat" "J1939PG";
"""
IDS = {
    "engine": 0x18F004FE, "date": 0x18FEE6FE, "level": 0x18F430FE, "side": 0x18F639FE,
    "turn": 0x19F113FE, "clock": 0x1DF010FE,
}  # fmt: skip


class GroupHand(Hand):
    """Finds messages by what cantools says of both ids."""

    @staticmethod
    def is_in(identifier: int, message: Message) -> bool:
        source = message.frame_id & 0xFF
        return j1939.pgn_from_frame_id(identifier) == j1939.pgn_from_frame_id(
            message.frame_id
        ) and source in (0xFE, identifier & 0xFF)


def dbc(folder: Path, **ids: int) -> Path:
    """The file, with other ids for some messages."""
    numbers = {name: number | 0x8000_0000 for name, number in (IDS | ids).items()}
    path = folder / "-".join(("groups", *(f"{one:X}" for one in ids.values()), ".dbc"))
    path.write_text(DBC.format(**numbers), "ascii")
    return path


def mf4(path: Path) -> tuple[Path, list[tuple[int, int, bytes]]]:
    """A log and its 29-bit frames: python-can says seconds, of which microseconds are right."""
    pytest.importorskip("asammdf", reason="needs the extra inland[mf4]: the log is MF4")
    with can.LogReader(path) as reader:
        return path, [
            (round(one.timestamp * 1e6) * 1000, one.arbitration_id, bytes(one.data))
            for one in reader
            if one.is_extended_id
        ]


def made_up(folder: Path) -> tuple[Path, list[tuple[int, int, bytes]]]:
    """90 s of two engines, of which the second stands and says so every 3 s, and of a neighbour."""
    frames, lines = [], []
    for at in range(9000):
        stamp = 1_700_000_000 * S + at * 10 * MS
        turns = int(8 * (1200 + 900 * np.sin(at / 700)))
        identifier = (0x0CF00400, 0x18F00400, 0x0CF00500, 0x1CF00400)[
            at % 4
        ]  # F005 is the neighbour
        if at % 300 == 17:
            identifier, turns = 0x0CF00403, 0
        data = bytes((0xF0, 0xFF, 0x7D)) + turns.to_bytes(2, "little") + bytes(3)
        frames.append((stamp, identifier, data))
        lines.append(f"({stamp // S}.{stamp % S // 1000:06d}) can0 {identifier:08X}#{data.hex()}")
    log = folder / "truck.log"
    log.write_text("\n".join(lines).upper().replace("CAN0", "can0") + "\n", "ascii")
    return log, frames


@pytest.mark.parametrize("source", [0xFE, 0x00, 0x03])
def test_a_group_is_found_from_any_source_or_from_the_one_that_is_named(tmp_path: Path, source):
    log, frames = made_up(tmp_path)
    file = dbc(tmp_path, engine=0x10F00400 | source)
    at, speed = GroupHand(file, frames)("EngineSpeed")
    expected = {
        "fast": edges(at, speed > 1900),
        "stays": edges(at, for_(at, speed > 1900, 4 * S)),
        "falls": edges(at, rate(at, speed, S) < -60),
        "quiet": edges(at, extreme(at, speed, 5 * S, np.max) < 500),
    }
    whens = {
        "fast": "EngineSpeed > 1900",
        "stays": "EngineSpeed > 1900 for 4s",
        "falls": "rate(EngineSpeed, 1s) < -60",
        "quiet": "max(EngineSpeed, 5s) < 500",
    }
    assert simulated(tmp_path, file, log, whens) == expected
    # One engine alone has two long swings; what the other says in between breaks them.
    assert [len(stamps) for stamps in expected.values()] == {
        0xFE: [7, 0, 27, 2], 0x00: [2, 2, 2, 2], 0x03: [0, 0, 0, 1],
    }[source]  # fmt: skip


def test_groups_and_their_sources_are_told(tmp_path: Path):
    log, _ = made_up(tmp_path)
    policy = tmp_path / "told.toml"
    for source, group, came in (
        (0xFE, "EEC1 = PGN F004 from any source", "came from 00, 03 on can0; their samples are"),
        (0x11, "EEC1 = PGN F004 from source 11", "came only from 00, 03 on can0"),
    ):
        file = dbc(tmp_path, engine=0x18F00400 | source)
        text = POLICY.format(dbc=file) + EVENT.format(name="e", when="EngineSpeed > 1 for 60s")
        policy.write_text(text, "utf-8")
        check = CliRunner().invoke(command, ["check", str(policy)]).output
        assert f"  found by J1939 group: {group}\n" in check
        checked = json.loads(CliRunner().invoke(command, ["check", str(policy), "--json"]).output)
        assert checked["files"][0]["groups"] == [group]
        told = CliRunner().invoke(command, ["simulate", str(policy), str(log)]).output
        assert f"note: {group}: {came}" in told
        assert ("never on the bus: EEC1.EngineSpeed" in told) is (source == 0x11)


@needs_mosquitto
@pytest.mark.timeout(170)
def test_the_region_opens_what_every_source_said(tmp_path: Path):
    log, frames = made_up(tmp_path)
    file = dbc(tmp_path)
    at, speed = GroupHand(file, frames)("EngineSpeed")
    text = EVERYTHING.replace('frames = ["*:*"]', 'signals = ["EngineSpeed"]')
    with rig(tmp_path) as made:
        made.policy(text.replace("\n\n[[", f'\ndbc = ["{file}"]\n\n[[', 1))
        made.play(log)
        out = tmp_path / "opened.csv"
        made.inland("station", "open", str(made.region), "--vehicle", made.vehicle,
                    "--signals", str(out))  # fmt: skip
        rows = list(csv.DictReader(out.read_text("utf-8").splitlines()))
    assert [float(row["value"]) for row in rows] == speed.tolist()
    assert [round(float(row["unix"]) * 1e6) for row in rows] == (at // 1000).tolist()


@needs_data
def test_a_real_engine_is_found_under_every_priority(tmp_path: Path):
    log = DATA / "can_logs" / "pretty_j1939" / "test_priority.log"
    whens = {"fast": "EngineSpeed > 2000", "held": "EngineSpeed > 2000 for 2ms"}
    first, last = 1612543138 * S, 1612543138 * S + 2 * MS  # priorities 3 and 7
    assert simulated(tmp_path, DEMO, log, whens) == {"fast": [first], "held": [last]}


@needs_data
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_events_of_a_truck_are_those_found_by_hand(tmp_path: Path):
    log, frames = mf4(CSS / "asammdf-basics" / "input" / "00000001.MF4")
    demo = GroupHand(DEMO, frames)
    speed_at, speed = demo("WheelBasedVehicleSpeed")
    engine_at, engine = demo("EngineSpeed")
    assert len(speed_at) == len(engine_at) == 3993
    expected = {
        "parked": edges(speed_at, extreme(speed_at, speed, 3 * S, np.max) < 1),
        "stopped": edges(engine_at, for_(engine_at, engine < 1, S)),
    }
    whens = {
        "parked": "max(WheelBasedVehicleSpeed, 3s) < 1",
        "stopped": "EngineSpeed < 1 for 1s",
    }
    assert all(map(len, expected.values()))
    assert simulated(tmp_path, DEMO, log, whens) == expected

    file = dbc(tmp_path)
    hand = GroupHand(file, frames)
    level_at, level = hand("Level")
    side_at, side = hand("Side")
    late_at, late = hand("Seconds")
    expected = {
        "late": edges(late_at, late >= 58),
        "over": edges(late_at, rate(late_at, late, 2 * S) < -5),
        "low": edges(level_at, for_(level_at, level < 3000, S // 5)),
        "side": edges(side_at, side > 24),
    }
    whens = {
        "late": "Seconds >= 58",
        "over": "rate(Seconds, 2s) < -5",
        "low": "Level < 3000 for 200ms",
        "side": "Side > 24",
    }
    assert all(map(len, expected.values()))
    found = simulated(tmp_path, file, log, whens)
    assert found == expected
    # Two say the time (17 and, near the end, EE), and differ by 28 s.
    alone = dbc(tmp_path, date=0x18FEE617)
    late_at, late = GroupHand(alone, frames)("Seconds")
    one = edges(late_at, rate(late_at, late, 2 * S) < -5)
    assert simulated(tmp_path, alone, log, {"over": whens["over"]}) == {"over": one}
    assert one != expected["over"]


@needs_data
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_events_of_an_nmea_2000_bus_are_those_found_by_hand(tmp_path: Path):
    log, frames = mf4(CSS / "LOG" / "94C49784" / "00000005" / "00000017-6099D010.MF4")
    file = dbc(tmp_path)
    hand = GroupHand(file, frames)
    turn_at, turn = hand("Turn")
    clock_at, clock = hand("Clock")
    expected = {
        "swing": edges(turn_at, turn > 0.1),
        "calm": edges(turn_at, extreme(turn_at, turn, 3 * S, np.max) < 0.06),
        "clock": edges(clock_at, (clock > 1600) & (clock < 80_000)),
    }
    whens = {
        "swing": "Turn > 0.1",
        "calm": "max(Turn, 3s) < 0.06",
        "clock": "Clock > 1600 and Clock < 80000",
    }
    assert all(map(len, expected.values()))
    assert simulated(tmp_path, file, log, whens) == expected
    # Three send the time, and two of them do not know it: whoever wants the one that does names it.
    alone = dbc(tmp_path, clock=0x1DF01096)
    clock_at, clock = GroupHand(alone, frames)("Clock")
    one = edges(clock_at, (clock > 1600) & (clock < 80_000))
    assert simulated(tmp_path, alone, log, {"clock": whens["clock"]}) == {"clock": one}
    assert len(one) == 1 < len(expected["clock"])
    (note,) = notes(tmp_path, file, log, "Clock > 1600")
    assert note.startswith("SystemTime = PGN 1F010 from any source: came from 03, 4A, 96 on can1")
    assert notes(tmp_path, alone, log, "Clock > 1600") == []


def notes(folder: Path, file: Path, log: Path, when: str) -> list[str]:
    """What `simulate` remarks."""
    policy = folder / "notes.toml"
    policy.write_text(POLICY.format(dbc=file) + EVENT.format(name="e", when=when), "utf-8")
    done = CliRunner().invoke(command, ["simulate", str(policy), str(log), "--json"])
    (told,) = json.loads(done.stdout.splitlines()[-1])["logs"]
    found: list[str] = told["notes"]
    return found
