"""How coarse a position is: never finer than the grid that the policy names."""

from __future__ import annotations

import math
from random import Random

import pytest

from agent.policy import precision as under_test
from agent.policy.model import FLOAT32, SIGNED, UNSIGNED, SignalInfo
from agent.policy.precision import check_position, grain, is_degrees
from agent.policy.vocabulary import DECIMALS
from tests.policy import making

FACTORS = (1e-7, 1e-6, 1e-5, 0.0001, 1 / 3e6, 3.6e-6, 8.3819031715393066e-08, 0.01, 0.5, -1e-6)


def signal(unit: str = "deg", factor: float = 1e-7, kind: int = SIGNED, offset: float = 0.0):
    return SignalInfo("Lat", "Gps", unit, factor, offset, kind, ())


def check_cells(rng: Random) -> None:
    """Rounded positions stand a whole cell apart, and move by less than one cell and a step."""
    space_m, factor = rng.choice(list(DECIMALS)), rng.choice(FACTORS)
    step = grain(signal(factor=factor), space_m, needed=True)
    cell = 10.0 ** -DECIMALS[space_m]
    assert step * abs(factor) >= cell * (1 - 1e-9)
    assert (step - 1) * abs(factor) < cell * (1 + 1e-9)
    raw = rng.randrange(-(2**31), 2**31)
    rounded = raw // step * step
    assert 0 <= (raw - rounded) * abs(factor) < cell + abs(factor)


def test_a_cell_is_as_large_as_the_decimals_say():
    making.over_seeds(check_cells)
    assert grain(signal(), 100, needed=True) == 10_000  # 1e-3 degrees of 1e-7 each


def test_the_check_of_cells_finds_a_grid_that_is_too_fine(monkeypatch):
    finer = {space: decimals + 1 for space, decimals in DECIMALS.items()}
    monkeypatch.setattr(under_test, "DECIMALS", finer)
    with pytest.raises(AssertionError):
        making.over_seeds(check_cells)


def test_what_cannot_be_rounded_is_refused():
    with pytest.raises(ValueError, match=r"'Gps.Lat' is not in degrees"):
        grain(signal("km/h"), 100, needed=True)
    assert grain(signal("km/h"), 100, needed=False) == 0
    assert grain(signal(), 0, needed=False) == 0
    for bad in (signal(kind=FLOAT32), signal(factor=0.0)):
        with pytest.raises(ValueError, match="has no fixed steps"):
            grain(bad, 100, needed=False)
    assert grain(signal(factor=math.ulp(0.0)), 10_000, needed=True) == under_test.MAX_GRAIN


@pytest.mark.parametrize("unit", ["deg", "°", "Degrees", " degree ", "º"])
def test_degrees_are_known_however_they_are_written(unit):
    assert is_degrees(unit)
    assert not is_degrees(unit + "/s")


def test_a_position_is_in_degrees_and_its_speed_in_kmh():
    check_position(signal(), signal(""), signal("km/h"))
    check_position(signal(), signal(), signal("", kind=UNSIGNED))
    with pytest.raises(ValueError, match="is in rad, not in degrees"):
        check_position(signal(), signal("rad"), signal("km/h"))
    with pytest.raises(ValueError, match="is in m/s, not in km/h"):
        check_position(signal(), signal(), signal("m/s"))
