"""What ends, ends by the highest time that was believed: no clock that is set back revives it.

The other way round a clock that is far off ends nothing: the bodies to be kept for days stay, and a
policy that a wrong clock has ended comes back with the region's word, without a restart.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.capture.slot import PolicySlot
from agent.clock import PLAUSIBLE_NS, Highest
from agent.policy import consent_file, store
from agent.policy.consent import State, terms
from agent.vault import timekeeper
from tests.capture import driving
from tests.capture.driving import NOW_NS, TRACK, S
from tests.capture.stepping import Stepped
from tests.capture.test_slot import END_NS, REGION, built
from tests.vault.world import Region

HOUR = 3600 * S
DAY = 24 * HOUR
YEAR = 365 * DAY


class Offline(Stepped):
    """A car that has not heard its region since the boot, under a policy that ends in 2028."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        store.install(folder / "policy", built(folder))
        self.slot = PolicySlot(folder / "policy", REGION)  # type: ignore[assignment]
        self.again()

    def again(self) -> None:
        """Restart the agent."""
        self.vault.close()
        if isinstance(self.slot, PolicySlot):
            self.slot = PolicySlot(self.folder / "policy", REGION)  # type: ignore[assignment]
        self.start()

    def set_to(self, wall_ns: int) -> None:
        self.offset_ns = wall_ns - self.boot_ns
        self.look()

    def look(self) -> None:
        for _ in range(12):
            self.step()

    def step(self, *rest: Any, **more: Any) -> None:
        self.unix_ns = self.boot_ns + self.offset_ns  # stamps of driving.Car
        super().step(*rest, **more)

    @property
    def keeps(self) -> bool:
        return self.sealer.force is not None

    def hear(self, unix_ns: int) -> None:
        """A receipt comes in."""
        assert self.vault.receipt(Region().receipt([], unix_ns=unix_ns))[1]
        self.look()

    def policies(self) -> list[str]:
        return [one.why for one in self.told("policy")]


@pytest.fixture
def offline(quick: Path) -> Iterator[Offline]:
    car = Offline(quick)
    car.look()
    yield car
    car.vault.close()


def check_policy(car: Offline) -> None:
    assert car.keeps
    for wall_ns in (0, NOW_NS + 50 * YEAR, NOW_NS + PLAUSIBLE_NS + YEAR, NOW_NS):
        car.set_to(wall_ns)
        assert car.keeps, "ended by a clock that nobody can believe"
    car.set_to(END_NS + 2 * DAY)
    assert not car.keeps
    for wall_ns in (NOW_NS, 0, END_NS - DAY):
        car.set_to(wall_ns)
        assert not car.keeps, "revived by a clock that was set back"
        car.again()
        car.look()
        assert not car.keeps, "revived by a restart with a clock that was set back"
    car.hear(NOW_NS + DAY)  # it was the clock that was wrong
    assert car.keeps, "the region's word does not help"
    car.set_to(END_NS + 2 * DAY)
    assert car.keeps, "the clock is believed against the region's word"
    assert car.policies()[-1] == "restored"


def test_a_policy_ends_once_and_by_times_that_can_be_believed(offline: Offline):
    check_policy(offline)


@pytest.mark.parametrize("bug", ["wall", "in a run", "for ever"])
def test_the_check_of_policies_finds_planted_bugs(
    offline: Offline, bug: str, monkeypatch: pytest.MonkeyPatch
):
    if bug == "wall":  # expiry by the wall clock as it is
        monkeypatch.setattr(offline.vault, "highest_ns", lambda: offline.vault.reading().wall_ns)
    elif bug == "in a run":  # the highest time does not outlive the run
        monkeypatch.setattr("agent.vault.log.Log._note_highest", lambda *_: None)
    else:
        monkeypatch.setattr(
            timekeeper, "highest",
            lambda before, trusted, now: Highest(max(before.unix_ns, trusted[0]), 0),
        )  # fmt: skip
    with pytest.raises(AssertionError):
        check_policy(offline)


def test_a_policy_that_was_refused_for_a_wrong_clock_is_taken_when_the_region_is_heard(
    offline: Offline, tmp_path: Path
):
    offline.set_to(END_NS + 30 * DAY)
    store.install(offline.folder / "policy", built(tmp_path, 2))  # it has the same end
    offline.look()
    assert not offline.keeps
    offline.hear(NOW_NS + DAY)
    assert offline.sealer.in_force is not None
    assert offline.sealer.in_force.policy is not None
    assert offline.sealer.in_force.policy.version == 2


def test_nothing_is_restored_where_nothing_was_refused(offline: Offline):
    (offline.folder / "policy" / store.ACTIVE).unlink()
    offline.set_to(NOW_NS + YEAR)
    offline.hear(NOW_NS + DAY)
    assert not offline.keeps
    assert offline.policies()[-1] == "removed"


