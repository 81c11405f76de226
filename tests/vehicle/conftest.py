"""Everything in this folder is marked `vehicle` and gets what it needs: image, payload, guest.

Where something is missing the tests are skipped with the reason; in CI they fail with it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.vehicle import image as images
from tests.vehicle import needs
from tests.vehicle import payload as payloads
from tests.vehicle.guest import Guest
from tests.vehicle.outcome import Table

HERE = Path(__file__).parent
# Longest first: two workers then end at about the same time.
LONGEST = ("power", "network", "capture", "hardware", "clocks", "guest", "service", "updates",
           "socketcan", "car", "disk", "replay")  # fmt: skip


@pytest.hookimpl(tryfirst=True)  # before pytest looks at the markers
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.vehicle)
            item.add_marker(pytest.mark.timeout(600))
    items.sort(key=place)  # stable


def place(item: pytest.Item) -> int:
    """When a module's turn is, among those of this folder."""
    if item.path.parent != HERE:
        return -1
    name = item.path.stem.removeprefix("test_")
    return LONGEST.index(name) if name in LONGEST else len(LONGEST)


@pytest.fixture(scope="module")
def table() -> Iterator[Table]:
    """What a module's tests measured, printed when they are over."""
    made = Table()
    yield made
    made.show()


@pytest.fixture(scope="session")
def image() -> Path:
    """The guest's disk and kernel, built if they are not cached."""
    _skip(needs.missing())
    return images.image()


@pytest.fixture(scope="session")
def qemu() -> None:
    """There is emulated hardware."""
    _skip(needs.missing_qemu())


def _skip(why: str) -> None:
    if why and os.environ.get("CI"):
        pytest.fail(f"CI must not skip this: {why}")
    if why:
        pytest.skip(why)


@pytest.fixture(scope="session")
def payload(image: Path) -> Path:
    """The disk with this checkout."""
    return payloads.payload(image)


@pytest.fixture(scope="module")
def guest(image: Path, payload: Path) -> Iterator[Guest]:
    """A car's computer, booted, for all tests of a module."""
    with Guest(image, payload) as guest:
        assert guest.ready() == "running", guest.sh("systemctl --failed --no-legend")
        yield guest


@pytest.fixture
def bug() -> str:
    """No planted bug, unless a test of the tests gives one."""
    return ""
