"""Fixtures of the vault's tests: see world.py."""

import shutil
import tempfile
from pathlib import Path

import pytest

from tests.vault import world


@pytest.fixture(scope="session")
def empty_spool(tmp_path_factory):
    """A spool file with the schema in place and nothing in it: made once, as it costs a process."""
    from agent.vault.schema import migrate_apart

    path = tmp_path_factory.mktemp("template") / "spool.db"
    migrate_apart(path)
    return path


@pytest.fixture(autouse=True)
def quick_schema(request, empty_spool, monkeypatch):
    """New spool files in a test are copies of the one that the real process made."""
    if "real_schema" not in request.fixturenames:
        monkeypatch.setattr(
            "agent.vault.founding.migrate_apart", lambda path: shutil.copy(empty_spool, path)
        )


@pytest.fixture
def real_schema():
    """Asks for the real process."""


@pytest.fixture
def folder(empty_spool):
    """A state folder whose spool is created but empty; in memory, as no power is cut here."""
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(prefix="inland-test-", dir=memory) as path:
        yield world.fresh(Path(path) / "state", empty_spool)


@pytest.fixture
def car(folder):
    """A car with an open vault."""
    car = world.Car(folder)
    yield car
    car.shut()
