"""Write tests/format/vectors: `python -m tests.format.make_vectors`. Only when the format changes.

A change of these files is a change of the format: stored data of cars in the field must still open.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent import frames as f
from agent.pb import delivery_pb2, ledger_pb2, record_pb2, sealed_pb2
from agent.pb.moment_pb2 import CLOCK_REGION, Moment
from agent.pb.segment_pb2 import SegmentPayload
from agent.vault import checkpoint, columns, keys, receipts, tree
from agent.vault.segment import Draft, encode_payload
from tests.format import make_policy, sealing

VECTORS = Path(__file__).with_name("vectors")
START = 1_795_000_000 * 10**9
CHANNELS = ("can0", "can1")
VEHICLE = "car-00000001"
SEEDS = {"ledger": b"l", "cosign": b"c", "receipt": b"r"}
SECRET, SALT, BOOT = bytes(range(32)), bytes(range(64, 96)), bytes(range(16))


def frames(rows: list[tuple[int, int, int, int, int, bytes]], wide: bool = False) -> f.FrameBatch:
    """Return a batch of (stamp ns, id, channel, flags, length, data)."""
    batch = np.zeros(len(rows), f.FRAME_FD if wide else f.FRAME)
    for place, (stamp, number, channel, flags, length, data) in enumerate(rows):
        batch[place] = (
            *(stamp, number, channel, flags, length, 0),
            np.frombuffer(data.ljust(64 if wide else 8, b"\0"), np.uint8),
        )
    return batch


def signals(rows: list[tuple[int, int, int, int]]) -> f.SignalBatch:
    """Return a batch of (stamp ns, signal, channel, raw)."""
    batch = np.zeros(len(rows), f.SIGNAL)
    for name, column in zip(
        ("timestamp_ns", "signal", "channel", "raw"), zip(*rows, strict=True), strict=True
    ):
        batch[name] = column
    return batch


def example() -> f.FrameBatch:
    """The three frames of the example in FORMAT.md."""
    return frames(
        [
            (START + 1_000_000, 0x123, 0, 0, 2, b"\x10\x80"),
            (START + 1_250_000, 0x7DF, 0, 0, 8, bytes.fromhex("02010d0000000000")),
            (START + 11_003_000, 0x123, 0, 0, 2, b"\x11\x7f"),
        ]
    )


FRAME_CASES = {
    "example of FORMAT.md": (example(), 1000, False),
    "one frame, exact, before 1970": (frames([(-7, 1, 0, 0, 1, b"\xff")]), 1, False),
    "lowest and highest stamp": (
        frames([(-(1 << 63), 1, 0, 0, 0, b""), ((1 << 63) - 1, 1, 0, 0, 0, b"")]),
        *(1, False),
    ),
    "remote, error and fd frames on two channels": (
        frames(
            [
                (START + 5, 0x1FFFFFFF, 1, f.EXTENDED, 8, b"ABCDEFGH"),
                (START + 5, 0x20, 0, f.REMOTE, 8, b""),
                (START + 5, 0x04, 0, f.ERROR, 8, bytes(8)),
                (START + 6, 0x300, 1, f.FD | f.BRS | f.ESI, 12, b"0123456789ab"),
            ],
            wide=True,
        ),
        *(1, False),
    ),
    "time runs back, order kept": (
        frames([(START + 3000 - 1000 * n, 0x100 + n % 2, 0, 0, 1, bytes([n])) for n in range(4)]),
        *(1000, False),
    ),
    "coarse stamps, order asked for": (
        frames([(START + n, 0x200 - n, 0, 0, 0, b"") for n in range(3)]),
        *(1_000_000, True),
    ),
    "coarse stamps, order not asked for": (
        frames([(START + n, 0x200 - n, 0, 0, 0, b"") for n in range(3)]),
        *(1_000_000, False),
    ),
    "stamps all on 50 us": (
        frames([(START + 50_000 * n * n, 0x10, 0, 0, 0, b"") for n in range(4)]),
        *(1000, False),
    ),
}
SIGNAL_CASES = {
    "two signals on two channels": (
        signals([(START + 1000 * n, n % 2, n % 2, 100 - 7 * n) for n in range(6)]),
        *(1000, False),
    ),
    "extremes of raw": (
        signals([(START, 9, 0, raw) for raw in (0, (1 << 63) - 1, -(1 << 63), -1)]),
        *(1, False),
    ),
}


def column_vectors() -> list[dict[str, object]]:
    """Columns before and after compression, and the rows that must come out."""
    vectors: list[dict[str, object]] = []
    for kind, cases, code, pack in (
        ("frames", FRAME_CASES, columns.frame_columns, columns.encode_frames),
        ("signals", SIGNAL_CASES, columns.signal_columns, columns.encode_signals),
    ):
        for name, (batch, resolution_ns, keep_order) in cases.items():
            message, _ = code(batch, CHANNELS, resolution_ns, keep_order=keep_order)
            data = pack(batch, CHANNELS, resolution_ns=resolution_ns, keep_order=keep_order)
            decode = columns.decode_frames if kind == "frames" else columns.decode_signals
            rows, names = decode(data)
            vectors.append(
                {
                    "name": name,
                    "kind": kind,
                    "outcome": "rows",
                    "batch": batch.tobytes().hex(),
                    "width": batch.dtype.itemsize,
                    "resolution_ns": resolution_ns,
                    "keep_order": keep_order,
                    "message": message.hex(),
                    "zstd": data.hex(),
                    "rows": [listed(kind, row, names) for row in rows],
                }
            )
    return vectors


def listed(kind: str, row: np.void, names: tuple[str, ...]) -> list[object]:
    """Return a row as a reader of another language would see it."""
    stamp, channel = int(row["timestamp_ns"]), names[row["channel"]]
    if kind == "signals":
        return [stamp, channel, int(row["signal"]), int(row["raw"])]
    flags, length = int(row["flags"]), int(row["length"])
    data = b"" if flags & f.REMOTE else row["data"][:length].tobytes()
    return [stamp, channel, int(row["arbitration_id"]), flags, length, data.hex()]


def example_payload() -> bytes:
    """The payload of the example in FORMAT.md."""
    draft = Draft(
        frames=example(),
        signals=np.zeros(0, f.SIGNAL),
        channels=CHANNELS,
        recipients=1,
        lane=2,
        resolution_ns=1000,
        keep_order=False,
        opened=Moment(unix_ns=START, boottime_ns=60 * 10**9, quality=CLOCK_REGION),
        closed=Moment(unix_ns=START + 10**9, boottime_ns=61 * 10**9, quality=CLOCK_REGION),
        policy=bytes(32),
        dictionary=bytes(range(128, 160)),
        keep_s=0,
    )
    return encode_payload(draft, salt=SALT, boot_id=BOOT)


def changed(body: bytes, place: int) -> bytes:
    """Return the body with one bit of one byte changed."""
    return body[:place] + bytes([body[place] ^ 1]) + body[place + 1 :]


def sealed_vectors() -> dict[str, object]:
    """A session for each kind of recipients, segments of it, and bodies that must not open."""
    payload = example_payload()
    region, owner = sealing.REGION, sealing.OWNER
    sessions = {
        "region": sealing.seal_session(SECRET, [[region]]),
        "shared": sealing.seal_session(SECRET, [[region], [owner]], recipients=3),
        "both": sealing.seal_session(SECRET, [[region, owner]], recipients=4),
        "region, chacha20": sealing.seal_session(SECRET, [[region]], aead=2),
    }
    segment = sealing.seal_segment(SECRET, payload)
    head = 6 + int.from_bytes(segment[4:6], "big")
    later = sealing.seal_segment(SECRET, payload, index=9, step=5)
    opens = [("region", ["region"], segment), ("region", ["region"], later)]
    opens += [("shared", ["owner"], segment), ("both", ["region", "owner"], segment)]
    chacha = sealing.seal_segment(SECRET, payload, aead=2)
    opens += [("region, chacha20", ["region"], chacha)]
    fails = [
        ("header altered", "region", ["region"], changed(segment, 10)),
        ("commitment altered", "region", ["region"], changed(segment, head + 3)),
        ("ciphertext altered", "region", ["region"], changed(segment, head + 40)),
        ("tag altered", "region", ["region"], changed(segment, len(segment) - 1)),
        ("truncated", "region", ["region"], segment[:-1]),
        ("magic altered", "region", ["region"], changed(segment, 0)),
        ("step of another", "region", ["region"], segment[:head] + later[head:]),
        ("another aead", "region, chacha20", ["region"], segment),
        ("one of both", "both", ["region"], segment),
        ("not a recipient", "region", ["owner"], segment),
    ]
    session = sessions["region"]
    sessions["region, commitment altered"] = changed(session, session.index(b"\x52\x20") + 5)
    fails.append(("session altered", "region, commitment altered", ["region"], segment))
    return {
        "private": {"region": region.private.hex(), "owner": owner.private.hex()},
        "secret": SECRET.hex(),
        "payload": payload.hex(),
        "sessions": {name: body.hex() for name, body in sessions.items()},
        "segments": [
            *(
                {
                    "name": f"opens: {s}",
                    "session": s,
                    "keys": k,
                    "body": b.hex(),
                    "outcome": "opens",
                }
                for s, k, b in opens
            ),
            *(
                {"name": n, "session": s, "keys": k, "body": b.hex(), "outcome": "refused"}
                for n, s, k, b in fails
            ),
        ],
    }


def ledger_vectors() -> dict[str, object]:
    """A short log of fixed entries, its heads, proofs, notes, and a receipt; keys are fixed too."""
    key = {name: Ed25519PrivateKey.from_private_bytes(seed * 32) for name, seed in SEEDS.items()}
    public = {name: each.public_key().public_bytes_raw() for name, each in key.items()}
    payload = bytes.fromhex(json.loads((VECTORS / "sealed.json").read_text("ascii"))["payload"])
    body = sealing.seal_segment(SECRET, payload)
    whats: list[dict[str, object]] = [
        {
            "genesis": ledger_pb2.Genesis(
                region="urn:inland:region:cn",
                vehicle=VEHICLE,
                log=sealing.LOG,
                ledger_key=public["ledger"],
            )
        },
        {"boot": ledger_pb2.Boot(boot_id=BOOT, clean=True, version="1")},
        {"loss": ledger_pb2.Loss(channel="can0", count=3, cause=ledger_pb2.Loss.KERNEL)},
        {
            "segment": ledger_pb2.SegmentSealed(
                body=hashlib.sha256(body).digest(),
                plain=hashlib.sha256(payload).digest(),
                session=sealing.SESSION,
                lane=sealed_pb2.ROUTINE,
                bytes=len(body),
            )
        },
        {"clock": ledger_pb2.ClockStep(from_unix_ns=-1, to_unix_ns=START)},
    ]
    at = Moment(unix_ns=START, boottime_ns=60 * 10**9, quality=CLOCK_REGION)
    entries = [
        ledger_pb2.Entry(index=index, at=at, **what).SerializeToString(deterministic=True)
        for index, what in enumerate(whats)
    ]
    leaves = [tree.leaf_hash(entry) for entry in entries]

    def node(height: int, position: int) -> bytes:
        return root_of(leaves[position << height : (position + 1) << height])

    origin = checkpoint.origin_of(VEHICLE, sealing.LOG)
    note = checkpoint.sign(
        checkpoint.Checkpoint(origin, len(entries), root_of(leaves)), key["ledger"]
    )
    cosigned = checkpoint.cosign(
        note, name="inland-region-cn", key=key["cosign"], unix_s=START // 10**9
    )
    receipt = delivery_pb2.Receipt(
        vehicle=VEHICLE,
        log=sealing.LOG,
        index=[2],
        leaf=[leaves[2]],
        region_unix_ns=START,
    ).SerializeToString(deterministic=True)
    signed = delivery_pb2.SignedReceipt(
        receipt=receipt,
        kid=keys.kid(public["receipt"]),
        signature=key["receipt"].sign(receipts.PREFIX + receipt),
    )
    witness = checkpoint.VerifierKey("inland-region-cn", 4, public["cosign"])
    return {
        "public": {name: each.hex() for name, each in public.items()},
        "verifier_key": witness.text(),
        "entries": [entry.hex() for entry in entries],
        "leaves": [leaf.hex() for leaf in leaves],
        "roots": [root_of(leaves[:size]).hex() for size in range(len(leaves) + 1)],
        "inclusion of 2 in 5": [h.hex() for h in tree.inclusion_proof(2, 5, node)],
        "consistency of 3 and 5": [h.hex() for h in tree.consistency_proof(3, 5, node)],
        "note": note,
        "cosigned": cosigned,
        "receipt": signed.SerializeToString(deterministic=True).hex(),
    }


EVENT = record_pb2.EventRecord(
    id=bytes(range(16, 32)),
    rule="hard-brake",
    trigger="Speed > 30",
    stamp_ns=START + 11_003_000,
    at=Moment(unix_ns=START + 20_000_000, boottime_ns=60 * 10**9, quality=CLOCK_REGION),
    number=1,
    triggers=2,
    complete=True,
    before_ns=1800 * 10**9,
    after_ns=30 * 10**9,
    held=[ledger_pb2.Range(first=3, last=9)],
    snapshot=[
        record_pb2.Value(signal=0, channel="can0", raw=-7, age_ms=20),
        record_pb2.Value(signal=3, channel="*", missing=True),
    ],
    policy="cn-fleet",
    policy_version=7,
    agent_version="1",
)
CAMERA = record_pb2.CameraRecord(
    stamp_ns=START, camera=1, reason=4, state=2, clip=77, why="zone", zone_class="a", count=3
)


def record_vectors() -> dict[str, object]:
    """A payload with records and no rows, the entry that names what an event holds, a receipt."""
    records = (record_pb2.Record(event=EVENT), record_pb2.Record(camera=CAMERA))
    moment = Moment(unix_ns=START, boottime_ns=60 * 10**9, quality=CLOCK_REGION)
    draft = Draft(
        frames=np.zeros(0, f.FRAME),
        signals=np.zeros(0, f.SIGNAL),
        channels=CHANNELS,
        recipients=1,
        lane=sealed_pb2.EVENT,
        resolution_ns=1000,
        keep_order=False,
        opened=moment,
        closed=moment,
        policy=bytes(32),
        dictionary=bytes(range(128, 160)),
        keep_s=0,
        records=records,
    )
    incident = ledger_pb2.Incident(record=12, held=[ledger_pb2.Range(first=3, last=9)], upload=True)
    entry = ledger_pb2.Entry(index=13, at=moment, incident=incident)
    receipt = delivery_pb2.Receipt(
        vehicle=VEHICLE, log=sealing.LOG, index=[3], leaf=[bytes(32)], region_unix_ns=START,
        hollow=[3],
    ).SerializeToString(deterministic=True)  # fmt: skip
    key = Ed25519PrivateKey.from_private_bytes(SEEDS["receipt"] * 32)
    signed = delivery_pb2.SignedReceipt(
        receipt=receipt,
        kid=keys.kid(key.public_key().public_bytes_raw()),
        signature=key.sign(receipts.PREFIX + receipt),
    )
    payload = encode_payload(draft, salt=SALT, boot_id=BOOT)
    padded = SegmentPayload.FromString(payload)
    padded.ClearField("padding")
    bare = padded.SerializeToString(deterministic=True)
    return {
        # Before there was padding: it stays readable.
        "payload": bare.hex(),
        "segment": sealing.seal_segment(SECRET, bare, index=12, step=2, lane=1).hex(),
        "padded payload": payload.hex(),
        "padded segment": sealing.seal_segment(SECRET, payload, index=14, step=3, lane=1).hex(),
        "records": [record.SerializeToString(deterministic=True).hex() for record in records],
        "incident": entry.SerializeToString(deterministic=True).hex(),
        "kept": month_entry(moment).hex(),
        "receipt": signed.SerializeToString(deterministic=True).hex(),
    }


def month_entry(moment: Moment) -> bytes:
    """Return the entry of a month: samples of a battery, and three event records."""
    kept = ledger_pb2.Kept(month="2026-11", number=1, amount=[
        ledger_pb2.Amount(
            category="battery", purpose="regulatory_monitoring", recipients=sealed_pb2.REGION,
            samples=86_400, shortest_keep_s=604_800, longest_keep_s=604_800,
        ),
        ledger_pb2.Amount(
            category="event.record", purpose="safety_event", recipients=sealed_pb2.SHARED,
            frames=1_000_000, records=3, longest_keep_s=2_592_000,
        ),
    ])  # fmt: skip
    entry = ledger_pb2.Entry(index=15, at=moment, kept=kept)
    return entry.SerializeToString(deterministic=True)


def root_of(leaves: list[bytes]) -> bytes:
    """Return the root over leaf hashes."""
    compact = tree.CompactRange()
    for leaf in leaves:
        compact, _ = compact.append(leaf)
    return compact.root()


def main() -> None:
    """Write the files."""
    VECTORS.mkdir(exist_ok=True)
    if not (VECTORS / "sealed.json").exists():  # HPKE is random: what is there stays
        write("sealed", sealed_vectors())
    if not (VECTORS / "policy.json").exists():  # a region's keys are random as well
        write("policy", make_policy.policy_vectors())
    write("groups", make_policy.group_vectors())
    write("columns", column_vectors())
    write("ledger", ledger_vectors())
    write("records", record_vectors())


def write(name: str, content: object) -> None:
    """Write one file."""
    text = json.dumps(content, indent=1) + "\n"
    (VECTORS / f"{name}.json").write_text(text, encoding="ascii")


if __name__ == "__main__":
    main()
