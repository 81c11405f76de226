"""Publishing: what is on offer is whole at every moment, signed by enough, and only rises."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from tuf.api.metadata import Metadata, Root

from agent.cli.policy import command as car_command
from agent.cli.station_policy import policy as command
from agent.errors import ConfigError, InlandError, PolicyError, StationError
from agent.pb.delivery_pb2 import PolicyBundle
from agent.policy.compiled import read_policy
from agent.region import load_region_card
from agent.station.enrollment import enroll_vehicle
from agent.station.offer import MAX_BUNDLE_BYTES, bundle, export
from agent.station.policy_repository import Repository
from agent.station.publish import (
    expiring,
    listing,
    publish,
    refresh,
    refresh_when_due,
    rotate,
    withdraw_next,
)
from agent.station.store import Store
from tests.policy import making
from tests.policy.air import DAY, NOW, Air, policy
from tests.policy.cuts import every_cut


@pytest.fixture
def air(tmp_path) -> Air:
    return Air(tmp_path / "air")


def offers(air: Air) -> list[tuple[str, int, int]]:
    return [
        (one["target"], one["version"], one["percent"]) for one in listing(air.region)["offers"]
    ]


def test_a_policy_for_some_then_for_all(air):
    assert offers(air) == []
    assert air.offer(policy(1)).signed_by == ("targets-1", "targets-2", "targets-3")
    air.offer(policy(2), percent=10)
    assert offers(air) == [("default.next.policy", 2, 10), ("default.policy", 1, 100)]
    air.offer(policy(2), percent=50)
    assert offers(air)[0] == ("default.next.policy", 2, 50)
    air.offer(policy(2))
    assert offers(air) == [("default.policy", 2, 100)]


def test_the_same_publication_again_changes_nothing(air):
    air.offer(policy(1))
    before = bundle(air.folder, "default")
    assert air.offer(policy(1)).changed is False
    assert bundle(air.folder, "default") == before


@pytest.mark.parametrize("version", [1, 2])
def test_a_version_that_does_not_rise_is_refused(air, version):
    air.offer(policy(2))
    with pytest.raises(StationError, match=f"version {version} is not above version 2"):
        air.offer(policy(version, name="other"))
    with pytest.raises(StationError, match="is not above"):
        air.offer(policy(version, name="other"), percent=10)


def test_a_withdrawn_version_is_not_offered_again(air):
    air.offer(policy(1))
    air.offer(policy(2), percent=10)
    assert withdraw_next(air.region, group="default", keys=(), now=NOW) == 2
    assert offers(air) == [("default.policy", 1, 100)]
    with pytest.raises(StationError, match="version 2 is not above version 2"):
        air.offer(policy(2, name="other"))
    with pytest.raises(StationError, match="nothing is staged"):
        withdraw_next(air.region, group="default", keys=(), now=NOW)


def test_groups_do_not_touch_each_other(air):
    air.offer(policy(5))
    air.offer(policy(1), group="taxi")
    one, other = (PolicyBundle.FromString(bundle(air.folder, g)) for g in ("default", "taxi"))
    targets = [[f.name for f in b.file if f.name.startswith("targets/")] for b in (one, other)]
    assert [len(names) for names in targets] == [1, 1]
    assert targets[0] != targets[1]
    assert bundle(air.folder, "none") == b""


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"\xff", "compiled policy"),
        (b"policy = 'x'", "compiled policy"),
        (policy(1, region="urn:inland:region:eu"), "is for region"),
        (policy(1, not_after_unix=1_700_000_000), "has expired"),
    ],
)
def test_what_no_car_would_take_is_not_published(air, data, match):
    with pytest.raises(PolicyError, match=match):
        air.offer(data)
    assert offers(air) == []


@pytest.mark.parametrize("percent", [0, -1, 101])
def test_a_share_that_is_none_is_refused(air, percent):
    with pytest.raises(ConfigError, match="percent must be 1 to 100"):
        air.offer(policy(1), percent=percent)


@pytest.mark.parametrize("group", ["", "a.next", "-a", "a" * 33, "A", "a/b", "a\n"])
def test_a_group_that_is_none_is_refused_by_all_who_ask(air, tmp_path, group):
    """Whoever enrolls, publishes, exports or installs hears the same."""
    for ask in (
        lambda: air.offer(policy(1), group=group),
        lambda: withdraw_next(air.region, group=group, keys=(), now=NOW),
        lambda: export(air.region.path, tmp_path / "folder", group),
        lambda: air.take(air.repository.folder, group=group),
        lambda: enrolled(air, tmp_path, group),
    ):
        with pytest.raises(ConfigError, match="is no vehicle group"):
            ask()
    assert not (tmp_path / "car").exists()


@pytest.mark.parametrize("group", ["a", "a" * 32, "0-", "fleet-b"])
def test_a_car_of_any_group_gets_its_policy(air, tmp_path, group):
    air.offer(policy(1), group=group)
    export(air.region.path, tmp_path / "folder", group)
    assert air.take(tmp_path / "folder", group=group).version == 1


def enrolled(air, tmp_path, group):
    """Enroll a car."""
    store = Store(tmp_path / "station.db")
    try:
        enroll_vehicle(air.region, store, tmp_path / "car", vehicle=None, group=group,
                       now=NOW, rng=os.urandom)  # fmt: skip
    finally:
        store.close()


# --- keys ---------------------------------------------------------------------------------------


def offline(air: Air, *keys: str) -> list[Path]:
    """Take keys to a place of their own, as people do."""
    safe = air.folder / "safe"
    safe.mkdir(exist_ok=True)
    return [shutil.move(air.repository.keys / f"{name}.pem", safe / f"{name}.pem") for name in keys]


def test_too_few_keys_are_said_by_name_and_leave_nothing(air):
    keys = offline(air, "targets-1", "targets-2")
    before = sorted(path.name for path in air.repository.metadata.iterdir())
    with pytest.raises(StationError) as error:
        air.offer(policy(1))
    assert "2 of targets-1, targets-2, targets-3; here: targets-3" in str(error.value)
    assert "--key" in str(error.value)
    assert sorted(path.name for path in air.repository.metadata.iterdir()) == before
    assert air.offer(policy(1), keys=keys[:1]).signed_by == ("targets-1", "targets-3")


def test_a_key_that_others_can_read_is_refused(air):
    [path] = offline(air, "targets-1")
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        air.offer(policy(1), keys=[path])


def test_private_keys_are_private_and_never_on_offer(air):
    air.offer(policy(1))
    files = sorted(air.repository.keys.glob("*.pem"))
    assert len(files) == 8
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
    assert b"PRIVATE KEY" not in bundle(air.folder, "default")
    assert "belong offline" in (air.repository.keys / "README").read_text()


@pytest.mark.parametrize("role", ["root", "targets", "snapshot", "timestamp"])
def test_a_key_is_replaced_and_cars_follow(air, role):
    air.offer(policy(1))
    air.take()
    done = rotate(air.region, role, f"{role}-1", keys=(), now=NOW)
    assert (done.old, done.root_version) == (f"{role}-1", 2)
    assert done.path.stat().st_mode & 0o777 == 0o600
    names = [key["name"] for key in listing(air.region)["keys"][role]]
    assert done.new in names
    assert done.old not in names
    assert air.take().changed is False
    air.offer(policy(2))
    assert air.take().version == 2


def test_a_lost_root_key_is_replaced_by_the_two_others(air):
    offline(air, "root-2")
    assert rotate(air.region, "root", "root-2", keys=(), now=NOW).signed_by == (
        "root-1", "root-3", "root-4",
    )  # fmt: skip
    air.offer(policy(1))
    assert air.take().version == 1


def test_rotation_needs_the_root_keys_and_the_right_name(air):
    with pytest.raises(StationError, match="'targets-9' is no key of targets"):
        rotate(air.region, "targets", "targets-9", keys=(), now=NOW)
    rotate(air.region, "timestamp", "timestamp-1", keys=(), now=NOW)
    with pytest.raises(StationError, match="'timestamp-1' was replaced already"):
        rotate(air.region, "timestamp", "timestamp-1", keys=(), now=NOW)
    offline(air, "root-1", "root-2")
    with pytest.raises(StationError, match="root is signed by 2 of"):
        rotate(air.region, "targets", "targets-1", keys=(), now=NOW)
    assert listing(air.region)["versions"]["root"] == 2


# --- time ---------------------------------------------------------------------------------------


def test_serve_renews_once_a_week(air):
    air.offer(policy(1))
    assert refresh_when_due(air.region, NOW + 6 * DAY) is False
    assert refresh_when_due(air.region, NOW + 8 * DAY) is True
    assert refresh_when_due(air.region, NOW + 9 * DAY) is False
    assert air.take(now=NOW + 36 * DAY).version == 1


def test_renewing_needs_no_key_of_people_but_what_they_signed_does(air):
    keys = offline(air, *(f"{role}-{n}" for role in ("root", "targets") for n in (1, 2, 3)))
    refresh(air.region, now=NOW + DAY)
    with pytest.raises(StationError, match="targets is signed by 2 of"):
        refresh(air.region, now=NOW + DAY, targets=True)
    state = refresh(air.region, now=NOW + 300 * DAY, targets=True, root=True, keys=keys)
    assert (state.root.version, state.root.expires) == (2, NOW + (300 + 5 * 365) * DAY)
    assert state.targets.expires == NOW + (300 + 365) * DAY


def test_serve_warns_before_what_people_signed_ends(air):
    assert expiring(air.region, NOW) == []
    [warning] = expiring(air.region, NOW + 310 * DAY)
    assert "refresh --targets" in warning


# --- the bundle ---------------------------------------------------------------------------------


def test_the_bundle_is_the_exported_folder(air, tmp_path):
    air.offer(policy(1))
    rotate(air.region, "root", "root-1", keys=(), now=NOW)
    air.offer(policy(2), percent=10)
    told = {
        file.name: file.data for file in PolicyBundle.FromString(bundle(air.folder, "default")).file
    }
    names = export(air.folder, tmp_path / "drop", "default")
    assert {name: (tmp_path / "drop" / name).read_bytes() for name in names} == told
    assert sorted(told) == names
    assert {"metadata/1.root.json", "metadata/2.root.json", "metadata/timestamp.json"} <= set(told)
    assert len([name for name in told if name.startswith("targets/")]) == 2


def test_the_bundle_is_made_once_for_each_state(air, monkeypatch):
    air.offer(policy(1))
    first = bundle(air.folder, "default")
    with monkeypatch.context() as patch:
        patch.setattr("agent.station.offer.Repository", None)  # nobody reads it again
        assert bundle(air.folder, "default") is first
    refresh(air.region, now=NOW + DAY)
    assert bundle(air.folder, "default") != first


def test_the_largest_bundle_is_within_what_a_car_takes(air):
    def big(version: int) -> bytes:
        size = 230 * 1024
        rules = []
        while size > 0:
            rules.append(making.collect(f"r{len(rules)}", frames=[making.policy_pb2.FrameSelector(
                channel="*", any=True, last_id=0x1FFFFFFF)], necessity="x" * 400))  # fmt: skip
            size -= 530
        return making.compiled(rules, version=version)

    for number in range(10):
        rotate(air.region, "root", f"root-{number + 1}", keys=(), now=NOW)
    air.offer(big(1))
    air.offer(big(2), percent=50)
    assert 400_000 < len(bundle(air.folder, "default")) < MAX_BUNDLE_BYTES
    assert air.take().version in (1, 2)


def test_nothing_to_export_and_a_taken_folder_are_said(air, tmp_path):
    with pytest.raises(ConfigError, match="nothing is on offer"):
        export(air.folder, tmp_path / "drop", "default")
    air.offer(policy(1))
    (tmp_path / "drop").mkdir()
    (tmp_path / "drop" / "x").write_text("")
    with pytest.raises(ConfigError, match="not empty"):
        export(air.folder, tmp_path / "drop", "default")
    assert bundle(tmp_path / "nowhere", "default") == b""


# --- cut short ----------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["publish", "rotate-targets", "rotate-root", "refresh"])
def test_a_command_that_is_cut_short_leaves_a_whole_offer_and_is_mended_by_running_it_again(
    tmp_path, air, what
):
    air.offer(policy(1))
    air.take()
    template = tmp_path / "template"
    shutil.copytree(air.folder, template)

    def of(folder: Path) -> Air:
        other = object.__new__(Air)
        other.__dict__.update(air.__dict__)
        other.folder, other.state = folder / "air", folder / "air" / "state" / "policy"
        other.region = type(air.region)(folder / "air", air.region.card)
        other.repository = type(air.repository)(folder / "air" / "policy")
        return other

    def act(folder: Path) -> None:
        there = of(folder)
        if what == "publish":
            there.offer(policy(2))
        elif what == "refresh":
            refresh(there.region, now=NOW + DAY)
        else:
            role = what.removeprefix("rotate-")
            rotate(there.region, role, f"{role}-1", keys=(), now=NOW)

    cuts = 0
    for folder, done in every_cut(
        tmp_path, lambda folder: shutil.copytree(template, folder / "air"), act, stride=3
    ):
        there = of(folder)
        nothing = {"rehearsal": lambda _: None}
        assert there.take(there.repository.folder, **nothing).version in (1, 2)
        if not done:
            with (
                contextlib.suppress(StationError) if "rotate" in what else contextlib.nullcontext()
            ):
                act(folder)
            versions = listing(there.region)["versions"]
            assert versions["root"] == (2 if "rotate" in what else 1)
            cuts += 1
        fresh = there.take(there.repository.folder, state=folder / "fresh", **nothing)
        assert fresh.version == (2 if what == "publish" else 1)
    assert cuts >= 3


def test_an_offer_whose_timestamp_comes_first_is_caught(tmp_path, air, monkeypatch):
    """The planted bug: a reader would see a timestamp that names files which are not there."""
    real = Repository.put
    waiting: list[tuple[Path, bytes]] = []

    def timestamp_first(self: Repository, path: Path, data: bytes) -> None:
        waiting.append((path, data))
        if path.name == "timestamp.json":
            for one in reversed(waiting):
                real(self, *one)
            waiting.clear()

    air.offer(policy(1))
    air.take()
    shutil.copytree(air.repository.folder, tmp_path / "template")
    monkeypatch.setattr(Repository, "put", timestamp_first)
    torn = 0
    for folder, _ in every_cut(
        tmp_path,
        lambda folder: shutil.copytree(tmp_path / "template", folder / "policy"),
        lambda folder: publish(
            type(air.region)(folder, air.region.card), policy(2), group="default", percent=100,
            keys=(), now=NOW,
        ),
        stride=3,
    ):  # fmt: skip
        waiting.clear()
        try:
            air.take(folder / "policy", state=folder / "state")
        except PolicyError:
            torn += 1
    assert torn > 0


# --- the commands -------------------------------------------------------------------------------


def run(group: object, *arguments: object, code: int | None = 0) -> str:
    result = CliRunner().invoke(group, [str(one) for one in arguments])
    if code == 0:
        assert result.exit_code == 0, result.exception
    else:
        assert isinstance(result.exception, InlandError)
        assert result.exception.exit_code == code
        return str(result.exception)
    return result.output


def test_a_policy_from_the_station_to_the_car_by_commands_alone(place, tmp_path):
    file = tmp_path / "demo.policy"
    run(car_command, "build", making.EXAMPLES / "bench.toml", "-o", file)
    where = ("--region", place.region.path)
    said = run(command, "publish", file, *where)
    assert "signed by targets-1, targets-2, targets-3" in said
    assert json.loads(run(command, "publish", file, *where, "--json"))["changed"] is False
    run(command, "export", tmp_path / "drop", *where)
    config = ("--config", place.bundle / "agent.toml")
    assert "is not signed" in run(car_command, "install", file, *config, code=1)
    assert "is in force" in run(car_command, "install", tmp_path / "drop", *config)
    assert "was in force already" in run(car_command, "install", tmp_path / "drop", *config)
    assert "bench, version 1" in run(car_command, "show", *config)
    listed = run(command, "ls", *where)
    assert "default          version 1      all" in listed
    assert "root-1, root-2, root-3" in listed
    assert "targets-4 in place of targets-2" in run(
        command, "rotate", "targets", "targets-2", *where
    )
    assert "signed until" in run(command, "refresh", *where)
    assert "nothing is staged" in run(command, "withdraw-next", *where, code=1)


def test_a_bench_takes_a_file_and_no_repository(place, tmp_path):
    file, card = tmp_path / "demo.policy", place.bundle / "region.toml"
    run(car_command, "build", making.EXAMPLES / "bench.toml", "-o", file)
    run(command, "publish", file, "--region", place.region.path)
    run(command, "export", tmp_path / "drop", "--region", place.region.path)
    lines = card.read_text().splitlines(keepends=True)
    card.write_text("".join(one for one in lines if not one.startswith("policy_root")))
    config = ("--config", place.bundle / "agent.toml")
    assert "bench card" in run(car_command, "install", tmp_path / "drop", *config, code=2)
    assert "is in force" in run(car_command, "install", file, *config)


def test_the_card_carries_the_first_root(place):
    root = load_region_card(place.bundle / "region.toml").policy_root
    first = (place.region.path / "policy" / "metadata" / "1.root.json").read_bytes()
    assert root == first
    signed = Metadata[Root].from_bytes(root).signed
    assert {role: one.threshold for role, one in signed.roles.items()} == {
        "root": 2, "targets": 2, "snapshot": 1, "timestamp": 1,
    }  # fmt: skip
    assert {role: len(one.keyids) for role, one in signed.roles.items()} == {
        "root": 3, "targets": 3, "snapshot": 1, "timestamp": 1,
    }  # fmt: skip


@pytest.mark.parametrize("name", ["publish", "ls", "refresh", "rotate", "export", "withdraw-next"])
def test_help_has_an_example(name):
    assert "inland station policy" in run(command, name, "--help")


def test_a_region_without_a_repository_is_told_so(tmp_path, air):
    shutil.rmtree(air.repository.folder)
    with pytest.raises(ConfigError, match="no policy repository here"):
        air.offer(policy(1))
    with pytest.raises(ConfigError, match="no policy repository here"):
        listing(air.region)


def test_versions_are_told_apart_by_the_policy_itself(air):
    air.offer(policy(3))
    assert read_policy(policy(3)).version == listing(air.region)["offers"][0]["version"]
    assert dt.datetime.fromisoformat(listing(air.region)["expires"]["timestamp"]) == NOW + 30 * DAY


@pytest.mark.parametrize("value", ["''", "5", "'not JSON'", "'[]'", f"'{'x' * 70_000}'"])
def test_a_card_with_a_malformed_root_is_refused(place, value):
    card = place.bundle / "region.toml"
    lines = card.read_text().splitlines()
    lines = [f"policy_root = {value}" if one.startswith("policy_root") else one for one in lines]
    card.write_text("\n".join(lines))
    with pytest.raises(ConfigError, match="malformed region card"):
        load_region_card(card)
