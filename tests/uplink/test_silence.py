"""A region of a hundred thousand cars falls silent, for five seconds or for an hour.

No packet comes through, and nobody is told. Virtual time; every car has the product's own back-off
and intervals, the link that it keeps, and a kernel that repeats as Linux does. What knocks when the
region is back must stay below twice what it admits, however long it was silent, also where its
broker was restarted meanwhile: then each packet that a kernel repeats is answered by a reset.

A car alone in a tunnel sees the same, and is looked at here as well.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from statistics import quantiles

import pytest

from agent.station.receive import REGROUP_PER_S
from agent.uplink import backoff
from agent.uplink.backoff import Backoff
from agent.uplink.timing import Timing

CARS = 100_000
REGROUP_S = CARS // REGROUP_PER_S
ADMITTED_PER_S = 400
BUSY = 0.7  # of the cars have always something to say
# When Linux sends the SYN of an attempt, since 6.5; before, it sent fewer.
KNOCKS_S = (0, 1, 2, 3, 4, 5, 7, 11)
# In seconds; up to LIVES_S it makes a difference whether the broker was restarted.
QUICK_S = (28, 60, 480)
SWEEP_S = (5, 10, 15, 20, 25, 27, 30, 32, 35, 40, 45, 50, 75, 90, 105, 120, 150, 180, 195, 210, 240,
           300, 333, 360, 420, 510, 540, 600, 700, 800, 1000, 1200, 1500, 1800, 3600)  # fmt: skip
LIVES_S = 210


@dataclass(frozen=True)
class Lost:
    """The link of one car when nothing comes through any more. Seconds since then.

    Attributes:
        sent_s: when its first packet was lost.
        heard_s: when it heard something last.
        lives_s: when the kernel's first packet comes through again; none: it has given up.
    """

    sent_s: float
    heard_s: float
    lives_s: float | None

    @classmethod
    def of(cls, rng: Random, silent_s: float, timing: Timing) -> Lost:
        is_busy = rng.random() < BUSY
        sent_s = rng.uniform(0, 0.5 if is_busy else timing.probe_s)
        heard_s = 0.0 if is_busy else sent_s - timing.probe_s
        again = repeats(sent_s, rng.uniform(0.25, 0.6), timing)
        return cls(sent_s, heard_s, next((at_s for at_s in again if at_s >= silent_s), None))

    def is_known(self, timing: Timing) -> bool:
        """Whether the broker has waited until it lives."""
        return self.lives_s is not None and self.lives_s < self.heard_s + timing.given_up_s


def repeats(sent_s: float, pause_s: float, timing: Timing) -> Iterator[float]:
    """Yield when the kernel sends what is not acknowledged: doubling, and once at the end."""
    at_s = sent_s
    while at_s < sent_s + timing.given_up_s:
        yield at_s
        at_s, pause_s = at_s + pause_s, 2 * pause_s
    yield sent_s + timing.given_up_s


def knocks(car: Backoff, now_s: float, silent_s: float, timing: Timing) -> float:
    """Return when an attempt comes through, of a car that takes its link for dead now."""
    while True:
        now_s += car.failed(now_s)
        limit_s = timing.crowd_connect_s if car.in_crowd else timing.connect_s
        for later_s in KNOCKS_S:
            if later_s < limit_s and now_s + later_s >= silent_s:
                return now_s + later_s
        now_s += limit_s


def knocks_after(
    silent_s: float, car: Backoff, lost: Lost, timing: Timing, *, restarted: bool = False
) -> float | None:
    """Return when a car knocks that has lost its link so; None if the link lives again."""
    noticed_s = lost.heard_s + timing.silence_s
    lives = not restarted and lost.is_known(timing)
    if lost.lives_s is not None and lost.lives_s < noticed_s:
        return None if lives else lost.lives_s + car.failed(lost.lives_s, by_peer=True)
    at_s = knocks(car, noticed_s, silent_s, timing)
    return None if lives and lost.lives_s is not None and lost.lives_s < at_s else at_s


def car_of(rng: Random, timing: Timing, *, regroup_s: int = REGROUP_S) -> Backoff:
    car = Backoff(timing, rng.random)
    car.confirmed(regroup_s)
    return car


def check(
    silent_s: int, *, restarted: bool, timing: Timing | None = None, cars: int = CARS
) -> None:
    """Let a fleet come back."""
    timing = timing or Timing()
    rng, due = Random(1), defaultdict[int, list[Backoff]](list)
    left = 0
    for _ in range(cars):
        car = car_of(rng, timing, regroup_s=cars // REGROUP_PER_S)
        lost = Lost.of(rng, silent_s, timing)
        at_s = knocks_after(silent_s, car, lost, timing, restarted=restarted)
        if at_s is not None:
            due[int(at_s)].append(car)
            left += 1
    lived, peak, second = cars - left, 0, silent_s
    while left:
        now = due.pop(second, [])
        peak = max(peak, len(now))
        left -= min(len(now), ADMITTED_PER_S)
        for car in now[ADMITTED_PER_S:]:  # it cannot serve them in time
            wait_s = timing.crowd_connect_s + car.failed(second)
            due[second + 1 + int(wait_s)].append(car)
        second += 1
    print(f"{cars} cars, silent for {silent_s} s, {restarted=}: at most {peak} a second, "
          f"{lived} lived, all back after {second - silent_s} s")  # fmt: skip
    assert peak < 2 * ADMITTED_PER_S, f"{peak} connections in one second"
    assert second - silent_s < 25 * 60


@pytest.mark.parametrize("silent_s", QUICK_S)
def test_a_silent_region_is_not_stormed(silent_s: int) -> None:
    check(silent_s, restarted=False)


@pytest.mark.slow
@pytest.mark.parametrize("silent_s", SWEEP_S)
def test_it_is_not_however_long_it_was(silent_s: int) -> None:
    check(silent_s, restarted=False)


@pytest.mark.slow
@pytest.mark.parametrize("silent_s", [*QUICK_S, *(one for one in SWEEP_S if one <= LIVES_S)])
def test_it_is_not_if_its_broker_was_restarted_meanwhile(silent_s: int) -> None:
    check(silent_s, restarted=True)


@pytest.mark.slow
@pytest.mark.parametrize("cars", [1_000, 2_000, 5_000, 10_000, 30_000])
def test_the_region_of_a_smaller_fleet_is_not_either(cars: int) -> None:
    """What it admits is not less; but the waits are short, and attempts take as long as ever."""
    for silent_s in (27, 30, 32, 35, 40, 45, 60, 180, 480):
        check(silent_s, restarted=True, cars=cars)


def bug_taken_for_a_tunnel(patch: pytest.MonkeyPatch) -> Timing:
    """Each car takes the silence for its own trouble."""
    failed = Backoff.failed
    patch.setattr(Backoff, "failed", lambda self, now_s, **_: failed(self, now_s, by_car=True))
    return Timing()


def bug_forgets_that_it_tried(patch: pytest.MonkeyPatch) -> Timing:
    """Who has tried in vain comes again whenever it likes."""
    failed = Backoff.failed

    def planted(self: Backoff, now_s: float, *, by_peer: bool = False) -> float:
        self.in_crowd = False
        return failed(self, now_s, by_peer=by_peer)

    patch.setattr(Backoff, "failed", planted)
    return Timing()


def bug_no_wider(patch: pytest.MonkeyPatch) -> Timing:
    """Silence is spread as the end of links is."""
    patch.setattr(backoff, "SILENT_WIDER", 1.0)
    return Timing()


def bug_patient(_: pytest.MonkeyPatch) -> Timing:
    """An attempt knocks for as long as that of a car that is alone."""
    return Timing(crowd_connect_s=10)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("plant", "silent_s"),
    [
        (bug_taken_for_a_tunnel, 30),
        (bug_forgets_that_it_tried, 480),
        (bug_no_wider, 180),
        (bug_patient, 180),
    ],
)
def test_the_model_finds_planted_bugs(
    plant: Callable[[pytest.MonkeyPatch], Timing], silent_s: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    timing = plant(monkeypatch)
    with pytest.raises(AssertionError, match="connections in one second"):
        check(silent_s, restarted=True, timing=timing)


@pytest.mark.slow
def test_what_the_kept_links_are_for(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """Without them each of 100,000 cars makes its link anew after a minute: with them few do."""
    check(60, restarted=False)
    lived = int(capsys.readouterr().out.split(" lived")[0].split()[-1])
    assert lived > 0.9 * CARS
    monkeypatch.setattr(Timing, "given_up_s", property(lambda _: 45.0))  # as before
    check(60, restarted=False)
    assert capsys.readouterr().out.split(" lived")[0].split()[-1] == "0"


def after_a_tunnel(tunnel_s: float, rng: Random, *, regroup_s: int) -> float:
    """Return how long after a tunnel's end a car has its link again."""
    timing = Timing()
    car, lost = car_of(rng, timing, regroup_s=regroup_s), Lost.of(rng, tunnel_s, timing)
    at_s = knocks_after(tunnel_s, car, lost, timing)
    return (lost.lives_s or 0.0 if at_s is None else at_s) - tunnel_s


