"""Trusted time under a wall clock that jumps by decades, reboots, and a region that signs times."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import clock
from agent.clock import BUILD_FLOOR_NS, FLOOR, MAX_AHEAD_NS, PLAUSIBLE_NS, REGION, WALL
from agent.pb.moment_pb2 import Moment
from agent.vault import timekeeper
from agent.vault.timekeeper import Timekeeper

S = 10**9
HOUR = 3600 * S
DAY = 24 * HOUR
YEAR = 365 * DAY
START = BUILD_FLOOR_NS + 30 * DAY


class Computer:
    """A car's computer: it boots, its wall clock is set, the region tells it the time."""

    def __init__(self) -> None:
        self.true_ns, self.boot_ns, self.wall_ns = START, 10 * S, START
        self.floor_ns = self.highest_ns = self.signed_ns = 0
        self.time = self.keeper()

    def keeper(self) -> Timekeeper:
        return Timekeeper(self.now, self.floor_ns, self.highest_ns)

    def now(self) -> Moment:
        return Moment(unix_ns=max(0, self.wall_ns), boottime_ns=self.boot_ns)

    def wait(self, ns: int) -> None:
        self.true_ns, self.boot_ns, self.wall_ns = (
            one + ns for one in (self.true_ns, self.boot_ns, self.wall_ns)
        )

    def reboot(self, off_ns: int, rng: Random) -> None:
        """What the spool keeps is what survives; the wall clock may come up with anything."""
        self.highest_ns = self.time.highest_ns()
        self.floor_ns = self.time.floor_ns() or self.floor_ns
        self.true_ns += off_ns
        self.boot_ns = rng.randrange(S, 60 * S)
        self.wall_ns = rng.choice((self.true_ns, 0, self.wall_ns, self.true_ns + 50 * YEAR))
        self.time = self.keeper()

    def sign(self) -> None:
        self.signed_ns = max(self.signed_ns, self.true_ns)
        self.time.learn(self.true_ns)


def live(rng: Random) -> None:
    """Half a life of a car, looked at after each thing that happens to its clocks."""
    computer = Computer()
    highest, known_ns = computer.time.highest_ns(), BUILD_FLOOR_NS
    for _ in range(40):
        kind = rng.choice(("wait", "set", "set", "reboot", "sign"))
        if kind == "wait":
            computer.wait(rng.randrange(1, 10 * DAY))
        elif kind == "set":
            computer.wall_ns += rng.choice((-1, 1)) * rng.choice(
                (S, HOUR, DAY, YEAR, 2 * YEAR, 30 * YEAR)
            )
        elif kind == "reboot":
            computer.reboot(rng.randrange(1, 30 * DAY), rng)
        else:
            computer.sign()
        unix_ns, quality = computer.time.trusted()
        known_ns = max(known_ns, computer.signed_ns)
        assert unix_ns >= known_ns, "below a time that was signed"
        # Time passes while the agent runs; beyond that nothing but a signed time is believed.
        assert unix_ns <= max(known_ns, computer.true_ns) + PLAUSIBLE_NS, "far ahead"
        if quality == REGION:
            assert abs(unix_ns - computer.true_ns) < S, "the region's time is the time"
        before, highest = highest, computer.time.highest_ns()
        assert highest >= unix_ns
        assert highest >= before or quality == REGION, "what ended has begun again"
        if quality == REGION:
            assert highest == unix_ns, "a clock that was wrong ends things for ever"


@given(st.integers(0, 2**32))
def test_no_clock_brings_time_back_or_far_ahead(seed: int):
    live(Random(seed))


def bug_wall(patch: pytest.MonkeyPatch) -> None:
    """The wall clock is believed whatever it says."""
    patch.setattr(clock, "PLAUSIBLE_NS", 2**62)


def bug_highest(patch: pytest.MonkeyPatch) -> None:
    """Things end by what is believed now."""
    patch.setattr(timekeeper, "highest", lambda _, trusted, now: clock.Highest(trusted[0], 0))


def bug_for_ever(patch: pytest.MonkeyPatch) -> None:
    """Not even the region's word takes the highest time down."""
    patch.setattr(
        timekeeper, "highest",
        lambda before, trusted, now: clock.Highest(max(before.unix_ns, trusted[0]), 0),
    )  # fmt: skip


def bug_earlier(patch: pytest.MonkeyPatch) -> None:
    """Whatever is signed is taken, also if it is older than what is known."""
    patch.setattr(
        timekeeper, "learn",
        lambda trust, signed, now: clock.Trust(signed - DAY, now.boottime_ns, signed=True),
    )  # fmt: skip


@pytest.mark.parametrize("plant", [bug_wall, bug_highest, bug_for_ever, bug_earlier])
def test_planted_bugs_are_found(
    plant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
):
    plant(monkeypatch)

    def all_hold() -> None:
        for seed in range(200):
            live(Random(seed))

    with pytest.raises(AssertionError):
        all_hold()


def test_a_region_half_a_century_ahead_is_not_believed():
    """Its clock is wrong: the car would refuse its certificates and policies from then on."""
    computer = Computer()
    assert not computer.time.learn(START + 50 * YEAR)
    assert not computer.time.learn(START + MAX_AHEAD_NS + DAY)
    assert computer.time.trusted() == (START, WALL)
    assert computer.time.learn(START + 4 * YEAR)  # parked so long, and no clock of its own
    assert computer.time.trusted() == (START + 4 * YEAR, REGION)


def test_a_wall_clock_in_1970_goes_on_from_the_floor():
    computer = Computer()
    computer.wall_ns = 0
    computer.wait(90 * S)
    assert computer.time.trusted() == (BUILD_FLOOR_NS + 90 * S, FLOOR)


def test_a_note_that_is_no_time_is_not_the_highest():
    computer = Computer()
    computer.highest_ns = 2**63
    assert computer.keeper().highest_ns() == START
