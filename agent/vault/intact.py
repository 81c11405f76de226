"""Whether what is stored is what was written: an entry against its leaf, a body against its entry.

Pure.
"""

from __future__ import annotations

from google.protobuf.message import DecodeError

from agent.digest import sha256
from agent.pb import ledger_pb2
from agent.vault import tree


def body_hash(entry: ledger_pb2.Entry) -> bytes:
    """Return the SHA-256 that an entry names for its body; empty if it names none."""
    which = entry.WhichOneof("what")
    return bytes(getattr(getattr(entry, which), "body", b"")) if which else b""


def is_leaf(stored: object, leaf: bytes) -> bool:
    """Return whether an entry is the one in the tree; one of an older version cannot be told."""
    return isinstance(stored, bytes) and (not leaf or tree.leaf_hash(stored) == leaf)


def is_intact(stored: bytes, body: bytes) -> bool:
    """Return whether a body is the one that its stored entry names."""
    entry = ledger_pb2.Entry()
    try:
        entry.ParseFromString(stored)
    except DecodeError:
        return False
    return sha256(body) == body_hash(entry)
