"""The station as witness: it co-signs a car's tree head, and never two that contradict each other.

A checkpoint is co-signed if
- it is signed by the ledger key that was enrolled, for this car and log;
- the last one that was co-signed is a prefix of it, by RFC 6962 consistency proof or, if the car
  lost that answer and cannot prove from there, by our own copy of the entries;
- our own copy gives the same root, as far as we hold all of it.

Anything else of a valid signature that contradicts what was co-signed or received is a fork: an
alarm, and no co-signature. The time of a co-signature is ours: "seen no later than".

Source: RFC 6962 2.1.2; C2SP tlog-checkpoint, tlog-cosignature v1, tlog-witness.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from google.protobuf.message import DecodeError

from agent.errors import SealError
from agent.pb import delivery_pb2
from agent.station.examine import RefusedError, Vehicle
from agent.station.store import Store
from agent.vault import checkpoint, tree

MAX_PROOF: Final = 128  # hashes; a tree of 2**63 entries needs fewer
NODE_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Witness:
    """The region's co-signing key with its C2SP name."""

    name: str
    key: Ed25519PrivateKey

    def cosign(
        self, store: Store, vehicle: Vehicle, payload: bytes, now_ns: int
    ) -> tuple[bytes, str]:
        """Check a CheckpointUpload; return (log, note to send back), recorded durably.

        The note is the car's own with our co-signature, or, where the car does not know the last
        one that we co-signed, that last one: so that it can prove consistency from there.

        Args:
            store: what was received and co-signed so far.
            vehicle: the enrolled car of the topic.
            payload: as received.
            now_ns: the station's clock.

        Raises:
            RefusedError: see the rules above; a fork is code "fork" and has been made an alarm.
        """
        upload, head = _parse(payload, vehicle)
        try:
            with store.transaction():
                log = store.log_number(vehicle.name, upload.log, now_ns)
                return upload.log, self._answer(store, log, upload, head, now_ns)
        except ForkError as fork:
            with store.transaction():
                store.alarm(vehicle.name, fork.code, fork.detail, now_ns)
            raise

    def _answer(
        self,
        store: Store,
        log: int,
        upload: delivery_pb2.CheckpointUpload,
        head: checkpoint.Checkpoint,
        now_ns: int,
    ) -> str:
        last = store.connection.execute(
            "SELECT size, root, note FROM checkpoints WHERE log = ? ORDER BY size DESC LIMIT 1",
            (log,),
        ).fetchone()
        if last is not None:
            size, root, note = last
            if head.size == size and head.root == root:
                return str(note)
            if head.size < size:
                raise RefusedError("stale-checkpoint", f"size {head.size}, {size} is co-signed")
            if head.size > size and upload.from_size != size:
                # The car never got our last answer and cannot prove from there. Our own copy can.
                if _own_copy(store, log, head.size) is None:
                    return str(note)
                _check_own_copy(store, log, upload.log, size, root)
            else:
                _check_consistent(size, root, upload, head)
        grown = _check_own_copy(store, log, upload.log, head.size, head.root)
        if grown is not None:
            store.connection.execute(
                "INSERT OR REPLACE INTO trees VALUES (?, ?, ?)",
                (log, grown.size, b"".join(grown.hashes)),
            )
        note = checkpoint.cosign(upload.note, name=self.name, key=self.key, unix_s=now_ns // 10**9)
        store.connection.execute(
            "INSERT INTO checkpoints VALUES (?, ?, ?, ?, ?)",
            (log, head.size, head.root, note, now_ns),
        )
        return note


class ForkError(RefusedError):
    """A validly signed tree head that contradicts what was co-signed or received."""


def _parse(
    payload: bytes, vehicle: Vehicle
) -> tuple[delivery_pb2.CheckpointUpload, checkpoint.Checkpoint]:
    try:
        upload = delivery_pb2.CheckpointUpload.FromString(payload)
    except DecodeError:
        raise RefusedError("malformed", "checkpoint") from None
    if len(upload.log) != 16 or len(upload.proof) > MAX_PROOF:
        raise RefusedError("malformed", "checkpoint")
    origin = checkpoint.origin_of(vehicle.name, upload.log)
    try:
        note = checkpoint.parse(upload.note)
        key = checkpoint.VerifierKey(origin, checkpoint.ED25519, vehicle.ledger_key)
        signed = checkpoint.verify(note, key) is not None
    except SealError as error:
        raise RefusedError("checkpoint", str(error)) from None
    if not signed or note.checkpoint.origin != origin:
        raise RefusedError("checkpoint-signature", f"log {upload.log.hex()}")
    return upload, note.checkpoint


def _check_consistent(
    size: int, root: bytes, upload: delivery_pb2.CheckpointUpload, head: checkpoint.Checkpoint
) -> None:
    where = f"log {upload.log.hex()}"
    if head.size == size:
        raise ForkError("fork", f"{where}: two roots for {size} entries")
    if not tree.verify_consistency(size, head.size, root, head.root, list(upload.proof)):
        raise ForkError(
            "fork", f"{where}: {head.size} entries do not continue the {size} co-signed"
        )


def _check_own_copy(
    store: Store, log: int, log_id: bytes, size: int, root: bytes
) -> tree.CompactRange | None:
    """Compare a head with the entries that we hold; None if some of them have not come yet."""
    grown = _own_copy(store, log, size)
    if grown is not None and grown.root() != root:
        raise ForkError("fork", f"log {log_id.hex()}: {size} entries received give another root")
    return grown


def _own_copy(store: Store, log: int, size: int) -> tree.CompactRange | None:
    """Return the tree over our first `size` entries; None if one is missing.

    What was compared before is kept as a compact range, so that no leaf is hashed in twice.
    """
    connection = store.connection
    row = connection.execute("SELECT size, nodes FROM trees WHERE log = ?", (log,)).fetchone()
    done, packed = row or (0, b"")
    if size < done:
        return None
    span = (log, done, size)
    held = connection.execute(
        "SELECT count(*) FROM entries WHERE log = ? AND i >= ? AND i < ?", span
    ).fetchone()[0]
    if held != size - done:
        return None
    nodes = tuple(packed[at : at + NODE_BYTES] for at in range(0, len(packed), NODE_BYTES))
    grown = tree.CompactRange(done, nodes)
    for (leaf,) in connection.execute(
        "SELECT leaf FROM entries WHERE log = ? AND i >= ? AND i < ? ORDER BY i", span
    ):
        grown, _ = grown.append(leaf)
    return grown
