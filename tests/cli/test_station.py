"""`inland station` as a person or a program meets it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from agent.cli.station import command
from agent.errors import ConfigError, InlandError, StationError, UndecidedError
from agent.frames import FRAME
from agent.station.authority import load_region
from agent.station.receive import Receiver
from agent.station.store import Store
from agent.vault import keys
from tests.station.car import START_NS, SealingCar


def run(*words: object, fails: type[InlandError] | None = None) -> Result:
    result = CliRunner().invoke(command, [str(word) for word in words])
    if fails is None:
        assert result.exception is None, result.output
    else:
        assert isinstance(result.exception, fails), result.output
    return result


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    run("init", tmp_path / "cn", "--region", "cn", "--host", "b.cn.test", "--prefix", "10.0.0.0/8")
    run("enroll", tmp_path / "cn", tmp_path / "car", "--vehicle", "v-0123456789")
    return tmp_path / "cn"


@pytest.fixture
def car(folder: Path) -> SealingCar:
    region = load_region(folder)
    ledger_key = keys.load_ledger_key(folder.parent / "car" / "ledger.key")
    car = SealingCar("v-0123456789", region.card.region, ledger_key)
    car.recipient = region.card.recipient_key
    car.genesis(), car.begin_sealed()
    frames = np.zeros(5, FRAME)
    frames["timestamp_ns"], frames["length"] = START_NS + np.arange(5) * 1000, 1
    car.seal(frames), car.seal(frames)
    return car


def deliver(folder: Path, car: SealingCar, *indices: int) -> None:
    store = Store(folder / "station.db")
    station = Receiver(load_region(folder), store, lambda: START_NS)
    for index in indices:
        station.offer(car.topic(), car.upload(index))
    station.flush()
    store.close()


def test_every_command_has_an_example() -> None:
    for name in ("init", "enroll", "renew", "serve", "ls", "search", "open"):
        assert f"inland station {name}" in run(name, "--help").output


def test_json_of_init_and_enroll(tmp_path: Path) -> None:
    made = run(
        "init", tmp_path / "cn", "--region", "cn", "--host", "b.cn.test", "--port", 1883,
        "--prefix", "10.0.0.0/8", "--prefix", "fd00::/8", "--json",
    )  # fmt: skip
    assert json.loads(made.output)["region"] == "urn:inland:region:cn"
    assert Path(json.loads(made.output)["mosquitto"]).is_file()
    car = json.loads(run("enroll", tmp_path / "cn", tmp_path / "car", "--json").output)
    assert car["vehicle"].startswith("v-")


def test_renew_says_until_when(folder: Path) -> None:
    assert "broker until 20" in run("renew", folder).output
    assert "station_until" in json.loads(run("renew", folder, "--json").output)


def test_ls_of_a_new_region(folder: Path) -> None:
    assert "nothing received" in run("ls", folder).output
    assert "no openings" in run("ls", folder, "--openings").output


def found(folder: Path, *words: object) -> list[dict[str, Any]]:
    return [
        json.loads(line) for line in run("search", folder, *words, "--json").stdout.splitlines()
    ]


def test_search_finds_what_is_asked_and_opens_nothing(folder: Path, car: SealingCar) -> None:
    car.loss(), car.drop(3, 3)
    deliver(folder, car, 0, 1, 2, 3, 4, 5)
    assert [hit["entry"] for hit in found(folder)] == [0, 1, 2, 3, 4, 5]
    assert [hit["what"] for hit in found(folder, "--kind", "loss", "--kind", "drop")] == [
        "loss", "drop",
    ]  # fmt: skip
    assert [hit["entry"] for hit in found(folder, "--lane", "routine")] == [2, 3]
    second = f"{START_NS // 10**9 + 2}"
    assert [hit["entry"] for hit in found(folder, "--from", second, "--to", second)] == [2]
    log = car.log.hex()
    assert len(found(folder, "--vehicle", car.vehicle, "--log", log[:5].upper())) == 6
    [segment] = found(folder, "--kind", "segment", "--to", second)
    assert segment["log"] == log
    assert segment["body_bytes"] == len(car.bodies[2])
    assert "3 frames or samples of can0 lost" in run("search", folder, "--kind", "loss").output
    assert "no openings" in run("ls", folder, "--openings").output


def test_search_says_that_there_is_more_and_what_the_car_let_go(
    folder: Path, car: SealingCar
) -> None:
    car.drop(3, 3)
    car.bodies[3] = b""
    deliver(folder, car, 0, 1, 2, 4, 3)
    result = run("search", folder, "--limit", 2)
    assert len(result.stdout.splitlines()) == 2
    assert "and more: narrow it, or raise --limit 2" in result.stderr
    exact = run("search", folder, "--limit", 5)
    assert not exact.stderr
    assert "the car let it go (quota)" in exact.stdout.splitlines()[3]


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--vehicle", "v-nobody"], ConfigError), (["--log", "xyz"], ConfigError),
        (["--log", "%"], ConfigError), (["--kind", "segments"], ConfigError),
        (["--to", "2020-01-01"], StationError), (["--log", "0" * 32], StationError),
    ],
)  # fmt: skip
def test_search_of_what_is_not_there(
    folder: Path, car: SealingCar, words: list[str], error: type[InlandError]
) -> None:
    deliver(folder, car, 0, 1, 2, 3)
    run("search", folder, *words, fails=error)


def test_open_writes_frames_and_is_listed(folder: Path, car: SealingCar) -> None:
    deliver(folder, car, 0, 1, 2, 3)
    log = folder.parent / "out.log"
    result = run("open", folder, "--vehicle", car.vehicle, "--frames", log, "--reason", "case 17")
    assert "2 segments: 10 frames" in result.output
    assert len(log.read_text().splitlines()) == 10
    assert "case 17" in run("ls", folder, "--openings").output
    listed = json.loads(run("ls", folder, "--openings", "--json").output)
    assert listed["openings"][0]["segments"] == 2
    assert "4 entries, 2 segments" in run("ls", folder).output


def test_open_to_standard_output_is_data_alone(folder: Path, car: SealingCar) -> None:
    deliver(folder, car, 0, 1, 2, 3)
    result = run("open", folder, "--vehicle", car.vehicle, "--frames", "-", "--json")
    assert len(result.stdout.splitlines()) == 10
    assert json.loads(result.stderr)["frames"] == 10


def test_what_has_not_come_is_named_and_the_rest_is_written(folder: Path, car: SealingCar) -> None:
    deliver(folder, car, 0, 1, 3)
    log = folder.parent / "out.log"
    result = run("open", folder, "--vehicle", car.vehicle, "--frames", log, fails=UndecidedError)
    assert "entry 2: not received" in result.stderr
    assert len(log.read_text().splitlines()) == 5
    assert UndecidedError.exit_code == 3


def test_what_was_altered_is_named(folder: Path, car: SealingCar) -> None:
    deliver(folder, car, 0, 1, 2, 3)
    store = Store(folder / "station.db")
    store.connection.execute("UPDATE entries SET body = x'00' WHERE i = 2")
    store.close()
    result = run("open", folder, "--vehicle", car.vehicle, fails=StationError)
    assert "altered: log" in result.stderr
    assert StationError.exit_code == 1


@pytest.mark.parametrize(
    ("start", "frames"),
    [
        ("1795000000.000003", 4),
        ("2026-11-18T11:06:40.000004", 2),
        ("2026-11-18T12:06:40.000004+01:00", 2),
    ],
)
def test_moments_in_both_forms(folder: Path, car: SealingCar, start: str, frames: int) -> None:
    deliver(folder, car, 0, 1, 2, 3)
    result = run("open", folder, "--vehicle", car.vehicle, "--from", start, "--json")
    assert json.loads(result.stdout)["frames"] == frames


@pytest.mark.parametrize(
    "moment", ["yesterday", "nan", "Infinity", "1e400", "1969-12-31", "99999999999"]
)
def test_a_moment_that_is_none_is_named(folder: Path, moment: str) -> None:
    run("open", folder, "--vehicle", "v-0123456789", "--from", moment, fails=ConfigError)


def test_a_folder_that_is_no_region_is_named(tmp_path: Path) -> None:
    for name in ("ls", "serve"):
        run(name, tmp_path, fails=ConfigError)
