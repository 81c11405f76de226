"""A hundred thousand cars meet a broker that restarts, stays away for hours, or sends them away.

Virtual time; every car has the product's own back-off, and has heard from the station how large the
fleet is. What the region admits is 400 a second; what knocks must stay below twice that. A small
fleet comes back soon. Silence of every length: test_silence.py. Kinds of trouble:

| | what an attempt meets |
|---|---|
| refuses | an answer at once: no |
| silent | nothing, for five seconds |
| drops | a CONNACK, and then the end of the connection |
| by hand | a refusal that a person has to mend: not allowed, id taken over |
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

import pytest

from agent.station.receive import REGROUP_PER_S
from agent.uplink import backoff
from agent.uplink.backoff import Backoff
from agent.uplink.timing import Timing

CARS = 100_000
REGROUP_S = CARS // REGROUP_PER_S
ADMITTED_PER_S = 400
SILENT_S = 5.0  # a failed attempt without an answer takes so long
HOUR = 3600


@dataclass(frozen=True)
class Trouble:
    """What happens to the region, from second 0 on.

    Attributes:
        kind: of the table.
        seconds: how long it lasts.
        wakes_per_s: cars of this fleet that wake from a sleep, each second.
    """

    kind: str
    seconds: int
    wakes_per_s: int = 0


@dataclass
class Seen:
    """What the region saw."""

    peak: int = 0  # attempts in one second, since the trouble is over
    back_s: int = 0  # until the last car was in
    during: float = 0.0  # mean attempts a second in the second half of the trouble


def car_of_a_fleet(rng: Random, timing: Timing, *, regroup_s: int = REGROUP_S) -> Backoff:
    car = Backoff(timing, rng.random)
    car.confirmed(regroup_s)
    return car


class Fleet:
    """Cars that have all lost their links at second 0."""

    def __init__(self, trouble: Trouble, *, timing: Timing, resets: bool = False) -> None:
        rng = Random(1)
        self.trouble, self.resets, self.rng = trouble, resets, rng
        self.cars = [car_of_a_fleet(rng, timing) for _ in range(CARS)]
        self.due: dict[int, list[int]] = defaultdict(list)
        self.is_due = [0] * CARS  # in which second; 0: in
        self.second = 0
        for car in range(CARS):
            if trouble.kind == "silent":  # noticed by and by
                self.fails(car, rng.uniform(8, 28))
            else:
                self.fails(car, rng.random(), by_peer=True)

    def at(self, car: int, second: int) -> None:
        self.is_due[car] = second
        self.due[self.is_due[car]].append(car)

    def fails(
        self, car: int, now_s: float, *, by_peer: bool = False, by_hand: bool = False
    ) -> None:
        wait_s = self.cars[car].failed(now_s, by_peer=by_peer, by_hand=by_hand)
        self.at(car, max(self.second + 1, int(now_s + wait_s)))

    def meets(self, car: int, second: int) -> None:
        """Let an attempt fail as the trouble has it."""
        kind = self.trouble.kind
        if kind == "drops" and self.resets:
            self.cars[car].confirmed(REGROUP_S)  # a bug
        wait_s = SILENT_S if kind == "silent" else 0.0
        now_s = second + self.rng.random() + wait_s
        self.fails(car, now_s, by_peer=kind in ("refuses", "drops"), by_hand=kind == "by hand")

    def wake(self, second: int) -> None:
        """Some cars have slept for an hour; those that have no link come at once."""
        for _ in range(self.trouble.wakes_per_s):
            car = self.rng.randrange(CARS)
            if self.is_due[car] and self.cars[car].slept(HOUR, second):
                self.at(car, second)

    def live(self, until: int) -> Seen:
        seen, trouble, inside = Seen(), self.trouble, 0
        for second in range(1, until):
            self.second = second
            self.wake(second)
            # A car that has woken is in two lists; where it is due last is where it stands.
            now = [car for car in dict.fromkeys(self.due.pop(second, ()))
                   if self.is_due[car] == second]  # fmt: skip
            is_over = second >= trouble.seconds
            if is_over:
                seen.peak = max(seen.peak, len(now))
                for car in now[:ADMITTED_PER_S]:
                    self.cars[car].confirmed(REGROUP_S)
                    self.is_due[car] = 0
                inside += min(len(now), ADMITTED_PER_S)
                for car in now[ADMITTED_PER_S:]:  # it cannot serve them in time
                    self.fails(car, second + SILENT_S)
            else:
                seen.during += len(now) * (second >= trouble.seconds // 2)
                for car in now:
                    self.meets(car, second)
            if inside == CARS:
                seen.back_s = second - trouble.seconds
                break
        else:
            seen.back_s = until
        seen.during /= max(1, trouble.seconds - trouble.seconds // 2)
        return seen


def check(trouble: Trouble, *, resets: bool = False, until: int = 8 * HOUR) -> None:
    seen = Fleet(trouble, timing=Timing(), resets=resets).live(until)
    assert seen.peak < 2 * ADMITTED_PER_S, f"{seen.peak} connections in one second"
    assert seen.back_s < 25 * 60, f"all back after {seen.back_s} s"
    if trouble.kind != "silent" and trouble.seconds >= HOUR // 2:  # else nobody is there to mind
        # A wake is an attempt of its own, and brings the next one nearer.
        limit = ADMITTED_PER_S + 2 * trouble.wakes_per_s
        assert seen.during <= limit, f"{seen.during:.0f} a second while it is in trouble"


QUICK = {
    "restarted in three seconds": Trouble("refuses", 3),
    "restarted in a minute": Trouble("refuses", 60),
    "half an hour away": Trouble("refuses", HOUR // 2),
    "not allowed for half an hour": Trouble("by hand", HOUR // 2),
}
LONG = {
    "three hours away": Trouble("refuses", 3 * HOUR),
    "no network for three hours": Trouble("silent", 3 * HOUR),
    "accepts and drops for half an hour": Trouble("drops", HOUR // 2),
    # Ten sleeps a day and car, or three times that in the morning; each wakes by itself.
    "three hours away, cars sleep and wake": Trouble("refuses", 3 * HOUR, wakes_per_s=35),
    "no network for three hours, cars sleep and wake": Trouble("silent", 3 * HOUR, wakes_per_s=35),
}


@pytest.mark.parametrize("trouble", QUICK.values(), ids=QUICK)
def test_a_fleet_comes_back_below_twice_the_admission_rate(trouble: Trouble) -> None:
    check(trouble)


@pytest.mark.slow
@pytest.mark.parametrize("trouble", LONG.values(), ids=LONG)
def test_so_it_does_after_hours(trouble: Trouble) -> None:
    check(trouble)


def bug_no_jitter(patch: pytest.MonkeyPatch) -> None:
    """Paho's own rule: doubling from 1 to 120 s."""
    patch.setattr(
        backoff, "next_wait_s",
        lambda previous_s, **_: min(120.0, max(1.0, 2 * previous_s)),
    )  # fmt: skip


