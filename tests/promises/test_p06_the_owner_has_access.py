"""P6: the owner gets all of it, from the car and from the region alike.

And of each signal, what became of it. Real processes from the bus to the files at home; what
crossed the bus is told by python-can and cantools, not by anything of ours.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import can
import cantools
import pytest

from agent.owner import keyfile, register
from firmware_sim.__main__ import command as simulate
from tests.owner.people import enroll
from tests.rig import Rig, needs_mosquitto, rig, wait_for

DBC = Path(__file__).resolve().parents[2] / "firmware_sim" / "car.dbc"
PHRASE = "four words of nothing"
RAW, BATTERY = 176, 464  # WheelSpeeds, whole frames; BatteryStatus
RULES = {  # id: what, for whom
    "wheels": (f'frames = ["*:0x{RAW:x}"]', "shared"),
    "speed": ('signals = ["VehicleSpeed"]', "shared"),
    "steering": ('signals = ["SteeringAngle"]', "owner"),
    "battery": ('signals = ["BatterySoc"]', "region"),
}
CONSENT = """
[[consent]]
category = "location.point"
max_days = 30
each_drive = false
"""


def policy() -> str:
    head = f'policy = "p6"\nversion = 1\nregion = "cn"\nnot_after = 2099-12-31\ndbc = ["{DBC}"]\n'
    body = "".join(
        rule(name, what, who, "vehicle.state", "law:GB/T 32960")
        for name, (what, who) in RULES.items()
    )
    place = ('signals = ["Latitude"]', "owner", "location.point", "consent")
    return head + CONSENT + body + rule("place", *place)


def rule(name: str, what: str, recipients: str, category: str, basis: str) -> str:
    return f"""
