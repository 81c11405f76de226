"""What an owner does after a hard brake, with real processes: export in the car, open at home."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import can
import cantools
import pytest

from agent.owner import keyfile, register
from agent.policy.dbc import load_dbc
from firmware_sim.__main__ import command as simulate
from tests.owner.page.parsed import Parsed
from tests.owner.people import enroll as enroll_by_hand
from tests.policy.making import EXAMPLES
from tests.rig import Rig, needs_mosquitto, rig, wait_for

PHRASE = "four words of nothing"
DBC = Path(__file__).resolve().parents[1] / "firmware_sim" / "car.dbc"
HOLD = ('before = "30min", after = "30s"', 'before = "3s", after = "2s"')
EVERY = ('every = "10s"', 'every = "200ms"')


def fleet() -> str:
    """The China fleet's policy, for the owner as well, around a short brake."""
    text = (EXAMPLES / "cn-fleet.toml").read_text("utf-8")
    text = text.replace("../../../firmware_sim/car.dbc", str(DBC))
    for old, new in (HOLD, EVERY, ('recipients = "region"', 'recipients = "shared"')):
        assert old in text
        text = text.replace(old, new)
    return text


def enroll(made: Rig) -> Path:
    """Make a key with the owner's own command, and enroll it."""
    home = made.folder / "home"
    (made.folder / "phrase").write_text(PHRASE + "\n")
    made.inland("owner", "keygen", str(home), "--passphrase-file", str(made.folder / "phrase"),
                "--sheet", str(made.folder / "sheet.txt"))  # fmt: skip
    key = keyfile.load(home / "owner.key", PHRASE)
    enroll_by_hand(made.car / "state" / register.FILE, key)
    return home


def table(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text("utf-8"), newline="")))


@pytest.mark.slow
@needs_mosquitto
@pytest.mark.timeout(170)
def test_a_hard_brake_from_the_bus_to_the_owner_s_page(tmp_path: Path):
    log = tmp_path / "drive.log"
    simulate.main(["--scenario", "hard-brake", "--seconds", "12", "--brake-at", "5",
                   "--log", str(log)], standalone_mode=False)  # fmt: skip
    with rig(tmp_path) as made:
        made.policy(fleet())
        home = enroll(made)
        made.bus(name="can0", interface="log", channel=str(log), speed="1.0")
        made.start("capture", "capture", "--config", str(made.config))
        made.start("uplink", "uplink", "--config", str(made.config))

        def held() -> bool:
            told = made.inland("ledger", "--config", str(made.config), code=None)
            return "event of entry" in told and "held" in told

        wait_for(held, 90, "the event is complete")
        wait_for(lambda: made.told()["link"]["connected"], 60, "a region that co-signs")
        stick = tmp_path / "stick"
        stick.mkdir()
        told = json.loads(made.inland("owner", "export", "-o", str(stick), "--config",
                                      str(made.config), "--json").splitlines()[0])  # fmt: skip
        bundle, key = str(told["bundle"]), str(home / "owner.key")
        assert told["verdict"] == 0
        mine = ("--key", key, "--passphrase-file", str(tmp_path / "phrase"),
                "--tz", "Asia/Shanghai", "--card", str(made.car / "region.toml"))  # fmt: skip
        out, page = tmp_path / "out", tmp_path / "page.html"
        said = made.inland("owner", "open", bundle, *mine, "-o", str(out), "--decode",
                           "VehicleSpeed", "--decode", "BrakePressure")  # fmt: skip
        assert said.splitlines()[-1] == "the bundle: intact"
        check_against_cantools(out)
        check_incident(out)
        made.inland("owner", "report", bundle, *mine, "-o", str(page), "--lang", "zh")
    parsed = Parsed(page.read_text("utf-8"))
    assert "未被改动" in parsed.text
    assert "hard-brake" in parsed.text
    drawn = [one["aria-label"] or "" for one in parsed.all("svg")]
    assert {"VehicleSpeed", "BrakePressure", "SteeringAngle", "AcceleratorPedal"} <= {
        label.split()[-1] for label in drawn
    }


def check_against_cantools(out: Path) -> None:
    """The CSV of signals says what cantools makes of the candump log."""
    database = load_dbc(DBC)
    assert isinstance(database, cantools.database.can.Database)
    at: dict[tuple[str, str], float] = {}
    with can.CanutilsLogReader(out / "frames.log") as reader:
        for message in reader:
            try:
                values = database.decode_message(
                    message.arbitration_id, bytes(message.data), decode_choices=False
                )
            except KeyError:
                continue
            for name, value in values.items():
                at[f"{message.timestamp:.6f}", name] = float(value)
    for name in ("signals.csv", "decoded.csv"):
        rows = [row for row in table(out / name) if (row["unix_s"], row["signal"]) in at]
        assert len(rows) > 100
        for row in rows:
            assert float(row["value"]) == pytest.approx(at[row["unix_s"], row["signal"]])


def check_incident(out: Path) -> None:
    """One event, complete, and the frames around it are there."""
    [event] = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]
    assert (event["rule"], event["complete"]) == ("hard-brake", True)
    when = float(event["unix"])
    speeds = [(float(row["unix_s"]), float(row["value"])) for row in table(out / "decoded.csv")
              if row["signal"] == "VehicleSpeed"]  # fmt: skip
    before = [value for at, value in speeds if when - 3 <= at < when]
    after = [value for at, value in speeds if when < at <= when + 2]
    assert len(before) > 250
    assert len(after) > 150
    assert min(before) > 60
    assert min(after) < 20
