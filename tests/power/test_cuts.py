"""No power cut breaks a promise; and where a bug is planted, one does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from tests.power import workloads
from tests.power.cuts import cuts, first_broken, places, some_places, survive
from tests.power.everywhere import everywhere, in_this_process
from tests.power.recording import CREATE, SAID, SYNC, WRITE, Operation, Recording, record
from tests.power.workloads import Note

# Workloads by what they take to import: each group is recorded by one process.
SAMPLED = {
    "vault": {
        "spool_in_use": 16, "first_start": 8, "selling_a_car": 12, "damage_at_the_start": 7,
        "damage_while_running": 6, "older_version": 3, "start_and_seal@140": 3,
    },
    "files": {
        "consents": 6, "enrollment": 16, "policies": 24, "bundles": 16, "going_back": 9,
        "region": 4, "receiving": 4, "publishing": 2,
        "going_back@5": 9, "installation@9": 9, "withdrawal@6": 9,
    },
}  # fmt: skip
# Found in the first few cuts; all of them are looked for in the slow suite.
PLANTED = (
    "spool_in_use+synchronous_off", "spool_in_use+synchronous_normal",
    "spool_in_use+deleted_when_sent", "policies+policy_without_its_content",
    "policies+policy_without_its_name", "policies+floor_after_the_switch",
    "consents+written_in_its_place", "enrollment+told_before_it_is_durable",
    "enrollment+not_entered", "selling_a_car+counted_anew", "selling_a_car+memory_left_alone",
    "selling_a_car+intent_removed_first", "withdrawal+believed_without_sync@6",
)  # fmt: skip
RESTARTED = {"withdrawal": 14, "installation": 16, "going_back": 12}  # how many operations
RESTARTED_VAULTS = {"start_and_seal": range(3, 180, 16), "damage_again": range(3, 270, 24),
                    "selling_a_car": range(2, 130, 9)}  # fmt: skip

Recorder = Callable[..., dict[str, Recording]]


@pytest.fixture(autouse=True)
def quick_schema():
    with in_this_process():
        yield


@pytest.fixture
def recorded(recorder: Path, room: Path) -> Recorder:
    """Records workloads in one process."""
    return lambda names: record(recorder, room, list(names))


def look(name: str, found: Recording, count: int) -> None:
    """Cut at some places; any promise that is broken fails the test."""
    check = workloads.find(name)[0].check
    for cut in cuts(found, seed=1, at=some_places(found, count, Random(name))):
        survive(cut, check)


@pytest.mark.parametrize("group", SAMPLED)
def test_a_cut_here_and_there_breaks_no_promise(recorded, group):
    found = recorded(SAMPLED[group])
    for name, count in SAMPLED[group].items():
        look(name, found[name], count)


@pytest.mark.slow
def test_bugs_that_lose_what_was_acknowledged_are_found(recorded):
    for name, found in recorded(PLANTED).items():
        assert first_broken(found, workloads.find(name)[0].check, seed=1), f"{name} is not seen"


@pytest.fixture
def by_hand(tmp_path: Path) -> Recording:
    """A recording of one file that is written, synced and told of."""
    steps = (
        Operation(SAID, "", data=b"('before',)"), Operation(SAID, "", data=b"('ready',)"),
        Operation(CREATE, "file"), Operation(WRITE, "file", data=b"x" * 4096),
        Operation(SAID, "", data=b"('written',)"), Operation(SYNC, "file"),
        Operation(SAID, "", data=b"('synced',)"), Operation(SAID, "", data=b"('told',)"),
    )  # fmt: skip
    return Recording(tmp_path, tmp_path, steps)


def test_the_same_seed_makes_the_same_cuts(by_hand):
    one, again, other = (list(cuts(by_hand, seed=seed)) for seed in (1, 1, 2))
    assert one == again
    assert one != other


def test_a_cut_is_made_on_both_sides_of_what_is_said(by_hand):
    """Before, because it may allow something; after, because it may promise something."""
    assert places(by_hand) == [2, 3, 4, 5, 6, 8]
    assert {len(cut.notes) for cut in cuts(by_hand, seed=1)} == {2, 3, 5}
    assert some_places(by_hand, 100, Random(1)) == {2, 3, 4, 5, 6, 8}


def test_a_broken_promise_says_where(by_hand):
    def check(folder: Path, notes: list[Note]) -> None:
        assert (folder / "file").exists() or ("written",) not in notes

    error = first_broken(by_hand, check, seed=1)
    assert str(error).startswith("after operation 5, nothing, names by journal: AssertionError")
    assert first_broken(by_hand, lambda *_: None, seed=1) is None


def test_memory_that_sqlite_shares_may_be_there_and_wrong(tmp_path):
    steps = (Operation(CREATE, "db-wal"), Operation(WRITE, "db-wal", data=b"x" * 8192))
    seen: list[set[str]] = []

    def check(folder: Path, _: list[Note]) -> None:
        seen.append({path.name for path in folder.iterdir()})

    for cut in cuts(Recording(tmp_path, tmp_path, steps), seed=1):
        survive(cut, check)
    assert {"db-wal", "db-shm"} in seen
    assert {"db-wal"} in seen


# --- minutes --------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_no_cut_anywhere_breaks_a_promise(recorder, room):
    found = everywhere(recorder, room, sorted(workloads.every()))
    assert {name: broken for name, (_, *broken) in found.items() if broken} == {}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_kill_before_the_cut_breaks_no_promise(recorded):
    """Killed after any operation, done again, and then the power goes."""
    names = [f"{name}@{at}" for name, count in RESTARTED.items() for at in range(1, count)]
    for name, found in recorded(names).items():
        look(name, found, len(found.operations))
    names = [f"{name}@{at}" for name, range_ in RESTARTED_VAULTS.items() for at in range_]
    for name, found in recorded(names).items():
        look(name, found, 8)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_planted_bug_is_found(recorder, room):
    names = [
        f"{name}+{bug}{'@6' if name == 'withdrawal' else ''}"
        for name, workload in workloads.every().items()
        for bug in workload.bugs
    ]
    assert len(names) >= 24
    found = everywhere(recorder, room, names, first=True)
    assert [name for name, (_, *broken) in found.items() if not broken] == []
