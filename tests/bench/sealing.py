"""From frames in memory to sealed and committed: our vault against the straightforward agent.

CPU is process time; flash bytes are what the process gave to write() and friends (`wchar` of
/proc/self/io), checkpoints of the write-ahead log included; SQLite's shared index is mapped memory
and in neither figure.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import can
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.capture.messages import Rows, add_message
from agent.capture.queue import Arrival, FrameQueue
from agent.capture.recorder import Recorder, merge
from agent.frames import ChannelTable, FrameBatch
from agent.pb.moment_pb2 import Moment
from agent.pb.sealed_pb2 import SegmentHeader
from agent.policy.build import build_policy
from agent.policy.compiled import load_policy
from agent.policy.engine import Engine
from agent.vault import keys
from agent.vault.identity import Identity
from agent.vault.seal import seal_segment
from agent.vault.session import AES_256_GCM, Session
from agent.vault.vault import Vault
from tests.bench.measure import Figure, at_most, faster
from tests.bench.straightforward import keep
from tests.bench.synth import python_can_messages, synth
from tests.rig import EVERYTHING

FRAMES = 409_600
FEW = 20_000  # for the baseline, which takes its time
BATCH = 4_096
LIVE_BATCH = 400  # what one bus brings in a tenth of a second
RATE = 4_000  # frames a second of a full 500 kbit/s bus
REGION = "urn:inland:region:cn"


def clocks() -> Moment:
    """Read the clocks as the service does."""
    return Moment(unix_ns=time.time_ns(), boottime_ns=time.clock_gettime_ns(time.CLOCK_BOOTTIME))


def open_vault(folder: Path) -> Vault:
    """A vault with throw-away keys."""
    identity = Identity(
        region=REGION, vehicle="bench-car", ledger_key=Ed25519PrivateKey.generate(),
        receipt_keys=(), cosign_keys=(), region_key=keys.generate_recipient()[1], owner_key=None,
    )  # fmt: skip
    return Vault.open(
        folder, identity=identity, now=clocks, rng=os.urandom, boot_id=os.urandom(16),
        version="bench", quota_bytes=1 << 30,
    )  # fmt: skip


def engine_of(folder: Path, channels: ChannelTable) -> tuple[Engine, Recorder]:
    """A policy that keeps every frame, raw."""
    (folder / "policy.toml").write_text(EVERYTHING, "utf-8")
    policy = load_policy(build_policy(folder / "policy.toml"), region=REGION, now_ns=time.time_ns())
    return Engine(policy, channels), Recorder(policy_hash=policy.digest, dictionary_hash=bytes(32))


def run(
    folder: Path, source: Callable[[], FrameBatch], *, rows: int, flush_rows: int
) -> tuple[float, float]:
    """Queue, merge, decide, record, seal, commit: the sealer's way, `flush_rows` a segment.

    Returns:
        (CPU microseconds, bytes written) a frame, from the frames in memory to a closed vault.
    """
    channels = ChannelTable(("can0",))
    vault = open_vault(folder / "state")
    engine, recorder = engine_of(folder, channels)
    queue = FrameQueue(1 << 20)
    before, begun = written(), time.process_time()
    batch = source()
    open_rows = 0
    for start in range(0, len(batch), rows):
        queue.put(Arrival(0, batch[start : start + rows]))
        now = vault.moment()
        kept = engine.decide(merge(queue.drain(1 << 16))).kept
        drafts = recorder.add(kept, channels.names, now)
        open_rows += rows
        if open_rows >= flush_rows:
            drafts += recorder.flush(channels.names, now)
            open_rows = 0
        for draft in drafts:
            vault.seal(draft)
    for draft in recorder.flush(channels.names, vault.moment()):
        vault.seal(draft)
    vault.close()
    return (time.process_time() - begun) * 1e6 / len(batch), (written() - before) / len(batch)


def written() -> int:
    """Bytes that this process has given to write(), so far."""
    line = next(x for x in Path("/proc/self/io").read_text().splitlines() if x.startswith("wchar"))
    return int(line.split()[1])


def straightforward(path: Path, messages: list[can.Message]) -> tuple[float, float]:
    """(CPU microseconds, bytes written) a frame of the baseline."""
    before, begun = written(), time.process_time()
    keep(messages, path)
    count = len(messages)
    return (time.process_time() - begun) * 1e6 / count, (written() - before) / count


def overhead() -> Figure:
    """What sealing adds to a payload; an index of a car's tenth year."""
    session = Session(os.urandom(32), session=os.urandom(16), aead=AES_256_GCM)
    header = SegmentHeader(
        log=os.urandom(16), index=1 << 32, epoch=1, lane="ROUTINE", policy=os.urandom(8)
    )
    bytes_more = len(seal_segment(session, header, bytes(8192))) - 8192
    return at_most("sealing overhead a segment", bytes_more, unit="bytes", bar=160)


def from_messages(messages: list[can.Message]) -> FrameBatch:
    """python-can's Messages into a batch, as the general reader takes them."""
    rows = Rows()
    for message in messages:
        add_message(rows, message, 0, round(message.timestamp * 1e9))
    return rows.take()


def figures(frames: int = FRAMES) -> list[Figure]:
    """All of this file.

    Args:
        frames: to seal; fewer take less time and measure less well.
    """
    batch = synth(frames, seed=1)
    messages = list(python_can_messages(batch[: max(FEW, frames // 4)]))
    with tempfile.TemporaryDirectory(prefix="inland-bench-") as folder:
        places = iter([Path(folder) / str(number) for number in range(9)])

        def place() -> Path:
            path = next(places)
            path.mkdir()
            return path

        run(place(), lambda: batch[:BATCH], rows=BATCH, flush_rows=BATCH)  # imports, caches
        memory, _ = run(place(), lambda: batch, rows=BATCH, flush_rows=BATCH)
        minute = batch[: RATE * 60]
        live, flash = run(place(), lambda: minute, rows=LIVE_BATCH, flush_rows=RATE)
        through, _ = run(place(), lambda: from_messages(messages), rows=BATCH, flush_rows=BATCH)
        theirs, their_flash = straightforward(place() / "spool.db", messages[:FEW])
    baseline = "Message, JSON, Fernet, row a frame, commit per 100"
    return [
        faster("frames in memory, sealed and committed", memory, baseline, theirs,
               unit="us CPU a frame", bar=100, note=f"{BATCH} frames a segment"),
        faster("the same in live steps of 0.1 s, 1 s a segment", live, baseline, theirs,
               unit="us CPU a frame", bar=75,
               note="no bar of the design: as a bus brings it; 75 so that it does not creep"),
        faster("the same through python-can Messages", through, baseline, theirs,
               unit="us CPU a frame", bar=15),
        faster("flash bytes written, 1 s flush", flash, baseline, their_flash,
               unit="bytes a frame", bar=40),
        overhead(),
    ]  # fmt: skip
