"""The spool's tables, created and migrated with sqlite-utils: `python -m agent.vault.schema PATH`.

It runs in a process of its own: sqlite-utils costs 20 MiB and 300 ms that the daemon would carry
for ever. The daemon looks at `user_version` and only calls this if it differs.

- Migrations only ever append. Every step is one transaction and may be repeated after a crash;
  `user_version` is written last.
- A new file is made under another name and renamed: in all of them the tables have the same root
  pages, which is what lets a new file's first page stand in for a destroyed one (salvage.py).
- Page size and WAL are set here once, because they are properties of the file.
- Nothing in the file is readable: bodies are sealed, entries say what happened and not what was
  measured. So secure_delete would protect nothing, and is off where rows are deleted.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Final

from agent.errors import SpoolError
from agent.files import sync_folder

VERSION: Final = 3
PAGE_BYTES: Final = 4096
_TIMEOUT_S: Final = 60  # a worn eMMC under load; normally half a second

# `item` is clustered by (shelf, i): the next to upload and the oldest to evict are neighbours, and
# no second index is written with every segment.
_CLUSTERED: Final = """
CREATE TABLE item(
  shelf INTEGER NOT NULL, i INTEGER NOT NULL, bytes INTEGER NOT NULL,
  session INTEGER NOT NULL, keep INTEGER NOT NULL, PRIMARY KEY(shelf, i)) WITHOUT ROWID;
CREATE TABLE tile(
  level INTEGER NOT NULL, n INTEGER NOT NULL, hash BLOB NOT NULL,
  PRIMARY KEY(level, n)) WITHOUT ROWID;
"""
# Where a segment of the recorder stands on the axis of recorded time (-1: it is none; those of
# version 1 stand at its beginning), and what the owner consented to. No index: the recorder's
# segments come in the order of that axis, and a hold or a withdrawal may look at every row.
# `hold` has the events that hold a part of the recorder, as long as they are open, `held` what each
# of them has held so far; `memory` what the agent must not forget over a restart.
_HOLDS: Final = """
ALTER TABLE item ADD COLUMN recorded_from INTEGER NOT NULL DEFAULT -1;
ALTER TABLE item ADD COLUMN recorded_to INTEGER NOT NULL DEFAULT -1;
ALTER TABLE item ADD COLUMN consent TEXT NOT NULL DEFAULT '';
UPDATE item SET recorded_from=0, recorded_to=0 WHERE shelf IN (4, 8);
ALTER TABLE salvage ADD COLUMN keep INTEGER NOT NULL DEFAULT 0;
ALTER TABLE salvage ADD COLUMN consent TEXT NOT NULL DEFAULT '';
CREATE TABLE hold(
  record INTEGER PRIMARY KEY, log BLOB NOT NULL, recorded_from INTEGER NOT NULL,
  recorded_to INTEGER NOT NULL, upload INTEGER NOT NULL, keep INTEGER NOT NULL);
CREATE TABLE held(
  record INTEGER NOT NULL, i INTEGER NOT NULL, PRIMARY KEY(record, i)) WITHOUT ROWID;
CREATE TABLE memory(k TEXT PRIMARY KEY, v BLOB NOT NULL) WITHOUT ROWID;
"""
# The hash by which an entry stands in the tree (empty: of a version before). The tree's own tables
# tell of 256 entries at once; what is sent is looked at one by one.
_LEAVES: Final = """
ALTER TABLE item ADD COLUMN leaf BLOB NOT NULL DEFAULT x'';
ALTER TABLE salvage ADD COLUMN leaf BLOB NOT NULL DEFAULT x'';
"""


def migrate(path: Path) -> None:
    """Create or migrate the spool file, durably. Run this in a process of its own."""
    if path.exists() and path.stat().st_size:
        _bring_up(path)
        return
    fresh = path.with_name(f"{path.name}.new")
    for place in (fresh, path):  # of an attempt that was cut short
        for end in ("", "-wal", "-shm", "-journal"):
            Path(f"{place}{end}").unlink(missing_ok=True)
    _bring_up(fresh)
    fresh.replace(path)
    sync_folder(path.parent)


def _bring_up(path: Path) -> None:
    import sqlite_utils  # noqa: PLC0415 - the import is the cost that this file keeps out
    from sqlite_utils import Migrations  # noqa: PLC0415

    migrations = Migrations("inland.spool")

    @migrations()
    def begin(db: sqlite_utils.Database) -> None:
        db.table("ledger").create({"i": int, "entry": bytes}, pk="i", not_null={"entry"})
        db.table("body").create({"i": int, "blob": bytes}, pk="i", not_null={"blob"})
        db.table("checkpoint").create(
            {"size": int, "note": str, "cosigned": str}, pk="size", not_null={"note"}
        )
        db.table("meta").create({"k": str, "v": bytes}, pk="k")
        db.table("salvage").create(
            {"n": int, "log": bytes, "i": int, "shelf": int, "entry": bytes, "blob": bytes},
            pk="n", not_null={"log", "i", "shelf", "entry"},
        )  # fmt: skip
        db.table("salvage").create_index(["log", "i"], unique=True)
        db.table("salvage").create_index(["shelf"])
        _run(db, _CLUSTERED)

    @migrations()
    def hold(db: sqlite_utils.Database) -> None:
        _run(db, _HOLDS)

    @migrations()
    def leaf(db: sqlite_utils.Database) -> None:
        _run(db, _LEAVES)

    db = sqlite_utils.Database(str(path))
    db.execute(f"PRAGMA page_size={PAGE_BYTES}")
    db.execute("PRAGMA journal_mode=WAL").fetchone()
    migrations.apply(db)
    db.execute(f"PRAGMA user_version={VERSION}")
    db.conn.commit()
    # Closing would do it as well, and not say if it could not.
    busy, *_ = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    db.close()
    if busy:
        raise SpoolError("the new spool is in use", where=str(path))


def _run(db: Any, statements: str) -> None:
    # One by one: executescript would commit the migration's transaction first.
    for statement in statements.split(";"):
        if statement.strip():
            db.execute(statement)


def migrate_apart(path: Path) -> None:
    """Create or migrate the spool file in a short-lived process.

    Raises:
        SpoolError: it did not end well; the last line of what it said is in the message.
    """
    import subprocess  # noqa: PLC0415 - once in a spool's life; the daemon need not hold it

    root = str(Path(__file__).resolve().parents[2])
    try:
        done = subprocess.run(
            [sys.executable, "-m", "agent.vault.schema", str(path)],
            cwd=root, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SpoolError(f"cannot prepare the spool: {error}", where=str(path)) from None
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise SpoolError(f"cannot prepare the spool: {last}", where=str(path))


if __name__ == "__main__":
    migrate(Path(sys.argv[1]))
