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

GROUP: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
GROUP_TODO: Final = "a group is 1 to 32 of a-z, 0-9 and '-'"


def is_group(name: str) -> bool:
    """Return whether a name can be a vehicle group's."""
    return GROUP.fullmatch(name) is not None


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
