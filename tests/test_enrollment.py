"""An owner enrolls in a car that runs: real processes, the display's code, the key at home."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from agent.errors import SealError
from agent.owner import register
from agent.owner.keyfile import OwnerKey
from agent.pb import ledger_pb2
from agent.vault import keys
from agent.vault.opening import SessionReader, open_session
from agent.vault.segment import Payload, decode_payload
from agent.vault.spool import Size, Spool
from firmware_sim.__main__ import command as simulate
from tests.owner.people import ANNA, BELA
from tests.owner.people import enroll as enroll_by_hand
from tests.rig import INLAND, Rig, rig, wait_for

ROOT = Path(__file__).resolve().parent.parent
FIRMWARE, EXAMPLES = ROOT / "firmware_sim", ROOT / "agent" / "policy" / "examples"
RULE = """
[[collect]]
id = "{id}"
category = "vehicle.state"
purpose = "owner_access"
basis = "law:Data Act"
necessity = "a test opens it with the keys of people"
frames = ["*:*"]
keep = "1d"
recipients = "{id}"
"""
POLICY = """\
policy = "people"
version = 1
region = "cn"
not_after = 2099-12-31
""" + "".join(RULE.format(id=one) for one in ("owner", "shared", "driver"))


def endless(folder: Path) -> Path:
    """A log of five minutes at 20 frames/s, to be played at its own pace."""
    path = folder / "drive.log"
    path.write_text("".join(
        f"({1700000000 + i / 20:.6f}) can0 123#{i:016X}\n" for i in range(6000)
    ))  # fmt: skip
    return path


@contextmanager
def running(made: Rig) -> Iterator[None]:
    """A car that drives, with its capture process."""
    made.bus(name="can0", interface="log", channel=str(endless(made.folder)), speed="1.0")
    made.start("capture", "capture", "--config", str(made.config), "--verbose")
    wait_for(lambda: (s := made.status()) and s["frames"]["received"], 20, "frames")
    yield


def enroll(made: Rig, key: OwnerKey, *more: str, wrong: int = 0) -> tuple[int, str]:
    """`inland owner enroll`, with what a person reads on the display typed in."""
    public = made.folder / f"{key.name}.pub"
    public.write_text(key.public.text())
    shown = made.car / "run" / "presence.json"
    asked = subprocess.Popen(
        [*INLAND, "owner", "enroll", str(public), "--config", str(made.config), *more],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    wait_for(shown.exists, 20, "a code on the display")
    code = json.loads(shown.read_text())["code"]
    other = f"{(int(code) + 1) % 10**6:06}"
    said, _ = asked.communicate("".join(f"{other}\n" for _ in range(wrong)) + f"{code}\n", 20)
    assert "Traceback" not in said
    return asked.returncode, said


def opened(state: Path, key: OwnerKey, *, samples: bool = False) -> dict[str, list[int]]:
    """Frames, or samples, that a person's key opens in the spool as it lies there, by set."""
    private = {keys.kid(key.public.recipient): key.private}
    found: dict[str, list[int]] = {}
    sessions: dict[bytes, SessionReader] = {}
    with closing(Spool(state / "spool" / "spool.db", Size(64 << 20))) as spool:
        for raw, body in spool.rows(
            "SELECT entry, blob FROM ledger JOIN body USING (i) ORDER BY i"
        ):
            entry = ledger_pb2.Entry.FromString(raw)
            if entry.HasField("session"):
                try:
                    sessions[entry.session.session] = open_session(body, private)
                except SealError:
                    continue
            elif entry.HasField("segment") and entry.segment.session in sessions:
                reader = sessions[entry.segment.session]
                payload: Payload = decode_payload(reader.open_segment(body))
                name = {2: "owner", 3: "shared", 5: "driver"}[reader.header.recipients]
                if samples:
                    found.setdefault(name, []).extend(payload.signals["raw"].tolist())
                    continue
                numbers = [int(bytes(one).hex(), 16) for one in payload.frames["data"]]
                found.setdefault(name, []).extend(numbers)
    return found