def bug_at_once(patch: pytest.MonkeyPatch) -> None:
    """A link that the region ended is made anew as one that the car's own network ended."""
    failed = Backoff.failed
    patch.setattr(Backoff, "failed", lambda self, now_s, **_: failed(self, now_s, by_car=True))


def bug_always_wake(patch: pytest.MonkeyPatch) -> None:
    """Every failure is taken for a sleep."""
    failed = Backoff.failed
    patch.setattr(
        Backoff, "failed", lambda self, now_s, **more: failed(self, now_s, **more, at_once=True)
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("plant", "trouble"),
    [
        (bug_no_jitter, Trouble("refuses", 300)),
        (bug_at_once, Trouble("refuses", 3)),
        (bug_always_wake, Trouble("refuses", 3)),
    ],
)
def test_the_model_finds_planted_bugs(
    plant: Callable[[pytest.MonkeyPatch], None], trouble: Trouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    with pytest.raises(AssertionError, match="connections in one second"):
        check(trouble, until=trouble.seconds + 120)


@pytest.mark.slow
def test_the_model_finds_a_wait_that_a_connack_resets() -> None:
    """A broker that accepts and drops everybody is kept beyond its limit for ever."""
    with pytest.raises(AssertionError, match="while it is in trouble"):
        check(Trouble("drops", HOUR // 2), resets=True)


def test_a_small_fleet_is_back_at_once_after_its_broker() -> None:
    rng = Random(3)
    for cars, worst_s in ((1, 6), (2_000, 6), (10_000, 33)):
        regroup_s = cars // REGROUP_PER_S
        waits = [
            car_of_a_fleet(rng, Timing(), regroup_s=regroup_s).failed(0.0, by_peer=True)
            for _ in range(1000)
        ]
        assert max(waits) <= worst_s


def test_each_car_of_a_large_fleet_is_back_within_the_time_that_the_region_says() -> None:
    rng = Random(4)
    waits = [car_of_a_fleet(rng, Timing()).failed(0.0, by_peer=True) for _ in range(1000)]
    assert sum(waits) / 1000 == pytest.approx(REGROUP_S / 2, rel=0.1)
    assert max(waits) <= REGROUP_S
