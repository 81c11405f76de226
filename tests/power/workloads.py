"""What is recorded and cut: a function that runs inland's own code, and one that looks afterwards.

To add one, write

    @workload(check=whole)
    def transfer(folder: Path, say: Say) -> Iterator[None]:
        ...  # what is there before: all of it is on the disk
        yield
        ...  # what is recorded

in a file of MODULES. It works below `folder` alone; `say("word", values)` puts into the log what
it acknowledges to somebody, at the moment at which it does. `check(folder, notes)` is given a
folder as a power cut left it and what had been said by then; it opens it with inland's own code and
raises whatever it likes if a promise is broken. @bug(transfer) marks a context manager under which
the workload is wrong: the tool has to find that.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

MODULES = ("spool", "founding", "damage", "consent", "policy", "station", "people", "transfer")

Note = tuple[Any, ...]
Bug = Callable[[], AbstractContextManager[object]]


class Say(Protocol):
    """Puts a note into the log."""

    def __call__(self, word: str, *values: Any) -> None:
        """A word, and values that `repr` writes and a literal reads."""


Run = Callable[[Path, Say], Iterator[None]]
Check = Callable[[Path, list[Note]], None]


@dataclass(frozen=True, slots=True)
class Workload:
    """See the module."""

    run: Run
    check: Check
    bugs: dict[str, Bug] = field(default_factory=dict)


_ALL: dict[str, Workload] = {}


def workload(*, check: Check) -> Callable[[Run], Run]:
    """Mark a function as a workload of its name."""

    def add(run: Run) -> Run:
        _ALL[run.__name__] = Workload(run, check)
        return run

    return add


def bug(run: Run) -> Callable[[Bug], Bug]:
    """Mark a context manager as a bug planted in a workload."""

    def add(plant: Bug) -> Bug:
        _ALL[run.__name__].bugs[plant.__name__] = plant
        return plant

    return add


def find(name: str) -> tuple[Workload, Bug | None, int]:
    """Return a workload, the bug of "workload+bug", and the kill of "workload@operations"."""
    name, _, kill_after = name.partition("@")
    name, _, planted = name.partition("+")
    for module in MODULES:
        importlib.import_module(f"tests.power.on_{module}")
        if name in _ALL:
            found = _ALL[name]
            return found, found.bugs[planted] if planted else None, int(kill_after or 0)
    raise KeyError(name)


def every() -> dict[str, Workload]:
    """Return all workloads by name."""
    for module in MODULES:
        importlib.import_module(f"tests.power.on_{module}")
    return dict(_ALL)
