"""Root at work in a folder that is another user's: as that user, so that nothing of root's stays.

The state folder of the boot service belongs to `inland-capture`. A command that root runs in it
must leave no file that capture cannot read, and must not follow a link that a taken-over capture
has put there. So it gives up being root for good, before it touches the folder. What only root can
read (a folder that an OTA system dropped, a stick) is copied for it first.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import agent
from agent.errors import ConfigError, InlandError

MAX_FILES: Final = 2000  # of a repository: roots, metadata, and a policy for each vehicle group
MAX_BYTES: Final = 256 << 20
_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_CHUNK: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Owner:
    """Whom a folder belongs to."""

    uid: int
    gid: int


def other_owner(folder: Path) -> Owner | None:
    """Return whom to act as in a folder; None: stay who we are.

    Args:
        folder: may be missing; then root makes it, and an installation hands it over.
    """
    if os.geteuid() != 0 or not folder.exists():
        return None
    status = folder.stat()
    return Owner(status.st_uid, status.st_gid) if status.st_uid != 0 else None


def act_as(owner: Owner | None) -> None:
    """Become an owner, for good; None: nothing.

    Raises:
        ConfigError: the owner could not read what is still to be imported.
        OSError: the kernel refuses.
    """
    if owner is None:
        return
    for code in (Path(os.__file__).resolve(), Path(agent.__file__).resolve()):
        for step in (*reversed(code.parents), code):
            if not is_open(step):
                raise ConfigError(
                    "closed to the user whose state folder this is", where=str(step),
                    todo="use an inland that every user can read, e.g. in /opt/inland",
                )  # fmt: skip
    os.setgroups(_groups(owner))
    os.setresgid(owner.gid, owner.gid, owner.gid)
    os.setresuid(owner.uid, owner.uid, owner.uid)
    os.umask(0o077)


def _groups(owner: Owner) -> list[int]:
    """Return what other groups the user has everywhere: one may open the TPM."""
    import pwd

    try:
        groups = os.getgrouplist(pwd.getpwuid(owner.uid).pw_name, owner.gid)
    except KeyError:
        return []
    return [one for one in groups if one != owner.gid]


def act_as_owner_of(folder: Path) -> None:
    """Become the owner of a folder, if we are root and it is another's.

    Raises:
        ConfigError: it is another's, and we are not root.
    """
    act_as(other_owner(folder))
    if folder.exists() and not os.access(folder, os.R_OK | os.X_OK):
        raise ConfigError("belongs to another user", where=str(folder), todo="say sudo")


def is_open(path: Path) -> bool:
    """Return whether everybody may read a file, or go through a folder. Raises OSError."""
    mode = path.stat().st_mode
    return bool(mode & (0o001 if stat.S_ISDIR(mode) else 0o004))


@contextmanager
def readable_for(owner: Owner | None, source: Path) -> Iterator[Path]:
    """Give a copy of a file, or of a policy repository, that an owner can read.

    Only plain files of a repository's two folders are copied, and no links are followed below it.

    Args:
        owner: None: the source itself is given.
        source: a file, or a folder with `metadata` and `targets`.

    Raises:
        ConfigError: it cannot be read, or is too large to be copied.
        InlandError: what went wrong with the copy, said of the source.
    """
    if owner is None:
        yield source
        return
    place = Path(tempfile.mkdtemp(prefix="inland-"))
    copy = place / "copy"
    try:
        try:
            if source.is_dir():
                _copy_repository(source, copy, owner)
            else:
                _copy(source.resolve(), copy, owner, MAX_BYTES)
            os.chown(place, owner.uid, owner.gid)
        except OSError as error:
            raise ConfigError(f"cannot be copied: {error.strerror}", where=str(source)) from None
        yield copy
    except InlandError as error:
        error.where = error.where.replace(str(copy), str(source), 1)
        raise
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _copy_repository(source: Path, copy: Path, owner: Owner) -> None:
    left, count = MAX_BYTES, 0
    copy.mkdir(mode=0o700)
    for name in ("metadata", "targets"):
        if not (source / name).is_dir():
            continue
        (copy / name).mkdir(mode=0o700)
        for entry in sorted(os.scandir(source / name), key=lambda entry: entry.name):
            if not entry.is_file(follow_symlinks=False):
                continue
            count += 1
            if count > MAX_FILES:
                raise ConfigError(f"more than {MAX_FILES} files", where=str(source))
            left -= _copy(Path(entry.path), copy / name / entry.name, owner, left)
        os.chown(copy / name, owner.uid, owner.gid)
    os.chown(copy, owner.uid, owner.gid)


def _copy(source: Path, copy: Path, owner: Owner, most: int) -> int:
    """Copy one plain file; return its size."""
    size = 0
    with os.fdopen(os.open(source, _FLAGS), "rb") as old, copy.open("xb") as new:
        if not stat.S_ISREG(os.fstat(old.fileno()).st_mode):
            raise ConfigError("is not a plain file", where=str(source))
        while piece := old.read(_CHUNK):
            size += len(piece)
            if size > most:
                raise ConfigError(f"more than {MAX_BYTES >> 20} MiB", where=str(source))
            new.write(piece)
        os.fchown(new.fileno(), owner.uid, owner.gid)
    return size


@contextmanager
def acting_as(owner: Owner | None) -> Iterator[None]:
    """Be an owner for as long as a folder of theirs is touched, in a process of one thread.

    For a command that reads there and writes where only root may. What it runs meanwhile must not
    be chosen by the folder.

    Args:
        owner: None: nothing changes.
    """
    if owner is None:
        yield
        return
    uid, gid, groups = os.geteuid(), os.getegid(), os.getgroups()
    os.setgroups([owner.gid])
    os.setegid(owner.gid)
    os.seteuid(owner.uid)
    try:
        yield
    finally:
        os.seteuid(uid)
        os.setegid(gid)
        os.setgroups(groups)
