"""Files whole or not at all: what policies, keys and openings rely on."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent import files
from agent.errors import ConfigError
from agent.files import (
    MAX_KEY_FILE_BYTES,
    make_folder,
    place_folder,
    read_if_there,
    read_plain,
    read_private_file,
    read_small,
    read_text,
    remove_folder,
    replace_file,
    why_unreadable,
    write_new,
    write_output,
    write_whole,
)


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


def test_a_new_file_that_the_disk_does_not_take_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_new(tmp_path / "key", b"one")
    assert list(tmp_path.iterdir()) == []


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


def test_a_file_is_replaced_whole_and_what_a_cut_left_is_taken_away(tmp_path: Path):
    path = tmp_path / "note.json"
    replace_file(path, b"old")
    (tmp_path / "note.json.new").write_bytes(b"half of a n")  # and then the power went
    replace_file(path, b"new")
    assert {one.name: one.read_bytes() for one in tmp_path.iterdir()} == {"note.json": b"new"}


def test_a_folder_is_made_with_those_above_it_and_each_name_is_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    synced: list[Path] = []
    monkeypatch.setattr(files, "sync_folder", synced.append)
    make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700
    assert synced == [tmp_path, tmp_path / "a"]
    make_folder(tmp_path / "a" / "b")  # who made it may have been killed before that
    assert synced[2:] == [tmp_path / "a"]


def test_a_folder_that_was_there_may_lie_where_we_cannot_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def refused(_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(files, "sync_folder", refused)
    make_folder(tmp_path)
    with pytest.raises(PermissionError):
        make_folder(tmp_path / "new")


def test_a_folder_takes_its_place_whole_or_not_at_all(tmp_path: Path):
    draft = tmp_path / ".draft"
    (draft / "keys").mkdir(parents=True)
    (draft / "keys" / "one").write_bytes(b"1")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    with pytest.raises(OSError, match="not empty"):
        place_folder(draft, tmp_path / "taken")
    place_folder(draft, tmp_path / "place")
    assert (tmp_path / "place" / "keys" / "one").read_bytes() == b"1"
    assert not draft.exists()


def test_an_output_that_is_a_pipe_is_written_to_and_a_link_is_followed(tmp_path: Path):
    pipe, target, link = tmp_path / "pipe", tmp_path / "target", tmp_path / "link"
    os.mkfifo(pipe)
    with pytest.raises(OSError, match="No such device or address"):
        write_output(pipe, [b"nobody reads"])
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_output(pipe, [b"one", b"two"])
    assert os.read(reader, 100) == b"onetwo"
    os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    link.symlink_to(target)
    write_output(link, [b"one"])
    write_output(link, [b"two"])
    assert link.is_symlink()
    assert target.read_bytes() == b"two"
    with pytest.raises(IsADirectoryError):
        write_output(tmp_path, [b"one"])


def test_a_file_of_ours_replaces_what_has_its_name(tmp_path: Path):
    """A link in a folder of ours leads nowhere, and a pipe holds nobody up."""
    elsewhere, link, pipe = tmp_path / "elsewhere", tmp_path / "link", tmp_path / "pipe"
    elsewhere.write_bytes(b"another's")
    link.symlink_to(elsewhere)
    os.mkfifo(pipe)
    for path in (link, pipe):
        write_whole(path, [b"ours"])
        assert stat.S_ISREG(path.lstat().st_mode)
        assert path.read_bytes() == b"ours"
    assert elsewhere.read_bytes() == b"another's"


def test_reading_waits_for_nobody_and_has_an_end(tmp_path: Path):
    pipe, file = tmp_path / "pipe", tmp_path / "file"
    os.mkfifo(pipe)
    file.write_bytes(b"x" * 2048)
    for read in (read_plain, read_text):
        for other in (pipe, Path("/dev/zero")):
            with pytest.raises(OSError, match="not a plain file"):
                read(other, 10)
        with pytest.raises(IsADirectoryError):
            read(tmp_path, 10)
    with pytest.raises(ConfigError, match="cannot read a key: not a plain file"):
        read_private_file(pipe, "a key")
    for wanted in (read_small, read_if_there):
        with pytest.raises(ConfigError, match=f"{pipe}: cannot be read: not a plain file"):
            wanted(pipe, 10)
        assert wanted(file, 2048) == b"x" * 2048
    with pytest.raises(ConfigError, match=f"{file}: more than 2047 bytes"):
        read_small(file, 2047)
    assert read_if_there(tmp_path / "none", 10) is None
    with pytest.raises(ConfigError, match="none: cannot be read: No such file"):
        read_small(tmp_path / "none", 10)
    file.chmod(0o600)
    with file.open("ab") as more:
        more.truncate(MAX_KEY_FILE_BYTES + 1)
    with pytest.raises(ConfigError, match="more than 16384 bytes"):
        read_private_file(file, "a key")
    with file.open("ab") as more:
        more.truncate(2048)
    assert len(read_plain(file, 10)) == 11
    assert read_text(file, 2048) == "x" * 2048
    with pytest.raises(OSError, match="larger than 1 KiB") as caught:
        read_text(file, 1024)
    assert why_unreadable(caught.value) == "larger than 1 KiB"
    file.write_bytes(b"\xff")
    with pytest.raises(UnicodeDecodeError) as wrong:
        read_text(file, 1024)
    assert why_unreadable(wrong.value) == "no UTF-8 text"


def test_a_folder_is_removed_with_all_that_is_in_it_and_nothing_beside_it(tmp_path: Path):
    beside = tmp_path / "beside"
    (beside / "kept").mkdir(parents=True)
    (beside / "kept" / "file").write_text("stays")
    folder = tmp_path / "folder"
    (folder / "a" / "b").mkdir(parents=True)
    for place in (folder, folder / "a", folder / "a" / "b"):
        (place / "file").write_text("goes")
        (place / "link").symlink_to(beside / "kept")
        (place / "dangling").symlink_to(tmp_path / "nowhere")
    remove_folder(folder)
    assert sorted(tmp_path.iterdir()) == [beside]
    assert (beside / "kept" / "file").read_text() == "stays"
    remove_folder(folder)  # it is not there any more: nothing to say
    folder.symlink_to(beside)
    remove_folder(folder)
    assert (beside / "kept" / "file").exists()
