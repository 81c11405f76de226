"""Files whole or not at all: what policies, keys and openings rely on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.files import write_new, write_whole


def test_a_new_file_is_private_and_never_replaces_one(tmp_path: Path):
    path = tmp_path / "key"
    write_new(path, b"one")
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(FileExistsError):
        write_new(path, b"two")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="exists"):
        write_new(tmp_path / "link", b"two")
    assert (path.read_bytes(), (tmp_path / "elsewhere").exists()) == (b"one", False)


def test_a_write_that_fails_half_way_leaves_the_old_file_and_no_other(tmp_path: Path):
    path = tmp_path / "out"
    write_whole(path, [b"old"], mode=0o644)
    assert path.stat().st_mode & 0o777 == 0o644

    def broken() -> Iterator[bytes]:
        yield b"new"
        raise RuntimeError("the source failed")

    with pytest.raises(RuntimeError):
        write_whole(path, broken())
    assert (path.read_bytes(), [p.name for p in tmp_path.iterdir()]) == (b"old", ["out"])
