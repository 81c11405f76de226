"""The times of issue and design: half an hour of a full bus exported, opened, verified.

The bars are of CPU time, which a busy machine stretches least; `pytest -s` shows what it was.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import can
import numpy as np
import pytest

from agent.evidence.bundle import Asked
from agent.evidence.selection import BEGIN_NS, FOREVER_NS
from agent.evidence.verifier import verify
from agent.frames import FrameBatch
from agent.owner import at_home, blf
from agent.owner.export import Order, export
from agent.owner.witness import Witness
from agent.owner.write_out import write_out
from tests.evidence import making
from tests.owner import halfhour, long
from tests.owner.test_export import CARD, MADE

EXPORT_S, OPEN_S, VERIFY_S = 60.0, 60.0, 5.0
T = TypeVar("T")


def timed(name: str, work: Callable[[], T]) -> tuple[float, T]:
    begin_s = time.process_time()
    done = work()
    spent_s = time.process_time() - begin_s
    print(f"{name}: {spent_s:.2f} s of CPU")
    return spent_s, done


@pytest.mark.slow
def test_half_an_hour_is_exported_in_a_minute(tmp_path: Path):
    """Eight segments a second, as with the shortest flush: 14,400 entries of 4 KiB."""
    count = 8 * halfhour.SECONDS
    long.make_spool(tmp_path, count, body_bytes=4096)
    card = replace(CARD, cosign_keys=(long.WITNESS.text(),))
    order = Order(tmp_path, tmp_path, card, long.VEHICLE, Asked(), MADE)
    witness = Witness(count, count, "")
    spent_s, done = timed("export", lambda: export(order, ask_witness=lambda _: witness))
    assert (done.result["verdict"], done.result["missing"]) == (0, [])
    assert spent_s < EXPORT_S
    spent_s, _ = timed("verify", lambda: verify(done.folder))
    assert spent_s < VERIFY_S


@pytest.mark.slow
@pytest.mark.timeout(170)
def test_half_an_hour_is_opened_in_a_minute_in_every_format(tmp_path: Path):
    bundle = halfhour.make(tmp_path)
    spent_s, result = timed("verify", lambda: verify(bundle))
    assert (result["verdict"], result["missing"]) == (0, [])
    assert spent_s < VERIFY_S

    def whole() -> at_home.Home:
        home = at_home.bring_home(bundle, [making.OWNER], from_ns=BEGIN_NS, to_ns=FOREVER_NS)
        story = at_home.story(home, made_ns=0)
        write_out(
            home, story.presence, tmp_path / "out", formats=("candump", "blf", "gvret"), zone=dt.UTC
        )
        return home

    spent_s, home = timed("open, all formats", whole)
    assert home.opened.frame_count == halfhour.FRAMES_S * halfhour.SECONDS
    assert spent_s < OPEN_S
    sizes = {path.name: path.stat().st_size for path in (tmp_path / "out").iterdir()}
    assert {"frames.log", "frames.blf", "frames.csv", "signals.csv", "signals.jsonl"} <= set(sizes)
    with can.BLFReader(tmp_path / "out" / "frames.blf") as reader:
        assert reader.object_count == home.opened.frame_count


def by_python_can(path: Path, batch: FrameBatch) -> None:
    """The straightforward way: an object for each frame."""
    with can.BLFWriter(path) as writer:
        for row in batch:
            writer.on_message_received(can.Message(
                timestamp=row["timestamp_ns"] / 1e9, arbitration_id=int(row["arbitration_id"]),
                channel=0, is_extended_id=False, data=row["data"].tobytes(),
            ))  # fmt: skip


def test_blf_takes_a_fifth_of_python_can_s_time(tmp_path: Path):
    """Side by side in one run; a tenth is usual, and most of that is zlib."""
    rng = np.random.default_rng(1)
    batch = np.concatenate([halfhour.frames(rng, making.START_NS + s * 10**9) for s in range(10)])
    theirs_s, _ = timed("python-can", lambda: by_python_can(tmp_path / "theirs.blf", batch))
    ours_s, _ = timed("ours", lambda: blf.write_blf(tmp_path / "ours.blf", batch, (0,)))
    assert theirs_s > 5 * ours_s
