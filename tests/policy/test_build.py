"""Building: names find their signals, files in any encoding are read, bad ones are named."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from agent.errors import ConfigError, PolicyError
from agent.policy.build import build_policy, build_text
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


CAR = making.DBC.replace(
    "VAL_ 256 Both",
    """\
BO_ 1024 Fix: 8 Car
 SG_ Lat : 0|32@1- (1E-07,0) [0|0] "deg" Car
 SG_ Long : 32|32@1- (1E-07,0) [0|0] "deg" Car
BO_ 1025 FixMore: 8 Car
 SG_ Course : 0|32@1- (1,0) [0|0] "deg" Car
 SG_ Height : 32|16@1- (1,0) [0|0] "m" Car
SIG_VALTYPE_ 1025 Course : 1;
VAL_ 256 Both""",
)
EVENT = """
[[event]]
id = "brake"
when = '{when}'
purpose = "safety_event"
basis = "safety"
necessity = "a test"
recipients = "region"
keep = "1d"
snapshot = ["{snapshot}"]
"""
TRACK = """
[[collect]]
id = "track"
category = "location.track"
purpose = "navigation"
basis = "consent"
necessity = "a test"
signals = [{signals}]
keep = "1d"
recipients = "{recipients}"
every = "10s"
precision = {{ space = "{space}" }}

[[consent]]
category = "location.track"
max_days = 30
"""
CAMERA = """
[camera]
purpose = "safety_event"
basis = "safety"
necessity = "a test"
recipients = "region"
keep = "1d"
zones_file = "zones.sealed"
position = { latitude = "Lat", longitude = "Long", speed = "SPEED", fix = "Course > 0" }
"""


@pytest.fixture
def built(tmp_path: Path):
    """Called with TOML after the head, it builds a policy over a car with a position."""
    (tmp_path / "car.dbc").write_text(CAR, "utf-8")

    def build(text: str) -> bytes:
        (tmp_path / "fleet.toml").write_text(making.HEAD + text, "utf-8")
        return build_policy(tmp_path / "fleet.toml")

    return build


def test_what_an_expression_names_is_looked_up(built):
    policy = read_policy(
        built(EVENT.format(when='can0:Speed > 30 and Drive.Both == "on"', snapshot="can1:Torque"))
    )
    (event,) = policy.events
    assert [name for name, _ in event.when.terms] == ["can0:Speed", "Drive.Both"]
    assert [one.channel for _, one in event.when.terms] == ["can0", "*"]
    assert [policy.signals[one.signal].name for one in event.snapshot] == ["Torque"]
    assert len(policy.signals) == 3


UNKNOWN = {
    "Speed > 3 and Sped < 2": "23: unknown signal 'Sped'; nearest known signal is 'Speed'",
    "Speed > Both": "17: signal 'Both' is ambiguous: Drive.Both, DriveWide.Both; write Message.",
    "Drive.Wide > 1": "9: unknown signal 'Drive.Wide'; it is in DriveWide",
    'Drive.Both == "onn"': "23: 'Both' has no label \"onn\"; nearest label is 'on'",
    'Speed == "on"': "18: 'Speed' has no labels",
}


@pytest.mark.parametrize("when", UNKNOWN)
def test_a_name_that_means_nothing_is_refused_at_its_column(built, when):
    with pytest.raises(PolicyError) as caught:
        built(EVENT.format(when=when, snapshot="Torque"))
    assert f"fleet.toml:9:{UNKNOWN[when]}" in str(caught.value)


def test_a_snapshot_of_nothing_is_refused_at_its_line(built):
    with pytest.raises(PolicyError, match=r"fleet.toml:15: unknown signal 'Torqe'"):
        built(EVENT.format(when="Speed > 1", snapshot="Torqe"))


def test_positions_get_the_grain_of_their_precision(built):
    data = built(TRACK.format(signals='"Lat", "Long"', recipients="region", space="100m"))
    (rule,) = read_policy(data).rules
    assert (rule.space_m, [one.grain for one in rule.signals]) == (100, [10_000, 10_000])


def test_the_owner_alone_may_mix_and_be_exact(built):
    text = TRACK.format(signals='"Lat", "Height"', recipients="owner", space="10m")
    assert [one.grain for one in read_policy(built(text)).rules[0].signals] == [1000, 0]
    text = TRACK.format(signals='"Lat", "Height"', recipients="owner", space="none")
    assert [one.grain for one in read_policy(built(text)).rules[0].signals] == [0, 0]


COARSE = {
    "'FixMore.Height' is not in degrees and cannot be made coarser": ('"Lat", "Height"', "region"),
    "'FixMore.Course' has no fixed steps": ('"Course"', "region"),
    "none of its signals is in degrees": ('"Height"', "owner"),
}


@pytest.mark.parametrize("message", COARSE)
def test_what_cannot_be_made_coarser_is_refused_at_its_line(built, message):
    signals, recipients = COARSE[message]
    with pytest.raises(PolicyError, match=r"fleet.toml:13: ") as caught:
        built(TRACK.format(signals=signals, recipients=recipients, space="1km"))
    assert message in str(caught.value)


def test_a_place_under_another_name_is_refused_where_it_is_named(built):
    track = TRACK.format(signals='"Lat"', recipients="owner", space="none")
    rule = making.RULE.replace('"Speed"', '"Speed", "Lat"')
    with pytest.raises(PolicyError, match=r"fleet.toml:13: 'Lat' says where the car is"):
        built(rule + track)
    assert built(making.RULE + track)
    when = EVENT.format(when="Speed > 1 and Fix.Lat > 48", snapshot="Torque")
    with pytest.raises(PolicyError, match=r"fleet.toml:9:23: 'Lat' says where .*GB/T 44464 5.2.2"):
        built(when + track)


def test_the_place_must_be_in_units_that_the_gate_reckons_in(built, tmp_path):
    (tmp_path / "zones.sealed").write_bytes(b"iZN1" + bytes(99))
    policy = read_policy(built(CAMERA.replace("SPEED", "Speed")))
    assert policy.camera is not None
    assert policy.camera.zones == b"iZN1" + bytes(99)
    with pytest.raises(PolicyError, match=r"fleet.toml:14: 'Drive.Torque' is in Nm, not in km/h"):
        built(CAMERA.replace("SPEED", "Torque"))


def test_zones_go_in_sealed_or_not_at_all(built, tmp_path):
    zones, text = tmp_path / "zones.sealed", CAMERA.replace("SPEED", "Speed")
    with pytest.raises(PolicyError, match=r"fleet.toml:13: cannot read the zones zones.sealed: No"):
        built(text)
    zones.write_text('{"type": "Polygon", "coordinates": [[[116.3, 39.9]]]}')
    with pytest.raises(PolicyError, match="must not travel in the clear; `inland station zones"):
        built(text)
    zones.write_bytes(b"iZN1" + bytes(160 * 1024))
    with pytest.raises(PolicyError, match=r"fleet.toml:13: zones.sealed is too large"):
        built(text)


def test_a_text_is_built_without_a_file(tmp_path):
    (tmp_path / "car.dbc").write_text(CAR, "utf-8")
    data = build_text(making.HEAD + making.RULE, where="demo", folder=tmp_path)
    assert read_policy(data).contact == ""
