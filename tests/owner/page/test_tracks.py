"""Curves: no spike is lost, gaps stay gaps, well-known signals are found."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.frames import FRAME
from agent.owner.page import tracks
from agent.owner.page.tracks import COLUMNS, Series, Signals, breaks, drawn, pick, ticks
from agent.owner.presence_matrix import Rows
from agent.owner.seen import Carriers
from agent.policy.model import UNSIGNED, SignalInfo, SignalLayout

S = 10**9


def info(name: str, unit: str = "") -> SignalInfo:
    return SignalInfo(name, "M", unit, 1.0, 0.0, UNSIGNED, ())


def check_spikes(values: np.ndarray, end_ns: int) -> None:  # type: ignore[type-arg]
    stamps = np.linspace(0, end_ns, len(values)).astype(np.int64)
    at, kept = drawn(stamps, values, 0, end_ns)
    assert len(at) <= max(2 * COLUMNS, 4 * COLUMNS)
    assert (np.diff(at) >= 0).all()
    width = (end_ns + COLUMNS) // COLUMNS
    for some in (values.argmax(), values.argmin()):
        column = stamps[some] // width
        here = kept[at // width == column]
        assert values[some] in here


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1), count=st.integers(1, 30_000),
    place=st.floats(0, 1, exclude_max=True), high=st.booleans(),
)  # fmt: skip
def test_a_single_sample_that_stands_out_is_drawn(seed: int, count: int, place: float, high: bool):
    values = np.random.default_rng(seed).normal(size=count)
    values[int(place * count)] = 1e6 if high else -1e6
    check_spikes(values, 1830 * S)


def test_a_picture_of_every_nth_sample_loses_it(monkeypatch: pytest.MonkeyPatch):
    """The planted bug."""
    values = np.zeros(180_000)
    values[91_237] = 250.0
    check_spikes(values, 1830 * S)
    monkeypatch.setitem(
        globals(), "drawn", lambda stamps, values, *_: (stamps[::100], values[::100])
    )
    with pytest.raises(AssertionError):
        check_spikes(values, 1830 * S)


def test_what_is_no_number_is_not_drawn():
    at, values = drawn(np.arange(3), np.array([1.0, np.nan, np.inf]), 0, 3)
    assert (at.tolist(), values.tolist()) == ([0], [1.0])


def test_a_curve_is_broken_where_samples_are_missing():
    stamps = np.concatenate([np.arange(100), np.arange(600, 700)]) * S // 100
    assert breaks(stamps).tolist() == [100]
    assert breaks(np.arange(50) * 10 * S).tolist() == []  # one every 10 s is no gap


def test_ticks_are_round_and_span_the_range():
    assert ticks(0, 88.2) == [0, 50, 100]
    assert ticks(-4, 3.1) == [-5, 0, 5]
    for low, high in ((0, 0), (5, 5), (-1e-9, 1e-9), (1e6, 1.5e6), (0.1, 0.3)):
        marks = ticks(low, high)
        assert marks[0] <= low + 1e-9
        assert marks[-1] >= high - 1e-9
        assert 2 <= len(marks) <= 5


def signals(*some: tuple[str, str]) -> Signals:
    """Signals of a byte each, in frames whose bytes are 1, 2, 3 ...; ten a second for a minute."""
    frames = np.zeros(600 * len(some), FRAME)
    for at in range(len(some)):
        mine = frames[at :: len(some)]
        mine["timestamp_ns"] = np.arange(600) * S // 10
        mine["arbitration_id"], mine["length"], mine["data"][:, 0] = 0x100 + at, 1, at + 1
    known = [
        (info(name, unit), SignalLayout(0x100 + at, False, 0, 8, False, UNSIGNED))
        for at, (name, unit) in enumerate(some)
    ]
    return Signals({}, Rows({}, {}, Carriers(frames)), known)


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (  # the simulated car's
            [("WheelSpeedFrontLeft", "km/h"), ("MotorSpeed", "1/min"), ("VehicleSpeed", "km/h"),
             ("BrakePressure", "bar"), ("BrakePedal", "%"), ("BrakeDiscTemperature", "degC"),
             ("SteeringRate", "deg/s"), ("SteeringAngle", "deg"), ("AcceleratorPedal", "%"),
             ("LongitudinalAcceleration", "m/s2"), ("ParkingBrake", "")],
            ["VehicleSpeed", "BrakePressure", "BrakePedal", "SteeringAngle", "AcceleratorPedal"],
        ),
        (  # Tesla's, as public DBC files call them
            [("DI_vehicleSpeed", "kph"), ("DI_accelPedalPos", "%"), ("DI_brakePedalState", ""),
             ("SteeringAngle129", "Deg"), ("DI_torqueActual", "Nm")],
            ["DI_vehicleSpeed", "", "DI_brakePedalState", "SteeringAngle129", "DI_accelPedalPos"],
        ),
        (  # Hyundai's and Kia's
            [("CF_Clu_Vanz", "km/h"), ("SAS_Angle", "Deg"), ("PV_AV_CAN", "%")],
            ["", "", "", ""],
        ),
    ],
)  # fmt: skip
def test_well_known_signals_are_found(names: list[tuple[str, str]], wanted: list[str]):
    found = pick(signals(*names), (), 0, 60 * S)
    assert [track.name for track in found] == wanted


def test_who_names_signals_gets_these_and_no_others():
    some = signals(("VehicleSpeed", "km/h"), ("Secret", ""))
    found = pick(some, ["M.Secret", "Nowhere"], 10 * S, 20 * S)
    assert [track.name for track in found] == ["M.Secret", "Nowhere"]
    assert found[0].series is not None
    assert (len(found[0].series.stamps_ns), found[1].series) == (101, None)
    assert set(found[0].series.values.tolist()) == {2.0}


def test_the_value_at_a_moment_is_the_last_one_before_it():
    series = Series(info("a"), np.array([10, 20]), np.array([1.0, 2.0]))
    assert [series.at(moment) for moment in (9, 10, 19, 20, 99)] == [None, 1.0, 1.0, 2.0, 2.0]


def test_a_spike_is_in_the_path_of_the_page():
    """From the frame to the picture: one frame of 180,000."""
    frames = np.zeros(180_000, FRAME)
    frames["timestamp_ns"] = np.arange(180_000) * S // 100
    frames["arbitration_id"], frames["length"] = 0x100, 1
    frames["data"][91_237, 0] = 255
    layout = SignalLayout(0x100, False, 0, 8, False, UNSIGNED)
    some = Signals({}, Rows({}, {}, Carriers(frames)), [(info("VehicleSpeed", "km/h"), layout)])
    [track] = [one for one in pick(some, (), 0, 1800 * S) if one.series is not None]
    assert track.series is not None
    _, values = tracks.drawn(track.series.stamps_ns, track.series.values, 0, 1800 * S)
    assert values.max() == 255
