"""The policy in force, on disk: one file that is either the old one or the new one, never between.

- `active.policy` is in force, `previous.policy` is the last one before it that had proved itself.
- `floor` is the highest version that was ever in force: "<version> <SHA-256> in-force|put-back".
  It never falls, whatever happens to the other files.
- Installing the same bytes again does nothing. Other bytes with a version at or below the floor
  are refused, and so is a policy that was put back.
- A bad policy never replaces a good one: the bytes pass `read_policy` first. Region and time are
  the caller's check (`load_policy`), at install and again at each boot.
- Write, fsync, rename, fsync of the folder: a power cut leaves a whole file. The floor is written
  after the switch, because the policy in force is part of it; before it where a policy is put back.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.digest import sha256
from agent.errors import ConfigError, InlandError, PolicyError, PolicyLaterError
from agent.files import make_folder, read_plain, replace_file, sync_folder, write_new
from agent.policy.compiled import read_policy
from agent.policy.model import MAX_BYTES, Policy

ACTIVE: Final = "active.policy"
PREVIOUS: Final = "previous.policy"
FLOOR: Final = "floor"

_FLOOR_LINE: Final = re.compile(rb"([1-9][0-9]{0,18}) ([0-9a-f]{64}) (in-force|put-back)\n")
_PASSING: Final = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENFILE)


@dataclass(frozen=True, slots=True)
class _Floor:
    """The highest version ever in force; `digest` is empty where only the version is known."""

    version: int = 0
    digest: bytes = b""
    put_back: bool = False

    def line(self) -> bytes:
        state = "put-back" if self.put_back else "in-force"
        return f"{self.version} {self.digest.hex()} {state}\n".encode()


def install(folder: Path, data: bytes, *, proven: bool = True) -> bool:
    """Put a policy in force, durably.

    Args:
        folder: state/policy; made if it is not there.
        data: compiled policy, already checked for this car by `load_policy`.
        proven: the policy in force has proved itself. One that has not does not take the place of
            the previous policy, to which a car must be able to go back.

    Returns:
        Whether something changed: False if these bytes are in force already.

    Raises:
        PolicyError: broken, not newer than what was in force, or put back before.
        PolicyLaterError: the disk is full or failing.
        ConfigError: the folder cannot be written.
    """
    policy = read_policy(data)
    with _writing(folder):
        _finish_put_back(folder)
        floor = _floor(folder)
        if _read(folder / ACTIVE) == data:
            if floor != _read_floor(folder):  # an install that was cut short
                _write_floor(folder, floor)
            return False
        _check_version(policy, floor)
        _replace(folder, data, displace=proven or _good(folder / PREVIOUS) is None)
        _write_floor(folder, _Floor(policy.version, policy.digest))
    return True


def check_version(folder: Path, policy: Policy) -> bool:
    """Check whether `install` would take a policy; return whether it would change anything.

    Raises:
        PolicyError: not newer than what was in force, or put back before.
        ConfigError: the folder cannot be read.
    """
    if (data := _read(folder / ACTIVE)) is not None and sha256(data) == policy.digest:
        return False
    _check_version(policy, _floor(folder))
    return True


def put_back(folder: Path) -> bytes | None:
    """Leave the policy in force for the one before it; without one, for none.

    The floor stays: the policy that is left is never taken again, only a higher version is.

    Returns:
        The policy in force from now on, None if nothing is.

    Raises:
        PolicyLaterError: the disk is full or failing.
        ConfigError: the folder cannot be written.
    """
    with _writing(folder):
        in_force = _good(folder / ACTIVE)
        floor = _floor(folder)
        if in_force is not None and floor.digest == in_force.digest:
            _write_floor(folder, _Floor(floor.version, floor.digest, put_back=True))
            _finish_put_back(folder)
    return active(folder)


def is_put_back(folder: Path, digest: bytes) -> bool:
    """Return whether the policy of this SHA-256 was put back."""
    floor = _read_floor(folder)
    return floor.put_back and floor.digest == digest


def is_newest(folder: Path, digest: bytes) -> bool:
    """Return whether the policy of this SHA-256 is the highest version that was ever in force."""
    return _floor(folder).digest == digest


def active(folder: Path) -> bytes | None:
    """Return the policy in force as bytes, or None if none was installed.

    Raises:
        PolicyError: it is too large to be one.
        ConfigError: it cannot be read.
    """
    data = _read(folder / ACTIVE)
    if data is not None and len(data) > MAX_BYTES:
        raise PolicyError("the file is too large for a policy", where=str(folder / ACTIVE),
                          todo="install the policy again")  # fmt: skip
    return data


def readable(folder: Path) -> bytes | None:
    """Return the policy in force, or None if there is none or its file is damaged.

    Raises:
        ConfigError: it cannot be read.
    """
    return _read(folder / ACTIVE) if _good(folder / ACTIVE) is not None else None


def previous(folder: Path) -> bytes | None:
    """Return the policy before the one in force, or None. Raises as `active` does."""
    data = _read(folder / PREVIOUS)
    if data is not None and len(data) > MAX_BYTES:
        raise PolicyError("the file is too large for a policy", where=str(folder / PREVIOUS))
    return data


def floor(folder: Path) -> int:
    """Return the highest version that was ever in force; 0: none.

    Raises:
        ConfigError: the folder cannot be read.
    """
    return _floor(folder).version


def disk_error(error: OSError, folder: Path) -> InlandError:
    """Return what to say of a folder that cannot be written: again later, or wrongly set up."""
    what = f"cannot store the policy: {error.strerror}"
    if error.errno in _PASSING:
        return PolicyLaterError(what, where=str(folder), todo="try again when the disk has room")
    return ConfigError(what, where=str(folder))


def _check_version(policy: Policy, floor: _Floor) -> None:
    where = f"policy {policy.name} version {policy.version}"
    if policy.digest == floor.digest and floor.put_back:
        raise PolicyError(
            "was put back because the agent did not run with it", where=where,
            todo="publish a mended one with a higher version",
        )  # fmt: skip
    if policy.digest == floor.digest:
        return  # it was in force, and its file was lost
    if policy.version <= floor.version:
        raise PolicyError(
            f"version {policy.version} is not newer than version {floor.version}, "
            "which is or was in force",
            where=where, todo="raise 'version' and build it again",
        )  # fmt: skip


def _read(path: Path) -> bytes | None:
    """Return a file, one byte more than a policy may have if it is too large."""
    try:
        return read_plain(path, MAX_BYTES)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"cannot read the policy: {error.strerror}", where=str(path)) from None


def _good(path: Path) -> Policy | None:
    """Return the policy of a file; None if there is none, or a damaged one."""
    with contextlib.suppress(PolicyError):
        if (data := _read(path)) is not None:
            return read_policy(data)
    return None


def _read_floor(folder: Path) -> _Floor:
    match = _FLOOR_LINE.fullmatch(_read(folder / FLOOR) or b"")
    if match is None:
        return _Floor()
    digest = bytes.fromhex(match[2].decode("ascii"))
    return _Floor(int(match[1]), digest, put_back=match[3] == b"put-back")


def _floor(folder: Path) -> _Floor:
    """Return the floor: of its own file, and of the policies themselves if that is behind."""
    floor = _read_floor(folder)
    for name in (PREVIOUS, ACTIVE):
        # A damaged file must not keep a good policy out; what else is known still counts.
        policy = _good(folder / name)
        if policy is not None and policy.version > floor.version:
            floor = _Floor(policy.version, policy.digest)
    return floor


def _write_floor(folder: Path, floor: _Floor) -> None:
    replace_file(folder / FLOOR, floor.line())


def _replace(folder: Path, data: bytes, *, displace: bool) -> None:
    fresh, link = folder / "active.new", folder / "previous.new"
    fresh.unlink(missing_ok=True)  # of an install that was cut short
    link.unlink(missing_ok=True)
    write_new(fresh, data)
    if displace and _good(folder / ACTIVE) is not None:
        link.hardlink_to(folder / ACTIVE)
        link.replace(folder / PREVIOUS)
        # rename(2) does nothing between two names of one file, so the name may still be there.
        link.unlink(missing_ok=True)
    fresh.replace(folder / ACTIVE)
    sync_folder(folder)


def _finish_put_back(folder: Path) -> None:
    """Take the policy that the floor says was put back out of force, if it still is in force."""
    floor, data = _read_floor(folder), _read(folder / ACTIVE)
    if not floor.put_back or data is None or sha256(data) != floor.digest:
        return
    before = _good(folder / PREVIOUS)
    if before is not None and before.digest != floor.digest:
        (folder / PREVIOUS).replace(folder / ACTIVE)
    else:
        (folder / ACTIVE).unlink()
    sync_folder(folder)


def make_own(folder: Path) -> None:
    """Make the policy folder, and the state folder above it if it is the first: 0700 as well.

    Raises:
        OSError: one cannot be made.
    """
    if not folder.parent.exists():
        make_folder(folder.parent)
    make_folder(folder)


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Hold the folder against another writer; say what its disk refuses."""
    try:
        make_own(folder)
        with alone(folder):
            yield
    except OSError as error:
        raise disk_error(error, folder) from None


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold a folder against another process that does the same at this moment.

    Raises:
        OSError: the folder is not there.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
