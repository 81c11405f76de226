"""When a link counts as dead, second by second, and what a sleep changes about it."""

from __future__ import annotations

import pytest

from agent.errors import LinkError, SilentLinkError
from agent.uplink.timing import Timing
from agent.uplink.vigil import Vigil

TIMING = Timing()


class Watched:
    """A vigil over a link whose loop turns four times a second."""

    def __init__(self, *, ready: bool = True) -> None:
        self.now_s = 1000.0
        self.vigil = Vigil(TIMING, self.now_s, peer="broker")
        self.vigil.ready = ready
        self.asked: list[float] = []

    def turn(self, seconds: float, meant_s: float | None = None) -> None:
        """Let time pass in one turn, which was meant to take so long."""
        self.now_s += seconds
        self.vigil.turned(self.now_s, seconds if meant_s is None else meant_s)
        if self.vigil.wants_a_sign(self.now_s):
            self.asked.append(self.now_s)

    def wait(self, seconds: float) -> None:
        for _ in range(round(seconds * 4)):
            self.turn(0.25)

    def sleep(self, seconds: float) -> None:
        self.turn(seconds, 0.25)


def test_a_quiet_link_is_asked_after_twenty_seconds_and_dead_after_twenty_eight():
    link = Watched()
    link.wait(20)
    assert link.asked == []
    link.wait(0.5)
    assert len(link.asked) == 1
    with pytest.raises(SilentLinkError, match="dead: nothing heard for 28"):
        link.wait(8)
    assert link.now_s - 1000 <= 28.5
    assert link.vigil.is_silent(link.now_s)
    link.vigil.heard(link.now_s)
    assert not link.vigil.is_silent(link.now_s)


def test_an_answer_makes_it_live_on():
    link = Watched()
    for _ in range(10):
        link.wait(21)
        link.vigil.heard(link.now_s)
    assert len(link.asked) == 10


def test_no_answer_to_connect():
    link = Watched(ready=False)
    link.wait(14.75)
    with pytest.raises(LinkError, match="no answer in 15"):
        link.wait(0.75)
    assert link.asked == []


@pytest.mark.parametrize("seconds", [3.5, 10, 25, 29, 44])
def test_after_a_sleep_it_is_asked_at_once_and_has_a_second(seconds: float):
    """Also after one that is longer than a quiet link would be waited for."""
    link = Watched()
    link.wait(15)
    link.sleep(seconds)
    assert link.asked == [link.now_s]
    woke_s = link.now_s
    with pytest.raises(LinkError, match="after a sleep"):
        link.wait(2)
    assert TIMING.wake_s <= link.now_s - woke_s <= TIMING.wake_s + 0.3
    assert link.vigil.slept_lately_s(link.now_s) == pytest.approx(seconds - 0.25)


def test_a_link_that_answers_after_a_sleep_is_as_good_as_before():
    link = Watched()
    link.sleep(40)
    link.wait(0.5)
    link.vigil.heard(link.now_s)
    link.wait(20)
    assert len(link.asked) == 1
    link.wait(1)
    assert len(link.asked) == 2


def test_a_sleep_that_no_broker_waits_for_ends_the_link_at_once():
    """One and a half times keep-alive (MQTT 5.0, 3.1.2.10): 180 s."""
    assert TIMING.given_up_s == 180
    link = Watched()
    with pytest.raises(LinkError, match="asleep for 480 s"):
        link.sleep(480)
    assert link.asked == []


def test_a_slow_turn_is_no_sleep():
    link = Watched()
    for _ in range(5):
        link.turn(3.0, 0.25)
        link.vigil.heard(link.now_s)
    assert (link.asked, link.vigil.has_slept) == ([], False)


def test_a_sleep_before_connack_does_not_hide_that_none_comes():
    link = Watched(ready=False)
    with pytest.raises(LinkError, match="no answer"):
        link.sleep(60)
    assert link.vigil.slept_lately_s(link.now_s) > 59


def test_a_link_that_outlived_its_sleep_dies_of_something_else():
    """Else a broker that restarts would meet every car that ever slept, at once."""
    link = Watched()
    link.sleep(10)
    link.vigil.heard(link.now_s)
    link.wait(5)
    assert link.vigil.slept_lately_s(link.now_s) > 9
    link.wait(1)
    assert link.vigil.slept_lately_s(link.now_s) == 0
    assert link.vigil.has_slept


def test_a_sleep_while_the_connection_is_made_is_one():
    for seconds, slept in ((29, False), (34, True)):
        vigil = Vigil(TIMING, 1000, peer="broker")
        vigil.opened(1000 + seconds)
        assert vigil.has_slept is slept


def test_a_queue_that_shrinks_is_a_sign_of_life_and_an_empty_one_is_not():
    link = Watched()
    link.wait(19)
    link.vigil.queue(5000, link.now_s)
    link.vigil.queue(4000, link.now_s)
    link.wait(19)
    assert link.asked == []
    link.vigil.queue(0, link.now_s)
    link.wait(1.5)
    assert len(link.asked) == 1
