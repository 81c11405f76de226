"""`inland verify` for people and for programs, and how long it takes."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from agent.cli.main import inland
from agent.evidence.bundle import BundleWriter
from agent.evidence.disclosure import disclose
from agent.pb import ledger_pb2, sealed_pb2
from agent.vault import seal, tree
from tests.evidence import altering
from tests.evidence.making import WITNESS, View, about, asked, drive, make, new_car
from tests.station.conftest import make_region


def run(*words: object) -> Result:
    return CliRunner().invoke(inland, [str(word) for word in words], standalone_mode=False)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return make(tmp_path / "a.inland", drive(new_car(), 12), asked=asked(6, 10))


def test_an_intact_bundle(bundle: Path):
    done = run("verify", bundle)
    assert done.return_value == 0
    lines = done.output.splitlines()
    assert lines[-1] == "intact"
    assert any("co-signed by inland-region-cn at 2026-11-18T11:0" in line for line in lines)
    assert any("compare its SHA-256" in line for line in lines)


def test_an_altered_one_and_one_that_lacks_something(bundle: Path):
    altering.change(bundle, "bodies", lambda rows: rows[:-1])
    done = run("verify", bundle)
    assert (done.return_value, done.output.splitlines()[-1]) == (3, "cannot be decided")
    assert "entry 10: its body is not here, and nothing says why" in done.output
    altering.replace_entry(bundle, 8, lambda entry: setattr(entry.segment, "bytes", 1))
    done = run("verify", bundle, "--json")
    told = json.loads(done.output)
    assert (done.return_value, told["verdict"], len(told["altered"])) == (1, 1, 1)


def test_the_card_of_the_region_is_believed_instead(bundle: Path, tmp_path: Path):
    region = make_region(tmp_path / "cn")
    card = region.path / "region.toml"
    text = card.read_text()
    done = run("verify", bundle, "--card", card)
    assert done.return_value == 3  # that region never saw this log
    card.write_text(text.replace(region.card.cosign_keys[0], WITNESS.text()))
    done = run("verify", bundle, "--card", card)
    assert (done.return_value, "compare its SHA-256" in done.output) == (0, False)


def test_wrong_use(tmp_path: Path):
    done = run("verify", tmp_path / "nothing")
    assert getattr(done.exception, "exit_code", None) == 2
    done = run("verify", tmp_path, "--card", tmp_path / "none.toml")
    assert getattr(done.exception, "exit_code", None) == 2


def test_half_an_hour_of_a_full_bus_takes_less_than_five_seconds(tmp_path: Path):
    """1,800 segments of a second, 4,000 frames each, as they are sealed: some 25 KiB a second."""
    car = drive(new_car(), 0)
    noise = np.random.default_rng(7)
    for number in range(1800):
        payload = noise.bytes(25_000)
        header = sealed_pb2.SegmentHeader(log=car.log, index=len(car.entries), epoch=1, lane=2)
        assert car.live is not None
        body = seal.seal_segment(car.live, header, payload)
        car.add(body, segment=ledger_pb2.SegmentSealed(
            body=tree.sha256(body), session=car.session, lane=2, bytes=len(body)))  # fmt: skip
        if number % 60 == 59:
            car.sign()
    view = View(car)
    found = disclose(view, None, None)
    assert found is not None
    with BundleWriter(tmp_path / "a.inland") as writer:
        writer.add(view, found)
        writer.place(about(), asked())
    assert altering.one(tmp_path / "a.inland", "bodies").stat().st_size > 40_000_000
    begun = time.process_time()
    assert run("verify", tmp_path / "a.inland").return_value == 0
    assert time.process_time() - begun < 5