@pytest.mark.timeout(170)
def test_frames_after_an_enrolment_open_with_the_owners_key(tmp_path: Path):
    """A wrong code first, then the right one; a driver beside; then kill -9 and a restart."""
    with rig(tmp_path, broker=False) as made:
        made.policy(POLICY)
        with running(made):
            command = ("--config", str(made.config))
            assert made.told()["people"] == {"enrolled": 0, "driving": ""}
            assert made.told()["frames"]["kept"]
            code, said = enroll(made, ANNA, wrong=1)
            assert code == 0, said
            assert "that is not the code" in said
            anna, bela = ANNA.public.kid, BELA.public.kid
            people = {"enrolled": 1, "driving": anna}
            wait_for(lambda: made.told()["people"] == people, 5, "the owner in the status")
            sealed = made.told()["segments"]
            wait_for(lambda: made.told()["segments"] > sealed + 3, 20, "segments")
            code, said = enroll(made, BELA, "--driver", "--json")
            assert code == 0, said
            told = json.loads(said[said.index("{") :])  # what is asked stands on standard error
            assert told == {"id": bela, "role": "driver", "name": BELA.public.name}
            made.inland("owner", "drive", bela[:6], *command)
            people = {"enrolled": 2, "driving": bela}
            wait_for(lambda: made.told()["people"] == people, 5, "the driver in the status")
            sealed = made.told()["segments"]
            wait_for(lambda: made.told()["segments"] > sealed + 6, 20, "segments")
            assert "2 enrolled" in made.inland("status", *command)
            made.kill("capture")
            made.start("capture", "capture", *command)
            wait_for(lambda: (s := made.status()) and s["people"] == people, 20, "it again")
            made.kill("capture", 15)
        told = made.inland("ledger", "--last", "1000", *command)
        assert told.count(f"owner {anna} is enrolled") == 1
        assert told.count(f"driver {bela} drives") == 1
        annas, belas = (opened(made.car / "state", key) for key in (ANNA, BELA))
        assert set(annas) == {"owner", "shared", "driver"}
        assert set(belas) == {"driver"}
        assert annas["owner"][0] > 0  # what came before had nobody
        assert annas["owner"] == annas["shared"]
        assert max(annas["driver"]) < belas["driver"][0]


@pytest.mark.timeout(120)
def test_three_wrong_codes_and_nobody_there_are_one_line_each(tmp_path: Path):
    with rig(tmp_path, broker=False) as made:
        made.policy(POLICY)
        with running(made):
            code, said = enroll(made, ANNA, wrong=3)
            assert code == 1
            assert said.strip().endswith("error: 3 codes were wrong; try again in 600 s")
            assert made.told()["people"]["enrolled"] == 0
            public = str(made.folder / "A.pub")
            said = made.inland("owner", "enroll", public, "--config", str(made.config), code=1)
            assert "try again in" in said
            made.kill("capture", 15)
        said = made.inland("owner", "enroll", public, "--config", str(made.config), code=75)
        assert said.count("\n") == 1
        assert "is `inland capture` running?" in said


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_the_example_policy_keeps_what_is_the_owners_once_there_is_one(tmp_path: Path):
    """The EU example as it stands in the package, on the simulated car: with nobody, with Anna."""
    text = (EXAMPLES / "eu-fleet.toml").read_text("utf-8").replace('region = "eu"', 'region = "cn"')
    text = text.replace("../../../firmware_sim/car.dbc", str(FIRMWARE / "car.dbc"))
    log = tmp_path / "drive.log"
    simulate.main(["--seconds", "20", "--log", str(log)], standalone_mode=False)
    frames = len(log.read_text("ascii").splitlines())
    with rig(tmp_path, broker=False) as made:
        made.policy(text)
        state = made.car / "state"
        made.bus(name="can0", interface="log", channel=str(log), speed="max")
        for people in (0, 1):
            if people:
                enroll_by_hand(state / register.FILE, ANNA)
            made.start("capture", "capture", "--config", str(made.config))
            wait_for(lambda: (s := made.status()) and s["frames"]["received"] == frames, 30, "all")
            assert made.told()["people"]["enrolled"] == people
            made.kill("capture", 15)
            assert bool(opened(state, ANNA, samples=True).get("shared")) == bool(people)
        told = made.inland("ledger", "--last", "1000", "--config", str(made.config))
        assert "nobody is enrolled who could open them" in told
        assert opened(state, BELA, samples=True) == {}
