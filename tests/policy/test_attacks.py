"""Attacks on the way of a policy into the car (P1, P9): each leaves the policy in force as it was.

T49 to T61 of the threat model. Whoever sits in the network, at the broker or at a USB port, holds
the files but not enough keys; whoever holds one key holds not enough of them.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
from pathlib import Path

import pytest
import urllib3
from securesystemslib.signer import CryptoSigner
from tuf.api.exceptions import DownloadError

from agent.errors import InlandError, PolicyError
from agent.policy import probation, store, update
from agent.policy.compiled import read_policy
from agent.policy.drop_dir import DropDir
from agent.policy.rehearsal import rehearse
from agent.station.publish import rotate
from tests.policy import making
from tests.policy.air import DAY, NOW, Air, policy
from tests.policy.cuts import PowerCutError, every_cut

VECTORS = making.DATA / "vectors" / "python_tuf_repository_data"


@pytest.fixture
def air(tmp_path) -> Air:
    """A car that runs version 5 of its region's policy."""
    made = Air(tmp_path / "air")
    made.offer(policy(5))
    made.take()
    return made


def refused(air: Air, drop: Path, match: str, **more: object) -> None:
    """The drop is refused with a reason, and version 5 stays in force."""
    before = store.active(air.state)
    with pytest.raises(PolicyError, match=match) as error:
        air.take(drop, **more)
    assert "\n" not in str(error.value)
    assert store.active(air.state) == before
    assert (air.in_force(), store.floor(air.state)) == (5, 5)


def test_t49_one_signer_of_two_is_not_enough(air):
    refused(air, air.sneak(policy(6), by=air.signers("targets")[:1]), "signed by 1/2 keys")


def test_t49_one_signer_twice_is_still_one(air):
    one = air.signers("targets")[:1]
    refused(air, air.sneak(policy(6), by=one * 2), "signed by 1/2 keys")


def test_t50_keys_that_nobody_named_sign_nothing(air):
    strangers = [CryptoSigner.generate_ed25519() for _ in range(3)]
    refused(air, air.sneak(policy(6), by=strangers), "signed by 0/2 keys")


def test_t50_the_online_keys_cannot_sign_policies(air):
    online = air.signers("snapshot") + air.signers("timestamp")
    refused(air, air.sneak(policy(6), by=online), "signed by 0/2 keys")


def test_t51_keys_that_were_rotated_out_sign_nothing(air):
    stolen = air.signers("targets")[:2]
    for name in ("targets-1", "targets-2"):
        rotate(air.region, "targets", name, keys=(), now=NOW)
    refused(air, air.sneak(policy(6), by=stolen), "signed by 0/2 keys")
    current = air.signers("targets")[2:4]
    assert air.take(air.sneak(policy(7), by=current)).version == 7


def test_t52_yesterdays_repository_is_refused(air):
    yesterday = air.drop()
    air.offer(policy(6))
    air.take()
    with pytest.raises(PolicyError, match="version"):
        air.take(yesterday)
    assert air.in_force() == 6


def test_t53_yesterdays_repository_is_refused_by_the_floor_when_tuf_forgot(air):
    yesterday = air.drop()
    air.offer(policy(6))
    air.take()
    air.forget_tuf()
    with pytest.raises(PolicyError, match="version 5 is not newer than version 6"):
        air.take(yesterday)
    assert air.in_force() == 6


def test_t53_nor_when_the_policies_were_lost_as_well(air):
    air.forget_tuf()
    for name in (store.ACTIVE, store.PREVIOUS):
        (air.state / name).unlink(missing_ok=True)
    with pytest.raises(PolicyError, match="version 4 is not newer than version 5"):
        air.take(air.sneak(policy(4)))


def test_t54_a_lower_version_is_refused_whoever_signed_it(air):
    refused(air, air.sneak(policy(4)), "version 4 is not newer than version 5")


def test_t54_the_same_version_with_other_content_is_refused(air):
    refused(air, air.sneak(policy(5, name="other")), "version 5 is not newer than version 5")


def test_t54_the_signers_and_the_policy_must_agree_on_the_version(air):
    refused(air, air.sneak(policy(6), custom={"version": 7, "percent": 100}), "calls it version 7")


