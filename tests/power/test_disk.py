"""The model of a disk: what is promised survives every fate, and what is not is lost by one."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from tests.power.disk import FATES, FOLDERS, JOURNAL, Disk, State, on_disk, write
from tests.power.recording import Operation


def left(tmp_path: Path, names: str, *steps: str, fates: tuple[str, ...] = ()) -> list[State]:
    """Return what each fate leaves of a file `old` of "AAAA" (1,024 bytes each) after some steps.

    A step is "kind name [offset data | other]"; data is one letter, a thousand times.
    """
    disk = Disk(tmp_path, names)
    for step in steps:
        kind, name, *more = step.split()
        name = "" if name == "." else name
        if kind in "RL":
            disk.apply(Operation(kind, name, more[0]))
        elif kind == "W":
            disk.apply(Operation(kind, name, "", int(more[0]), more[1].encode() * 1024))
        else:
            disk.apply(Operation(kind, name, "", int(more[0]) if more else 0))
    return [
        FATES[fate](disk, Random(seed))
        for fate in fates or FATES
        for seed in range(500 if fate in ("torn", "anything") else 1)
    ]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "old").write_bytes(b"A" * 4096)
    return tmp_path


def texts(states: list[State], name: str) -> set[str]:
    """Return what a file came to: one letter for 512 bytes, '.' for zeros, '-' for no file."""
    out = set()
    for state in states:
        content = state.get(name, None)
        if content is None:
            out.add("-")
            continue
        text = content[::512].decode()
        assert len(content) % 512 == 0
        assert b"".join(letter.encode() * 512 for letter in text) == content
        out.add(text.replace("\0", "."))
    return out


@pytest.mark.parametrize("names", [JOURNAL, FOLDERS])
def test_what_is_synced_survives_everything(folder, names):
    states = left(folder, names, "W old 0 B", "S old", "C new", "W new 0 C", "S new", "S .")
    assert texts(states, "old") == {"BBAAAAAA"}
    assert texts(states, "new") == {"CC"}


def test_what_is_not_synced_may_be_there_sector_by_sector(folder):
    found = texts(left(folder, JOURNAL, "W old 0 B", "W old 3072 C"), "old")
    assert {"AAAAAAAA", "BBAAAACC", "AAAAAACC", "BBAAAAAA", "BAAAAAAA", "ABAAAACA"} <= found
    assert all(one[2:6] == "AAAA" for one in found)


def test_a_torn_write_is_the_last_one_alone(folder):
    found = texts(left(folder, JOURNAL, "W old 0 B", "W old 3072 C", fates=("torn",)), "old")
    assert found == {"BBAAAAAA", "BBAAAACA", "BBAAAAAC", "BBAAAACC"}


def test_a_file_may_have_its_new_size_and_zeros(folder):
    found = texts(left(folder, JOURNAL, "W old 4096 B"), "old")
    assert {"AAAAAAAA", "AAAAAAAA..", "AAAAAAAABB", "AAAAAAAA.B"} <= found


def test_a_truncation_may_or_may_not_survive(folder):
    assert {"AAAA", "AAAAAAAA"} == texts(left(folder, JOURNAL, "T old 2048"), "old")
    assert {"AAAAAAAA....", "AAAAAAAA"} == texts(left(folder, JOURNAL, "A old 6144"), "old")


def test_a_rename_without_sync_is_the_new_name_with_the_old_content_or_none(folder):
    """Written, renamed, folder synced, file not: the classic."""
    steps = ("C new", "W new 0 B", "R new old")
    assert {"AAAAAAAA", "", "BB", ".B", "B"} <= texts(left(folder, JOURNAL, *steps), "old")
    assert "" in texts(left(folder, JOURNAL, *steps, "S ."), "old")
    whole = left(folder, FOLDERS, "C new", "W new 0 B", "S new", "R new old", "S .")
    assert texts(whole, "old") == {"BB"}


def test_only_the_journal_makes_a_name_durable_with_the_file(folder):
    steps = ("C new", "W new 0 B", "S new")
    assert texts(left(folder, JOURNAL, *steps), "new") == {"BB"}
    assert texts(left(folder, FOLDERS, *steps), "new") == {"-", "BB"}


def test_names_survive_in_order(folder):
    """The first few of the folder's changes: never the second without the first."""
    for names in (JOURNAL, FOLDERS):
        states = left(folder, names, "C one", "C two", "U old")
        found = {tuple(sorted(state)) for state in states}
        assert found == {("old",), ("old", "one"), ("old", "one", "two"), ("one", "two")}


def test_what_is_in_a_folder_without_a_name_is_lost(folder):
    steps = ("D sub", "C sub/new", "W sub/new 0 B", "S sub/new", "S sub")
    assert texts(left(folder, JOURNAL, *steps), "sub/new") == {"BB"}
    assert texts(left(folder, FOLDERS, *steps), "sub/new") == {"-", "BB"}
    assert texts(left(folder, FOLDERS, *steps, "S ."), "sub/new") == {"BB"}


def test_a_move_between_folders_is_in_one_of_them(folder):
    steps = ("D a", "D b", "S .", "R old a/x", "R a/x b/y", "C a/z")
    for names in (JOURNAL, FOLDERS):
        for state in left(folder, names, *steps):
            assert len({"old", "a/x", "b/y"} & set(state)) == 1
    synced = left(folder, FOLDERS, *steps, "S b")  # and with it what had to come before
    assert all("b/y" in state for state in synced)
    assert {"a/z" in state for state in synced} == {True, False}


def test_a_folder_that_moves_takes_everything_along(folder):
    steps = ("D a", "R old a/old", "R a b", "W b/old 0 B", "S b/old")
    assert texts(left(folder, JOURNAL, *steps), "b/old") == {"BBAAAAAA"}


def test_two_names_of_one_file_have_one_content(folder):
    for state in left(folder, JOURNAL, "L old other", "W other 0 B"):
        assert state.get("other", state["old"]) == state["old"]


def test_a_state_is_written_as_it_is(folder, tmp_path):
    state: State = {"a": None, "a/b": b"x", "c": b""}
    write(state, tmp_path / "made")
    assert on_disk(tmp_path / "made") == state
