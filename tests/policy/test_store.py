"""The policy on disk: a bad or older one never replaces a good one, nor does half a write."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.errors import ConfigError, PolicyError
from agent.policy import store
from agent.policy.store import active, install, previous
from tests.policy import making


def policy(version: int, **more: object) -> bytes:
    return making.compiled([], version=version, **more)


def test_nothing_is_in_force_at_first(tmp_path):
    assert active(tmp_path / "policy") is None
    assert previous(tmp_path / "policy") is None


def test_versions_rise_and_the_one_before_is_kept(tmp_path):
    folder = tmp_path / "state" / "policy"
    for version in (1, 2, 5):
        assert install(folder, policy(version)) is True
    assert (active(folder), previous(folder)) == (policy(5), policy(2))
    assert sorted(path.name for path in folder.iterdir()) == ["active.policy", "previous.policy"]


def test_the_same_bytes_again_are_a_quiet_no_op(tmp_path):
    install(tmp_path, policy(3))
    before = (tmp_path / store.ACTIVE).stat().st_mtime_ns
    assert install(tmp_path, policy(3)) is False
    assert (tmp_path / store.ACTIVE).stat().st_mtime_ns == before


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


@pytest.mark.parametrize("damage", [b"", b"\xff" * 40, bytes(300_000)])
def test_a_damaged_file_gives_way_but_not_to_an_older_version(tmp_path, damage):
    install(tmp_path, policy(3))
    install(tmp_path, policy(4))
    (tmp_path / store.ACTIVE).write_bytes(damage)
    with pytest.raises(PolicyError):
        install(tmp_path, policy(2))
    assert install(tmp_path, policy(5)) is True
    assert active(tmp_path) == policy(5)


class PowerCutError(Exception):
    pass


STEPS = ("open", "fsync", "replace", "hardlink_to", "unlink")


@pytest.mark.parametrize("after", range(10))
def test_a_power_cut_at_any_step_leaves_a_whole_policy(tmp_path, monkeypatch, after):
    install(tmp_path, policy(1))
    install(tmp_path, policy(2))
    left = [after]

    def cutting(function):
        def step(*args, **kwargs):
            if left[0] == 0:
                raise PowerCutError
            left[0] -= 1
            return function(*args, **kwargs)

        return step

    with monkeypatch.context() as patch:
        for name in STEPS:
            home = os if name in ("open", "fsync") else Path
            patch.setattr(home, name, cutting(getattr(home, name)))
        try:
            install(tmp_path, policy(3))
            done = True
        except PowerCutError:
            done = False
    assert active(tmp_path) == policy(3) if done else active(tmp_path) in (policy(2), policy(3))
    assert previous(tmp_path) in (policy(1), policy(2))
    assert install(tmp_path, policy(4)) is True
    assert (active(tmp_path), left[0] >= 0) == (policy(4), True)


def test_the_new_file_is_on_the_disk_before_its_name_is(tmp_path, monkeypatch):
    calls = []
    real_sync, real_replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append("fsync"), real_sync(fd))[1])
    monkeypatch.setattr(
        Path, "replace", lambda self, to: (calls.append(to.name), real_replace(self, to))[1]
    )
    install(tmp_path, policy(1))
    install(tmp_path, policy(2))
    first = ["fsync", store.ACTIVE, "fsync"]
    second = ["fsync", store.PREVIOUS, store.ACTIVE, "fsync"]
    assert calls == first + second


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot store the policy"):
        install(tmp_path / "file" / "policy", policy(1))
