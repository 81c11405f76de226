"""Which of the policies on offer a car takes: its group's, and the staged one if it takes part.

A group has at most two targets: `<group>.policy` for all, and `<group>.next.policy` for some per
cent of the vehicles. Who takes part follows from the version and the pseudonym alone, so that a car
decides the same each time, and another tenth of the cars goes first with the next version.

Pure.
"""

from __future__ import annotations

import re
from typing import Final

from agent.digest import sha256
from agent.errors import ConfigError

_GROUP: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")  # part of a file's name in the repository


def check_group(name: str, *, where: str) -> None:
    """Check the name of a vehicle group; enrolling, publishing and installing all ask here.

    Args:
        name: of the group.
        where: option or key that it came from.

    Raises:
        ConfigError: it can be none.
    """
    if _GROUP.fullmatch(name) is None:
        raise ConfigError(
            f"'{name}' is no vehicle group", where=where,
            todo="a group is 1 to 32 of a-z, 0-9 and '-', and does not begin with '-'",
        )  # fmt: skip


def stable_target(group: str) -> str:
    """Return the name of the target for all vehicles of a group."""
    return f"{group}.policy"


def next_target(group: str) -> str:
    """Return the name of the target for those that go first."""
    return f"{group}.next.policy"


def takes_part(vehicle: str, *, version: int, percent: int) -> bool:
    """Return whether a vehicle is among the first `percent` of 100 to take a version.

    Args:
        vehicle: pseudonym.
        version: of the policy that is staged.
        percent: 0 to 100.
    """
    digest = sha256(f"{version}:{vehicle}".encode())
    return int.from_bytes(digest[:4], "big") % 100 < percent
