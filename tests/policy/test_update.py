"""From a drop to a policy in force: what an OTA system, a stick and the capture process rely on."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.clock import BUILD_FLOOR_NS, Reading
from agent.errors import ConfigError, PolicyError, PolicyLaterError
from agent.files import write_whole
from agent.policy import probation, store, update
from agent.policy.compiled import read_policy
from agent.policy.rollout import takes_part
from agent.station.publish import refresh, rotate
from agent.vault.floor import spool_floor_ns, trusted_now_ns
from agent.vault.schema import migrate
from tests.policy.air import DAY, NOW, Air, policy

YEAR_NS = 365 * 86_400 * 10**9


@pytest.fixture
def air(tmp_path) -> Air:
    return Air(tmp_path / "air")


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_versions_rise_over_the_air(air):
    for version in (1, 2, 7):
        air.offer(policy(version))
        outcome = air.take()
        assert (outcome.changed, outcome.name, outcome.version) == (True, "test", version)
        assert outcome.digest == read_policy(policy(version)).digest
        assert (air.in_force(), store.floor(air.state)) == (version, version)


def test_the_same_drop_again_changes_nothing_and_rehearses_nothing(air):
    def never(_: object) -> None:
        raise AssertionError("there is nothing to rehearse")

    air.offer(policy(1))
    drop = air.drop()
    air.take(drop)
    before = {path: path.stat().st_ino for path in air.state.rglob("*")}
    assert air.take(drop, rehearsal=never).changed is False
    assert {path: path.stat().st_ino for path in air.state.rglob("*")} == before


def test_a_renewed_repository_with_the_same_policy_is_a_no_op(air):
    air.offer(policy(1))
    air.take()
    refresh(air.region, now=NOW + 20 * DAY)
    assert air.take(now=NOW + 40 * DAY).changed is False


def test_a_policy_that_comes_before_the_agent_closes_the_state_folder_to_others(air):
    """Whoever comes first makes it: a policy is often there before the first start."""
    air.offer(policy(1))
    air.take()
    assert air.state.parent.stat().st_mode & 0o777 == 0o700


def test_what_is_kept_in_the_car_is_the_policies_the_floor_and_a_cache(air):
    air.offer(policy(1))
    air.take()
    assert names(air.state) == {
        "active.policy", "floor", "tuf/timestamp.json", "tuf/snapshot.json", "tuf/targets.json",
        "tuf/root_history/1.root.json",
    }  # fmt: skip


def test_torn_writes_of_the_cache_are_cleared_away(air):
    air.offer(policy(1))
    air.take()
    (air.state / "tuf" / ".timestamp.json.x1").write_bytes(b"half")
    air.take()
    assert not list((air.state / "tuf").glob(".*"))


def test_the_cache_is_durable(air, monkeypatch):
    written = []

    def noting(path, chunks, **more):
        written.append(path.name)
        write_whole(path, chunks, **more)

    monkeypatch.setattr(update, "write_whole", noting)
    air.offer(policy(1))
    air.take()
    assert written == ["1.root.json", "timestamp.json", "snapshot.json", "targets.json"]


def test_a_group_is_offered_its_own_policy(air):
    air.offer(policy(1))
    air.offer(policy(4), group="taxi")
    assert air.take(air.repository.folder, group="taxi").version == 4
    with pytest.raises(PolicyError, match="offers no policy for vehicle group 'bus'"):
        air.take(air.repository.folder, group="bus")
    for wrong in ("", "Taxi", "a.next", "x/y", "-a", "a" * 33):
        with pytest.raises(ConfigError, match="vehicle group"):
            air.take(air.repository.folder, group=wrong)


def test_a_staged_policy_goes_to_its_share_of_the_cars(air):
    air.offer(policy(1))
    air.offer(policy(2), percent=30)
    drop, took = air.drop(), 0
    for number in range(20):
        vehicle = f"v-{number:010}"
        version = air.take(drop, vehicle=vehicle, state=air.folder / vehicle).version
        assert version == (2 if takes_part(vehicle, version=2, percent=30) else 1)
        took += version == 2
    assert 2 <= took <= 12
    air.offer(policy(2))
    assert air.take(vehicle="v-0000000000").version == 2


@settings(max_examples=30)
@given(st.integers(0, 99), st.integers(1, 2**40), st.text(max_size=40))
def test_who_takes_part_only_grows_with_the_share(percent, version, vehicle):
    now = takes_part(vehicle, version=version, percent=percent)
    more = takes_part(vehicle, version=version, percent=percent + 1)
    assert now <= more
    assert not takes_part(vehicle, version=version, percent=0)
    assert takes_part(vehicle, version=version, percent=100)


def test_each_version_begins_with_other_cars():
    first = {v for v in range(1000) if takes_part(f"v-{v}", version=1, percent=10)}
    second = {v for v in range(1000) if takes_part(f"v-{v}", version=2, percent=10)}
    assert 60 <= len(first) <= 140
    assert len(first & second) < 30


def test_an_unproven_policy_leaves_the_last_good_one_to_go_back_to(air):
    for version in (1, 2, 3):
        air.offer(policy(version))
        air.take()
        digest = read_policy(store.active(air.state)).digest
        probation.began(air.state, digest, bytes(16), 0)
        if version == 1:
            probation.proven(air.state)
    assert store.put_back(air.state) == policy(1)


def test_a_damaged_policy_in_force_is_mended_by_the_drop(air):
    air.offer(policy(3))
    air.take()
    for damage in (b"", bytes(300_000)):
        (air.state / store.ACTIVE).write_bytes(damage)
        assert air.take().changed is True
        assert air.in_force() == 3


def test_a_region_may_change_its_keys_more_often_than_one_update_follows(air, monkeypatch):
    monkeypatch.setattr(update, "MAX_ROTATIONS", 3)
    air.offer(policy(1))
    for number in range(1, 13):
        rotate(air.region, "timestamp", f"timestamp-{number}", keys=(), now=NOW)
        if number in (2, 4):  # a car that follows meets no end of it
            assert air.take().version == 1
    air.offer(policy(2))
    with pytest.raises(PolicyError, match="signed by 0/1 keys"):  # too far behind: in two steps
        air.take()
    assert air.take().version == 2


def test_a_folder_that_is_no_repository_is_named(air, tmp_path):
    with pytest.raises(ConfigError, match="holds no policy repository"):
        air.take(tmp_path)


def test_a_full_disk_is_for_later(air, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    air.offer(policy(1))
    with monkeypatch.context() as patch:
        patch.setattr(update, "write_whole", full)
        with pytest.raises(PolicyLaterError, match="No space left"):
            air.take()
    assert air.take().version == 1


def test_a_card_with_a_damaged_root_is_refused_in_one_line(air):
    air.offer(policy(1))
    drop = air.drop()
    for root in (b"{}", b'{"signed": {}}', air.root.replace(b'"threshold":2', b'"threshold":9')):
        air.root = root
        with pytest.raises(PolicyError, match="the policy repository is refused"):
            air.take(drop)


def test_the_agent_that_runs_never_loads_tuf():
    code = (
        "import sys, agent.service.capture, agent.service.uplink, agent.policy.probation, "
        "agent.policy.rehearsal, agent.station.authority\n"
        "print([m for m in sys.modules if m.split('.')[0] in ('tuf', 'securesystemslib', "
        "'urllib3')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- trusted time of a command ------------------------------------------------------------------


def spool(state: Path, floor: bytes | None) -> None:
    path = state / "spool" / "spool.db"
    path.parent.mkdir(parents=True)
    migrate(path)
    if floor is not None:
        with sqlite3.connect(path) as db:
            db.execute("INSERT INTO meta VALUES ('floor', ?)", (floor,))
        db.close()


def test_the_floor_of_the_spool_is_read_while_it_is_being_written(tmp_path):
    floor = BUILD_FLOOR_NS + YEAR_NS
    spool(tmp_path, floor.to_bytes(8, "big"))
    writer = sqlite3.connect(tmp_path / "spool" / "spool.db")
    writer.execute("BEGIN IMMEDIATE")
    assert spool_floor_ns(tmp_path) == floor
    writer.rollback()
    writer.close()
    in_1970 = Reading(wall_ns=0, boottime_ns=5)
    assert trusted_now_ns(tmp_path, in_1970) == floor
    later = Reading(wall_ns=floor + YEAR_NS, boottime_ns=5)
    assert trusted_now_ns(tmp_path, later) == floor + YEAR_NS


@pytest.mark.parametrize("value", [None, b"", b"\xff" * 40])
def test_a_spool_without_a_floor_tells_none(tmp_path, value):
    spool(tmp_path, value)
    assert spool_floor_ns(tmp_path) == 0


def test_no_spool_or_a_broken_one_tells_none_and_is_not_made(tmp_path):
    assert spool_floor_ns(tmp_path) == 0
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool" / "spool.db").write_bytes(b"not a database" * 100)
    assert spool_floor_ns(tmp_path) == 0
    assert trusted_now_ns(tmp_path, Reading(0, 0)) == BUILD_FLOOR_NS
