"""Folders that are whole or not there: two commands at once, and what a killed one leaves."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from agent import draft
from agent.draft import draft_of, sweep
from agent.errors import BusyError
from agent.files import place_folder

KILLED = """
import os, sys
from pathlib import Path
from agent.draft import draft_of
with draft_of(Path(sys.argv[1])) as folder:
    (folder / "half").write_text("half")
    os.kill(os.getpid(), 9)
"""


def killed(place: Path) -> Path:
    """Leave what a command leaves that was killed while it wrote; return its draft."""
    subprocess.run([sys.executable, "-c", KILLED, place], check=False)
    left = place.with_name(f".{place.name}.part")
    assert (left / "half").exists()
    return left


def two_at_once(place: Path) -> None:
    with draft_of(place) as first:
        (first / "mine").write_text("1")
        with pytest.raises(BusyError, match=r"another command .* wait"), draft_of(place):
            pass
        assert (first / "mine").read_text() == "1"
        place_folder(first, place)
    assert (place / "mine").read_text() == "1"


def test_two_never_write_into_one(tmp_path: Path):
    two_at_once(tmp_path / "out")


def test_a_draft_without_a_lock_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A planted bug: as it was before, the second one removes what the first has written."""
    monkeypatch.setattr(draft.fcntl, "flock", lambda *_: None)
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        two_at_once(tmp_path / "out")


def test_a_killed_command_is_no_obstacle(tmp_path: Path):
    killed(tmp_path / "out")
    with draft_of(tmp_path / "out") as folder:
        assert list(folder.iterdir()) == []
        assert folder.stat().st_mode & 0o777 == 0o700
    assert list(tmp_path.iterdir()) == []


def test_only_what_nobody_writes_is_swept(tmp_path: Path):
    left, other = killed(tmp_path / "a.inland"), killed(tmp_path / "a.other")
    with draft_of(tmp_path / "b.inland") as mine:
        sweep(tmp_path, ".inland")
        assert sorted(tmp_path.iterdir()) == sorted([mine, other])
    assert not left.exists()


def test_the_next_draft_of_that_name_is_not_ours_to_remove(tmp_path: Path):
    """Between the rename and the end of the first command another one may begin."""
    place = tmp_path / "out"
    with ExitStack() as second:
        with draft_of(place) as first:
            place_folder(first, place)
            next_ = second.enter_context(draft_of(place))
        assert next_.exists()
    assert not next_.exists()


def test_a_link_is_not_followed(tmp_path: Path):
    (tmp_path / "else").mkdir()
    (tmp_path / ".out.part").symlink_to(tmp_path / "else")
    with pytest.raises(OSError, match="Not a directory"), draft_of(tmp_path / "out"):
        pass


def test_a_disk_without_locks_is_written_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def none(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(draft.fcntl, "flock", none)
    with draft_of(tmp_path / "out") as folder:
        place_folder(folder, tmp_path / "out")
    assert (tmp_path / "out").is_dir()


def test_whoever_ends_while_another_looks_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The draft is gone between mkdir and open: it is made again."""
    real: Callable[[Path], int | None] = draft._locked
    gone = [True]

    def locked(path: Path) -> int | None:
        if gone.pop() if gone else False:
            path.rmdir()
        return real(path)

    monkeypatch.setattr(draft, "_locked", locked)
    with draft_of(tmp_path / "out") as folder:
        assert folder.is_dir()
