"""What the car keeps of people and of its ownership is read from plain files alone."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.errors import ConfigError
from agent.owner import custody, register, transfer


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("owners.json", register.read),
        ("epoch.json", custody.read),
        (transfer.FILE, lambda path: transfer.pending(path.parent)),
    ],
)
@pytest.mark.timeout(10)
def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(
    tmp_path: Path, name: str, read: Callable[[Path], object]
):
    os.mkfifo(tmp_path / name)
    with pytest.raises(ConfigError, match="cannot be read: not a plain file"):
        read(tmp_path / name)
