"""agent.toml: every mistake is one line that says where and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.config import load_config
from agent.errors import ConfigError
from agent.units import duration_ns, nearest, size_bytes

GOOD = """\
state = "state"
run = "run"
region_card = "region.toml"

[vehicle]
id = "car-1234"
certificate = "vehicle.pem"
key = "vehicle.key"
ledger_key = "ledger.key"

[[bus]]
name = "can0"
interface = "socketcan"
channel = "vcan0"
fd = true

[limits]
spool = "64MiB"

[uplink]
spread = "60s"
regroup = "2min"
"""


def load(folder: Path, text: str):
    path = folder / "agent.toml"
    path.write_text(text, encoding="utf-8")
    return load_config(path)


def test_good_file_gives_every_value(tmp_path: Path):
    config = load(tmp_path, GOOD)
    assert config.state == tmp_path / "state"
    assert config.hatch == tmp_path / "run" / "hatch.sock"
    assert config.vehicle.id == "car-1234"
    assert config.buses[0].name == "can0"
    assert dict(config.buses[0].settings) == {
        "interface": "socketcan",
        "channel": "vcan0",
        "fd": True,
    }
    assert (config.spool_bytes, config.spread_s, config.regroup_s) == (64 << 20, 60.0, 120.0)


@pytest.mark.parametrize(
    ("old", "new", "line", "expected"),
    [
        ("state =", "stat =", 1, "unknown key 'stat'; nearest valid key is 'state'"),
        ("ledger_key", "ledgerkey", 9, "nearest valid key is 'ledger_key'"),
        ("spool =", "spol =", 18, "nearest valid key is 'spool'"),
        ('"64MiB"', '"64 mice"', 18, "is not a number with a unit"),
        ('"64MiB"', '"1MiB"', 18, "at least 8MiB"),
        ('"60s"', "60", 21, "'spread'"),
        ('interface = "socketcan"\n', "", 11, "has no 'interface'"),
        ('id = "car-1234"\n', "", 5, "key 'id' is missing"),
        ("run = ", "run = = ", None, "not TOML"),
    ],
)
def test_mistake_names_line_and_remedy(tmp_path: Path, old: str, new: str, line, expected: str):
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, GOOD.replace(old, new))
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2
    if line:
        assert f"agent.toml:{line}:" in str(caught.value)


def test_missing_file_says_what_to_do(tmp_path: Path):
    with pytest.raises(ConfigError, match="say --config FILE"):
        load_config(tmp_path / "nowhere.toml")


def test_two_buses_of_one_name_are_refused(tmp_path: Path):
    bus = '\n[[bus]]\nname = "can0"\ninterface = "virtual"\nchannel = "x"\n'
    # At the second of them, not at the first table that has such a key.
    with pytest.raises(ConfigError, match=r"agent.toml:25: two buses are called 'can0'"):
        load(tmp_path, GOOD + bus)


@pytest.mark.parametrize(
    ("text", "value"),
    [("250ms", 250_000_000), ("10s", 10**10), ("1.5 h", 5400 * 10**9), ("7d", 604_800 * 10**9)],
)
def test_durations(text: str, value: int):
    assert duration_ns(text) == value


@pytest.mark.parametrize(
    "text", ["", "10", "s", "-1s", "10 parsecs", "1e3s", "10ss", "9" * 400 + "s"]
)
def test_no_duration(text: str):
    with pytest.raises(ValueError, match="is not a number with a unit"):
        duration_ns(text)


def test_sizes():
    assert size_bytes("512MiB") == 512 << 20
    assert size_bytes("1.5GiB") == 3 << 29


def test_nearest_names_one_or_all():
    assert nearest("evry", ["every", "on"]) == "nearest valid key is 'every'"
    assert nearest("zzzz", ["every", "on"]) == "write every, on"
