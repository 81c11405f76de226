"""Hashes of complete subtrees, from the tiles and the entries of a spool file.

A tile is the hash of 256 leaves, or of 256 tiles a level below; so a subtree of any size is at most
255 rows of each level away.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from agent.errors import SpoolCorruptError
from agent.vault import tree

TILE_HEIGHT: Final = 8

Rows = Callable[[str, tuple[Any, ...]], list[Any]]  # runs a query of the spool


def node(rows: Rows, height: int, position: int, *, where: str) -> bytes:
    """Return the hash of a complete subtree of the ledger.

    Args:
        rows: runs a query.
        height: of the subtree: 2**height leaves.
        position: the how manieth of its height.
        where: the file, for the error.

    Raises:
        SpoolCorruptError: entries or tiles of it are not there.
    """
    level = height // TILE_HEIGHT - 1
    height -= (level + 1) * TILE_HEIGHT if level >= 0 else 0
    first, count = position << height, 1 << height
    compact = tree.CompactRange()
    for leaf in leaves(rows, level, first, count):
        compact, _ = compact.append(leaf)
    if compact.size != count:
        raise SpoolCorruptError(f"entries from {first} (level {level}) are missing", where=where)
    return compact.root()


def leaves(rows: Rows, level: int, first: int, count: int) -> list[bytes]:
    """Return hashes of a level of tiles, or of entries for level -1."""
    last = first + count - 1
    if level < 0:
        sql = "SELECT entry FROM ledger WHERE i BETWEEN ? AND ? ORDER BY i"
        return [tree.leaf_hash(row[0]) for row in rows(sql, (first, last))]
    sql = "SELECT hash FROM tile WHERE level=? AND n BETWEEN ? AND ? ORDER BY n"
    return [row[0] for row in rows(sql, (level, first, last))]
