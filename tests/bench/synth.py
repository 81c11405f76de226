"""Generated traffic of one nearly full 500 kbit/s bus, for sizes, speed and load tests.

70 arbitration ids with periods of 10 ms to 1 s, about 3,650 frames a second. Two ids of five carry
a 4-bit rolling counter and a CRC-8 over the frame, which no codec can predict; the rest of each
frame is slowly moving 16-bit signals with noise in their low bits, and constants. Arrival has the
jitter of a busy bus. Same seed, same bytes: a run can be repeated.
"""

from __future__ import annotations

from collections.abc import Iterator

import can
import numpy as np

from agent import frames as f

IDS = 70
START_NS = 1_795_000_000 * 10**9  # an afternoon in November 2026
PERIODS_MS = (10,) * 22 + (20,) * 22 + (50,) * 12 + (100,) * 10 + (500,) * 2 + (1000,) * 2
FRAMES_PER_S = sum(1000 / period for period in PERIODS_MS)
CRC_POLYNOMIAL = 0x1D  # SAE J1850


def _crc_table() -> np.ndarray:
    table = np.arange(256, dtype=np.uint16)
    for _ in range(8):
        table = np.where(table & 0x80, (table << 1) ^ CRC_POLYNOMIAL, table << 1) & 0xFF
    return table.astype(np.uint8)


def _payload(rng: np.random.Generator, rows: int, table: np.ndarray, number: int) -> np.ndarray:
    """Return the data of one id, (rows, 8): walking signals, then counter and CRC or constants."""
    data = np.zeros((rows, 8), np.uint8)
    for place in range(3):
        steps = rng.normal(0, (2.0, 12.0, 0.05)[place], rows)
        values = np.int64(rng.integers(0, 65536)) + np.cumsum(steps) + rng.normal(0, 3.0, rows)
        if place == 2 and number % 2:
            values = np.full(rows, values[0])  # a state that does not change
        data[:, 2 * place : 2 * place + 2] = (
            (values.astype(np.int64) & 0xFFFF).astype(">u2").view("u1").reshape(rows, 2)
        )
    if number % 5 < 2:
        data[:, 6] = (np.arange(rows) + number) & 0x0F
        crc = np.full(rows, 0xFF, np.uint8)
        for column in range(7):
            crc = table[crc ^ data[:, column]]
        data[:, 7] = crc ^ 0xFF
    else:
        data[:, 6:] = rng.integers(0, 256, 2)
    return data


def synth(frames: int, seed: int) -> f.FrameBatch:
    """Return the first `frames` frames of the bus "can0" (channel 0), in arrival order.

    Args:
        frames: number of rows.
        seed: of the generator; the same seed gives the same bytes.
    """
    rng = np.random.default_rng(seed)
    seconds = frames / FRAMES_PER_S * 1.1 + 1.1
    ids = np.sort(rng.choice(np.arange(0x80, 0x700), IDS, replace=False))
    table = _crc_table()
    parts = []
    for number, (arbitration_id, period_ms) in enumerate(
        zip(ids, rng.permutation(PERIODS_MS), strict=True)
    ):
        rows = int(seconds * 1000 / period_ms) + 1
        part = np.zeros(rows, f.FRAME)
        part["arbitration_id"] = arbitration_id
        part["length"] = 8
        ticks = np.arange(rows) * (period_ms * 1000.0) + rng.uniform(0, period_ms * 1000)
        wait_us = rng.exponential(120.0, rows) + rng.normal(0, 15, rows)  # arbitration, ECU timer
        part["timestamp_ns"] = START_NS + np.maximum(ticks + wait_us, 0).astype(np.int64) * 1000
        part["data"] = _payload(rng, rows, table, number)
        parts.append(part)
    batch = np.concatenate(parts)
    batch = batch[np.argsort(batch["timestamp_ns"], kind="stable")]
    return batch[:frames].copy()


def python_can_messages(batch: f.FrameBatch, channel: str = "can0") -> Iterator[can.Message]:
    """Yield the frames as python-can messages, for the baselines."""
    for row in batch:
        flags, length = int(row["flags"]), int(row["length"])
        remote = bool(flags & f.REMOTE)
        yield can.Message(
            timestamp=int(row["timestamp_ns"]) / 1e9,
            arbitration_id=int(row["arbitration_id"]),
            is_extended_id=bool(flags & f.EXTENDED),
            is_remote_frame=remote,
            is_error_frame=bool(flags & f.ERROR),
            is_fd=bool(flags & f.FD),
            bitrate_switch=bool(flags & f.BRS),
            error_state_indicator=bool(flags & f.ESI),
            dlc=length,
            data=None if remote else row["data"][:length].tobytes(),
            channel=channel,
        )
