"""The tools of the house: style, types and generated code are part of the tests."""

from __future__ import annotations

import filecmp
import subprocess
import sys
from pathlib import Path

import pytest

from tests.proto import generate

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize(
    "arguments",
    [("ruff", "check", "."), ("ruff", "format", "--check", "."), ("mypy",)],
    ids=["ruff-check", "ruff-format", "mypy"],
)
def test_tool_is_content(arguments: tuple[str, ...]):
    """Lint, format and strict types."""
    result = subprocess.run(
        [sys.executable, "-m", *arguments], check=False, cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_generated_code_is_current(tmp_path: Path):
    """agent/pb is what proto/ generates; regenerate with `python -m tests.proto`."""
    generate(tmp_path)
    names = sorted(path.name for path in (tmp_path / "agent/pb").iterdir())
    committed = sorted(p.name for p in (ROOT / "agent/pb").iterdir() if "_pb2" in p.name)
    assert names == [name for name in committed if not name.endswith(".pyc")]
    _, different, missing = filecmp.cmpfiles(tmp_path / "agent/pb", ROOT / "agent/pb", names, False)
    assert (different, missing) == ([], [])


def test_ci_calls_the_command_of_the_readme():
    """The README's test command is what CI runs, word by word."""
    command = next(
        line.strip()
        for line in (ROOT / "README.md").read_text("utf-8").splitlines()
        if ".[test]" in line
    )
    assert command in (ROOT / ".ci/run").read_text("utf-8")


@pytest.mark.parametrize(("load", "handler"), [("tests.conftest", True), ("signal", False)])
def test_tests_hear_an_interrupt_though_a_shell_has_it_ignored(load: str, handler: bool):
    """`pytest … &` in a script: what the tests start would never end by Ctrl-C."""
    look = f"import signal, {load}; print(signal.getsignal(2) is signal.default_int_handler)"
    script = 'trap "" INT; exec "$0" -c "$1"'
    done = subprocess.run(
        ["sh", "-c", script, sys.executable, look], check=True, cwd=ROOT, capture_output=True
    )
    assert done.stdout.decode().strip() == str(handler)


def test_readme_is_short():
    """A newcomer's README stays below 150 lines."""
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) < 150
