"""The policy on disk: a bad or older one never replaces a good one, nor does half a write."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from agent.digest import sha256
from agent.errors import ConfigError, PolicyError, PolicyLaterError
from agent.policy import store
from agent.policy.store import active, floor, install, previous, put_back
from tests.policy import making
from tests.policy.cuts import every_cut


def policy(version: int, **more: object) -> bytes:
    return making.compiled([], version=version, **more)


def test_nothing_is_in_force_at_first(tmp_path):
    folder = tmp_path / "policy"
    assert (active(folder), previous(folder), floor(folder)) == (None, None, 0)


def test_versions_rise_and_the_one_before_is_kept(tmp_path):
    folder = tmp_path / "state" / "policy"
    for version in (1, 2, 5):
        assert install(folder, policy(version)) is True
    assert (active(folder), previous(folder), floor(folder)) == (policy(5), policy(2), 5)
    assert sorted(path.name for path in folder.iterdir()) == [
        "active.policy", "floor", "previous.policy",
    ]  # fmt: skip


def test_the_same_bytes_again_are_a_quiet_no_op(tmp_path):
    install(tmp_path, policy(3))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert install(tmp_path, policy(3)) is False
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("version", [2, 3])
def test_a_version_that_does_not_rise_is_refused_with_both_numbers(tmp_path, version):
    install(tmp_path, policy(3))
    with pytest.raises(PolicyError, match=f"version {version} is not newer than version 3"):
        install(tmp_path, policy(version, name="other"))
    assert active(tmp_path) == policy(3)


def test_broken_bytes_never_replace_a_good_policy(tmp_path):
    install(tmp_path, policy(3))
    for broken in (b"\xff", policy(4)[:-1], policy(4) + b"\xfa\x07\x01x", bytes(300_000)):
        with pytest.raises(PolicyError):
            install(tmp_path, broken)
    assert active(tmp_path) == policy(3)


DAMAGE = [b"", b"\xff" * 40, bytes(300_000)]


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_gives_way_but_not_to_an_older_version(tmp_path, damage):
    install(tmp_path, policy(3))
    install(tmp_path, policy(4))
    (tmp_path / store.ACTIVE).write_bytes(damage)
    with pytest.raises(PolicyError):
        install(tmp_path, policy(2))
    assert install(tmp_path, policy(5)) is True
    assert (active(tmp_path), previous(tmp_path)) == (policy(5), policy(3))


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_was_in_force_mends_its_own_damaged_file(tmp_path, damage):
    install(tmp_path, policy(4))
    (tmp_path / store.ACTIVE).write_bytes(damage)
    assert install(tmp_path, policy(4)) is True
    assert active(tmp_path) == policy(4)


@pytest.mark.parametrize("damage", [*DAMAGE, b"99 zz in-force\n", b"3\n"])
def test_without_its_file_the_floor_is_what_the_policies_say(tmp_path, damage):
    install(tmp_path, policy(4))
    (tmp_path / store.FLOOR).write_bytes(damage)
    assert floor(tmp_path) == 4
    with pytest.raises(PolicyError):
        install(tmp_path, policy(3))


def test_the_floor_outlives_the_policies(tmp_path):
    install(tmp_path, policy(4))
    for name in (store.ACTIVE, store.PREVIOUS):
        (tmp_path / name).unlink(missing_ok=True)
    with pytest.raises(PolicyError, match="version 3 is not newer than version 4"):
        install(tmp_path, policy(3))


def test_putting_back_leaves_the_floor_and_never_takes_that_policy_again(tmp_path):
    install(tmp_path, policy(3))
    install(tmp_path, policy(5))
    assert put_back(tmp_path) == policy(3)
    assert (active(tmp_path), previous(tmp_path), floor(tmp_path)) == (policy(3), None, 5)
    assert store.is_put_back(tmp_path, sha256(policy(5)))
    with pytest.raises(PolicyError, match="was put back because the agent did not run with it"):
        install(tmp_path, policy(5))
    with pytest.raises(PolicyError, match="version 4 is not newer than version 5"):
        install(tmp_path, policy(4))
    assert install(tmp_path, policy(3)) is False
    assert install(tmp_path, policy(6)) is True
    assert (active(tmp_path), previous(tmp_path)) == (policy(6), policy(3))


def test_the_first_policy_is_put_back_to_none(tmp_path):
    install(tmp_path, policy(1))
    assert put_back(tmp_path) is None
    assert (active(tmp_path), floor(tmp_path)) == (None, 1)


def test_putting_back_twice_does_not_go_further_back(tmp_path):
    for version in (1, 2, 3):
        install(tmp_path, policy(version))
    put_back(tmp_path)
    assert put_back(tmp_path) == policy(2)


def test_an_unproven_policy_does_not_take_the_place_of_the_last_good_one(tmp_path):
    install(tmp_path, policy(1))
    install(tmp_path, policy(2))
    install(tmp_path, policy(3), proven=False)  # 2 has not run yet
    assert (active(tmp_path), previous(tmp_path)) == (policy(3), policy(1))


# --- power cuts ---------------------------------------------------------------------------------


def standing(folder: Path, *, newest: bool) -> None:
    """What must hold after any cut of an installation of 3 over 2 over 1."""
    assert active(folder) == policy(3) if newest else active(folder) in (policy(2), policy(3))
    assert previous(folder) in (policy(1), policy(2))
    assert floor(folder) in (2, 3)
    with pytest.raises(PolicyError):
        install(folder, policy(1))
    assert install(folder, policy(4)) is True
    assert (active(folder), floor(folder)) == (policy(4), 4)


def test_a_power_cut_at_any_step_leaves_a_whole_policy(tmp_path):
    def prepare(folder: Path) -> None:
        install(folder, policy(1))
        install(folder, policy(2))

    cuts = 0
    for folder, done in every_cut(tmp_path, prepare, lambda folder: install(folder, policy(3))):
        standing(folder, newest=done)
        cuts += not done
    assert cuts >= 12


def test_a_power_cut_while_putting_back_is_finished_later(tmp_path):
    def prepare(folder: Path) -> None:
        install(folder, policy(1))
        install(folder, policy(2))

    cuts = 0
    for folder, done in every_cut(tmp_path, prepare, put_back):
        assert active(folder) == policy(1) if done else active(folder) in (policy(1), policy(2))
        assert floor(folder) == 2
        if store.is_put_back(folder, sha256(policy(2))):
            with pytest.raises(PolicyError, match="was put back"):
                install(folder, policy(2))
            assert active(folder) == policy(1)
        cuts += not done
    assert cuts >= 6


def test_a_store_that_writes_over_the_file_is_caught(tmp_path, monkeypatch):
    """The planted bug: the cuts would find a store that does not rename."""

    def careless(folder: Path, data: bytes, *, displace: bool) -> None:
        (folder / store.ACTIVE).write_bytes(b"")
        os.fsync(os.open(folder, os.O_RDONLY))
        (folder / store.ACTIVE).write_bytes(data)

    def prepare(folder: Path) -> None:
        install(folder, policy(1))
        install(folder, policy(2))

    def careless_install(folder: Path) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(store, "_replace", careless)
            install(folder, policy(3))

    def check() -> None:
        for folder, done in every_cut(tmp_path, prepare, careless_install):
            standing(folder, newest=done)

    with pytest.raises(AssertionError):
        check()


def test_the_new_file_is_on_the_disk_before_its_name_is(tmp_path, monkeypatch):
    calls = []
    real_sync, real_replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append("fsync"), real_sync(fd))[1])
    monkeypatch.setattr(
        Path, "replace", lambda self, to: (calls.append(to.name), real_replace(self, to))[1]
    )
    install(tmp_path, policy(1))
    install(tmp_path, policy(2))
    noted = ["fsync", store.FLOOR, "fsync"]
    named = ["fsync"]  # the policy folder itself
    first = [*named, "fsync", store.ACTIVE, "fsync", *noted]
    second = [*named, "fsync", store.PREVIOUS, store.ACTIVE, "fsync", *noted]
    assert calls == first + second


# --- the disk says no ---------------------------------------------------------------------------


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot store the policy"):
        install(tmp_path / "file" / "policy", policy(1))


def test_a_full_disk_is_for_later_and_changes_nothing(tmp_path, monkeypatch):
    install(tmp_path, policy(1))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(store, "write_new", full)
        with pytest.raises(PolicyLaterError, match="No space left") as error:
            install(tmp_path, policy(2))
    assert error.value.exit_code == 75
    assert (active(tmp_path), install(tmp_path, policy(2))) == (policy(1), True)
