"""The power is cut at random under load, also while a policy comes.

What was sealed is at the region, once; nothing that waited for longer than a second is lost; the
ledger, the policy and what is known of the time never go back.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rig import wait_for
from tests.vehicle.car import Car, car
from tests.vehicle.power import FLUSH_S, STEP_S, Bench, check, check_found

# With those that are not under load, a default run has ten. 50 take a quarter of an hour.
CUTS = int(os.environ.get("INLAND_CUTS", "6"))
CUTTING = (
    {},
    {"install": "air", "aim": "installing"},
    {"install": "folder", "aim": "in force"},
    {"install": "air", "aim": "in force"},
    {"install": "folder", "aim": "installing"},
)


BEGINNINGS = ("spool", "spool/spool.db-wal", "ballast")  # what is there when it is founded
# Capture with a spool that hands its commits to the kernel and believes it.
NOT_SYNCED = """\
from agent.vault import spool

spool.FULL = spool.NORMAL = 0
"""


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory, image: Path, payload: Path) -> Iterator[Car]:
    """A booted computer and a region; each test takes a car of its own."""
    with car(tmp_path_factory.mktemp("region"), image, payload) as made:
        yield made


@pytest.mark.timeout(300 + 120 * CUTS)  # half a minute a cut is usual
def test_power_cuts_under_load_lose_nothing_that_was_sealed(stand: Car):
    bench = Bench(stand.another(installed=True), seed=CUTS)
    for number in range(CUTS):
        bench.drive_and_cut(**CUTTING[number % len(CUTTING)])
    bench.finish()
    check(bench)
    for run in bench.runs:
        assert run.open_s <= FLUSH_S + STEP_S + run.slack_s, f"run {run.number}"
    assert bench.runs[-1].lost == 0


def test_a_spool_that_is_not_synced_would_be_found(stand: Car):
    """The machine loses what was not synced, and the check above sees it."""
    stand.guest.write("/root/plant/sitecustomize.py", NOT_SYNCED.encode())
    bench = Bench(stand.another(environment="PYTHONPATH=/root/plant"), seed=0)
    run = bench.drive_and_cut()
    found = bench.boot().found
    with pytest.raises(AssertionError, match="after the cut of run 0"):
        check_found(run, found)


def test_a_cut_while_everything_begins(stand: Car):
    """Cut while the spool is founded: the next start goes on with it or founds it anew."""
    made = stand.another()
    bench = Bench(made, seed=CUTS)
    bench.boot()
    for number in range(max(3, CUTS // 5)):
        made.guest.sh(f"rm -rf {made.state}; sync")
        bench.cut_at(f"{made.state}/{BEGINNINGS[number % 3]}", most_s=0.5)
        spool = bench.boot().found["spool"]
        print("left:", spool)
        assert spool is None or spool["integrity"] == "ok"
        made.start("capture")
        wait_for(made.status, 30, "an answer")
        assert made.told()["spool"]["quarantined"] == 0, made.said("capture")
        made.stop("capture")
