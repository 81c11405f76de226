"""The zone of local time: the one that was named, or the machine's."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from agent.errors import ConfigError

MACHINES: Final = Path("/etc/localtime")


def zone_of(name: str | None, machines: Path = MACHINES) -> dt.tzinfo:
    """Return a time zone, with its summer times.

    Args:
        name: of the IANA database, e.g. "Asia/Shanghai"; None: the machine's.
        machines: file that holds the machine's.

    Raises:
        ConfigError: there is none of that name.
    """
    if name is not None:
        try:
            return ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ConfigError(
                f"'{name}' is no time zone", where="--tz", todo="write one like Asia/Shanghai"
            ) from None
    try:
        with machines.open("rb") as file:
            return ZoneInfo.from_file(file, key=_name(machines))
    except (OSError, ValueError):
        return dt.UTC


def _name(machines: Path) -> str:
    _, found, name = str(machines.resolve()).partition("zoneinfo/")
    return name if found else "local"
