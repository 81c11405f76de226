"""The policy in force, on disk: one file that is either the old one or the new one, never between.

- `active.policy` is in force, `previous.policy` is the one before.
- Installing the same bytes again does nothing. Other bytes with a lower or equal version
  are refused.
- A bad policy never replaces a good one: the bytes pass `read_policy` first. Region and time are
  the caller's check (`load_policy`), at install and again at each boot.
- Write, fsync, rename, fsync of the folder: a power cut leaves a whole file.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from agent.errors import ConfigError, PolicyError
from agent.files import sync_folder, write_new
from agent.policy.compiled import read_policy
from agent.policy.model import MAX_BYTES

ACTIVE: Final = "active.policy"
PREVIOUS: Final = "previous.policy"


def install(folder: Path, data: bytes) -> bool:
    """Put a policy in force, durably.

    Args:
        folder: state/policy; made if it is not there.
        data: compiled policy, already checked for this car by `load_policy`.

    Returns:
        Whether something changed: False if these bytes are in force already.

    Raises:
        PolicyError: broken, or not newer than the one in force.
        ConfigError: the folder cannot be written.
    """
    policy = read_policy(data)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _alone(folder):
            floor, in_force = _standing(folder)
            if in_force == data:
                return False
            if policy.version <= floor:
                raise PolicyError(
                    f"version {policy.version} is not newer than version {floor} in force",
                    where=f"policy {policy.name}", todo="raise 'version' and build it again",
                )  # fmt: skip
            _replace(folder, data)
    except OSError as error:
        raise ConfigError(f"cannot store the policy: {error.strerror}", where=str(folder)) from None
    return True


def active(folder: Path) -> bytes | None:
    """Return the policy in force as bytes, or None if none was installed.

    Raises:
        PolicyError: it is too large to be one.
        ConfigError: it cannot be read.
    """
    return _read(folder / ACTIVE)


def previous(folder: Path) -> bytes | None:
    """Return the policy before the one in force, or None. Raises as `active` does."""
    return _read(folder / PREVIOUS)


def _read(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"cannot read the policy: {error.strerror}", where=str(path)) from None
    if len(data) > MAX_BYTES:
        raise PolicyError("the file is too large for a policy", where=str(path),
                          todo="install the policy again")  # fmt: skip
    return data


def _standing(folder: Path) -> tuple[int, bytes | None]:
    """Return the highest version that was in force (0: none), and the bytes that are now."""
    floor, in_force = 0, None
    for path in (folder / PREVIOUS, folder / ACTIVE):
        # A damaged file must not keep a good policy out; the version of the other one still counts.
        with contextlib.suppress(PolicyError):
            if (data := _read(path)) is not None:
                floor = max(floor, read_policy(data).version)
                in_force = data if path.name == ACTIVE else None
    return floor, in_force


def _replace(folder: Path, data: bytes) -> None:
    fresh, link = folder / "active.new", folder / "previous.new"
    fresh.unlink(missing_ok=True)  # of an install that was cut short
    write_new(fresh, data)
    if (folder / ACTIVE).exists():
        link.unlink(missing_ok=True)
        link.hardlink_to(folder / ACTIVE)
        link.replace(folder / PREVIOUS)
        # rename(2) does nothing between two names of one file, so the name may still be there.
        link.unlink(missing_ok=True)
    fresh.replace(folder / ACTIVE)
    sync_folder(folder)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the folder against another install at the same moment."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
