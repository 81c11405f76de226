"""The station's database: tables and migrations, made with sqlite-utils.

Imported only where a store is new or of an older version: a running station does not pay for it.
`log` in every table but `logs` is the row number of `logs`.
"""

from __future__ import annotations

import sqlite3
from typing import Any, Final

from sqlite_utils import Database

VERSION: Final = 3

Columns = dict[str, Any]
TABLES: Final[tuple[tuple[str, Columns, str | tuple[str, ...]], ...]] = (
    # Cars that may upload. ledger_key: Ed25519 public, 32 bytes. `migrate` adds policy_group.
    ("vehicles", {"vehicle": str, "ledger_key": bytes, "enrolled_s": int}, "vehicle"),
    # One spool file of one car. log_id: 16 bytes.
    ("logs", {"log": int, "vehicle": str, "log_id": bytes, "first_ns": int}, "log"),
    # What was received, once by (log, i). kind: the name of the entry's field; at_ns: the car's
    # moment; session: 16 bytes for sessions and segments; body: NULL if it has not come.
    (
        "entries",
        {
            "log": int, "i": int, "kind": str, "at_ns": int, "received_ns": int,
            "session": bytes, "lane": int, "leaf": bytes, "entry": bytes, "body": bytes,
        },
        ("log", "i"),
    ),
    ("sessions", {"log": int, "session": bytes, "i": int}, ("log", "session")),
    # Ranges of bodies that the car says are gone, by the entry `i` that says so.
    (
        "drops",
        {"log": int, "i": int, "first": int, "last": int, "reason": int},
        ("log", "i", "first"),
    ),
    # The same identity with another hash. The first stays the one that counts.
    (
        "conflicts",
        {"log": int, "i": int, "leaf": bytes, "entry": bytes, "first_ns": int, "count": int},
        ("log", "i", "leaf"),
    ),
    # Co-signed tree heads.
    (
        "checkpoints",
        {"log": int, "size": int, "root": bytes, "note": str, "at_ns": int},
        ("log", "size"),
    ),
    # The tree over our own copy, as far as it has been compared: RFC 6962 compact range.
    ("trees", {"log": int, "size": int, "nodes": bytes}, "log"),
    # Turned away, counted by reason.
    (
        "refusals",
        {"vehicle": str, "code": str, "count": int, "first_ns": int, "last_ns": int, "detail": str},
        ("vehicle", "code"),
    ),
    # Something that a person must look at: a conflict or a fork.
    ("alarms", {"alarm": int, "at_ns": int, "vehicle": str, "code": str, "detail": str}, "alarm"),
    # The station's own ledger of openings: JSON entries, RFC 6962 leaves, a signed note after each.
    ("openings", {"i": int, "entry": bytes, "note": str}, "i"),
)  # fmt: skip
OPTIONAL: Final = {"session", "lane", "body"}


def migrate(connection: sqlite3.Connection) -> None:
    """Bring a database to the current version; the caller holds the transaction.

    Raises:
        sqlite3.Error: it is no database, or cannot be written.
    """
    database = Database(connection)
    for name, columns, key in TABLES:
        not_null = set(columns) - OPTIONAL if name == "entries" else set(columns)
        not_null -= {key} if isinstance(key, str) else set()  # sqlite-utils makes it the row id
        database.table(name).create(
            columns, pk=key, not_null=not_null, strict=True, if_not_exists=True
        )
    vehicles = database.table("vehicles")
    if "policy_group" not in vehicles.columns_dict:  # since version 2
        vehicles.add_column("policy_group", str, not_null_default="default")
    database.table("logs").create_index(["vehicle", "log_id"], unique=True, if_not_exists=True)
    database.table("entries").create_index(["log", "session"], if_not_exists=True)
    database.table("entries").create_index(["at_ns"], if_not_exists=True)  # since version 3
    connection.execute(f"PRAGMA user_version = {VERSION}")
