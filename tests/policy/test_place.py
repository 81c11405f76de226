"""PlaceGuard: the states one by one, and what must hold on any road."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.policy.place import OPEN, PROTECTED, UNKNOWN, Place, PlaceGuard
from agent.policy.zones import Zones
from tests.policy.roads import CAMERA, FENCE, KMH, START_NS, S, fails, place, square

FAR = place(-50_000)
INSIDE = place(100)


class Walk:
    """A guard and its clock."""

    def __init__(self, opened: Zones | None = FENCE, kind: type = PlaceGuard, **more) -> None:
        self.guard = kind(replace(CAMERA, **more), opened)
        self.now_ns = START_NS

    def at(self, where: tuple[float, float], speed: float | None = 0.0, after_s: float = 1) -> str:
        self.now_ns += round(after_s * S)
        self.guard.position(self.now_ns, *where, speed)
        return self.look(speed).state

    def look(self, speed: float | None = 0.0, after_s: float = 0) -> Place:
        self.now_ns += round(after_s * S)
        return self.guard.look(self.now_ns, speed)


def test_nobody_knows_at_the_beginning_and_one_good_position_is_enough() -> None:
    walk = Walk()
    assert walk.look().state == UNKNOWN
    assert walk.at(FAR) == OPEN


@pytest.mark.parametrize(
    ("north_m", "speed", "state"),
    [
        (-499, 0.0, PROTECTED),
        (-501, 0.0, OPEN),
        (-501 - 2 * 20, 20.0, OPEN),
        (-499 - 2 * 20, 20.0, PROTECTED),
        (-499 - 2 * 20, -20.0, PROTECTED),  # backwards
        (-639, None, PROTECTED),  # 70 m/s if it is not known
        (-641, None, OPEN),
        (-639, math.nan, PROTECTED),
        (4499, 0.0, PROTECTED),
        (4501, 0.0, OPEN),
    ],
)
def test_margin_and_look_ahead(north_m: float, speed: float | None, state: str) -> None:
    assert Walk().at(place(north_m), speed) == state


def test_the_class_is_that_of_the_zone() -> None:
    walk = Walk(Zones([square(0, 0, 100, "port"), square(2000, 0, 100, "government")]))
    walk.at(place(50))
    assert walk.look() == Place(PROTECTED, "port")
    walk.at(place(1800), after_s=60)
    assert walk.look() == Place(PROTECTED, "government")


def test_a_zone_holds_for_the_exit_delay_and_again_if_it_is_touched() -> None:
    walk = Walk()
    assert walk.at(place(-490)) == PROTECTED
    for _ in range(59):
        assert walk.at(place(-520)) == PROTECTED
    assert walk.at(place(-520)) == OPEN
    assert walk.at(place(-490)) == PROTECTED
    assert walk.at(place(-520), after_s=30) == PROTECTED
    assert walk.at(place(-490)) == PROTECTED
    assert walk.at(place(-520), after_s=31) == PROTECTED


@pytest.mark.parametrize(
    "where",
    [(0.0, 0.0), (5e-5, -5e-5), (90.1, 0.0), (40.0, 180.1), (math.nan, 116.0), (40.0, math.inf)],
)
def test_what_is_no_place_is_no_fix(where: tuple[float, float]) -> None:
    walk = Walk()
    walk.at(FAR)
    states = [walk.at(where) for _ in range(12)]
    assert states == [OPEN] * 9 + [UNKNOWN] * 3


def test_a_fix_is_good_for_ten_seconds_and_the_next_one_opens_at_once() -> None:
    walk = Walk()
    walk.at(FAR)
    assert walk.look(after_s=9.9).state == OPEN
    assert walk.look(after_s=0.1).state == UNKNOWN
    assert walk.at(FAR) == OPEN


def test_a_policy_that_allows_no_time_without_a_fix_is_never_open() -> None:
    assert Walk(no_fix_ns=0).at(FAR) == UNKNOWN


def test_one_wrong_position_costs_ten_seconds() -> None:
    walk = Walk()
    walk.at(FAR)
    assert walk.at(place(-53_000)) == UNKNOWN
    states = [walk.at(FAR) for _ in range(12)]
    assert states == [UNKNOWN] * 10 + [OPEN] * 2


def test_positions_with_gaps_prove_nothing_of_each_other() -> None:
    walk = Walk()
    walk.at(FAR)
    walk.at(place(-60_000))
    assert {walk.at(place(-60_000), after_s=3) for _ in range(10)} == {UNKNOWN}


def test_two_receivers_that_contradict_each_other_are_not_believed() -> None:
    walk = Walk()
    walk.at(FAR)
    assert {walk.at(place(-50_000 - 5000 * (n % 2))) for n in range(1, 60)} == {UNKNOWN}


def test_a_zone_that_was_left_by_a_jump_is_left_when_a_car_can_be_there() -> None:
    walk = Walk()
    walk.at(INSIDE)
    there = place(100 - 7100)
    opened = next(second for second in range(1, 400) if walk.at(there, 0.0) == OPEN)
    assert 100 <= opened <= 101  # 7.1 km at 70 m/s, less 100 m


def test_a_zone_is_not_forgotten_while_nobody_knows_the_place() -> None:
    """Jam the receiver past the exit delay, then show another place."""
    walk = Walk()
    walk.at(INSIDE)
    assert walk.look(after_s=120).state == UNKNOWN
    assert {walk.at(place(-90_000)) for _ in range(600)} == {UNKNOWN}


def test_a_value_that_stands_still_is_believed_only_while_the_car_does() -> None:
    walk = Walk()
    assert {walk.at(FAR, 1.0) for _ in range(60)} == {OPEN}
    assert [walk.at(FAR, 10.0) for _ in range(12)] == [OPEN] * 9 + [UNKNOWN] * 3
    assert {walk.at(FAR, None) for _ in range(30)} == {UNKNOWN}


def test_a_clock_that_goes_back_stands_still() -> None:
    walk = Walk()
    walk.at(place(-490))
    walk.now_ns -= 3600 * S
    assert {walk.at(place(-520)) for _ in range(100)} == {PROTECTED}


def test_no_zones_and_no_key_are_opposites() -> None:
    assert Walk(None, zones=b"").at(INSIDE) == OPEN
    assert Walk(None, zones=b"").look().state == UNKNOWN
    assert Walk(None, zones=b"sealed").at(FAR) == PROTECTED
    assert Walk(None, zones=b"sealed").look() == Place(PROTECTED, "")


def check_never_open_inside(kind: type[PlaceGuard], rng: Random) -> None:
    """An honest car on any road, any speed, its receiver and speed signal come and go."""
    walk = Walk(Zones([square(0, 0, 300), square(1500, 800, 50)]), kind, margin_m=20)
    north, east = rng.uniform(-2500, -800), rng.uniform(-1500, 1500)
    heading, speed = math.atan2(-east, -north), rng.uniform(0, 69)
    fixed, tells_speed = True, True
    for _ in range(150):
        heading += rng.uniform(-0.1, 0.1)
        speed = min(69.0, max(0.0, speed + rng.uniform(-5, 5)))
        north, east = north + math.cos(heading) * speed, east + math.sin(heading) * speed
        fixed, tells_speed = (rng.random() < 0.8 if rng.random() < 0.2 else one
                              for one in (fixed, tells_speed))  # fmt: skip
        said = speed + 5 if tells_speed else None  # the second's highest
        state = walk.at(place(north, east), said) if fixed else walk.look(said, after_s=1).state
        inside = 0 <= north <= 300 and 0 <= east <= 300
        inside |= 1500 <= north <= 1550 and 800 <= east <= 850
        assert not (inside and state == OPEN)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32))
def test_no_road_leads_into_a_zone_with_the_gate_open(seed: int) -> None:
    check_never_open_inside(PlaceGuard, Random(seed))


class Trusting(PlaceGuard):
    """Planted bug: a position stays where it is until there is another."""

    def _advance(self, at_ns: int, speed: float | None) -> int:
        at_ns = super()._advance(at_ns, speed)
        self._driven_m = 0.0
        return at_ns


def test_a_guard_that_waits_for_the_next_position_is_found() -> None:
    assert fails(partial(check_never_open_inside, Trusting), range(50))


def test_speed_is_in_metres_per_second() -> None:
    assert pytest.approx(33.33, abs=0.01) == 120 * KMH
