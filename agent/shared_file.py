"""A small file that commands and the running agent change in turn: lock, whole writing, damage.

- The lock is a file beside it, `<name>.lock`; reading needs none.
- Written beside its place, synced, renamed, folder synced: a power cut leaves the old or the new.
- A damaged one is put aside under a name that was free: nothing is thrown away.
- The agent may run as another user than a command: a file made by root belongs to the owner of the
  folder.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agent.files import make_folder, sync_folder, write_new


@contextmanager
def held(path: Path, *, wait: bool) -> Iterator[None]:
    """Hold a file against others who would change it.

    Args:
        path: of the file; its folder is made if need be.
        wait: for whoever holds it now.

    Raises:
        BlockingIOError: somebody else holds it.
        OSError: it cannot be locked.
    """
    make_folder(path.parent)
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    lock = os.open(path.with_suffix(".lock"), flags, 0o600)
    try:
        _give(lock, path.parent)
        fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
    finally:
        os.close(lock)


def put_aside(path: Path) -> Path:
    """Rename a damaged file to a name that was free, and return that."""
    number = 1
    while (aside := path.with_suffix(f".damaged-{number}")).exists():
        number += 1
    path.rename(aside)
    sync_folder(path.parent)
    return aside


def write(path: Path, data: bytes) -> None:
    """Put a file in place of what was there, durably. The lock is ours.

    Raises:
        OSError: it cannot be written; what was there stays.
    """
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)  # of a change that was cut short
    write_new(fresh, data)
    descriptor = os.open(fresh, os.O_RDONLY)
    try:
        _give(descriptor, path.parent)
    finally:
        os.close(descriptor)
    fresh.replace(path)
    sync_folder(path.parent)


def _give(descriptor: int, folder: Path) -> None:
    """Let a file that root made belong to whom its folder belongs to."""
    if os.geteuid() == 0:
        owner = folder.stat()
        os.fchown(descriptor, owner.st_uid, owner.st_gid)
