"""What every test stands on: no deadlines on a shared machine, the same inputs in CI.

- Interrupts are Python's, though the run was started in the background of a shell without job
  control, which has them ignored: what a test starts would inherit that, and never hear Ctrl-C.
- Bytecode is kept, as where people run the agent: hundreds of processes are started, and each
  worker loads every test.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

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


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    """Let each worker compile its share of the tests first, and find those of the others done.

    Compiling all of them, asserts rewritten, takes eight seconds. What cannot be loaded fails once
    more where pytest can say so.
    """
    here, worker = Path(__file__).parent, getattr(session.config, "workerinput", None)
    if worker is None or [Path(name).resolve() for name in session.config.args] != [here]:
        return
    share = int(worker["workerid"].removeprefix("gw"))
    for path in sorted(here.rglob("test_*.py"))[share :: worker["workercount"]]:
        name = ".".join(path.relative_to(here.parent).with_suffix("").parts)
        with suppress(Exception, pytest.skip.Exception):
            importlib.import_module(name)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the house's tools: mypy takes longest, and nobody should wait for it alone."""
    items.sort(key=lambda item: item.path.name != "test_house.py")


AT_START = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}


@pytest.fixture(autouse=True)
def signals_as_they_were() -> Iterator[None]:
    """A command that a test runs in this process takes Ctrl-C for itself: not from the next one."""
    for number, handler in AT_START.items():
        signal.signal(number, handler)
    yield
    for number, handler in AT_START.items():
        signal.signal(number, handler)
