"""The policy in force: expiry, exchange, removal, and files that are no policies."""

from __future__ import annotations

from pathlib import Path

from agent.capture.slot import Change, PolicySlot
from agent.policy import store
from agent.policy.build import build_policy
from tests.rig import EVERYTHING

REGION = "urn:inland:region:cn"
NOW_NS = 1_800_000_000 * 10**9
END_NS = 1_861_833_600 * 10**9  # 2028-12-31, the first moment at which it decides nothing more


def built(folder: Path, version: int = 1, *, region: str = "cn") -> bytes:
    text = EVERYTHING.replace("version = 1", f"version = {version}")
    text = text.replace("2099-12-31", "2028-12-31").replace('"cn"', f'"{region}"')
    (folder / "p.toml").write_text(text, "utf-8")
    return build_policy(folder / "p.toml")


def told(change: Change | None) -> tuple[int | None, str] | None:
    return change and (change.policy.version if change.policy else None, change.why)


def test_without_a_policy_nothing_is_in_force(tmp_path: Path):
    slot = PolicySlot(tmp_path / "policy", REGION)
    assert told(slot.look(NOW_NS)) == (None, "started")
    assert slot.look(NOW_NS) is None


def test_installed_exchanged_and_removed_while_running(tmp_path: Path):
    folder = tmp_path / "policy"
    slot = PolicySlot(folder, REGION)
    slot.look(NOW_NS)
    store.install(folder, built(tmp_path, 1))
    change = slot.look(NOW_NS)
    assert told(change) == (1, "installed")
    assert change is not None
    assert change.data == built(tmp_path, 1)
    store.install(folder, built(tmp_path, 2))
    assert told(slot.look(NOW_NS)) == (2, "installed")
    assert slot.look(NOW_NS) is None
    (folder / store.ACTIVE).unlink()
    assert told(slot.look(NOW_NS)) == (None, "removed")
    assert slot.look(NOW_NS) is None


def test_expires_at_its_moment_and_once(tmp_path: Path):
    folder = tmp_path / "policy"
    store.install(folder, built(tmp_path))
    slot = PolicySlot(folder, REGION)
    change = slot.look(NOW_NS)
    assert told(change) == (1, "started")
    assert change is not None
    assert change.policy is not None
    end_ns = change.policy.not_after_ns
    assert slot.look(end_ns - 1) is None
    assert told(slot.look(end_ns)) == (None, "expired")
    assert slot.look(end_ns + 1) is None
    # A new policy ends that, also if nothing was in force.
    store.install(folder, built(tmp_path, 2))
    assert slot.look(end_ns + 1) is None  # it has the same end: refused, nothing changes
    assert told(PolicySlot(folder, REGION).look(end_ns)) == (None, "unreadable")


def test_bad_file_does_not_replace_the_policy_in_force(tmp_path: Path):
    folder = tmp_path / "policy"
    store.install(folder, built(tmp_path))
    slot = PolicySlot(folder, REGION)
    slot.look(NOW_NS)
    (folder / store.ACTIVE).write_bytes(b"no policy")
    assert slot.look(NOW_NS) is None
    (folder / store.ACTIVE).write_bytes(built(tmp_path, 3, region="eu"))
    assert slot.look(NOW_NS) is None
    assert told(slot.look(END_NS + 86_400 * 10**9)) == (None, "expired")


def test_corrupt_file_at_a_start_gives_way_to_the_one_before(tmp_path: Path):
    folder = tmp_path / "policy"
    store.install(folder, built(tmp_path, 1))
    store.install(folder, built(tmp_path, 2))
    for bad in (b"", b"no policy", built(tmp_path, 2)[:-7]):
        (folder / store.ACTIVE).write_bytes(bad)
        assert told(PolicySlot(folder, REGION).look(NOW_NS)) == (1, "started")
    (folder / store.PREVIOUS).write_bytes(b"neither")
    assert told(PolicySlot(folder, REGION).look(NOW_NS)) == (None, "unreadable")
