"""Stored bytes per frame, ours against the formats people use.

The same frames go into segments of 4,096 (payload and sealing overhead counted) and into BLF,
candump text under gzip and zstd, and MF4 where asammdf is installed.
Generated traffic is always measured; real logs if the folder in INLAND_DATA is there.
"""

from __future__ import annotations

import bz2
import gzip
import importlib.util
import itertools
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import can
import numpy as np
import zstandard

from agent import frames as f
from agent.pb.moment_pb2 import Moment
from agent.vault.segment import Draft, encode_payload
from tests.bench.measure import Figure, smaller
from tests.bench.synth import python_can_messages, synth

SEGMENT = 4096
SEALING_BYTES = 160  # the bar of a segment's header, commitment and tag
BARS = {"blf": 0.35, "candump+gzip-6": 0.40, "candump+zstd-19": 0.70, "mf4": 0.65}
LOGS = (
    "can_logs/tesla_model3_ctf/candump-2020-08-07_153716.log.bz2",
    "can_logs/tesla_model3_kuksa/it-candump0.log",
    "can_logs/css_canedge_mf4/asammdf-basics/input/00000001.MF4",
    "can_logs/css_canedge_mf4/LOG/94C49784/00000005/00000017-6099D010.MF4",
)


def data_folder() -> Path:
    """The folder with recorded logs; it need not exist."""
    default = Path(__file__).resolve().parents[2].parent / "shared" / "data"
    return Path(os.environ.get("INLAND_DATA", default))


def batch_of(messages: Iterable[can.Message]) -> f.FrameBatch:
    """Return classic frames as a batch on channel 0, stamps to the microsecond."""
    flags = (("is_extended_id", f.EXTENDED), ("is_remote_frame", f.REMOTE))
    rows = [
        (
            round(message.timestamp * 1e6) * 1000,
            message.arbitration_id,
            0,
            sum(bit for name, bit in flags if getattr(message, name)),
            message.dlc,
            0,
            list(bytes(message.data).ljust(8, b"\0")),
        )
        for message in messages
        if not message.is_fd and not message.is_error_frame
    ]
    return np.array(rows, f.FRAME)


def real_logs(frames: int) -> Iterator[tuple[str, f.FrameBatch]]:
    """Yield (name, batch) of each recorded log that is there and can be read."""
    for name in LOGS:
        path = data_folder() / name
        if not path.exists() or (path.suffix == ".MF4" and not has_mf4()):
            continue
        with tempfile.TemporaryDirectory() as folder:
            if path.suffix == ".bz2":
                plain = Path(folder) / path.stem
                plain.write_bytes(bz2.decompress(path.read_bytes()))
                path = plain
            with can.LogReader(path) as reader:
                yield path.stem, batch_of(itertools.islice(reader, frames))


def has_mf4() -> bool:
    """Whether python-can can write MF4 here."""
    return importlib.util.find_spec("asammdf") is not None


def ours(batch: f.FrameBatch, segment: int = SEGMENT) -> int:
    """Return the bytes of the batch in sealed segments."""
    total = 0
    for start in range(0, len(batch), segment):
        draft = Draft(
            frames=batch[start : start + segment],
            signals=np.zeros(0, f.SIGNAL),
            channels=("can0",),
            recipients=1,
            lane=2,
            resolution_ns=1000,
            keep_order=False,
            opened=Moment(unix_ns=int(batch["timestamp_ns"][start])),
            closed=Moment(unix_ns=int(batch["timestamp_ns"][min(start + segment, len(batch)) - 1])),
            policy=bytes(32),
            dictionary=bytes(32),
            keep_s=0,
        )
        total += len(encode_payload(draft, salt=os.urandom(32), boot_id=os.urandom(16)))
        total += SEALING_BYTES
    return total


def candump(batch: f.FrameBatch) -> bytes:
    """Return the text that `candump -L` would write."""
    lines = []
    for row in batch:
        seconds, rest = divmod(int(row["timestamp_ns"]), 10**9)
        digits = 8 if row["flags"] & f.EXTENDED else 3
        data = "R" if row["flags"] & f.REMOTE else row["data"][: row["length"]].tobytes().hex()
        number = f"{int(row['arbitration_id']):0{digits}X}"
        lines.append(f"({seconds}.{rest // 1000:06d}) can0 {number}#{data.upper()}\n")
    return "".join(lines).encode()


def baselines(batch: f.FrameBatch) -> dict[str, int]:
    """Return the bytes of the same frames in each other format."""
    text = candump(batch)
    sizes = {
        "candump+gzip-6": len(gzip.compress(text, 6)),
        "candump+zstd-19": len(zstandard.ZstdCompressor(level=19).compress(text)),
    }
    with tempfile.TemporaryDirectory() as folder:
        for suffix in ("blf", "mf4") if has_mf4() else ("blf",):
            path = Path(folder) / f"log.{suffix}"
            with can.Logger(path) as log:
                for message in python_can_messages(batch):
                    log.on_message_received(message)
            sizes[suffix] = path.stat().st_size
    return sizes


def sizes(frames: int = 5 * SEGMENT, *, logs: bool = True) -> list[Figure]:
    """Measure and return a figure for each data set and baseline.

    Args:
        frames: at most this many of each data set.
        logs: measure recorded logs too.
    """
    sets = [("synth", synth(frames, 1)), *(real_logs(frames) if logs else ())]
    found = []
    for name, batch in sets:
        mine = ours(batch) / len(batch)
        found += [
            smaller(
                f"stored, {name}", mine, what, size / len(batch), unit="bytes a frame",
                bar=BARS[what], note=f"{len(batch)} frames, {SEGMENT} a segment",
            )
            for what, size in sorted(baselines(batch).items())
        ]  # fmt: skip
    return found
