"""The one-shot process that installs a policy: bounded, isolated, and nobody waits for it."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

import agent
from agent.service import installer
from agent.service.installer import DEADLINE, ENDED, Installed, Installer, inland


def python(code: str) -> Callable[..., list[str]]:
    """A command that runs some Python instead of `inland`."""
    return lambda *arguments: [sys.executable, "-I", "-c", code, *arguments]


def ended(subject: Installer) -> Installed:
    waiter = threading.Event()
    for _ in range(3000):
        if (result := subject.poll()) is not None:
            return result
        waiter.wait(0.01)
    raise AssertionError("it never ended")


def run(tmp_path: Path, code: str, **options: object) -> Installed:
    subject = Installer(tmp_path / "agent.toml", command=python(code), **options)
    subject.begin(tmp_path / "incoming")
    return ended(subject)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("print('a'); print('fleet version 2 is in force')", ("", "fleet version 2 is in force")),
        ("import sys; sys.exit('no: x')", ("refused", "no: x")),
        ("import sys; sys.exit(2)", ("configuration", "exit code 2")),
        ("import sys; sys.exit(75)", ("later", "exit code 75")),
        ("import sys; sys.exit(9)", (ENDED, "exit code 9")),
        ("import os; os.kill(os.getpid(), 9)", (ENDED, "exit code -9")),
        ("print('\\x1b[31mred\\x00', end='\\n\\n \\n')", ("", "[31mred")),
        ("import sys; sys.stdout.buffer.write(b'\\xff' * 500)", ("", "\ufffd" * 300)),
    ],
)
def test_how_it_ended(tmp_path: Path, code: str, expected: tuple[str, str]):
    assert run(tmp_path, code) == Installed(*expected)


def test_what_it_is_asked_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Absolute paths, an isolated interpreter, and nothing of our environment."""
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    monkeypatch.setenv("SSLKEYLOGFILE", "/nowhere")
    monkeypatch.chdir(tmp_path)
    code = "import os, sys; print(sys.argv[1:], sorted(os.environ), os.getcwd())"
    subject = Installer(Path("agent.toml"), command=python(code))
    subject.begin(Path("incoming"))
    folder, config = str(tmp_path / "incoming"), str(tmp_path / "agent.toml")
    arguments = ["policy", "install", folder, "--config", config]
    assert ended(subject) == Installed("", f"{arguments} ['LC_ALL', 'PATH'] /"[:300])


def test_the_default_command_runs_this_very_package(tmp_path: Path):
    """From a checkout and from site-packages; -I alone would find neither a checkout nor -P."""
    command = inland("policy", "install", "--help")
    assert command[1] == "-I"
    done = subprocess.run(command, cwd="/", env={}, capture_output=True, text=True, check=True)
    assert "Put a" in done.stdout
    where = [*command]
    where[3] = where[3].replace(
        'runpy.run_module("agent.cli", run_name="__main__", alter_sys=True)',
        "import agent; print(agent.__file__)",
    )
    done = subprocess.run(where, cwd="/", env={}, capture_output=True, text=True, check=True)
    assert Path(done.stdout.strip()) == Path(agent.__file__).resolve()


def test_one_that_does_not_end_is_ended(tmp_path: Path):
    code = "import signal; print('working', flush=True); signal.pause()"
    clock = iter([0.0, 59.9, 60.0])
    subject = Installer(tmp_path / "agent.toml", command=python(code), clock=lambda: next(clock))
    subject.begin(tmp_path)
    child = subject._child
    assert subject.poll() is None
    result = subject.poll()
    assert result is not None
    assert result.code == DEADLINE
    assert child.returncode == -signal.SIGTERM
    assert subject.poll() is None


def test_one_that_ignores_its_end_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(installer, "GRACE_S", 0.05)
    code = (
        "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "print('deaf', flush=True); signal.pause(); signal.pause()"
    )
    subject = Installer(tmp_path / "agent.toml", command=python(code))
    subject.begin(tmp_path)
    child = subject._child
    waiter = threading.Event()
    while not subject._output:
        assert subject.poll() is None
        waiter.wait(0.01)
    subject.close()
    assert child.returncode == -signal.SIGKILL
    subject.close()


def test_what_it_prints_without_end_is_not_kept(tmp_path: Path):
    code = "import os\nfor _ in range(40): os.write(1, b'x' * 65536)\nprint()\nprint('last')"
    assert run(tmp_path, code) == Installed("", "last")


def test_two_at_once_are_a_mistake_of_ours(tmp_path: Path):
    subject = Installer(tmp_path / "agent.toml", command=python("input()"))
    subject.begin(tmp_path)
    with pytest.raises(RuntimeError, match="is running"):
        subject.begin(tmp_path)
    ended(subject)


def test_a_program_that_is_not_there_is_an_error_of_the_system(tmp_path: Path):
    subject = Installer(tmp_path / "agent.toml", command=lambda *_: ["/nowhere/python"])
    with pytest.raises(OSError, match="nowhere"):
        subject.begin(tmp_path)
    assert subject.poll() is None


def test_no_descriptor_stays_open(tmp_path: Path):
    count = len(list(Path("/proc/self/fd").iterdir()))
    run(tmp_path, "print('x')")
    assert len(list(Path("/proc/self/fd").iterdir())) == count
