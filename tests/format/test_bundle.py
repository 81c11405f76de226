"""The text of FORMAT.md suffices to check a bundle: a stranger who has it alone agrees with us."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from agent.evidence.verifier import verify
from agent.pb import sealed_pb2
from tests.evidence import altering
from tests.evidence.making import asked, drive, forge, frames, make, new_car
from tests.format import stranger_bundle

FORMAT = Path(__file__).resolve().parents[2] / "proto" / "FORMAT.md"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    car = drive(new_car(), 10)
    car.bodies[8] = b""
    car.drop(8, 8)
    drive(car, 6, sealed_pb2.OWNER)
    car.seal(frames(), lane=sealed_pb2.RECORDER)
    car.sign()
    return make(tmp_path_factory.mktemp("bundle") / "a.inland", car, asked=asked(6, 20),
                leave_out=lambda _, i: "unasked" if i == 7 else "")  # fmt: skip


def test_a_stranger_finds_it_intact(bundle: Path):
    assert verify(bundle)["verdict"] == 0
    assert stranger_bundle.verify(bundle) == 0


@pytest.mark.parametrize("seed", range(24))
def test_a_stranger_comes_to_the_same_verdict(bundle: Path, tmp_path: Path, seed: int):
    shutil.copytree(bundle, tmp_path / "a")
    what = altering.anything(tmp_path / "a", seed)
    ours, theirs = verify(tmp_path / "a")["verdict"], stranger_bundle.verify(tmp_path / "a")
    assert ours == theirs != 0, what


@pytest.mark.parametrize("kind", ["entries", "cover", "notes", "bodies"])
def test_bytes_are_judged_alike(bundle: Path, tmp_path: Path, kind: str):
    folder = tmp_path / "a"
    shutil.copytree(bundle, folder)
    path = altering.one(folder, kind)
    whole = path.read_bytes()
    for at in range(0, len(whole), max(1, len(whole) // 25)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :])
        forge(folder)
        assert (verify(folder)["verdict"] == 0) == (stranger_bundle.verify(folder) == 0), at


def test_the_document_names_what_is_in_bundle_json(bundle: Path):
    section = FORMAT.read_text("utf-8").split("| bundle.json | what |")[1].split("**Disclosed")[0]
    first = " ".join(re.findall(r"^\| (.*?) \|", section, re.MULTILINE))
    named = set(re.findall(r"`(\w+)`", first))
    assert named == set(json.loads((bundle / "bundle.json").read_text()))


def test_the_stranger_knows_nothing_of_us():
    text = Path(stranger_bundle.__file__).read_text("utf-8")
    assert not re.search(r"^(from|import) (agent|google|numpy)", text, re.MULTILINE)
    assert len([line for line in text.splitlines() if line.strip()]) <= 190
