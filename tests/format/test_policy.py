"""What a policy says and how it travels: read by a stranger, and taken by the agent."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import pytest

from agent.capture.incoming import unpack
from agent.errors import PolicyError, SealError
from agent.pb import delivery_pb2, policy_pb2, zones_pb2
from agent.policy import store
from agent.policy.compiled import read_policy
from agent.policy.rehearsal import rehearse
from agent.policy.rollout import takes_part
from agent.policy.terms import terms
from agent.policy.update import Outcome, update
from agent.policy.zone_file import open_zones, seal_zones
from agent.policy.zones import pack_zones, parse_zones
from tests.format import make_policy, make_vectors, stranger
from tests.format import stranger_policy as policies

HERE = Path(__file__).parent
FORMAT = (HERE.parents[1] / "proto" / "FORMAT.md").read_text("utf-8")
GROUPS = json.loads((HERE / "vectors" / "groups.json").read_text("ascii"))
VECTORS = json.loads((HERE / "vectors" / "policy.json").read_text("ascii"))
ZONES, REGION, GROUP = VECTORS["zones"], VECTORS["region"], VECTORS["group"]
KEY, SEALED = bytes.fromhex(ZONES["key"]), bytes.fromhex(ZONES["sealed"])
POLYGONS = [(name, [tuple(at) for at in ring]) for name, ring in ZONES["polygons"]]
WHOLE, DIGEST = bytes.fromhex(VECTORS["bundle"]), bytes.fromhex(VECTORS["digest"])
CARD = VECTORS["root"].encode()
NOW = make_policy.NOW + dt.timedelta(hours=1)
CARS = [f"car-{number:08d}" for number in range(12)]


def test_the_stranger_opens_sealed_zones() -> None:
    assert policies.zones(SEALED, KEY, REGION) == POLYGONS
    for place in range(len(SEALED)):
        with pytest.raises(stranger.FormatError):
            policies.zones(make_vectors.changed(SEALED, place), KEY, REGION)
    for end in range(len(SEALED)):
        with pytest.raises(stranger.FormatError):
            policies.zones(SEALED[:end], KEY, REGION)
    with pytest.raises(stranger.FormatError):
        policies.zones(SEALED, KEY, "urn:inland:region:eu")


def test_zones_of_the_vectors_are_what_we_would_write_and_read() -> None:
    opened = open_zones(SEALED, KEY, REGION)
    assert [(zone.zone_class, list(zone.ring)) for zone in opened.zones] == POLYGONS
    plain = bytes.fromhex(ZONES["plain"])
    assert pack_zones(opened.zones) == plain
    assert parse_zones(plain).zones == opened.zones == make_policy.ZONES
    again = seal_zones(plain, KEY, SEALED[4:16], REGION)  # zstd's bytes may differ by version
    assert policies.zones(again, KEY, REGION) == POLYGONS
    with pytest.raises(SealError):
        open_zones(SEALED, KEY, "urn:inland:region:eu")


def taken(files: dict[str, bytes]) -> dict[str, bytes]:
    """What each car takes, by the stranger's reading."""
    offers = policies.targets(files, CARD, NOW)
    return {car: policies.chosen(files, offers, GROUP, car) for car in CARS}


def take(folder: Path, vehicle: str) -> Outcome:
    """Let the agent take what the stranger reads."""
    return update(
        unpack(WHOLE, folder), folder, card_root=CARD, region=REGION, vehicle=vehicle, group=GROUP,
        now_ns=int(NOW.timestamp()) * 10**9, rehearse=rehearse,
    )  # fmt: skip


def test_the_stranger_takes_the_policy_that_the_agent_takes(tmp_path: Path) -> None:
    found = taken(policies.bundle(WHOLE, DIGEST))
    assert {data.hex() for data in found.values()} == set(VECTORS["policies"].values())
    for car in CARS:
        part = takes_part(car, version=8, percent=make_policy.PERCENT)
        assert found[car].hex() == VECTORS["policies"]["8" if part else "7"]
    for car in (CARS[0], next(car for car in CARS if found[car] != found[CARS[0]])):
        folder = tmp_path / car
        folder.mkdir()
        assert take(folder, car).changed
        assert store.active(folder) == found[car]


def test_an_altered_bundle_is_refused() -> None:
    files = policies.bundle(WHOLE, DIGEST)
    with pytest.raises(stranger.FormatError, match="digest"):
        policies.bundle(make_vectors.changed(WHOLE, 4000), DIGEST)
    for name, data in files.items():
        if name == "metadata/1.root.json":
            continue  # the region card's counts
        later = data.replace(b'"expires":"2', b'"expires":"3') if "json" in name else data[:-1]
        changed = files | {name: later}
        with pytest.raises(stranger.FormatError):
            taken(changed)


