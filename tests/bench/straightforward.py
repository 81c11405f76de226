"""The baseline: a car's agent as one writes it in an afternoon.

A python-can Message a frame, JSON, Fernet, one row a frame, a commit for every hundred.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from pathlib import Path

import can
from cryptography.fernet import Fernet

COMMIT_EVERY = 100


def keep(messages: Iterable[can.Message], path: Path) -> None:
    """Store messages, each sealed in a row of its own."""
    fernet = Fernet(Fernet.generate_key())
    spool = sqlite3.connect(path)
    spool.execute("PRAGMA journal_mode=WAL")
    spool.execute("PRAGMA synchronous=FULL")
    spool.execute("CREATE TABLE frame (i INTEGER PRIMARY KEY, sealed BLOB)")
    for number, message in enumerate(messages, 1):
        record = {
            "timestamp": message.timestamp,
            "id": message.arbitration_id,
            "extended": message.is_extended_id,
            "channel": message.channel,
            "data": message.data.hex(),
        }
        sealed = fernet.encrypt(json.dumps(record).encode())
        spool.execute("INSERT INTO frame (sealed) VALUES (?)", (sealed,))
        if number % COMMIT_EVERY == 0:
            spool.commit()
    spool.commit()
    spool.close()
