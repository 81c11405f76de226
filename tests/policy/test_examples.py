"""The example policies in the package: each passes its own checks, together they show all of it."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.frames import SIGNAL
from agent.pb import sealed_pb2
from agent.policy import text, text_clauses
from agent.policy.build import build_policy
from agent.policy.clauses import DRIVING_METADATA, PARKED_OWNER
from agent.policy.compiled import load_policy, read_policy
from agent.policy.events import Events, Fired
from agent.policy.model import Policy, watch_points
from agent.policy.vocabulary import CATEGORIES, SENSITIVE
from tests.policy import making

EXAMPLES = {"cn-fleet": "cn", "eu-fleet": "eu", "bench": "cn"}


def test_these_are_all():
    assert {path.stem for path in making.EXAMPLES.iterdir()} == set(EXAMPLES)


@pytest.mark.parametrize("name", EXAMPLES)
def test_each_passes_its_own_checks(name):
    data = build_policy(making.EXAMPLES / f"{name}.toml")
    region = f"urn:inland:region:{EXAMPLES[name]}"
    policy = load_policy(data, region=region, now_ns=1_795_000_000 * 10**9)
    assert policy.name == name
    assert policy.contact
    assert policy.recorder is not None
    assert policy.driving is not None
    assert policy.events
    assert all(event.before_ns <= policy.recorder.window_ns for event in policy.events)


@pytest.mark.parametrize("name", ["cn-fleet", "eu-fleet"])
def test_no_fleet_keeps_a_place_under_another_name(name):
    """The place is for who consented: no rule, event or recorder of theirs has it otherwise."""
    policy = read_policy(build_policy(making.EXAMPLES / f"{name}.toml"))
    place = {at for at, info in enumerate(policy.signals) if info.name in ("Latitude", "Longitude")}
    ids = {policy.layouts[at].arbitration_id for at in place}
    assert policy.recorder is not None
    for rule in policy.rules:
        if CATEGORIES[rule.category].kind == SENSITIVE:
            assert rule.basis == "consent"
            continue
        assert not place & {one.signal for one in rule.signals}
    for frames in (*policy.recorder.frames, *(one for rule in policy.rules for one in rule.frames)):
        assert not frames.every_id
        assert not frames.extended
        assert not any(frames.first_id <= one <= frames.last_id for one in ids)


def keys(values: Any) -> set[str]:
    """Every key of nested tables."""
    if isinstance(values, list):
        return {key for one in values for key in keys(one)}
    if not isinstance(values, dict):
        return set()
    return set(values) | {key for one in values.values() for key in keys(one)}


def test_the_fleet_example_shows_every_key():
    written = (making.EXAMPLES / "cn-fleet.toml").read_text("utf-8")
    shown = keys(tomllib.loads(written)) | set(re.findall(r"^# (\w+) = ", written, re.MULTILINE))
    valid = {"space", "time", "before", "after"}
    for some in (
        text.TOP_KEYS, text.COLLECT_KEYS, text_clauses.RECORDER_KEYS, text_clauses.EVENT_KEYS,
        text_clauses.CAMERA_KEYS, text_clauses.CONSENT_KEYS, text_clauses.TRIGGER_KEYS,
        text_clauses.POSITION_KEYS,
    ):  # fmt: skip
        valid |= set(some)
    assert shown == valid


def test_each_shows_what_it_is_for():
    cn, eu, bench = (
        read_policy(build_policy(making.EXAMPLES / f"{name}.toml")) for name in EXAMPLES
    )
    assert cn.camera is not None
    assert cn.camera.driving == DRIVING_METADATA
    assert eu.camera is not None
    assert eu.camera.parked == PARKED_OWNER
    assert {rule.recipients for rule in eu.rules if rule.basis != "consent"} == {sealed_pb2.SHARED}
    (everything, _) = bench.rules
    assert everything.frames[0].every_id
    assert everything.order


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[int, int, bytes]]:
    """The simulated car's frames (stamp, id, data); it brakes hard after six of twelve seconds."""
    log = tmp_path_factory.mktemp("drive") / "drive.log"
    car = [sys.executable, "-m", "firmware_sim", "--scenario", "hard-brake", "--seconds", "12"]
    root = Path(__file__).resolve().parents[2]
    subprocess.run([*car, "--seed", "7", "--log", log], check=True, cwd=root, capture_output=True)
    lines = re.findall(r"\((\d+)\.(\d{6})\) \S+ (\w+)#(\w*)", log.read_text())
    return [
        (int(s) * 10**9 + int(us) * 1000, int(number, 16), bytes.fromhex(data))
        for s, us, number, data in lines
    ]


def watched(policy: Policy, drive: list[tuple[int, int, bytes]]) -> np.ndarray:
    """Samples of a policy's watch points, read bit by bit."""
    points = [(at, policy.layouts[one.signal]) for at, one in enumerate(watch_points(policy))]
    rows = []
    for stamp, number, data in drive:
        for at, layout in points:
            if layout.arbitration_id == number and (raw := making.value(data, layout)) is not None:
                rows.append((stamp, at, 0, 0, raw))
    found = np.zeros(len(rows), SIGNAL)
    for name, column in zip(("timestamp_ns", "signal"), range(2), strict=True):
        found[name] = [row[column] for row in rows]
    found["raw"] = [row[4] for row in rows]
    return found


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_hard_brake_is_one_event(drive, name):
    policy = read_policy(build_policy(making.EXAMPLES / f"{name}.toml"))
    samples = watched(policy, drive)
    happened = Events(policy).update(samples)
    (fired,) = [one for one in happened if isinstance(one, Fired)]
    assert fired.rule.id == ("brake" if name == "bench" else "hard-brake")
    after_s = (fired.stamp_ns - drive[0][0]) / 1e9
    assert 6.0 < after_s < 7.5
    assert not any(value.missing for value in fired.snapshot)
