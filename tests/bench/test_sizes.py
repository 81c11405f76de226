"""The size bars of the design hold on generated traffic."""

from __future__ import annotations

import numpy as np

from agent import frames as f
from tests.bench import sizes
from tests.bench.synth import FRAMES_PER_S, python_can_messages, synth


def test_stored_bytes_are_within_the_bars() -> None:
    rows = sizes.sizes(2 * sizes.SEGMENT, logs=False)
    assert len(rows) >= 3
    for row in rows:
        assert row.met, row


def test_generated_traffic_is_that_of_a_full_bus_and_repeats() -> None:
    batch = synth(8192, 1)
    seconds = np.ptp(batch["timestamp_ns"]) / 1e9
    assert 3500 < 8192 / seconds < 3900
    assert abs(FRAMES_PER_S - 8192 / seconds) < 100
    assert 60 <= len(np.unique(batch["arbitration_id"])) <= 70
    assert (np.diff(batch["timestamp_ns"]) >= 0).all()
    assert synth(100, 7).tobytes() == synth(100, 7).tobytes() != synth(100, 8).tobytes()


def test_batches_and_messages_are_the_same_frames() -> None:
    batch = synth(50, 2)
    batch["flags"][3] = f.EXTENDED
    assert sizes.batch_of(python_can_messages(batch)).tobytes() == batch.tobytes()
