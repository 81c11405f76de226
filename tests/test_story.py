"""The owner's story on real parts: from the key to the sale, and what each of the two then has."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from agent.cli import demo_story
from agent.cli.demo_people import Person
from agent.cli.demo_stage import Stage
from agent.cli.demo_story import Story, alter
from agent.cli.demo_view import View
from agent.evidence.verifier import verify
from agent.owner.public import read_public
from tests.evidence.making import drive, make, new_car
from tests.rig import INLAND, needs_mosquitto

BUDGET_S = 60  # of DESIGN, for half an hour at full rate; here are some seconds
# A machine that others use may be too late for the second in which something is to be seen; and a
# computer that stalls in the middle of it has not braked hard. Once in three it is not.
SLOW = re.compile(r"(what the owner sees live is \S+ s old|the page shows no incident|; )+")


@needs_mosquitto
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_story_of_an_owner_who_brakes_and_sells_the_car(tmp_path: Path):
    """Every step through the commands; each frame that the car sent is opened at home."""
    for turn in range(3):
        kept = tmp_path / f"story{turn}"
        done = subprocess.run(
            [*INLAND, "demo", "--story", "brake", "--seconds", "6", "--json", "--keep", str(kept)],
            capture_output=True, text=True, timeout=280, check=False,
        )  # fmt: skip
        found = json.loads(done.stdout)
        if not SLOW.fullmatch(found["why"]):
            break
    assert (done.returncode, found["why"]) == (0, ""), done.stdout + done.stderr
    frames = found["frames"]
    assert frames["sent"] == frames["kept"] == frames["opened"] > 1000
    assert found["samples_opened"] > 100
    assert 0 < found["live_age_s"] <= 1
    assert found["incidents"] == 1
    verdicts = {"export": 0, "verify": 0, "open": 0, "report": 0, "altered": 1, "order": 0,
                "answer": 0}  # fmt: skip
    assert found["verdicts"].pop("forged_order") > 0
    assert 0 < frames["ordered"] < frames["opened"]
    assert found["told_of_orders"] == 1
    assert found["verdicts"] == verdicts
    assert max(found["seconds"][what] for what in ("export", "open", "verify")) < BUDGET_S
    assert found["next_owner"]["opened_of_before"] == 0
    assert found["next_owner"]["opened_of_her_own"] > 1000
    assert found["former_owner"]["still_opens"] >= frames["opened"]
    assert found["former_owner"]["opened_of_after"] == 0
    page = Path(found["page"]).read_text("utf-8")
    assert "hard-brake" in page
    assert verify(Path(found["bundle"]))["verdict"] == 0
    assert Path(found["erased"]["certificate"]).exists()
    told = json.loads(subprocess.run(
        [*INLAND, "owner", "people", "--config", str(kept / "car" / "agent.toml"), "--json"],
        capture_output=True, text=True, timeout=60, check=True,
    ).stdout)  # fmt: skip
    assert [one["name"] for one in told["people"]] == ["Mei Zhang"]


@needs_mosquitto
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_planted_faults_are_named_by_the_story(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A copy that nobody altered, and a next owner who has the key of the one before."""
    monkeypatch.setattr(demo_story, "alter", lambda _: 1)
    make_key = Person.make_key

    def same_key(person: Person) -> None:
        first = person.home.with_name("li-wei")
        if not first.exists():
            make_key(person)
            return
        shutil.copytree(first, person.home, ignore=lambda *_: ["opened", "stick", "report.html"])
        person.kid = read_public(person.home / "owner.pub").kid

    monkeypatch.setattr(Person, "make_key", same_key)
    found = Story(tmp_path, 4.0, 7, View(quiet=True), Event()).run("auto")
    assert not found["ok"]
    why = found["why"].split("; ")
    assert any("in entry 1 is not found: exit code 0" in one for one in why)
    assert any(one.startswith("the next owner opens ") for one in why)
    assert "the next owner is not told that her key opens nothing of before" in why
    assert any(one.startswith("the former owner opens ") for one in why)
    assert found["next_owner"]["opened_of_before"] > 1000


def test_interrupt_that_was_lost_is_seen_at_the_next_wait(tmp_path: Path):
    """Python drops an exception of a destructor: then the signal has left only this behind."""
    stop = Event()
    stage = Stage(tmp_path, View(quiet=True), stop)
    stage.pause(0)
    stop.set()
    with pytest.raises(KeyboardInterrupt):
        stage.wait("nothing", lambda: False)


def test_one_altered_bit_is_named_by_its_entry(tmp_path: Path):
    bundle = make(tmp_path / "a.inland", drive(new_car(), 12))
    before: dict[str, Any] = verify(bundle)
    assert before["altered"] == []
    index = alter(bundle)
    assert any(f"entry {index}:" in one for one in verify(bundle)["altered"])
