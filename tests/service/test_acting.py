"""Root in the state folder of the boot service: leaves nothing of its own, and follows no link."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from agent.errors import ConfigError, PolicyError
from agent.service import acting
from agent.service.acting import Owner, act_as_owner_of, other_owner, readable_for
from tests.rig import EVERYTHING, said_by

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: acts as another user")
ROOT = Path(__file__).parents[2]
NOBODY = Owner(65534, 65534)


@pytest.fixture
def open_tmp() -> Iterator[Path]:
    """A temporary folder that other users can go through; pytest's own is closed to them."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o711)
        yield folder


@pytest.fixture
def state(open_tmp: Path) -> Path:
    folder = open_tmp / "state"
    folder.mkdir(mode=0o700)
    os.chown(folder, NOBODY.uid, NOBODY.gid)
    return folder


def owners(folder: Path) -> set[int]:
    return {path.lstat().st_uid for path in (folder, *folder.rglob("*"))}


@pytest.fixture(scope="session")
def interpreter() -> Sequence[str]:
    """A command that runs this package and that other users can read: ours, or the system's."""
    packages = ":".join([str(ROOT), *(one for one in sys.path if one.endswith("-packages"))])
    probe = "import fcntl, click, numpy, cryptography, google.protobuf, zstandard, agent"
    for python in (sys.executable, "/usr/bin/python3"):
        command = ["env", f"PYTHONPATH={packages}", python]
        done = subprocess.run(
            [*command, "-c", probe], check=False, capture_output=True, cwd="/",
            user=NOBODY.uid, group=NOBODY.gid, extra_groups=[],
        ) if Path(python).exists() else None  # fmt: skip
        if done is not None and done.returncode == 0:
            return command
    pytest.skip("needs an interpreter that every user can read")