@pytest.mark.parametrize(
    ("regroup_s", "tunnel_s", "half_s", "most_s"),
    [
        # A small fleet: by its next attempt, as soon as it can be.
        (0, 10, 10, 10), (0, 30, 5, 20), (0, 60, 6, 45), (0, 90, 10, 90),
        # 100,000 cars: by the link that it kept, after as long as the tunnel was at the most; a
        # tenth has tried before, and some of them wait for their next turn.
        (REGROUP_S, 10, 10, 10), (REGROUP_S, 30, 15, 35), (REGROUP_S, 60, 30, 65),
        (REGROUP_S, 90, 45, 95), (REGROUP_S, 600, 300, 600),
    ],
)  # fmt: skip
def test_a_car_that_comes_out_of_a_tunnel(
    regroup_s: int, tunnel_s: int, half_s: float, most_s: float
) -> None:
    rng = Random(2)
    waits = [after_a_tunnel(tunnel_s, rng, regroup_s=regroup_s) for _ in range(2000)]
    cuts = quantiles(waits, n=100)
    print(f"regroup_s {regroup_s}: a tunnel of {tunnel_s} s: half within {cuts[49]:.1f} s, "
          f"99 of 100 within {cuts[98]:.1f} s")  # fmt: skip
    assert cuts[49] <= half_s
    assert cuts[98] <= most_s
