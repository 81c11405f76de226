"""What every test stands on: no deadlines on a shared machine, the same inputs in CI."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "house",
    deadline=None,
    derandomize=bool(os.environ.get("CI")),
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("house")


def pytest_xdist_auto_num_workers() -> int:
    """Return how many run at once: these tests wait for processes as long as they compute."""
    return min(4, 2 * (os.cpu_count() or 1))


AT_START = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}


@pytest.fixture(autouse=True)
def signals_as_they_were() -> Iterator[None]:
    """A command that a test runs in this process takes Ctrl-C for itself: not from the next one."""
    for number, handler in AT_START.items():
        signal.signal(number, handler)
    yield
    for number, handler in AT_START.items():
        signal.signal(number, handler)