@needs_root
def test_root_becomes_the_owner_for_good(state: Path, interpreter: Sequence[str]):
    code = (
        "import os, sys; from pathlib import Path; from agent.service.acting import *;"
        "act_as_owner_of(Path(sys.argv[1])); print(os.getresuid(), os.getresgid(), os.getgroups())"
    )
    command = [*interpreter, "-c", code, str(state)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == "(65534, 65534, 65534) (65534, 65534, 65534) []\n", done.stderr


@needs_root
def test_an_interpreter_that_the_owner_cannot_read_is_told(
    state: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    """Else what is imported later would be missing, with a traceback."""
    monkeypatch.setattr(acting.agent, "__file__", str(tmp_path / "agent.py"))
    (tmp_path / "agent.py").touch(mode=0o600)
    with pytest.raises(ConfigError, match="closed to the user whose state folder this is"):
        act_as_owner_of(state)
    assert os.geteuid() == 0


@needs_root
def test_in_a_folder_of_its_own_or_in_none_root_stays_root(tmp_path: Path):
    assert other_owner(tmp_path) is None
    assert other_owner(tmp_path / "none") is None
    act_as_owner_of(tmp_path)
    assert os.geteuid() == 0


def test_who_is_not_root_is_told_whose_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(acting.os, "geteuid", lambda: 1000)
    monkeypatch.setattr(acting.os, "access", lambda *_: False)
    with pytest.raises(ConfigError, match="belongs to another user; say sudo"):
        act_as_owner_of(tmp_path)


# --- what only root can read ---


@pytest.fixture
def drop(tmp_path: Path) -> Path:
    folder = tmp_path / "drop"
    for name in ("metadata", "targets"):
        (folder / name).mkdir(parents=True, mode=0o700)
        (folder / name / f"{name}.json").write_text(name)
        (folder / name / f"{name}.json").chmod(0o600)
    folder.chmod(0o700)
    return folder


@needs_root
def test_a_repository_is_copied_for_its_reader_and_taken_away(drop: Path):
    (drop / "targets" / "link").symlink_to("/etc/shadow")
    (drop / "metadata" / "folder").mkdir()
    os.mkfifo(drop / "metadata" / "fifo")
    (drop / "other").write_text("not a part of it")
    with readable_for(NOBODY, drop) as copy:
        assert owners(copy.parent) == {NOBODY.uid}
        files = {str(p.relative_to(copy)): p.read_text() for p in copy.rglob("*") if p.is_file()}
        assert files == {"metadata/metadata.json": "metadata", "targets/targets.json": "targets"}
        assert not any(path.is_symlink() or path.is_fifo() for path in copy.rglob("*"))
        assert copy.parent.stat().st_mode & 0o077 == 0
    assert not copy.parent.exists()


@needs_root
def test_a_file_is_copied_through_the_link_that_was_named(drop: Path):
    link = drop / "link"
    link.symlink_to(drop / "targets/targets.json")
    with readable_for(NOBODY, link) as copy:
        assert (copy.read_text(), copy.stat().st_uid) == ("targets", NOBODY.uid)


@needs_root
def test_what_is_wrong_with_the_copy_is_said_of_the_source(drop: Path):
    def refused() -> None:
        with readable_for(NOBODY, drop) as copy:
            raise PolicyError("is refused", where=f"{copy}/metadata")

    with pytest.raises(PolicyError) as told:
        refused()
    assert told.value.where == f"{drop}/metadata"


@needs_root
@pytest.mark.parametrize(("limit", "told"), [("MAX_FILES", "more than 1 files"),
                                             ("MAX_BYTES", "more than 0 MiB")])  # fmt: skip
def test_a_source_without_end_is_refused(
    drop: Path, monkeypatch: pytest.MonkeyPatch, limit: str, told: str
):
    monkeypatch.setattr(acting, limit, 1)
    before = set(Path("/tmp").glob("inland-*"))
    with pytest.raises(ConfigError, match=told), readable_for(NOBODY, drop):
        pytest.fail("never given out")
    assert set(Path("/tmp").glob("inland-*")) <= before


def test_nobody_else_gets_a_copy(drop: Path):
    with readable_for(None, drop) as given:
        assert given == drop


# --- the commands ---


def run(interpreter: Sequence[str], *arguments: object, code: int = 0) -> str:
    """Run a command to its end with an interpreter; return all that it printed."""
    command = [*interpreter, "-m", "agent.cli", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def bench(open_tmp: Path, bundle: Path, state: Path) -> Path:
    """A car on a bench, whose state folder is another user's; returns its agent.toml."""
    car = open_tmp / "car"
    shutil.copytree(bundle, car)
    for name in ("agent.toml", "region.toml"):
        text = (car / name).read_text("utf-8")
        kept = [line for line in text.splitlines() if not line.startswith("policy_root")]
        (car / name).write_text("\n".join(kept).replace('"state"', f'"{state}"') + "\n", "utf-8")
    return car / "agent.toml"


@needs_root
def test_a_policy_that_root_installs_belongs_to_the_folders_owner(
    bench: Path, state: Path, open_tmp: Path, interpreter: Sequence[str]
):
    private = open_tmp / "private"
    private.mkdir(mode=0o700)
    (private / "policy.toml").write_text(EVERYTHING, "utf-8")
    said_by("policy", "build", private / "policy.toml", "-o", private / "all.policy")
    (private / "all.policy").chmod(0o600)
    run(interpreter, "policy", "install", private / "all.policy", "--config", bench)
    assert (state / "policy/active.policy").exists()
    assert owners(state) == {NOBODY.uid}
    run(interpreter, "consent", "ls", "--config", bench)
    damaged = state / "consent.json"  # is put aside, and a new one written
    damaged.touch()
    os.chown(damaged, NOBODY.uid, NOBODY.gid)
    run(interpreter, "consent", "withdraw", "--all", "--config", bench)
    run(interpreter, "ledger", "--config", bench, code=3)
    assert (state / "consent.damaged-1").exists()
    assert owners(state) == {NOBODY.uid}


@needs_root
def test_a_link_in_the_state_folder_leads_root_nowhere(
    bench: Path, state: Path, open_tmp: Path, interpreter: Sequence[str]
):
    """A taken-over capture waits for root with a link to a file of root's."""
    treasure = open_tmp / "treasure"
    treasure.mkdir(mode=0o755)
    (state / "policy").symlink_to(treasure)
    (open_tmp / "policy.toml").write_text(EVERYTHING, "utf-8")
    said_by("policy", "build", open_tmp / "policy.toml", "-o", open_tmp / "all.policy")
    said = run(interpreter, "policy", "install", open_tmp / "all.policy", "--config", bench, code=2)
    assert "Permission denied" in said
    assert list(treasure.iterdir()) == []
