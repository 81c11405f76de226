"""Cuts workloads at every operation, on all cores."""

from __future__ import annotations

import logging
import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from unittest import mock

from agent.vault import founding, schema
from tests.power import cuts, recording, workloads

MOST = 5  # breaks that are told of one workload


def everywhere(
    library: Path, room: Path, names: Sequence[str], *, seed: int = 1, first: bool = False
) -> dict[str, list[str]]:
    """Record workloads and cut them everywhere.

    Args:
        library: the recorder.
        room: folder for the recordings.
        names: as in child.py.
        seed: of the random fates.
        first: be content with the first break of each.

    Returns:
        By name, what breaks: for each workload the first few, and how many looks there were, first.
    """
    recording.record(library, room, names)
    workers = os.cpu_count() or 1
    context = multiprocessing.get_context("spawn")  # a fork would take threads along, half
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        jobs = {
            name: [
                pool.submit(_look, room / name, name, (share, workers), seed, first)
                for share in range(workers)
            ]
            for name in names
        }
        out = {}
        for name, shares in jobs.items():
            done = [share.result() for share in shares]
            broken = [text for _, texts in done for text in texts]
            out[name] = [f"{sum(looks for looks, _ in done)} looks", *broken[:MOST]]
    return out


def _look(
    place: Path, name: str, share: tuple[int, int], seed: int, first: bool
) -> tuple[int, list[str]]:
    """Take every n-th cut; return how many that were, and what breaks."""
    logging.disable(logging.CRITICAL)
    recorded, workload = recording.load(place), workloads.find(name)[0]
    looks, broken = 0, []
    with in_this_process():
        for number, cut in enumerate(cuts.cuts(recorded, seed=seed)):
            if number % share[1] != share[0]:
                continue
            looks += 1
            try:
                cuts.survive(cut, workload.check)
            except cuts.PowerCutError as error:
                broken.append(str(error))
                if first:
                    break
    return looks, broken


def in_this_process() -> mock._patch:  # type: ignore[type-arg]
    """The schema is made by the same code, without a process of its own: 300 ms a look."""
    return mock.patch.object(founding, "migrate_apart", schema.migrate)
