"""The station's own ledger: who opened what, when and why. Nothing is opened before it says so.

Each entry is canonical JSON and a leaf of an RFC 6962 tree; after each one the tree head is signed
as a C2SP checkpoint. Entries that were altered, removed or reordered are found by `check`. Whoever
holds the signing key can still rewrite all of it, so an auditor keeps a signed head elsewhere and
compares: a later ledger must continue it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.errors import SealError, StationError
from agent.station.store import Store, translated
from agent.vault import checkpoint, tree


@dataclass(frozen=True, slots=True)
class Journal:
    """The ledger of openings of one station.

    Attributes:
        store: where it is kept.
        region_id: names its origin.
        key: openings.key.
    """

    store: Store
    region_id: str
    key: Ed25519PrivateKey

    @property
    def origin(self) -> str:
        """Origin line of its checkpoints, and name of its key."""
        return f"inland/{self.region_id}/openings"

    def append(self, what: dict[str, Any]) -> int:
        """Add an entry, durable on return; return its index.

        Args:
            what: it says; an `id`, if there is one, is of a signed request or order: once.

        Raises:
            StationError: the ledger so far has been altered: nothing is opened until that is
                cleared up. Or the id was used before.
        """
        with self.store.transaction() as connection:
            entries, grown = self._checked()
            index = len(entries)
            used = [one["i"] for one in entries if "id" in what and one.get("id") == what["id"]]
            if used:
                raise StationError(
                    f"it was served before, as opening {used[0]}", todo="sign another one"
                )
            entry = json.dumps(
                {"i": index, **what}, sort_keys=True, separators=(",", ":"), ensure_ascii=True
            ).encode("ascii")
            grown, _ = grown.append(tree.leaf_hash(entry))
            head = checkpoint.Checkpoint(self.origin, grown.size, grown.root())
            note = checkpoint.sign(head, self.key)
            connection.execute("INSERT INTO openings VALUES (?, ?, ?)", (index, entry, note))
        return index

    def check(self) -> tuple[list[dict[str, Any]], str]:
        """Return all entries and the signed head ("" if there are none).

        Raises:
            StationError: an entry was altered, removed or reordered; names it.
        """
        with translated(self.store.path):
            entries, _ = self._checked()
            row = self.store.connection.execute(
                "SELECT note FROM openings ORDER BY i DESC LIMIT 1"
            ).fetchone()
        return entries, "" if row is None else str(row[0])

    def _checked(self) -> tuple[list[dict[str, Any]], tree.CompactRange]:
        public = self.key.public_key().public_bytes_raw()
        key = checkpoint.VerifierKey(self.origin, checkpoint.ED25519, public)
        grown = tree.CompactRange()
        entries: list[dict[str, Any]] = []
        rows = self.store.connection.execute("SELECT i, entry, note FROM openings ORDER BY i")
        for index, entry, text in rows:
            grown, _ = grown.append(tree.leaf_hash(entry))
            try:
                note = checkpoint.parse(text)
                signed = checkpoint.verify(note, key) is not None
            except SealError:
                signed = False
            head = checkpoint.Checkpoint(self.origin, grown.size, grown.root())
            if not signed or note.checkpoint != head or index != len(entries):
                raise StationError(
                    "the ledger of openings was altered",
                    where=f"{self.store.path} opening {index}",
                    todo="compare it with a signed head that was kept elsewhere",
                )  # fmt: skip
            entries.append(json.loads(entry))
        return entries, grown