[[collect]]
id = "{name}"
category = "{category}"
purpose = "diagnostics_repair"
basis = "{basis}"
necessity = "a test"
{what}
keep = "1d"
recipients = "{recipients}"
timestamp_resolution = "1us"
"""


class Drive:
    """What crossed the bus, by python-can and cantools."""

    def __init__(self, log: Path) -> None:
        self.database = cantools.database.load_file(DBC)
        self.battery = 0
        self.raw: list[tuple[str, str]] = []
        self.signals: dict[str, list[tuple[str, float]]] = {"VehicleSpeed": [], "SteeringAngle": []}
        with can.CanutilsLogReader(log) as reader:
            for message in reader:
                at = f"{message.timestamp:.6f}"
                self.battery += message.arbitration_id == BATTERY
                if message.arbitration_id == RAW:
                    self.raw.append((at, message.data.hex()))
                for name, found in self.signals.items():
                    owner = next(m for m in self.database.messages if name in m.signal_tree)
                    if owner.frame_id == message.arbitration_id:
                        values = owner.decode(bytes(message.data), decode_choices=False)
                        found.append((at, float(values[name])))


def check(out: Path, drive: Drive) -> None:
    """Every frame and every sample that a rule kept for the owner, and nothing that it did not."""
    with can.CanutilsLogReader(out / "frames.log") as reader:
        frames = [(f"{m.timestamp:.6f}", m.arbitration_id, m.data.hex()) for m in reader]
    assert frames == [(at, RAW, data) for at, data in drive.raw]
    with (out / "signals.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["signal"] for row in rows} == set(drive.signals)
    for name, expected in drive.signals.items():
        got = [(row["unix_s"], float(row["value"])) for row in rows if row["signal"] == name]
        assert got == [(at, pytest.approx(value)) for at, value in expected], name


def check_presence(out: Path, drive: Drive) -> None:
    """Each signal of the car stands there once, with what became of it."""
    with (out / "presence.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    states = {(row["message"], row["signal"]): (row["state"], row["why"]) for row in rows}
    assert Counter((row["message"], row["signal"]) for row in rows) == Counter(
        (message.name, signal.name)
        for message in drive.database.messages for signal in message.signals
    )  # fmt: skip
    present = {signal for (_, signal), (state, _) in states.items() if state == "present"}
    wheels = drive.database.get_message_by_frame_id(RAW)
    assert present == set(drive.signals) | {signal.name for signal in wheels.signals}
    assert states["BatteryStatus", "BatterySoc"][0] == "sealed to others"
    state, why = states["PositionFix", "Latitude"]
    assert (state, why.startswith("no consent")) == ("not recorded", True)
    others = {state for (_, signal), (state, _) in states.items()
              if signal not in present | {"BatterySoc", "Latitude"}}  # fmt: skip
    assert others == {"no rule names it"}


def bundle_of_the_region(made: Rig, mine: tuple[str, ...]) -> str:
    ask = made.folder / "ask.json"
    made.inland("owner", "request", "--region", "cn", "--vehicle", made.vehicle, *mine,
                "--purpose", "mine", "-o", str(ask))  # fmt: skip
    told = made.inland("station", "request", str(made.region), str(ask), "-o", str(made.folder),
                       "--json")  # fmt: skip
    return str(json.loads(told)["bundle"])


@pytest.mark.slow
@needs_mosquitto
@pytest.mark.timeout(120)
def test_p06_all_of_it_from_the_car_and_from_the_region(tmp_path: Path) -> None:
    log = tmp_path / "drive.log"
    simulate.main(["--scenario", "hard-brake", "--seconds", "4", "--log", str(log)],
                  standalone_mode=False)  # fmt: skip
    drive = Drive(log)
    assert len(drive.raw) > 300
    with rig(tmp_path) as made:
        made.policy(policy())
        (tmp_path / "phrase").write_text(PHRASE + "\n")
        mine = ("--key", str(tmp_path / "home" / "owner.key"),
                "--passphrase-file", str(tmp_path / "phrase"))  # fmt: skip
        made.inland("owner", "keygen", str(tmp_path / "home"), *mine[2:],
                    "--sheet", str(tmp_path / "sheet.txt"))  # fmt: skip
        key = keyfile.load(tmp_path / "home" / "owner.key", PHRASE)
        enroll(made.car / "state" / register.FILE, key)
        # Long enough for each reason to be one: a second.
        made.bus(name="log", interface="log", channel=str(log), speed="2.0")
        made.start("agent", "run", "--config", str(made.config))
        kept = (len(drive.raw), sum(map(len, drive.signals.values())) + drive.battery)
        wait_for(lambda: _kept(made) == kept, 60, "everything that a rule names was kept")
        wait_for(lambda: made.told()["link"]["connected"], 60, "a region that co-signs")
        told = made.inland("owner", "export", "-o", str(tmp_path), "--config", str(made.config),
                           "--json")  # fmt: skip
        wait_for(lambda: _cosigned(made, json.loads(told.splitlines()[0])), 60, "it is co-signed")
        bundles = {
            "car": str(json.loads(told.splitlines()[0])["bundle"]),
            "region": bundle_of_the_region(made, mine),
        }
        for source, bundle in bundles.items():
            out = tmp_path / f"from-{source}"
            said = made.inland("owner", "open", bundle, *mine, "-o", str(out), "--dbc", str(DBC),
                               "--card", str(made.car / "region.toml"))  # fmt: skip
            assert said.splitlines()[-1] == "the bundle: intact"
            check(out, drive)
            check_presence(out, drive)
        lacking = tmp_path / "from-car" / "frames.log"
        lacking.write_text("".join(lacking.read_text().splitlines(keepends=True)[1:]))
        with pytest.raises(AssertionError):
            check(tmp_path / "from-car", drive)


def _kept(made: Rig) -> tuple[int, int]:
    """Raw frames and samples that the running agent has kept."""
    status: dict[str, Any] = made.status() or {"frames": {"kept": 0}, "samples": 0}
    return status["frames"]["kept"], status["samples"]


def _cosigned(made: Rig, exported: dict[str, Any]) -> bool:
    """Whether the region has signed for all that the car's bundle has."""
    listing = json.loads(made.inland("station", "ls", str(made.region), "--json"))
    [log] = listing["vehicles"][0]["logs"]
    return bool(log["checkpoint"]) and log["checkpoint"]["size"] > exported["logs"][0]["last"]