@pytest.mark.parametrize(("days", "what"), [(31, "timestamp"), (400, ""), (2000, "root")])
def test_what_has_expired_is_refused_by_both(days: int, what: str, tmp_path: Path) -> None:
    late = NOW + dt.timedelta(days=days)
    with pytest.raises(stranger.FormatError, match=f"{what}.* has expired"):
        policies.targets(policies.bundle(WHOLE, DIGEST), CARD, late)
    with pytest.raises(PolicyError, match="expired"):
        update(
            unpack(WHOLE, tmp_path), tmp_path, card_root=CARD, region=REGION, vehicle=CARS[0],
            group=GROUP, now_ns=int(late.timestamp()) * 10**9, rehearse=rehearse,
        )  # fmt: skip


def test_a_root_that_its_predecessor_did_not_sign_is_refused() -> None:
    files = policies.bundle(WHOLE, DIGEST)
    root = json.loads(files["metadata/2.root.json"])
    own = root["signed"]["roles"]["root"]["keyids"]
    old = json.loads(CARD)["signed"]["roles"]["root"]["keyids"]
    assert len(set(own) & set(old)) == 2
    root["signatures"] = [one for one in root["signatures"] if one["keyid"] in own]
    policies.targets(files | {"metadata/2.root.json": json.dumps(root).encode()}, CARD, NOW)
    root["signatures"] = [one for one in root["signatures"] if one["keyid"] not in old[:1]]
    altered = files | {"metadata/2.root.json": json.dumps(root).encode()}
    with pytest.raises(stranger.FormatError, match="root: keys"):
        policies.targets(altered, CARD, NOW)


def test_the_stranger_reads_what_the_policy_says() -> None:
    data = bytes.fromhex(VECTORS["policies"]["7"])
    policy = stranger.parse(data)
    dictionary = stranger.parse(policy[5][0])
    signals = [stranger.parse(one)[1][0].decode() for one in dictionary[1]]
    driving, meant = policies.condition(policy[12][0])
    assert driving == 'Gear == "D" or can0:Drive.Speed > 3'
    assert {name: (channel, signals[at]) for name, (channel, at, _) in meant.items()} == {
        "Gear": ("*", "Gear"), "can0:Drive.Speed": ("can0", "Speed"),
    }  # fmt: skip
    camera = stranger.parse(policy[10][0])
    assert policies.zones(camera[5][0], KEY, REGION) == POLYGONS
    area = stranger.parse(policy[6][0])
    grains = [policies.selector(one) for one in area[10]]
    assert grains == [("*", 0, 10_000), ("*", 1, 10_000)]  # 0.001 degrees of 1e-7
    ours = read_policy(data)
    assert ours.driving is not None
    assert [name for name, _ in ours.driving.terms] == list(meant)
    assert policies.terms(policy, "location.track") == terms(ours, "location.track").digest


def test_the_stranger_finds_the_frames_of_a_group() -> None:
    """And the vector is what we would build; a policy from before has no free bits."""
    assert make_policy.group_vectors() == GROUPS
    policy = stranger.parse(bytes.fromhex(GROUPS["policy"]))
    assert [one.hex() for one in policy[7]] == GROUPS["decode"]
    found = {
        name: [
            number
            for number, decode in enumerate(policy[7])
            if policies.holds(decode, int(name, 16), extended=True)
        ]
        for name in GROUPS["holds"]
    }
    assert found == GROUPS["holds"]
    # By hand: two positions, two speeds (not of the other page or PF), torque for both engine and
    # retarder from 0B alone, and a lamp that is no group.
    assert {name: numbers for name, numbers in found.items() if numbers} == {
        "18FEF3FE": [0, 1], "18FEF31C": [0, 1], "0CFEF317": [0, 1], "18FEF100": [2],
        "1CFEF121": [2], "0C00000B": [3], "18000F0B": [3], "18FEEF01": [4],
    }  # fmt: skip
    assert not any(policies.holds(one, 0x18FEF31C, extended=False) for one in policy[7])
    ours = read_policy(bytes.fromhex(GROUPS["policy"]))
    assert policies.terms(policy, "location.track") == terms(ours, "location.track").digest
    before = read_policy(bytes.fromhex(VECTORS["policies"]["7"]))
    assert {one.free_bits for one in before.layouts} == {0}


def test_fields_of_the_document_are_those_of_the_schema() -> None:
    """What travels or is sealed: every field, by name and number."""
    wire = (delivery_pb2.PolicyBundle, delivery_pb2.PolicyQuestion, delivery_pb2.PolicyChunk)
    for message in wire:
        [line] = [text for text in FORMAT.split("\n") if f"- `{message.DESCRIPTOR.name}`:" in text]
        for field in message.DESCRIPTOR.fields:
            assert f"{field.number} {field.name}" in line
    for field in zones_pb2.ZoneTable.DESCRIPTOR.fields:
        assert f"\n| {field.number} {field.name} |" in FORMAT
    told = FORMAT.split("The other fields of `Policy`")[1].split("### Rules")[0]
    for field in policy_pb2.Policy.DESCRIPTOR.fields:
        assert f"{field.number} {field.name}" in told or field.name == "dictionary"
