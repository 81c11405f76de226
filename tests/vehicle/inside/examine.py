"""Runs in the guest after a boot: what a power cut has left in the state folder, as JSON.

The spool is looked at in a copy: SQLite mends a file that it opens, and the agent is to do that.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

from agent.policy import store
from agent.policy.compiled import read_policy
from agent.vault.floor import spool_floor_ns


def spool(state: Path) -> dict[str, Any] | None:
    """What the spool file holds; None if there is none, or an empty one."""
    path = state / "spool" / "spool.db"
    if not path.exists():
        return None
    with closing(sqlite3.connect(path)) as file:
        (check,) = file.execute("PRAGMA integrity_check").fetchone()
        if file.execute("PRAGMA user_version").fetchone() == (0,):
            return None
        count, last = file.execute("SELECT count(*), max(i) FROM ledger").fetchone()
        log = file.execute("SELECT v FROM meta WHERE k='log'").fetchone()
        bare = "SELECT count(*) FROM item WHERE bytes>0 AND i NOT IN (SELECT i FROM body)"
        return {
            "integrity": check,
            "log": log[0].hex() if log else "",
            "entries": count,
            "last": -1 if last is None else last,
            "without_body": file.execute(bare).fetchone()[0],
        }


def policy(folder: Path) -> dict[str, Any]:
    """What the agent would read of its policies."""
    data = store.active(folder)
    return {
        "version": read_policy(data).version if data else 0,
        "floor": store.floor(folder),
        "left": sorted(path.name for path in folder.glob("*")),
    }


def main() -> None:
    """Say it all in one line."""
    state = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as place:
        copy = Path(place) / "state"
        (copy / "spool").mkdir(parents=True)
        for path in (state / "spool").glob("spool.db*"):
            shutil.copy2(path, copy / "spool")
        found = {"spool": spool(copy), "floor_ns": spool_floor_ns(copy)}
    found["quarantine"] = sorted(path.name for path in (state / "quarantine").glob("*"))
    found["policy"] = policy(state / "policy")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
