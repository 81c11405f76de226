"""The recorded process: `python -m tests.power.child FOLDER NAME...`, with the recorder preloaded.

Imports come first, once; then a fork for each workload, of which only the workload is recorded.
FOLDER/NAME gets `after` (the folder that the workload used), `before` (a copy, made when it was
prepared) and `log`. NAME is "workload", "workload+bug", or "workload@7": then a first process is
killed after 7 operations, and what is recorded goes on over what it left.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.power import preloaded, workloads

KILLED = 42  # exit code


def run(place: Path, name: str) -> None:
    """Run a workload up to its yield, then recorded."""
    workload, bug, kill_after = workloads.find(name)
    random.seed(name)
    after = place / "after"
    after.mkdir(parents=True)
    early: list[tuple[Any, ...]] | None = []

    def say(*note: Any) -> None:
        if early is None:
            preloaded.say(*note)
        else:
            early.append(note)

    with bug() if bug else contextlib.nullcontext():
        work = workload.run(after, say)
        next(work)
        shutil.copytree(after, place / "before", ignore=shutil.ignore_patterns("*-shm"))
        preloaded.begin(after, place / "log")
        for note in early:
            preloaded.say(*note)
        early = None
        if kill_after:
            killed = apart(lambda: (preloaded.die_after(kill_after), next(work, None)))
            assert killed in (0, KILLED), killed
        next(work, None)


def apart(work: Callable[[], object]) -> int:
    """Do something in a process of its own; returns its exit code."""
    process = os.fork()
    if process == 0:
        try:
            work()
        except BaseException:  # noqa: BLE001 - it is printed, and the exit code tells
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def main(folder: Path, names: list[str]) -> int:
    """Run each in a process of its own; returns how many failed."""
    for name in names:
        workloads.find(name)  # imports it
    return sum(apart(lambda name=name: run(folder / name, name)) != 0 for name in names)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