def test_t55_a_repository_that_was_held_back_is_refused(air):
    air.offer(policy(6))
    frozen = air.drop()
    # The wall clock is not asked: trusted time is an argument, and 60 days have gone by.
    refused(air, frozen, "timestamp.json is expired", now=NOW + 60 * DAY)


def test_t55_expired_metadata_takes_no_policy_out_of_force(air):
    refused(air, air.drop(), "expired; ask the region", now=NOW + 60 * DAY)
    assert air.in_force() == 5


def test_t55_the_wall_clock_has_no_say(air, monkeypatch):
    import datetime

    class Never(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.datetime(1970, 1, 1, tzinfo=tz)

    monkeypatch.setattr("tuf.ngclient._internal.trusted_metadata_set.datetime.datetime", Never)
    refused(air, air.drop(), "timestamp.json is expired", now=NOW + 60 * DAY)


def test_t56_another_regions_policy_is_refused_whoever_signed_it(air):
    refused(
        air, air.sneak(policy(6, region="urn:inland:region:eu")), "not for urn:inland:region:cn"
    )


def test_t56_another_regions_repository_is_refused(air, tmp_path):
    other = Air(tmp_path / "other")
    other.offer(policy(6))
    with pytest.raises(PolicyError, match="signed by 0/"):
        air.take(other.drop())
    assert air.in_force() == 5


HOSTILE = [
    b"", b"{", b"\xff" * 40, bytes(1000), policy(6)[:-1], policy(6) + b"\xfa\x07\x01x",
    b"[" * 100_000, os.urandom(500), policy(6, not_after_unix=1), bytes(240 * 1024 + 1),
]  # fmt: skip


@pytest.mark.parametrize("data", HOSTILE, ids=range(len(HOSTILE)))
def test_t57_hostile_but_signed_bytes_are_refused(air, data):
    refused(air, air.sneak(data), "policy")


HOSTILE_CUSTOM = [
    {"version": True}, {"version": "6"}, {"version": -1}, {"version": 2**80},
    {"percent": 101, "version": 6}, [], "x", {"percent": None, "version": [6]},
]  # fmt: skip


@pytest.mark.parametrize("custom", HOSTILE_CUSTOM, ids=str)
def test_t57_hostile_but_signed_custom_data_is_refused(air, custom):
    with pytest.raises(PolicyError):
        air.take(air.sneak(policy(6), custom=custom))
    assert air.in_force() == 5


HOSTILE_METADATA = [
    b"", b"{}", b"[]", b"null", b"[" * 15_000, b'{"a":' * 2000, b"\xff\xfe", b'{"signed": NaN}',
    b'{"signed":{"_type":"timestamp"},"signatures":[]}',
    b'{"signed":{"_type":"timestamp","version":' + b"9" * 5000 + b'},"signatures":[]}',
    json.dumps({"signed": {"_type": "\ud800", "version": 1}, "signatures": [{}]}).encode(),
]  # fmt: skip


@pytest.mark.skipif(not VECTORS.is_dir(), reason="needs python-tuf's own repository data")
def test_t57_other_peoples_repositories_are_refused(air):
    """Real and odd metadata: other keys, other formats, role names with every kind of sign."""
    tried = 0
    for path in sorted(VECTORS.rglob("*.json")):
        drop = air.folder / f"other-{tried}"
        (drop / "metadata").mkdir(parents=True)
        for name in ("2.root", "timestamp", "3.snapshot", "3.targets"):
            (drop / "metadata" / f"{name}.json").write_bytes(path.read_bytes())
        refused(air, drop, "the policy repository is refused")
        tried += 1
    assert tried > 20


@pytest.mark.parametrize("number", range(len(HOSTILE_METADATA)))
@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets", "root"])
def test_t57_hostile_metadata_is_refused(air, role, number):
    air.offer(policy(6))
    drop = air.drop()
    name = "2.root" if role == "root" else role
    [path] = list((drop / "metadata").glob(f"*{role}.json"))
    path = path if role != "root" else drop / "metadata" / f"{name}.json"
    path.write_bytes(HOSTILE_METADATA[number])
    refused(air, drop, "the policy repository is refused")


def test_t58_ten_new_roots_while_the_car_was_away_are_taken_in_one_go(air):
    for number in range(10):
        rotate(air.region, "root", f"root-{number + 1}", keys=(), now=NOW)
    air.offer(policy(6))
    assert air.take().version == 6
    # The same again from nothing but the card, as a car from the factory's shelf does it.
    assert air.take(state=air.folder / "fresh").version == 6


def test_t58_a_gap_in_the_root_chain_is_refused(air):
    for number in range(3):
        rotate(air.region, "timestamp", f"timestamp-{number + 1}", keys=(), now=NOW)
    air.offer(policy(6))
    drop = air.drop()
    (drop / "metadata" / "3.root.json").unlink()
    refused(air, drop, "signed by 0/1 keys")


def test_t59_links_pipes_and_floods_in_the_folder_are_refused_without_waiting(air, tmp_path):
    air.offer(policy(6))

    def with_timestamp(make) -> Path:
        drop = air.drop()
        path = drop / "metadata" / "timestamp.json"
        kept = tmp_path / "kept.json"
        path.rename(kept)
        make(path, kept)
        return drop

    refused(air, with_timestamp(lambda path, kept: path.symlink_to(kept)), "cannot be read")
    refused(air, with_timestamp(lambda path, _: os.mkfifo(path)), "not a regular file")
    refused(air, with_timestamp(lambda path, _: path.mkdir()), "not a regular file")
    refused(air, with_timestamp(lambda path, _: path.symlink_to("/dev/zero")), "cannot be read")
    refused(air, with_timestamp(lambda path, _: path.write_bytes(bytes(10**7))), "more than 16384")
    refused(air, with_timestamp(lambda *_: None), "timestamp.json is missing")


def test_t59_a_linked_folder_is_refused(air):
    air.offer(policy(6))
    drop = air.drop()
    (drop / "metadata").rename(drop / "elsewhere")
    (drop / "metadata").symlink_to(drop / "elsewhere")
    refused(air, drop, "cannot be read")


@pytest.mark.parametrize("name", ["../../../etc/passwd", "a/b.policy", ".hidden", "x" * 200])
def test_t59_a_signed_name_leads_nowhere_else(air, name):
    def rename(targets) -> None:
        target = targets.targets.pop("default.policy")
        target.path = name
        targets.targets["default.policy"] = target
        target.hashes = {"sha256": name}

    with pytest.raises(InlandError):
        air.sneak(policy(6), edit=rename)  # the region's own export does not follow it either
    refused(air, air.repository.folder, "is no name in a policy repository")
    with pytest.raises(DownloadError, match="is no name in a policy repository"):
        DropDir(air.repository.folder).download_bytes(f"targets/{name}", 10)


def test_t59_a_signed_hash_leads_nowhere_else(air):
    def climb(targets) -> None:
        targets.targets["default.policy"].hashes = {"sha256": "../metadata/timestamp"}

    with pytest.raises(InlandError):
        air.sneak(policy(6), edit=climb)
    refused(air, air.repository.folder, "is no name in a policy repository")


def test_t59_a_swapped_policy_is_refused(air):
    air.offer(policy(6))
    drop = air.drop()
    for path in (drop / "targets").iterdir():
        path.write_bytes(policy(7))
    refused(air, drop, "the policy repository is refused")


def test_t60_a_power_cut_at_any_step_leaves_a_readable_policy_that_is_not_older(air):
    air.offer(policy(6))
    drop = air.drop()

    def prepare(folder: Path) -> None:
        shutil.copytree(air.state, folder / "state")

    cuts = 0

    def take(folder: Path) -> None:
        air.take(drop, state=folder / "state", rehearsal=lambda _: None)

    for folder, done in every_cut(air.folder, prepare, take):
        state = folder / "state"
        version = read_policy(store.active(state)).version
        assert version == 6 if done else version in (5, 6)
        assert store.floor(state) >= version
        acknowledged = store.floor(state)
        again = air.take(drop, state=state, rehearsal=lambda _: None)
        assert again.version == 6, "the same drop again comes to its end"
        assert read_policy(store.active(state)).version >= acknowledged
        cuts += not done
    assert cuts >= 25


def test_t60_cuts_upon_cuts_never_go_back(air):
    """300 installations, each cut anywhere, one after the other over the same folder."""
    rng, state = random.Random(7), air.folder / "worn"
    newest = 0
    for version in range(1, 301):
        try:
            with _cut_after(rng.randrange(16)):
                store.install(state, policy(version))
            newest = version
        except PowerCutError:
            pass
        data = store.active(state) if state.is_dir() else None
        in_force = read_policy(data).version if data is not None else 0
        assert newest <= in_force <= version
        newest = in_force
    assert newest > 200


def _cut_after(steps: int):
    from tests.policy.cuts import _cutting

    return _cutting([steps])


def test_t61_a_policy_that_brings_the_agent_down_is_put_back_and_not_taken_again(air):
    air.offer(policy(6))
    air.take()
    bad, boot = read_policy(policy(6)).digest, b"\x01" * 16
    assert [probation.began(air.state, bad, boot, second * 10**9) for second in (1, 20, 40)] == (
        [False] * 3
    )
    assert probation.began(air.state, bad, boot, 60 * 10**9)
    assert (air.in_force(), store.floor(air.state)) == (5, 6)
    with pytest.raises(PolicyError, match="was put back because the agent did not run with it"):
        air.take()
    air.offer(policy(7))
    assert air.take().version == 7


def test_a_dry_run_that_fails_keeps_the_policy_in_force(air):
    def fails(_: object) -> None:
        raise PolicyError("the dry run failed")

    air.offer(policy(6))
    drop = air.drop()
    refused(air, drop, "the dry run failed", rehearsal=fails)
    assert air.take(drop, rehearsal=rehearse).version == 6


def test_a_byte_changed_anywhere_is_refused_or_harmless(air):
    """A sample of all bytes of all files; harmless is what changes no policy but the right one."""
    air.offer(policy(6))
    drop, rng = air.drop(), random.Random(11)
    refusals = 0
    for path in sorted(one for one in drop.rglob("*") if one.is_file()):
        good = path.read_bytes()
        for at in rng.sample(range(len(good)), 12):
            state = air.folder / "once"
            shutil.copytree(air.state, state)
            path.write_bytes(good[:at] + bytes([good[at] ^ 1 << rng.randrange(8)]) + good[at + 1 :])
            try:
                assert air.take(drop, state=state).version == 6
                assert store.active(state) == policy(6)
            except PolicyError:
                refusals += 1
                assert store.active(state) == policy(5)
            shutil.rmtree(state)
        path.write_bytes(good)
    assert refusals >= 40


def test_a_cache_of_rubbish_is_got_over(air):
    air.offer(policy(6))
    for path in (air.state / "tuf").rglob("*.json"):
        path.write_bytes(os.urandom(100))
    assert air.take().version == 6


def test_nothing_is_ever_asked_over_a_network(air, monkeypatch):
    def never(*_: object, **__: object) -> None:
        raise AssertionError("somebody dialled")

    monkeypatch.setattr(socket.socket, "connect", never)
    monkeypatch.setattr(socket, "getaddrinfo", never)
    monkeypatch.setattr(urllib3.PoolManager, "urlopen", never)
    monkeypatch.setattr(urllib3.connectionpool.HTTPConnectionPool, "urlopen", never)
    air.offer(policy(6))
    assert air.take().version == 6


# --- planted bugs: each lets one attack through, and its test would see it ----------------------


def test_without_the_floor_yesterdays_repository_would_get_in(air, monkeypatch):
    yesterday = air.drop()
    air.offer(policy(6))
    air.take()
    air.forget_tuf()
    monkeypatch.setattr(store, "_check_version", lambda *_: None)
    air.take(yesterday)
    assert air.in_force() == 5


def test_with_the_wall_clock_a_frozen_repository_would_get_in(air, monkeypatch):
    air.offer(policy(6))
    frozen = air.drop()

    class Careless(update._Client):
        def __init__(self, cache, drop, root, _now_ns):
            super().__init__(cache, drop, root, int(NOW.timestamp()) * 10**9)

    monkeypatch.setattr(update, "_Client", Careless)
    air.take(frozen, now=NOW + 60 * DAY)
    assert air.in_force() == 6


def test_with_a_fetcher_that_follows_links_one_would_be_read(air, monkeypatch, tmp_path):
    air.offer(policy(6))
    drop = air.drop()
    path = drop / "metadata" / "timestamp.json"
    path.rename(tmp_path / "kept.json")
    path.symlink_to(tmp_path / "kept.json")
    monkeypatch.setattr("agent.policy.drop_dir._FLAGS", os.O_RDONLY)
    assert air.take(drop).version == 6
