"""Fixtures of the vault's tests: see world.py."""

import shutil

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
def folder(tmp_path, empty_spool):
    """A state folder whose spool is created but empty."""
    return world.fresh(tmp_path / "state", empty_spool)


@pytest.fixture
def car(folder):
    """A car with an open vault."""
    car = world.Car(folder)
    yield car
    car.shut()
    shutil.rmtree(folder, ignore_errors=True)
