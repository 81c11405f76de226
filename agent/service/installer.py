"""`inland policy install` as a one-shot process: the same door as for a USB stick.

Verifying metadata needs libraries and memory that a running agent shall not hold, and it reads
hostile files: so it happens in a process of its own, with a deadline and a bare environment. Nobody
waits for it: `poll` says whether it has ended. What it prints is cut to one line for the log.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import agent

if TYPE_CHECKING:
    import subprocess

DEADLINE_S: Final = 60.0
GRACE_S: Final = 5.0
MAX_LINE_CHARS: Final = 300
_MAX_OUTPUT: Final = 64 << 10  # what a pipe holds; what was before is forgotten
_ENVIRONMENT: Final = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
# Isolated (-I), so neither the environment nor a working directory names code; but with the very
# package that runs here, installed or not. After the standard library: nothing of it is replaced.
_START: Final = """\
import os, runpy, sys
sys.path.insert(sys.path.index(os.path.dirname(os.__file__)) + 1, sys.argv.pop(1))
runpy.run_module("agent.cli", run_name="__main__", alter_sys=True)
"""

# By exit code (agent/errors.py); stable, for the ledger's refusal entry.
CODES: Final = {1: "refused", 2: "configuration", 3: "undecided", 75: "later"}
DEADLINE: Final = "deadline"
ENDED: Final = "ended"  # by a signal, or with a code that is none of ours


@dataclass(frozen=True, slots=True)
class Installed:
    """How an installation ended.

    Attributes:
        code: empty if the policy is in force; else why not.
        line: the last line that it printed.
    """

    code: str
    line: str


def inland(*arguments: str) -> list[str]:
    """Return the command line of an isolated `inland` that runs this package."""
    root = str(Path(agent.__file__).resolve().parents[1])
    return [sys.executable, "-I", "-c", _START, root, *arguments]


class Installer:
    """Runs one installation at a time. For one thread.

    Args:
        config: agent.toml.
        command: makes the command line from the arguments.
        deadline_s: how long one may take.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        config: Path,
        *,
        command: Callable[..., Sequence[str]] = inland,
        deadline_s: float = DEADLINE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config, self._command = config.resolve(), command
        self._deadline_s, self._clock = deadline_s, clock
        self._child: subprocess.Popen[bytes] | None = None
        self._begun_s = 0.0
        self._output = bytearray()

    def begin(self, folder: Path) -> None:
        """Start installing from a folder of metadata and targets.

        Raises:
            RuntimeError: one is running.
            OSError: no process can be started.
        """
        import subprocess  # only for a new policy

        if self._child is not None:
            raise RuntimeError("an installation is running")
        arguments = ("policy", "install", str(folder.resolve()), "--config", str(self._config))
        self._output.clear()
        self._begun_s = self._clock()
        self._child = subprocess.Popen(
            self._command(*arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=_ENVIRONMENT,
            cwd="/",
            process_group=0,  # a Ctrl-C is for us; `close` ends it
        )
        assert self._child.stdout is not None
        os.set_blocking(self._child.stdout.fileno(), False)

    def poll(self) -> Installed | None:
        """Return how it ended, or None while it runs, or if none was begun. Never waits long."""
        child = self._child
        if child is None:
            return None
        code = child.poll()  # before the last read: nothing is written after the end
        self._read(child)
        if code is None and self._clock() - self._begun_s < self._deadline_s:
            return None
        line = self._line()
        if code is None:
            self.close()
            return Installed(DEADLINE, line or f"no end in {self._deadline_s:g} s")
        self._forget(child)
        return Installed("" if code == 0 else CODES.get(code, ENDED), line or f"exit code {code}")

    def close(self) -> None:
        """End one that is running, and wait for that."""
        child = self._child
        if child is None:
            return
        from subprocess import TimeoutExpired

        _end(child, signal.SIGTERM)
        try:
            child.wait(GRACE_S)
        except TimeoutExpired:
            _end(child, signal.SIGKILL)
            child.wait()
        self._forget(child)

    def _read(self, child: subprocess.Popen[bytes]) -> None:
        assert child.stdout is not None
        # At most so much in one turn, however fast it prints.
        data = child.stdout.read(_MAX_OUTPUT) or b""
        self._output += data
        del self._output[:-_MAX_OUTPUT]

    def _line(self) -> str:
        lines = bytes(self._output).decode("utf-8", "replace").split("\n")
        last = next((line for line in reversed(lines) if line.strip()), "")
        return "".join(c if c.isprintable() else " " for c in last).strip()[:MAX_LINE_CHARS]

    def _forget(self, child: subprocess.Popen[bytes]) -> None:
        assert child.stdout is not None
        child.stdout.close()
        self._child = None


def _end(child: subprocess.Popen[bytes], number: int) -> None:
    """Send a signal to the child and whatever it started."""
    if child.poll() is None:
        os.killpg(child.pid, number)
