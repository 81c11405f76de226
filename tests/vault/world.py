"""A car with a vault on virtual clocks, and a region that opens what it gets and signs receipts."""

import hashlib
import random
import shutil
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.clock import BUILD_FLOOR_NS
from agent.frames import FRAME, SIGNAL
from agent.pb import delivery_pb2, ledger_pb2, moment_pb2, sealed_pb2
from agent.vault import checkpoint, keys, opening, receipts, tree
from agent.vault.identity import Identity
from agent.vault.incidents import Hold
from agent.vault.intact import body_hash
from agent.vault.segment import Draft
from agent.vault.shelves import Shelf, Tally
from agent.vault.vault import Vault

# The same in every process, so that one can open what another sealed.
REGION, OWNER = ((key, keys.public_of(key)) for key in (b"R" * 96, b"O" * 96))
LEDGER = Ed25519PrivateKey.from_private_bytes(b"l" * 32)
RECEIPT = Ed25519PrivateKey.from_private_bytes(b"r" * 32)
COSIGN = Ed25519PrivateKey.from_private_bytes(b"c" * 32)
WITNESS = checkpoint.VerifierKey("region/x", 4, COSIGN.public_key().public_bytes_raw())
PRIVATES = {keys.kid(pair[1]): pair[0] for pair in (REGION, OWNER)}
VEHICLE = "car-00000001"
NOW_NS = BUILD_FLOOR_NS + 30 * 86_400 * 10**9
MIB = 1 << 20


def identity(owner=True):
    return Identity(
        region="urn:inland:region:x", vehicle=VEHICLE, ledger_key=LEDGER,
        receipt_keys=(RECEIPT.public_key().public_bytes_raw(),), cosign_keys=(WITNESS.text(),),
        region_key=REGION[1], owner_key=OWNER[1] if owner else None,
    )  # fmt: skip


def fresh(folder: Path, template: Path) -> Path:
    (folder / "spool").mkdir(parents=True)
    shutil.copy(template, folder / "spool" / "spool.db")
    return folder


