"""A folder that is written under another name, and gets its own when all of it is there.

- The draft of `NAME` is `.NAME.part` beside it. Whoever writes it holds a lock on it, so that two
  commands never write into one, and what a killed one has left is known for what it is.
- Left without `place_folder`, nothing of it stays.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import rmtree
from typing import Final

from agent.errors import BusyError

ENDING: Final = ".part"


@contextmanager
def draft_of(place: Path, *, mode: int = 0o700) -> Iterator[Path]:
    """Give an empty folder that `place_folder` can give its name; it is gone afterwards.

    Args:
        place: where the finished folder is to stand; its parent is there.
        mode: of the folder.

    Raises:
        BusyError: another command is writing it.
        OSError: it cannot be made.
    """
    draft = place.with_name(f".{place.name}{ENDING}")
    handle = _held(draft, mode)
    if handle is None:
        raise BusyError("another command is writing it just now", where=str(place),
                        todo="wait until it has ended, or name another with -o")  # fmt: skip
    try:
        yield draft
    finally:
        if _is_at(handle, draft):  # else it has its name, and this is another one's
            rmtree(draft, ignore_errors=True)
        os.close(handle)


def sweep(folder: Path, suffix: str) -> None:
    """Take drafts of `NAME<suffix>` out of a folder that nobody writes any more: a killed one's."""
    for draft in folder.glob(f".*{suffix}{ENDING}"):
        with suppress(OSError):
            handle = _locked(draft)
            if handle is not None:
                rmtree(draft, ignore_errors=True)
                os.close(handle)


def _held(draft: Path, mode: int) -> int | None:
    """Make a draft, or take over what a killed command left, and lock it; None: it is held."""
    while True:
        with suppress(FileExistsError):
            draft.mkdir(mode=mode)
        try:
            handle = _locked(draft)
        except FileNotFoundError:  # its writer has just ended
            continue
        if handle is None:
            return None
        if _is_at(handle, draft) and _emptied(draft):
            return handle
        os.close(handle)


def _locked(draft: Path) -> int | None:
    handle = os.open(draft, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    except OSError:  # a file system without locks: one at a time is up to whoever calls
        pass
    return handle


def _is_at(handle: int, draft: Path) -> bool:
    """Return whether the folder that we hold is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(handle), draft.lstat())
    except FileNotFoundError:
        return False


def _emptied(draft: Path) -> bool:
    """Remove what a killed command left, with the folder; return whether there was nothing."""
    if not any(draft.iterdir()):
        return True
    rmtree(draft)
    return False
