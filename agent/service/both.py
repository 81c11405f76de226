"""`inland run`: the two halves as two processes, as in the car, under one roof.

If one ends, the other is ended too. A signal is passed on; both get time to end in order.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Final

GRACE_S: Final = 15.0


def run_both(config: Path, *, once: bool, verbose: bool) -> int:
    """Run capture and uplink until one ends; return the exit code of the one that decided."""
    inland = [sys.executable, "-m", "agent.cli"]
    common = ["--config", str(config)] + (["--verbose"] if verbose else [])
    ended = threading.Event()
    stopping = threading.Event()

    def on_signal(*_: object) -> None:
        stopping.set()
        ended.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    # Own process groups: a Ctrl-C reaches the halves through us, in the order of an orderly end.
    halves = {
        "capture": subprocess.Popen(
            [*inland, "capture", *common, *(["--once"] if once else [])], process_group=0
        ),
        "uplink": subprocess.Popen([*inland, "uplink", *common], process_group=0),
    }
    for half in halves.values():
        threading.Thread(target=_watch, args=(half, ended), daemon=True).start()
    ended.wait()
    codes = {name: half.poll() for name, half in halves.items()}
    for name in ("capture", "uplink"):
        _end(halves[name])
    if stopping.is_set():
        return max(_code(half.returncode) for half in halves.values())
    return next((_code(code) for code in codes.values() if code is not None), 0)


def _watch(half: subprocess.Popen[bytes], ended: threading.Event) -> None:
    half.wait()
    ended.set()


def _end(half: subprocess.Popen[bytes]) -> None:
    if half.poll() is None:
        half.terminate()
    try:
        half.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        half.kill()
        half.wait()


def _code(returncode: int) -> int:
    """Return an exit code; a process that a signal ended has none and counts as failed."""
    return returncode if returncode >= 0 else 1
