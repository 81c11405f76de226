"""Building: names find their signals, files in any encoding are read, bad ones are named."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from agent.errors import ConfigError, PolicyError
from agent.policy.build import build_policy
from agent.policy.compiled import read_policy
from agent.policy.dbc import decode_text, load_dbc
from agent.policy.model import FLOAT32, FLOAT64
from tests.policy import making


@pytest.fixture
def car(tmp_path: Path):
    """A folder with a DBC file; called with signals, it writes a policy over it."""
    (tmp_path / "car.dbc").write_text(making.DBC, "utf-8")

    def write(*signals: str, dbc: str = '"car.dbc"') -> Path:
        named = ", ".join(f'"{one}"' for one in signals)
        text = making.HEAD.replace('"car.dbc"', dbc) + making.RULE.replace('"Speed"', named)
        path = tmp_path / "fleet.toml"
        path.write_text(text, "utf-8")
        return path

    return write


def test_only_named_signals_are_in_it(car):
    data = build_policy(car("Speed", "can0:Drive.Torque"))
    policy = read_policy(data)
    assert [(one.message, one.name, one.unit) for one in policy.signals] == [
        ("Drive", "Speed", "km/h"), ("Drive", "Torque", "Nm"),
    ]  # fmt: skip
    assert (policy.signals[1].factor, policy.signals[1].offset) == (0.5, -10)
    assert [one.channel for one in policy.rules[0].signals] == ["*", "can0"]
    assert b"Wide" not in data


def test_the_same_input_gives_the_same_bytes(car):
    path = car("Drive.Both", "Speed")
    assert build_policy(path) == build_policy(path)


def test_labels_floats_and_multiplexers_are_carried(car):
    policy = read_policy(build_policy(car("Drive.Both", "Real", "Double", "Deep", "Plain")))
    assert policy.signals[0].choices == ((0, "off"), (1, "on"))
    assert [one.kind for one in policy.signals[1:3]] == [FLOAT32, FLOAT64]
    deep, plain = policy.layouts[3:]
    assert [one.ranges for one in deep.mux] == [((3, 3), (5, 7)), ((1, 1),)]
    assert [one.ranges for one in plain.mux] == [((2, 5), (9, 9))]


REFUSED = {
    "Sped": "fleet.toml:13: unknown signal 'Sped'; nearest known signal is 'Speed'",
    "Drive.Wide": "unknown signal 'Drive.Wide'; it is in DriveWide",
    "Both": "signal 'Both' is ambiguous: Drive.Both, DriveWide.Both; write Message.Signal",
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_name_that_finds_not_one_signal_is_refused(car, name):
    with pytest.raises(PolicyError) as caught:
        build_policy(car(name))
    assert REFUSED[name] in str(caught.value)


def test_two_files_that_agree_are_no_ambiguity(car, tmp_path):
    (tmp_path / "copy.dbc").write_text(making.DBC)
    assert len(read_policy(build_policy(car("Speed", dbc='"car.dbc", "copy.dbc"'))).signals) == 1


def test_two_files_that_disagree_are_named(car, tmp_path):
    (tmp_path / "other.dbc").write_text(making.DBC.replace("(0.01,0)", "(0.02,0)"))
    with pytest.raises(PolicyError, match=r"Drive.Speed of car.dbc, Drive.Speed of other.dbc"):
        build_policy(car("Speed", dbc='"car.dbc", "other.dbc"'))


def test_no_dbc_file_is_said(car):
    with pytest.raises(PolicyError, match="no DBC file is named; add dbc"):
        build_policy(car("Speed", dbc=""))


@pytest.mark.parametrize(
    ("encoding", "unit"), [("utf-8", "℃"), ("gbk", "摄氏度"), ("cp1252", "°C"), ("utf-8-sig", "°C")]
)
def test_a_file_is_read_in_its_encoding(car, tmp_path, encoding, unit):
    text = making.DBC.replace("km/h", unit)
    (tmp_path / "car.dbc").write_bytes(text.encode(encoding))
    assert read_policy(build_policy(car("Speed"))).signals[0].unit == unit


def test_western_text_is_not_taken_for_chinese():
    text = 'CM_ "Größe über 5 °C, Kühlmittel, 50 µs";'
    assert decode_text(text.encode("cp1252")) == text


MALFORMED = {
    "a name that begins with a digit": (
        " SG_ Speed :",
        " SG_ 9peed :",
        "4: malformed DBC: invalid",
    ),
    "an id that is too long": ("BO_ 256 Drive:", "BO_ 70000 Drive:", "3: malformed DBC: Standard"),
    "labels of nothing": ("VAL_ 256 Both", "VAL_ 256 Nobody", "24: malformed DBC: unused VAL_"),
    "a range without end": ("Mode 2-5", "Mode 2-4294967295", "20: multiplexer range .* too long"),
}


@pytest.mark.parametrize("what", MALFORMED)
def test_a_malformed_file_is_named_with_its_line(car, tmp_path, what):
    old, new, message = MALFORMED[what]
    assert old in making.DBC
    (tmp_path / "car.dbc").write_text(making.DBC.replace(old, new))
    with pytest.raises(PolicyError, match=f"car.dbc:{message}") as caught:
        build_policy(car("Speed"))
    assert "\n" not in str(caught.value)


USELESS = {
    "beyond 64 bytes": (" SG_ Far : 447|63@0-", " SG_ Far : 505|63@1-"),
    "has 65 bits": (" SG_ Far : 447|63@0-", " SG_ Far : 7|65@1-"),
}


@pytest.mark.parametrize("what", USELESS)
def test_a_signal_that_cannot_be_read_is_refused(car, tmp_path, what):
    (tmp_path / "car.dbc").write_text(making.DBC.replace(*USELESS[what]))
    with pytest.raises(PolicyError, match=f"fleet.toml:13: signal 'Long.Far' of car.dbc .*{what}"):
        build_policy(car("Far"))
    assert build_policy(car("Speed"))


def test_files_that_are_not_there_are_named(car, tmp_path):
    with pytest.raises(PolicyError, match=r"none.dbc: no such DBC file"):
        build_policy(car("Speed", dbc='"none.dbc"'))
    with pytest.raises(ConfigError, match=r"none.toml: no such file"):
        build_policy(tmp_path / "none.toml")


def test_a_policy_that_is_not_text_is_refused(tmp_path):
    path = tmp_path / "fleet.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(PolicyError, match="not UTF-8"):
        build_policy(path)


def test_the_example_builds_and_shows_every_key():
    path = making.EXAMPLES / "cn-fleet.toml"
    policy = read_policy(build_policy(path))
    assert [rule.id for rule in policy.rules] == ["frames", "battery", "brake", "speed"]
    assert len(policy.signals) == 5


def test_files_of_cars_are_read_or_refused_in_one_line(caplog):
    files = [path for path in making.dbc_files() if path.stat().st_size < 20_000][::3]
    if not files:
        pytest.skip("no test data: set INLAND_DATA")
    with caplog.at_level(logging.WARNING):
        for path in files:
            try:
                load_dbc(path)
            except PolicyError as error:
                assert "\n" not in str(error)  # noqa: PT017 - both outcomes are right
    assert not caplog.records
