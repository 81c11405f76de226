"""`policy simulate` finds on real drives what a calculation by hand finds, at the same times.

By hand: cantools decodes each frame, and a few lines of numpy say when something happened. Nothing
of the agent's evaluation is used for it.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable
from pathlib import Path

import cantools
import numpy as np
import numpy.typing as npt
import pytest
from cantools.database.can import Message
from click.testing import CliRunner

from agent.cli.policy import command

DATA = Path(os.environ.get("INLAND_DATA", Path(__file__).resolve().parents[2] / "shared/data"))
needs_data = pytest.mark.skipif(
    not DATA.is_dir(), reason="needs recorded logs: set INLAND_DATA to their folder"
)
S = 10**9
RETRIGGER_NS = 2 * S
POLICY = """\
policy = "drive"
version = 1
region = "cn"
not_after = 2099-12-31
dbc = ["{dbc}"]
"""
EVENT = """
[[event]]
id = "{name}"
when = "{when}"
at_most = "1000/day"
retrigger = "2s"
purpose = "safety_event"
basis = "safety"
necessity = "found by hand as well"
recipients = "region"
keep = "1d"
"""
Stamps = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]
Truth = npt.NDArray[np.bool_]


class Hand:
    """A drive, decoded frame by frame."""

    def __init__(self, dbc: Path, frames: list[tuple[int, int, bytes]]) -> None:
        self._found: dict[str, list[tuple[int, float]]] = {}
        messages = cantools.database.load_file(dbc, strict=False).messages
        known: dict[int, list[Message]] = {}
        for stamp, identifier, data in frames:
            if identifier not in known:
                known[identifier] = [one for one in messages if self.is_in(identifier, one)]
            for message in known[identifier]:
                said = message.decode(data, decode_choices=False, allow_truncated=True)
                for name, value in said.items():
                    self._found.setdefault(name, []).append((stamp, float(value)))

    @staticmethod
    def is_in(identifier: int, message: Message) -> bool:
        """Whether a frame of this id holds the signals of a message."""
        return identifier == message.frame_id

    def __call__(self, name: str) -> tuple[Stamps, Values]:
        rows = self._found[name]
        return np.array([t for t, _ in rows]), np.array([v for _, v in rows])


def for_(at: Stamps, true: Truth, length_ns: int) -> Truth:
    """True where it has been true for so long."""
    since, out = None, []
    for stamp, is_true in zip(at.tolist(), true.tolist(), strict=True):
        since = (stamp if since is None else since) if is_true else None
        out.append(since is not None and stamp - since >= length_ns)
    return np.array(out)


def rate(at: Stamps, value: Values, over_ns: int) -> Values:
    """Change per second against the last value at least so long ago; NaN before there is one."""
    then = np.searchsorted(at, at - over_ns, side="right") - 1
    change = (value - value[then]) / np.maximum(1, at - at[then]) * S
    return np.where(then >= 0, change, np.nan)


def extreme(at: Stamps, value: Values, over_ns: int, best: Callable[[Values], float]) -> Values:
    """Of the values in a window and the one that held at its begin; NaN before there is one."""
    out = np.full(len(at), np.nan)
    for number, stamp in enumerate(at.tolist()):
        first = int(np.searchsorted(at, stamp - over_ns, side="right")) - 1
        if first >= 0:
            out[number] = best(value[first : number + 1])
    return out


def edges(at: Stamps, true: Truth) -> list[int]:
    """Stamps of rising edges, those within two seconds of an event left out."""
    rising = at[np.flatnonzero(true & ~np.append(False, true[:-1]))].tolist()
    events: list[int] = []
    for stamp in rising:
        if not events or stamp - events[-1] >= RETRIGGER_NS:
            events.append(stamp)
    return events


def simulated(folder: Path, dbc: Path, log: Path, whens: dict[str, str]) -> dict[str, list[int]]:
    """What the command finds, by event."""
    policy = folder / "drive.toml"
    events = [EVENT.format(name=name, when=when) for name, when in whens.items()]
    policy.write_text(POLICY.format(dbc=dbc) + "".join(events), "utf-8")
    done = CliRunner().invoke(command, ["simulate", str(policy), str(log), "--json"])
    assert done.exit_code == 0, done.output
    (told,) = json.loads(done.stdout.splitlines()[-1])["logs"]
    found: dict[str, list[int]] = {name: [] for name in whens}
    for event in told["events"]:
        found[event["rule"]].append(event["stamp_ns"])
    return found


def tesla() -> tuple[Path, Path, Hand]:
    """40 s of a Tesla Model 3 on a motorway."""
    folder = DATA / "can_logs" / "tesla_model3_kuksa"
    log, frames = folder / "it-candump0.log", []
    for line in log.read_text("ascii").splitlines():
        stamp, _, frame = line.split()
        seconds, micros = stamp.strip("()").split(".")
        identifier, data = frame.split("#")
        frames.append((int(seconds) * S + int(micros) * 1000, int(identifier, 16),
                       bytes.fromhex(data)))  # fmt: skip
    return folder / "it-can.dbc", log, Hand(folder / "it-can.dbc", frames)


def kona() -> tuple[Path, Path, Hand]:
    """47 s of a Hyundai Kona EV that heats its cabin."""
    log = DATA / "can_logs" / "kona_ev" / "250105-1-2020-comp-can-heating.csv"
    frames = []
    with log.open(encoding="utf-8", newline="") as file:
        for row in list(csv.reader(file))[1:]:
            data = bytes(int(one, 16) for one in row[6 : 6 + int(row[5])])
            frames.append((int(row[0]) * 1000, int(row[1], 16), data))
    # The first 88 frames are of another clock, 22 s ahead: a step back forgets what was before it.
    (begin,) = [at for at in range(1, len(frames)) if frames[at][0] < frames[at - 1][0]]
    frames = frames[begin:]
    dbc = DATA / "dbc" / "kona_ev" / "comp_can.dbc"
    return dbc, log, Hand(dbc, frames)


@needs_data
def test_the_events_of_a_tesla_are_those_found_by_hand(tmp_path: Path):
    dbc, log, hand = tesla()
    speed_at, speed = hand("DI_vehicleSpeed")
    pedal_at, pedal = hand("DI_accelPedalPos")
    expected = {
        "fast": edges(speed_at, speed >= 100),
        "push": edges(pedal_at, for_(pedal_at, pedal > 15, S // 2)),
        "gain": edges(speed_at, rate(speed_at, speed, S) > 2),
        "lift": edges(pedal_at, extreme(pedal_at, pedal, 3 * S, np.max) < 10),
    }
    whens = {
        "fast": "DI_vehicleSpeed >= 100",
        "push": "DI_accelPedalPos > 15 for 500ms",
        "gain": "rate(DI_vehicleSpeed, 1s) > 2",
        "lift": "max(DI_accelPedalPos, 3s) < 10",
    }
    assert sum(map(len, expected.values())) >= 3
    assert simulated(tmp_path, dbc, log, whens) == expected
    wrong = edges(pedal_at, for_(pedal_at, pedal > 15, S))  # another length is another event
    assert expected["push"] != wrong


@needs_data
def test_the_events_of_a_kona_are_those_found_by_hand(tmp_path: Path):
    dbc, log, hand = kona()
    heater_at, heater = hand("HeaterPower")
    power_at, power = hand("CompressorPower")
    expected = {
        "hot": edges(heater_at, heater > 1000),
        "rise": edges(heater_at, rate(heater_at, heater, 2 * S) > 100),
        "steady": edges(power_at, extreme(power_at, power, 5 * S, np.min) > 540),
        "low": edges(power_at, for_(power_at, power < 580, S // 5)),
    }
    whens = {
        "hot": "HeaterPower > 1000",
        "rise": "rate(HeaterPower, 2s) > 100",
        "steady": "min(CompressorPower, 5s) > 540",
        "low": "CompressorPower < 580 for 200ms",
    }
    assert sum(map(len, expected.values())) >= 3
    found = simulated(tmp_path, dbc, log, whens)
    assert found == expected
