"""P5: nobody can change history: a third party finds it offline, with one command and no key."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from agent.cli.main import inland
from tests.evidence import altering
from tests.evidence.making import asked, drive, make, new_car


def digit(folder: Path) -> None:
    """One digit of an entry."""
    altering.change(folder, "entries", lambda rows: [
        (i, h, d[:-1] + bytes([d[-1] ^ 1]) if i == 24 else d) for i, h, d in rows
    ])  # fmt: skip


def removed(folder: Path) -> None:
    """One row, and its body."""
    for kind in ("entries", "bodies"):
        altering.change(folder, kind, lambda rows: [row for row in rows if row[0] != 24])


def swapped(folder: Path) -> None:
    """Two entries change places."""

    def swap(rows: altering.Rows) -> altering.Rows:
        at = [row[0] for row in rows].index(24)
        (i, *first), (j, *second) = rows[at], rows[at + 1]
        return [*rows[:at], (i, *second), (j, *first), *rows[at + 2 :]]  # type: ignore[list-item]

    altering.change(folder, "entries", swap)


def truncated(folder: Path) -> None:
    """The end of the file."""
    path = altering.one(folder, "entries")
    path.write_bytes(path.read_bytes()[:-70])
    altering.forge(folder)


def signed_again(folder: Path) -> None:
    """Back-dated, and every head signed again with the car's own key."""
    altering.replace_entry(folder, 24, lambda entry: setattr(entry.at, "unix_ns", 1 << 60))
    altering.resign(folder, keep_cosignature=True)


def signed_again_alone(folder: Path) -> None:
    """The same, with the region's co-signatures taken away."""
    altering.replace_entry(folder, 24, lambda entry: setattr(entry.at, "unix_ns", 1 << 60))
    altering.resign(folder, keep_cosignature=False)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("p5") / "a.inland", drive(new_car(), 40),
                asked=asked(20, 30))  # fmt: skip


@pytest.mark.parametrize(
    ("alter", "codes", "named"),
    [
        (digit, {1}, "entry 24"), (removed, {3}, "entry 24"), (swapped, {1}, "entry 24"),
        (truncated, {1, 3}, "entr"), (signed_again, {1}, "checkpoint"),
        (signed_again_alone, {1, 3}, "entr"),
    ],
)  # fmt: skip
def test_p05_what_was_changed_in_a_bundle_is_found_and_named(
    bundle: Path, tmp_path: Path, alter: Callable[[Path], None], codes: set[int], named: str
) -> None:
    """Whoever alters can make bundle.json fit, and has the car's key: both are done here."""
    folder = tmp_path / "a.inland"
    shutil.copytree(bundle, folder)
    alone = [sys.executable, "-I", "-S", bundle / "verify.py", folder]
    for changed in (False, True):
        if changed:
            alter(folder)
        done = CliRunner().invoke(inland, ["verify", str(folder)], standalone_mode=False)
        there = subprocess.run(alone, capture_output=True, text=True, check=False)
        assert there.stdout == done.output
        assert there.returncode == done.return_value
        assert done.return_value in (codes if changed else {0})
        said = [
            line for line in done.output.splitlines() if line.startswith(("altered", "missing"))
        ]
        assert any(named in line for line in said) == changed
