"""What SQLite's errors mean to us, in one place.

- full -> SpoolFullError (make room, count the loss, go on); corrupt -> SpoolCorruptError
  (quarantine, new log); anything that the storage refuses, fsync above all -> SpoolError.
- SQLite quotes a damaged schema in its message. Where that is no text, Python's module raises
  UnicodeDecodeError in place of its own error: damage all the same.

Source: sqlite.org/rescode.html; CPython 3.11, Modules/_sqlite/util.c.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from agent.errors import SpoolCorruptError, SpoolError, SpoolFullError

UNREADABLE: Final = (sqlite3.DatabaseError, UnicodeDecodeError)
_FULL: Final = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE)
_CORRUPT: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


@contextmanager
def translate(where: Path) -> Iterator[None]:
    """Turn SQLite's errors into ours. Misuse of SQL stays what it is and ends the process.

    Raises:
        SpoolFullError: no room.
        SpoolCorruptError: the file is damaged.
        SpoolError: the storage failed, or somebody else holds the file.
    """
    try:
        yield
    except UnicodeDecodeError as error:
        raise SpoolCorruptError("the spool's schema is damaged", where=str(where)) from error
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", None)  # absent: raised by the module itself
        if code is None and isinstance(error, sqlite3.OperationalError):  # text that is none
            raise SpoolCorruptError("the spool holds damaged text", where=str(where)) from error
        if code is None:
            raise
        name = getattr(error, "sqlite_errorname", "")
        if code in _FULL:
            raise SpoolFullError("the spool is full", where=str(where)) from error
        if code & 0xFF in _CORRUPT:
            raise SpoolCorruptError(f"the spool is damaged ({name})", where=str(where)) from error
        if code & 0xFF in (
            sqlite3.SQLITE_IOERR, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_CANTOPEN,
            sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_NOMEM,
        ):  # fmt: skip
            raise SpoolError(
                f"the storage failed ({name})", where=str(where), todo="check the disk"
            ) from error
        raise
