"""The floor of trusted time, read from a spool that another process may be writing.

For commands: the vault itself keeps it in the Timekeeper. Read-only: nothing is created, no lock is
held longer than one query, and a spool that cannot be read only means that less is known.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from pathlib import Path
from typing import Final
from urllib.parse import quote

from agent.clock import BUILD_FLOOR_NS, Reading, Trust, trusted_ns
from agent.vault.salvage import FILE
from agent.vault.sqlite_errors import UNREADABLE
from agent.vault.timekeeper import MAX_SIGNED_NS

_WAIT_S: Final = 2.0

log = logging.getLogger(__name__)


def spool_floor_ns(state: Path) -> int:
    """Return the highest time that the region had signed when it was last noted.

    Args:
        state: the agent's state folder.

    Returns:
        ns since the Unix epoch; 0 if there is no spool, or none that can be read.
    """
    path = state / "spool" / FILE
    if not path.is_file():
        return 0
    uri = f"file:{quote(str(path.absolute()))}?mode=ro"
    try:
        with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=_WAIT_S)) as spool:
            row = spool.execute("SELECT v FROM meta WHERE k='floor'").fetchone()
    except (*UNREADABLE, sqlite3.Error) as error:
        log.warning("trusted time: the spool tells no floor: %s", error)
        return 0
    value = row[0] if row else b""
    floor = int.from_bytes(value, "big") if isinstance(value, bytes) else 0
    return floor if floor <= MAX_SIGNED_NS else 0


def trusted_now_ns(state: Path, now: Reading) -> int:
    """Return trusted time for a command that looks from outside: ns since the Unix epoch.

    Args:
        state: the agent's state folder.
        now: the clocks.
    """
    floor = max(BUILD_FLOOR_NS, spool_floor_ns(state))
    return trusted_ns(Trust(floor, now.boottime_ns, signed=False), now)[0]