class Agreed(Offline):
    """The same, where somebody has agreed to something for ten hours."""

    def __init__(self, folder: Path) -> None:
        Stepped.__init__(self, folder)
        self.slot.put(driving.consenting(), "started")
        self.look()
        with consent_file.edit(folder / "consent.json", mend=True, wait=True) as held:
            held.book = held.book.grant(
                terms(driving.consenting(), TRACK), now_ns=self.wall_ns,
                until_ns=self.wall_ns + 10 * HOUR, each_drive=False,
            )  # fmt: skip
        self.look()

    @property
    def wall_ns(self) -> int:
        return self.boot_ns + self.offset_ns

    def state(self) -> State:
        return consent_file.read(self.folder / "consent.json").state(TRACK)

    @property
    def agreed(self) -> bool:
        return self.sealer.force is not None and TRACK in self.sealer.force.consented

    def wait(self, ns: int) -> None:
        """Let time pass, an hour a step."""
        for _ in range(ns // HOUR):
            self.boot_ns += HOUR
            self.look()


def check_consent(car: Agreed) -> None:
    assert car.agreed
    for wall_ns in (0, NOW_NS + 50 * YEAR):
        car.set_to(wall_ns)
        assert car.agreed, "ended by a clock that nobody can believe"
    car.set_to(NOW_NS)
    for _ in range(11):  # somebody sets the clock back, hour after hour
        car.wait(HOUR)
        car.set_to(NOW_NS)
    assert not car.agreed, "lengthened by a clock that was set back"
    assert car.state() is State.EXPIRED
    car.again()
    car.slot.put(driving.consenting(), "started")
    car.look()
    assert not car.agreed, "revived"


def test_a_consent_ends_in_its_time_whatever_the_clock_says(quick: Path):
    car = Agreed(quick)
    check_consent(car)
    car.vault.close()


def test_the_check_of_consents_finds_one_that_is_lengthened(
    quick: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("agent.capture.consent.ConsentSlot._now_ns", lambda _, now: now.unix_ns)
    car = Agreed(quick)
    with pytest.raises(AssertionError, match="lengthened"):
        check_consent(car)
    car.vault.close()


def test_whoever_agrees_anew_agrees_from_now_also_after_a_clock_that_was_wrong(quick: Path):
    car = Agreed(quick)
    car.set_to(NOW_NS + YEAR)
    assert car.state() is State.EXPIRED
    car.set_to(NOW_NS + HOUR)
    with consent_file.edit(quick / "consent.json", wait=True) as held:
        held.book = held.book.grant(
            terms(driving.consenting(), TRACK), now_ns=car.wall_ns,
            until_ns=car.wall_ns + HOUR, each_drive=False,
        )  # fmt: skip
    car.look()
    assert car.agreed
    car.wait(2 * HOUR)
    assert not car.agreed
    car.vault.close()


def check_retention(car: Offline) -> None:
    """A body that may stay for a day goes after a day of the region's time, and by nothing else."""
    for _ in range(20):
        car.step([(0x123, b"12345678")])
    car.look()
    (index,) = [i for i, p in car.opened().items() if len(p.frames)][:1]

    def is_here() -> bool:
        return car.vault._spool.one("SELECT 1 FROM body WHERE i=?", (index,)) is not None

    for wall_ns in (NOW_NS + 2 * YEAR, NOW_NS + 50 * YEAR, 0, NOW_NS):
        car.set_to(wall_ns)
        car.boot_ns += HOUR
        car.look()
        assert is_here(), "deleted by a wall clock"
    car.hear(NOW_NS)
    for wall_ns in (NOW_NS + 2 * YEAR, NOW_NS + 50 * YEAR, 0):
        car.set_to(wall_ns)
        car.boot_ns += HOUR
        car.look()
        assert is_here(), "deleted by a wall clock"
    car.boot_ns += DAY
    car.look()
    assert not is_here(), "kept for ever"


def test_what_is_kept_for_a_day_is_kept_for_a_day_of_the_regions_time(offline: Offline):
    check_retention(offline)


@pytest.mark.parametrize("bug", ["wall", "never"])
def test_the_check_of_retention_finds_planted_bugs(
    offline: Offline, bug: str, monkeypatch: pytest.MonkeyPatch
):
    quality = timekeeper.REGION
    monkeypatch.setattr(
        timekeeper.Timekeeper, "trusted",
        lambda self: (self.reading().wall_ns if bug == "wall" else NOW_NS, quality),
    )  # fmt: skip
    with pytest.raises(AssertionError, match="deleted" if bug == "wall" else "for ever"):
        check_retention(offline)


def test_a_clock_that_is_set_to_and_fro_begins_no_period_anew(quick: Path):
    """at_most: two periods count, however often the clock changes between them."""
    car = Offline(quick)
    car.slot = driving.Slot()
    car.slot.put(
        driving.policy(events=(driving.event(at_most=2, before_ns=0, after_ns=0,
                                             retrigger_ns=0),))
    )  # fmt: skip
    car.again()
    for turn in range(20):
        car.set_to(NOW_NS + turn % 2 * DAY + turn * S)
        for _ in range(6):
            car.step([(driving.DRIVE, bytes([50, 0]))])
        car.step([(driving.DRIVE, bytes([50, 200]))])
        car.look()
    events = car.sealer.counters.events
    assert (events.recorded, events.suppressed) == (4, 16)
    assert all(one.since_previous_ms < 30_000 for one in car.events())
    car.vault.close()
