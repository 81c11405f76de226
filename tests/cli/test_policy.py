"""The commands of `inland policy`, as a person or the OTA system uses them."""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from agent.cli.policy import command
from agent.errors import ConfigError, InlandError, PolicyError
from agent.policy.store import active
from tests.policy import making

EXAMPLE = making.EXAMPLES / "cn-fleet.toml"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(command, [str(one) for one in arguments])


def good(*arguments: object) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.exception
    return result.output


def refused(*arguments: object) -> InlandError:
    error = run(*arguments).exception
    assert isinstance(error, InlandError), error
    return error


@pytest.fixture
def compiled(tmp_path) -> Path:
    path = tmp_path / "x.policy"
    good("build", EXAMPLE, "-o", path)
    return path


@pytest.fixture
def card(tmp_path) -> Path:
    return write_card(tmp_path / "region.toml", "cn")


def write_card(path: Path, region: str) -> Path:
    key = base64.b64encode(bytes(32)).decode()
    path.write_text(
        f'region = "urn:inland:region:{region}"\nhost = "broker"\nport = 8883\n'
        f'prefixes = ["127.0.0.0/8"]\nissuing_ca = ["pem"]\nspki = ["{key}"]\n'
        f'receipt_keys = ["{key}"]\ncosign_keys = ["x"]\n'
        f'recipient_key = "{base64.b64encode(bytes(1216)).decode()}"\n'
    )
    return path


def test_build_says_what_it_made(tmp_path):
    output = good("build", EXAMPLE, "-o", tmp_path / "x.policy")
    assert "cn-fleet version 1, 7 rules, 39 signals" in output
    assert [path.name for path in tmp_path.iterdir()] == ["x.policy"]


def test_build_leaves_the_file_that_was_there_if_it_fails(tmp_path):
    path = tmp_path / "x.policy"
    path.write_bytes(b"old")
    bad = tmp_path / "bad.toml"
    bad.write_text("policy = 1")
    assert isinstance(refused("build", bad, "-o", path), PolicyError)
    assert path.read_bytes() == b"old"
    assert isinstance(refused("build", EXAMPLE, "-o", tmp_path / "no" / "x"), ConfigError)


def test_show_says_what_why_for_whom_how_long_until_when(compiled):
    output = " ".join(good("show", compiled).split())
    for part in (
        "cn-fleet, version 1", "2100-01-01", "BatteryStatus.BatterySoc [%]", "10 seconds",
        "GB/T 32960", "state of the battery", "who can open it", "7 days", "hard-brake",
        "inland consent withdraw location.track", "privacy@example.com",
    ):  # fmt: skip
        assert part in output
    assert "第 1 版" in good("show", compiled, "--lang", "zh")


def test_show_json_is_for_programs(compiled):
    told = json.loads(good("show", compiled, "--json"))
    items = {one["id"]: one for one in told["items"]}
    assert items["battery"]["every_ns"] == 10 * 10**9
    assert items["cells"]["signals"][0] == "can0:BatteryCells.CellVoltage01 [V]"
    assert items["hard-brake"]["kind"] == "event"


def test_install_puts_in_force_once(compiled, card, tmp_path):
    where = ("--state", tmp_path / "state", "--region-card", card)
    assert "version 1 is in force" in good("install", compiled, *where)
    assert "was in force already" in good("install", compiled, *where)
    assert active(tmp_path / "state" / "policy") == compiled.read_bytes()
    assert "cn-fleet, version 1" in good("show", "--state", tmp_path / "state")


def test_a_dry_run_that_does_not_end_is_ended(compiled, card, tmp_path, monkeypatch):
    import threading

    monkeypatch.setattr(sys.modules["agent.cli.policy.install"], "_REHEARSAL_S", 0.05)
    never = threading.Event()
    monkeypatch.setattr("agent.policy.rehearsal.rehearse", lambda _: never.wait(30))
    error = refused("install", compiled, "--state", tmp_path / "s", "--region-card", card)
    assert "the dry run took longer than" in str(error)
    assert active(tmp_path / "s" / "policy") is None


def test_another_region_is_refused_and_nothing_is_stored(compiled, tmp_path):
    card = write_card(tmp_path / "eu.toml", "eu")
    error = refused("install", compiled, "--state", tmp_path / "s", "--region-card", card)
    assert isinstance(error, PolicyError)
    assert active(tmp_path / "s" / "policy") is None


@pytest.fixture
def configured(card, tmp_path):
    """A configuration that names a state folder and a region card."""
    config = tmp_path / "agent.toml"
    config.write_text(
        f'state = "state"\nrun = "run"\nregion_card = "{card}"\n[vehicle]\nid = "v-0123456789"\n'
        'certificate = "vehicle.pem"\nkey = "vehicle.key"\nledger_key = "ledger.key"\n'
    )
    return ("--config", config)


def test_the_configuration_names_the_folders(compiled, configured):
    assert "no policy is in force" in good("show", *configured)
    assert json.loads(good("show", *configured, "--json")) == {"policy": None}
    assert "is in force" in good("install", compiled, *configured)
    assert "cn-fleet" in good("show", *configured)


def test_a_file_that_is_not_there_is_named(tmp_path):
    assert "cannot read the policy" in str(refused("show", tmp_path / "none"))


@pytest.mark.parametrize("name", ["build", "install", "show"])
def test_help_has_an_example(name):
    assert "inland policy" in good(name, "--help")


def test_simulate_says_when_a_log_has_nothing_to_rename(compiled, tmp_path):
    log = tmp_path / "drive.log"
    log.write_text("".join(f"({1_700_000_000 + i}.0) can0 132#00\n" for i in range(3)))
    words = ("simulate", compiled, log, "--map", "vcan0=can0")
    said = "nothing of the log is on vcan0: --map vcan0=... did nothing"
    assert said in good(*words)
    assert said in json.loads(good(*words, "--json"))["logs"][0]["notes"]
    assert "--map" not in good("simulate", compiled, log, "--map", "can0=vcan0")
