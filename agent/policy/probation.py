"""Probation: a new policy under which the agent keeps dying is put back.

A policy can pass every check and still bring the agent down. So each start under a policy that has
not proved itself is noted, durably, before the policy is used. Three starts within ten minutes of
one boot that had no clean end: the fourth goes back to the policy before (`store.put_back`), or to
none, which keeps nothing. The floor stays, so that only a higher version leads on.

`probation.json` is written only while a policy is on trial. A damaged one counts as none: it can
delay going back, and never takes a good policy out of force. Starts of another boot do not count,
because a car that is switched off and on dies often, and cleanly or not says nothing about it.

One writer: the capture process.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from agent.digest import sha256
from agent.files import read_plain, replace_file
from agent.policy import store

FILE: Final = "probation.json"
STARTS: Final = 3  # without a clean end
WITHIN_NS: Final = 600 * 10**9
_MAX_BYTES: Final = 4096


@dataclass(frozen=True, slots=True)
class _Trial:
    """What is known of one policy: `starts` are CLOCK_BOOTTIME in ns, of the boot `boot`."""

    digest: str = ""
    boot: str = ""
    starts: tuple[int, ...] = ()
    proven: bool = False


def began(folder: Path, digest: bytes, boot_id: bytes, boottime_ns: int) -> bool:
    """Note that capture starts under a policy, or switches to it while it runs.

    Call it before the policy is used, and read the policy in force again if it was put back.

    Args:
        folder: state/policy.
        digest: SHA-256 of the policy in force.
        boot_id: of this boot.
        boottime_ns: CLOCK_BOOTTIME.

    Returns:
        Whether the policy was put back because of the starts before this one.

    Raises:
        PolicyLaterError: the disk is full or failing; the policy may be used all the same.
        ConfigError: the folder cannot be read or written.
    """
    if store.is_put_back(folder, digest):  # a power cut came between the note and the deed
        store.put_back(folder)
        return True
    if not store.is_newest(folder, digest):
        return False  # one that was gone back to has proved itself before
    trial = _read(folder)
    if trial.digest != digest.hex():
        trial = _Trial(digest.hex())
    if trial.proven:
        return False
    boot = boot_id.hex()
    dead = tuple(
        one for one in trial.starts if trial.boot == boot and 0 <= boottime_ns - one <= WITHIN_NS
    )
    if len(dead) >= STARTS:
        store.put_back(folder)
        return True
    _write(folder, _Trial(trial.digest, boot, (*dead, boottime_ns)))
    return False


def proven(folder: Path) -> None:
    """Note that the policy on trial has run for long enough: it is no longer on trial.

    Raises:
        PolicyLaterError, ConfigError: as `began`.
    """
    trial = _read(folder)
    if trial.digest and not trial.proven:
        _write(folder, _Trial(trial.digest, proven=True))


def ended_clean(folder: Path) -> None:
    """Note that capture ends because it was told to: the starts so far were no deaths.

    Raises:
        PolicyLaterError, ConfigError: as `began`.
    """
    trial = _read(folder)
    if trial.starts:
        _write(folder, _Trial(trial.digest))


def has_proved_itself(folder: Path) -> bool:
    """Return whether the policy in force has; False if there is none.

    Raises:
        ConfigError: it cannot be read.
    """
    data = store.readable(folder)
    if data is None:
        return False
    digest = sha256(data)
    trial = _read(folder)
    return not store.is_newest(folder, digest) or (trial.proven and trial.digest == digest.hex())


def _read(folder: Path) -> _Trial:
    try:
        return _trial(json.loads(read_plain(folder / FILE, _MAX_BYTES)))
    except FileNotFoundError:
        return _Trial()
    except (ValueError, TypeError, KeyError, RecursionError):
        return _Trial()
    except OSError as error:
        raise store.disk_error(error, folder) from None


def _trial(told: dict[str, Any]) -> _Trial:
    starts = tuple(told["starts"])
    if not all(type(one) is int for one in starts) or type(told["proven"]) is not bool:
        raise ValueError("not a note of ours")
    return _Trial(str(told["digest"]), str(told["boot"]), starts, told["proven"])


def _write(folder: Path, trial: _Trial) -> None:
    text = json.dumps(
        {
            "digest": trial.digest,
            "boot": trial.boot,
            "starts": trial.starts,
            "proven": trial.proven,
        }
    )
    try:
        replace_file(folder / FILE, text.encode())
    except OSError as error:
        raise store.disk_error(error, folder) from None
