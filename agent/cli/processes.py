"""Processes that belong to one command: started together, ended in order, their words kept."""

from __future__ import annotations

import signal
import socket
import subprocess
from pathlib import Path
from typing import Final

from agent.errors import InlandError

GRACE_S: Final = 15.0


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


class Processes:
    """Named child processes.

    Args:
        logs: folder for what each prints; made if it is not there.
    """

    def __init__(self, logs: Path) -> None:
        logs.mkdir(parents=True, exist_ok=True)
        self._logs = logs
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, command: list[str]) -> None:
        """Start a process in a group of its own: a Ctrl-C reaches it through us, in order."""
        with self.output(name).open("wb") as output:
            self._running[name] = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                process_group=0,
            )

    def output(self, name: str) -> Path:
        """The file that holds what a process has printed."""
        return self._logs / f"{name}.txt"

    def code(self, name: str) -> int | None:
        """Return the exit code of a process, None while it runs."""
        return self._running[name].poll()

    def wait(self, name: str) -> int:
        """Return the exit code of a process that was told to end; kill it if it does not."""
        process = self._running.pop(name)
        try:
            return process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()

    def check(self) -> None:
        """Check that nothing has failed.

        Raises:
            InlandError: a process has ended with a code other than 0; quotes its last line.
        """
        for name, process in self._running.items():
            code = process.poll()
            if code:
                raise InlandError(f"{name} ended with exit code {code}: {self._last_line(name)}")

    def stop(self, *names: str) -> None:
        """End these processes, or all, the last started first; kill what does not end in time."""
        ending = [self._running.pop(n) for n in names or tuple(reversed(self._running))]
        for process in ending:  # all are told before any is waited for: one grace, not the sum
            process.send_signal(signal.SIGTERM)
        for process in ending:
            try:
                process.wait(GRACE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _last_line(self, name: str) -> str:
        text = self.output(name).read_text("utf-8", "replace").strip()
        return text.splitlines()[-1] if text else "it said nothing"
