"""The recorder, built once, and folders for recordings."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.power import cuts, recording


@pytest.fixture(scope="session")
def recorder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The preloaded library."""
    if not recording.can_build():
        pytest.skip("needs a C compiler: apt-get install gcc libc6-dev")
    return recording.build(tmp_path_factory.mktemp("recorder"))


@pytest.fixture
def room() -> Iterator[Path]:
    """A folder in memory, as no power is cut here."""
    with tempfile.TemporaryDirectory(prefix="inland-power-", dir=cuts.MEMORY) as place:
        yield Path(place)
