"""Runs in the guest: bytes by which places of a spool file are found on the disk below it.

    places.py STATE bodies COUNT    of bodies that wait for the region, spread over the file; 0: all
    places.py STATE entry           of the newest entry that waits and never had a body
    places.py STATE header          of the first page
    places.py STATE page            of a page with entries in the middle of the ledger

Prints a JSON list of {"i": index of the entry, "bytes": hex}.
"""

from __future__ import annotations

import json
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

PAGE = 4096
BLOCK = 1024  # of a small file system: what of a page lies together on the disk for certain
MARK = 48
ROUTINE = 3


def bodies(file: sqlite3.Connection, count: int) -> list[tuple[int, bytes]]:
    """A piece of some bodies, short enough not to end in another page."""
    rows = file.execute(
        "SELECT i, blob FROM item JOIN body USING (i) WHERE shelf=? ORDER BY i", (ROUTINE,)
    ).fetchall()
    step = len(rows) // (count + 1)
    chosen = rows[step::step][:count] if count else rows
    return [(i, blob[200 : 200 + MARK]) for i, blob in chosen]


def entry(file: sqlite3.Connection) -> tuple[int, bytes]:
    """The end of an entry, from the middle of the time at which it was written."""
    i, stored = file.execute(
        "SELECT i, entry FROM item JOIN ledger USING (i) WHERE shelf=0 AND bytes=0"
        " ORDER BY i DESC LIMIT 1"
    ).fetchone()
    return i, stored[8:]


def page(file: sqlite3.Connection, path: Path) -> tuple[int, bytes]:
    """The beginning of a page of entries that is long written; it is in the file, not in a WAL."""
    file.execute("PRAGMA wal_checkpoint(PASSIVE)")
    numbers = file.execute(
        "SELECT pageno FROM dbstat WHERE name='ledger' AND pagetype='leaf' ORDER BY path"
    ).fetchall()
    (number,) = numbers[len(numbers) // 2]
    with path.open("rb") as raw:
        raw.seek((number - 1) * PAGE)
        return number, raw.read(BLOCK)


def main() -> None:
    """Say what was asked for."""
    path = Path(sys.argv[1]) / "spool" / "spool.db"
    with closing(sqlite3.connect(path)) as file:
        if sys.argv[2] == "bodies":
            found = bodies(file, int(sys.argv[3]))
        elif sys.argv[2] == "entry":
            found = [entry(file)]
        elif sys.argv[2] == "page":
            found = [page(file, path)]
        else:
            found = [(0, path.read_bytes()[: MARK * 2])]
    print(json.dumps([{"i": i, "bytes": data.hex()} for i, data in found]))


if __name__ == "__main__":
    main()
