"""agent.toml: every mistake is one line that says where and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.config import Secret, load_config
from agent.errors import ConfigError
from agent.files import read_private_file
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
"""


def load(folder: Path, text: str):
    path = folder / "agent.toml"
    path.write_text(text, encoding="utf-8")
    return load_config(path)


def test_good_file_gives_every_value(tmp_path: Path):
    config = load(tmp_path, GOOD)
    assert config.state == tmp_path / "state"
    assert config.hatch == tmp_path / "run" / "hatch.sock"
    assert config.live == tmp_path / "run" / "live.sock"
    assert config.vehicle.id == "car-1234"
    assert config.buses[0].name == "can0"
    assert dict(config.buses[0].settings) == {
        "interface": "socketcan",
        "channel": "vcan0",
        "fd": True,
    }
    assert (config.spool_bytes, config.spread_s) == (64 << 20, 60.0)
    assert (config.vehicle.group, config.vehicle.zones_key) == ("default", None)


def test_what_a_vehicle_may_have_besides(tmp_path: Path):
    more = GOOD.replace("[[bus]]", 'group = "taxis"\nzones_key = "zones.key"\n\n[[bus]]')
    vehicle = load(tmp_path, more).vehicle
    assert vehicle.group == "taxis"
    assert vehicle.zones_key is not None
    assert vehicle.zones_key.path == tmp_path / "zones.key"


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
        ('id = "car-1234"', 'id = "car-1234"\ngroup = ""', 7, "'group' must be a text"),
        ('id = "car-1234"', 'id = "car-1234"\nzones_key = 1', 7, "'zones_key' must be a text"),
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
    with pytest.raises(ConfigError, match=r"agent.toml:24: two buses are called 'can0'"):
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


# --- where keys are ---


def test_a_key_is_its_file_where_nothing_was_handed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    vehicle = load(tmp_path, GOOD).vehicle
    assert vehicle.key == Secret("vehicle.key", tmp_path / "vehicle.key")
    assert vehicle.key.file() == tmp_path / "vehicle.key"
    assert vehicle.zones_key is None
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "none"))
    assert vehicle.ledger_key.file() == tmp_path / "ledger.key"


def test_a_credential_takes_precedence_over_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The same agent.toml at a desk and in the service, whose user cannot read the file."""
    handed = tmp_path / "credentials"
    handed.mkdir()
    (handed / "ledger.key").write_text("handed over")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(handed))
    vehicle = load(tmp_path, GOOD).vehicle
    assert vehicle.ledger_key.file() == handed / "ledger.key"
    assert vehicle.key.file() == tmp_path / "vehicle.key"


def test_a_key_that_only_the_service_manager_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    text = GOOD.replace('"ledger.key"', '"credential:car.ledger"')
    key = load(tmp_path, text).vehicle.ledger_key  # others can read the file all the same
    assert key == Secret("car.ledger", None)
    with pytest.raises(ConfigError, match=r"credential:car\.ledger: only the service manager has"):
        key.file()
    (tmp_path / "car.ledger").write_text("handed over")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert key.file() == tmp_path / "car.ledger"


@pytest.mark.parametrize("name", ["", "../ledger.key", "a/b", ".hidden", "x" * 65, "a b"])
def test_no_name_of_a_credential(tmp_path: Path, name: str):
    with pytest.raises(ConfigError, match=r"agent\.toml:9: '.*' is no name of a credential"):
        load(tmp_path, GOOD.replace('"ledger.key"', f'"credential:{name}"'))


@pytest.mark.parametrize(("mode", "handed", "good"), [
    (0o600, False, True), (0o640, False, False), (0o604, False, False),
    (0o400, True, True), (0o440, True, True), (0o460, True, False), (0o404, True, False),
])  # fmt: skip
def test_a_credential_may_show_its_acl_and_a_file_may_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, handed: bool, good: bool
):
    """On a file system with ACLs systemd gives it mode 0440, and closes the folder."""
    if handed:
        monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    else:
        monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    path = tmp_path / "key"
    path.write_bytes(b"secret")
    path.chmod(mode)
    if good:
        assert read_private_file(path, "the key") == b"secret"
    else:
        with pytest.raises(ConfigError, match="can be read by others"):
            read_private_file(path, "the key")