def draft(size=2000, *, lane=sealed_pb2.ROUTINE, recipients=sealed_pb2.REGION, keep_s=0, seed=None,
          data=None, records=(), recorded=None, consent="", holds=None):  # fmt: skip
    """A draft whose sealed size is about `size` bytes: random data does not compress."""
    if data is None:
        data = (random.Random(seed) if seed is not None else random).randbytes(size)
    rows = max(1, -(-len(data) // 8))
    frames = np.zeros(rows, FRAME)
    frames["timestamp_ns"] = NOW_NS + np.arange(rows) * 1000
    frames["arbitration_id"] = 0x123
    frames["length"] = 8
    padded = np.frombuffer(data.ljust(rows * 8, b"\0"), np.uint8)
    frames["data"] = padded.reshape(rows, 8)
    moment = moment_pb2.Moment(unix_ns=NOW_NS)
    return Draft(
        frames=frames, signals=np.zeros(0, SIGNAL), channels=("can0",), recipients=recipients,
        lane=lane, resolution_ns=1000, keep_order=False, opened=moment, closed=moment,
        policy=b"p" * 32, dictionary=b"d" * 32, keep_s=keep_s, records=tuple(records),
        recorded=recorded, consent=consent, holds=holds,
    )  # fmt: skip


def hold(vault, record, from_ns, to_ns, *, upload, keep_s=0):
    """Begin or widen a hold whose record, so the test says, is there already."""
    vault._scribe.incidents.hold(Hold(record, from_ns, to_ns, upload, keep_s))


class Car:
    """A vault with clocks that the test turns."""

    def __init__(self, folder: Path, *, quota=64 * MIB, owner=True, vault=Vault):
        self.folder, self.quota, self.owner, self.kind = folder, quota, owner, vault
        self.wall_ns, self.boot_ns = NOW_NS, 10**9
        self.start()

    def now(self):
        return moment_pb2.Moment(unix_ns=max(0, self.wall_ns), boottime_ns=self.boot_ns)

    def start(self):
        self.vault = self.kind.open(
            self.folder, identity=identity(self.owner), now=self.now, rng=random.randbytes,
            boot_id=b"b" * 16, version="test", quota_bytes=self.quota,
        )  # fmt: skip
        return self.vault

    def tick(self, s=1.0):
        self.wall_ns += int(s * 10**9)
        self.boot_ns += int(s * 10**9)
        self.vault.housekeep()

    def crash(self):
        """The process is gone: nothing is written, nothing closed in order."""
        import os

        self.vault._second.close()
        self.vault._spool.close()
        os.close(self.vault._lock_file)
        self.vault._is_closed = True

    def shut(self):
        self.vault.close()

    def entries(self):
        out = []
        for (raw,) in self.vault._spool.rows("SELECT entry FROM ledger ORDER BY i"):
            out.append(ledger_pb2.Entry.FromString(raw))
        return out

    def what(self, kind):
        return [getattr(e, kind) for e in self.entries() if e.WhichOneof("what") == kind]

    @property
    def database(self):
        return self.folder / "spool" / "spool.db"


class Region:
    """Stores once by (log, index), opens, signs receipts and co-signs."""

    def __init__(self):
        self.store, self.sessions, self.payloads, self.heads = {}, {}, {}, {}

    def take(self, outgoing):
        """Commit uploads; returns what goes into receipts: (log, index, leaf)."""
        done = []
        for out in outgoing:
            up = out.upload
            entry = ledger_pb2.Entry.FromString(up.entry)
            assert entry.index == up.index
            held = self.store.setdefault((up.log, up.index), (up.entry, up.body, out.lane))
            assert held[0] == up.entry, "two entries with one identity"
            if up.body and not held[1]:  # it came without before
                self.store[up.log, up.index] = (up.entry, up.body, out.lane)
            kind = entry.WhichOneof("what")
            if up.body:
                assert hashlib.sha256(up.body).digest() == getattr(entry, kind).body
            if kind == "session" and up.body:
                reader = opening.open_session(up.body, PRIVATES)
                self.sessions[entry.session.session] = reader
            if kind == "segment" and up.body:
                payload = self.sessions[entry.segment.session].open_segment(up.body)
                assert hashlib.sha256(payload).digest() == entry.segment.plain
                self.payloads[up.log, up.index] = payload
            done.append((up.log, up.index, tree.leaf_hash(up.entry)))
        return done

    def receipt(self, done, *, unix_ns=NOW_NS, key=RECEIPT, vehicle=VEHICLE, cosigned="", **change):
        receipt = delivery_pb2.Receipt(
            vehicle=vehicle, log=done[0][0] if done else bytes(16),
            index=[d[1] for d in done], leaf=[d[2] for d in done],
            region_unix_ns=unix_ns, cosigned=cosigned, hollow=[d[1] for d in done if self.lacks(d)],
        )  # fmt: skip
        for name, value in change.items():
            setattr(receipt, name, value)
        raw = receipt.SerializeToString()
        return delivery_pb2.SignedReceipt(
            receipt=raw, kid=keys.kid(key.public_key().public_bytes_raw()),
            signature=key.sign(receipts.PREFIX + raw),
        ).SerializeToString()  # fmt: skip

    def lacks(self, done):
        """Whether it holds an entry without the body that the entry names."""
        raw, body, _ = self.store.get(done[:2], (b"", b"?", ""))
        return not body and bool(body_hash(ledger_pb2.Entry.FromString(raw)))

    def drain(self, vault, count=64):
        """Upload all that waits, in order, receipting each batch; returns how many."""
        total = 0
        while True:
            batch, _ = vault.take(count, MIB, {})
            if not batch:
                return total
            done = self.take(batch)
            for log in {d[0] for d in done}:
                confirmed, valid = vault.receipt(self.receipt([d for d in done if d[0] == log]))
                assert valid
                total += confirmed

    def cosign(self, upload, unix_s=NOW_NS // 10**9):
        """Check a checkpoint as a witness does; returns the co-signed note."""
        note = checkpoint.parse(upload.note)
        mine = checkpoint.VerifierKey(
            checkpoint.origin_of(VEHICLE, upload.log), 1, LEDGER.public_key().public_bytes_raw()
        )
        assert checkpoint.verify(note, mine) == 0
        size, root = self.heads.get(upload.log, (0, tree.EMPTY_ROOT))
        assert size == upload.from_size
        new = note.checkpoint
        assert tree.verify_consistency(size, new.size, root, new.root, list(upload.proof))
        self.heads[upload.log] = (new.size, new.root)
        return checkpoint.cosign(upload.note, name="region/x", key=COSIGN, unix_s=unix_s)


def root_of(vault):
    """The root from the stored entries, by the shortest way there is."""
    compact = tree.CompactRange()
    for (raw,) in vault._spool.rows("SELECT entry FROM ledger ORDER BY i"):
        compact, _ = compact.append(tree.leaf_hash(raw))
    return compact.root()


def tally_of(vault):
    """What the tables say stands on each shelf."""
    tally = Tally()
    for shelf, count, size in vault._spool.rows(
        "SELECT shelf, count(*), total(bytes) FROM item GROUP BY shelf"
    ):
        tally.apply([(Shelf(shelf), count, int(size))], 0)
    return tally
