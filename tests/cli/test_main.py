"""Every command explains itself, and every failure is one line with the right exit code."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from agent.cli import main as cli
from agent.errors import ConfigError, InlandError, LinkError, RegionRefusedError, UndecidedError


def commands(group: click.Command, name: str = "inland") -> Iterator[tuple[str, click.Command]]:
    """The group itself, its commands and theirs."""
    yield name, group
    if isinstance(group, click.Group):
        context = click.Context(group)
        for child in group.list_commands(context):
            command = group.get_command(context, child)
            assert command is not None
            yield from commands(command, f"{name} {child}")


@pytest.mark.parametrize(("name", "command"), list(commands(cli.inland)))
def test_help_has_a_sentence_and_an_example(name: str, command: click.Command):
    with click.Context(command, info_name=name) as context:
        text = command.get_help(context)
    assert name in text
    assert len(text.splitlines()) > 4
    if not isinstance(command, click.Group):
        assert f"  {name} " in text.replace("\n\n", "\n") or f"  {name}\n" in text, "no example"


def test_a_new_command_is_in_the_list():
    folder = Path(cli.__file__).parent
    files = {
        name.name.removesuffix(".py")
        for name in folder.iterdir()
        for file in (name / "__init__.py" if name.is_dir() else name,)
        if file.is_file() and "def command(" in file.read_text("utf-8")
    }
    assert files == set(cli.COMMANDS)


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (InlandError("no"), 1, "error: no"),
        (ConfigError("bad", where="a.toml:3", todo="mend it"), 2, "error: a.toml:3: bad; mend it"),
        (UndecidedError("the session is missing"), 3, "error: the session is missing"),
        (LinkError("broker away"), 75, "error: broker away"),
        (RegionRefusedError("tls", "TLS 1.2"), 75, "error: region refused (tls): TLS 1.2"),
        (PermissionError(13, "Permission denied", "/x"), 75, "error: /x: Permission denied"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_failure_is_one_line_with_its_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error, code: int, line: str
):
    def fail(**_: object) -> None:
        raise error

    monkeypatch.setattr(cli.inland, "main", fail)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == code
    said = capsys.readouterr().err
    assert line in said
    assert len(said.splitlines()) == 1


def test_an_interrupt_while_a_dataclass_is_made_ends_with_its_code(tmp_path: Path):
    """`python -m`, as the units run it: CPython remembers the exec() and would die of SIGINT."""
    (tmp_path / "interrupted.py").write_text(
        "from agent.cli import main as cli\n"
        "def fail(**_):\n"
        "    exec('raise KeyboardInterrupt')\n"
        "cli.inland.main = fail\n"
        "cli.main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "interrupted"], cwd=tmp_path, capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": str(Path(cli.__file__).parents[2])}, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (cli.INTERRUPTED, "interrupted\n")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["nonsense"], 2),
        (["status", "--config", "nowhere.toml"], 2),
        (["capture", "--config", "nowhere.toml"], 2),
        (["uplink", "--config", "nowhere.toml"], 2),
        (["run", "--config", "nowhere.toml"], 2),
        (["doctor", "--config", "nowhere.toml"], 1),
        (["station", "ls", "nowhere"], 2),
        (["policy", "build", "nowhere.toml"], 2),
    ],
)
def test_missing_file_is_no_traceback(arguments: list[str], code: int, tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-m", "agent.cli", *arguments],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert "nowhere" in done.stdout + done.stderr or code == 2


@pytest.mark.parametrize("more", [(), ("--story", "brake")], ids=["demo", "story"])
def test_demo_begins_nothing_in_a_folder_that_is_there(tmp_path: Path, more: tuple[str, ...]):
    taken, file = tmp_path / "taken", tmp_path / "file"
    taken.mkdir()
    file.write_text("mine")
    for place, why in [
        (taken, "is there already; --keep a new one"),
        (file, "is there already; --keep a new one"),
        (file / "new", "cannot write: Not a directory; name another folder with --keep"),
    ]:
        done = subprocess.run(
            [sys.executable, "-m", "agent.cli", "demo", "--keep", str(place), *more],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == f"error: {place}: {why}\n"
    assert list(taken.iterdir()) == []
    assert file.read_text() == "mine"
