"""The power is cut, and the disk forgets what it was not told to keep.

A process that is killed leaves the cache of this computer alive; a disk in a car has one of its
own, which dies with it. nbdkit is such a disk, and is killed with its machine; see `machine_qemu`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.vehicle.car import Car, car
from tests.vehicle.machine_qemu import Qemu
from tests.vehicle.machine_uml import Uml
from tests.vehicle.power import FLUSH_S, STEP_S, Bench, check, check_found
from tests.vehicle.test_power import NOT_SYNCED

CUTS = int(os.environ.get("INLAND_VOLATILE_CUTS", "2"))
DRIVE = ("cangen vcan0 -g 5 -I i -L i -D i",)  # an emulated processor is slow
pytestmark = pytest.mark.slow
LONG = pytest.mark.timeout(1800)


@pytest.fixture(scope="module")
def stand(
    tmp_path_factory: pytest.TempPathFactory, qemu: None, image: Path, payload: Path
) -> Iterator[Car]:
    """A booted computer and a region; each test takes a car of its own."""
    with car(tmp_path_factory.mktemp("region"), image, payload) as made:
        yield made
        made.guest.kill()


def begun(stand: Car, *, installed: bool = True, environment: str = "") -> Bench:
    """A car that has a policy and one drive behind it, which ended in User-Mode Linux."""
    if not isinstance(stand.guest.machine, Uml):
        stand.guest.kill()
        stand.guest.machine = Uml()
        stand.guest.start()
        stand.guest.ready()
    if environment:
        stand.guest.write("/root/plant/sitecustomize.py", NOT_SYNCED.encode())
    made = stand.another(installed=installed, environment=environment)
    bench = Bench(made, seed=CUTS, drives=DRIVE)
    bench.drive_and_cut()
    return bench


@LONG
def test_what_was_committed_outlives_a_disk_that_forgets(stand: Car):
    bench = begun(stand)
    bench.guest.machine = Qemu(cache="volatile")
    for _ in range(CUTS):
        bench.drive_and_cut()
    bench.finish()
    check(bench)
    for run in bench.runs:
        assert run.open_s <= FLUSH_S + STEP_S + run.slack_s, f"run {run.number}"
    assert bench.runs[-1].lost == 0


@LONG
@pytest.mark.parametrize("mistake", ["the spool is not synced", "the disk ignores flushes"])
def test_a_loss_would_be_found(stand: Car, mistake: str):
    """The two planted mistakes: ours, and one that only another disk can mend."""
    ours = mistake == "the spool is not synced"
    bench = begun(stand, installed=not ours,
                  environment="PYTHONPATH=/root/plant" if ours else "")  # fmt: skip
    bench.guest.machine = Qemu(cache="volatile" if ours else "liar")
    run = bench.drive_and_cut()
    found = bench.boot().found
    print(f"{mistake}: {run.last('size')} entries were told of, found {found['spool']}")
    with pytest.raises(AssertionError, match=r"after the cut of run 1"):
        check_found(run, found)
