"""What a process did to the files below one folder, in order, and what it had said by then.

The process runs with `recorder.c` preloaded, which gcc builds once. Preloading, not strace: the
order in which operations of several threads took effect is known (one lock around each), nothing
has to be parsed, and it costs microseconds an operation. Its price is that it sees calls of libc
and no bare system calls; so a recording that does not come to the folder as it is, is refused.
"""

from __future__ import annotations

import ast
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).with_name("recorder.c")
ROOT = Path(__file__).resolve().parents[2]
COMPILER = shutil.which("gcc") or shutil.which("cc")
LEFT_OUT = "*-shm"  # shared memory of those who have the database open: made anew after a power cut

CREATE, EMPTY, WRITE, TRUNCATE, ALLOCATE, SYNC = "C", "E", "W", "T", "A", "S"
FOLDER, LINK, RENAME, REMOVE, SAID, UNSEEN = "D", "L", "R", "U", "!", "?"
_HEAD = struct.Struct("=cIIQQ")


@dataclass(frozen=True, slots=True)
class Operation:
    """One record; `name` and `other` are relative to the folder, which is "" itself."""

    kind: str
    name: str
    other: str = ""
    offset: int = 0
    data: bytes = b""

    def __str__(self) -> str:
        size = f" {self.offset}+{len(self.data)}" if self.data else ""
        return f"{self.kind} {self.name}{' -> ' + self.other if self.other else ''}{size}"


@dataclass(frozen=True, slots=True)
class Recording:
    """The operations on a folder.

    Attributes:
        before: a copy of the folder as it was; all of it is on the disk.
        after: the folder as it is now.
        operations: what came between; notes (SAID) stand among them.
    """

    before: Path
    after: Path
    operations: tuple[Operation, ...]


class UnseenError(Exception):
    """The process did something that the recorder cannot describe, or did not see."""


def can_build() -> bool:
    """Return whether there is a compiler, with the headers of libc."""
    if COMPILER is None:
        return False
    command = [COMPILER, "-x", "c", "-fsyntax-only", "-"]
    done = subprocess.run(command, input=b"#include <dlfcn.h>\n", capture_output=True, check=False)
    return done.returncode == 0


def build(folder: Path) -> Path:
    """Compile the recorder.

    Raises:
        subprocess.CalledProcessError: the compiler did not take it.
    """
    assert COMPILER is not None
    library = folder / "recorder.so"
    options = ("-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror")
    subprocess.run([COMPILER, *options, "-o", str(library), str(SOURCE), "-ldl"], check=True)
    return library


def record(library: Path, folder: Path, names: Sequence[str]) -> dict[str, Recording]:
    """Run workloads one after the other in recorded processes; see `child`.

    Args:
        library: as `build` returned it.
        folder: for their folders and logs.
        names: "workload" or "workload+bug".

    Raises:
        RuntimeError: one of them failed; what it printed is in the message.
        UnseenError: see there.
    """
    done = subprocess.run(
        [sys.executable, "-m", "tests.power.child", str(folder), *names], cwd=ROOT, text=True,
        env={**os.environ, "LD_PRELOAD": str(library)}, capture_output=True, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise RuntimeError(f"a recorded process failed:\n{done.stdout}{done.stderr}")
    return {name: load(folder / name) for name in names}


def load(place: Path) -> Recording:
    """Return the recording that `child` left in a folder, if it tells the whole story.

    Raises:
        UnseenError: it does not.
    """
    from tests.power.disk import Disk, everything, on_disk

    operations = tuple(parse((place / "log").read_bytes()))
    recording = Recording(place / "before", place / "after", operations)
    disk = Disk(recording.before)
    for operation in operations:
        if operation.kind == UNSEEN:
            raise UnseenError(f"{operation.other or 'a move'} on {operation.name}")
        disk.apply(operation)
    if (told := everything(disk)) != (there := on_disk(recording.after)):
        other = sorted(name for name in told | there if told.get(name) != there.get(name))
        raise UnseenError(f"the log does not come to what is there: {', '.join(other)}")
    return recording


def parse(log: bytes) -> Iterator[Operation]:
    """Yield the records of a log.

    Raises:
        UnseenError: it ends in the middle of one.
    """
    at = 0
    while at < len(log):
        if at + _HEAD.size > len(log):
            raise UnseenError("the log ends in the middle of a record")
        kind, first, second, offset, size = _HEAD.unpack_from(log, at)
        at += _HEAD.size
        parts = []
        for length in (first, second, size):
            parts.append(log[at : at + length])
            at += length
        if at > len(log):
            raise UnseenError("the log ends in the middle of a record")
        yield Operation(kind.decode(), parts[0].decode(), parts[1].decode(), offset, parts[2])


def said(operations: Sequence[Operation]) -> list[tuple[Any, ...]]:
    """Return the notes among some operations: (word, values ...)."""
    return [ast.literal_eval(one.data.decode()) for one in operations if one.kind == SAID]
