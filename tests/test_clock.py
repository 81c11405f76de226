"""A command knows no more than the build's date; how long the machine is up tells it nothing."""

from __future__ import annotations

from agent.clock import BUILD_FLOOR_NS, Reading, first_trusted_ns

DAY_NS = 86_400 * 10**9


def test_long_uptime_does_not_push_a_plausible_clock_forward():
    wall_ns = BUILD_FLOOR_NS + 22 * DAY_NS
    assert first_trusted_ns(Reading(wall_ns, 60 * DAY_NS)) == wall_ns


def test_clock_before_the_build_gives_the_build():
    assert first_trusted_ns(Reading(0, 60 * DAY_NS)) == BUILD_FLOOR_NS
