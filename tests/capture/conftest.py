"""Fixtures of capture's tests that have a vault of their own."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.capture.driving import Car


@pytest.fixture(scope="session")
def empty_spool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A spool file with the schema in place and nothing in it: made once, as it costs a process."""
    from agent.vault.schema import migrate_apart

    path = tmp_path_factory.mktemp("template") / "spool.db"
    migrate_apart(path)
    return path


@pytest.fixture
def quick(empty_spool: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder in memory, where new spool files are copies of one that the real process made."""
    monkeypatch.setattr(
        "agent.vault.founding.migrate_apart", lambda path: shutil.copy(empty_spool, path)
    )
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(prefix="inland-test-", dir=memory) as path:
        yield Path(path)


@pytest.fixture
def car(quick: Path) -> Iterator[Car]:
    made = Car(quick)
    yield made
    made.vault.close()
