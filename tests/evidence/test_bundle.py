"""Bundles: the same twice, whole or not there, and open to who has a recipient's key."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from agent.errors import ConfigError, SealError
from agent.evidence.bundle import BundleWriter
from agent.evidence.bundle_source import BundleSource
from agent.evidence.disclosure import disclose
from agent.evidence.opening import OWNERS, REGIONS, open_segments
from agent.evidence.selection import Request, find
from agent.pb import ledger_pb2, sealed_pb2
from agent.vault import keys
from tests.evidence import altering
from tests.evidence.altering import one
from tests.evidence.making import (
    OWNER,
    RECIPIENT,
    START_NS,
    VEHICLE,
    S,
    View,
    about,
    asked,
    drive,
    frames,
    make,
    new_car,
    public,
    samples,
    verdict,
)

LOG = bytes(range(16))
MINE = {keys.kid(public(OWNER)): OWNER}
REGIONS_OWN = {keys.kid(public(RECIPIENT)): RECIPIENT}


def opened(folder: Path, privates=MINE, others=REGIONS, **more):  # type: ignore[no-untyped-def]
    source = BundleSource(folder)
    request = Request(source.vehicle, **more)
    result = open_segments(source, find(source, request), request, privates, others=others)
    result.problems += source.missing(request)
    return result


def test_the_owner_opens_what_is_sealed_to_them(tmp_path: Path):
    """The same opener as the station's, over a bundle: rows, samples with their dictionary."""
    car = drive(new_car(LOG), 6)
    result = opened(make(tmp_path / "a", car))
    assert (result.segments, result.frame_count, result.sample_count) == (6, 120, 30)
    assert result.problems == []
    lines = b"".join(result.csv()).decode().splitlines()
    assert lines[1].startswith("2026-11-18T11:06:43.5")
    assert ",speed,0,km/h,," in lines[1]
    assert opened(tmp_path / "a", REGIONS_OWN, OWNERS).segments == 6


def test_what_is_for_others_stays_closed_and_is_counted(tmp_path: Path):
    car = drive(new_car(LOG), 2, sealed_pb2.REGION)
    drive(car, 3, sealed_pb2.OWNER)
    drive(car, 4, sealed_pb2.BOTH)
    folder = make(tmp_path / "a", car)
    mine = opened(folder)
    assert (mine.segments, mine.others, mine.problems) == (3, {"region": 2, "both": 4}, [])
    theirs = opened(folder, REGIONS_OWN, OWNERS)
    assert (theirs.segments, theirs.owner_only, theirs.problems) == (2, 7, [])
    together = opened(folder, MINE | REGIONS_OWN, frozenset())
    assert (together.segments, together.others) == (9, {})


def test_rows_are_those_that_went_in(tmp_path: Path):
    car = drive(new_car(LOG), 0)
    sent = frames(50, START_NS + 7)
    car.seal(sent, samples(3))
    car.sign()
    [(_, batch)] = opened(make(tmp_path / "a", car)).frames
    assert (batch["timestamp_ns"] == sent["timestamp_ns"] // 1000 * 1000).all()
    for name in ("arbitration_id", "length", "data"):
        np.testing.assert_array_equal(batch[name], sent[name])


def test_a_dropped_and_a_left_out_body_are_explained(tmp_path: Path):
    car = drive(new_car(LOG), 8)
    car.bodies[5] = b""
    car.drop(5, 5)
    car.sign()
    folder = make(tmp_path / "a", car, leave_out=lambda _, i: "unasked" if i == 7 else "")
    result = opened(folder)
    assert (result.dropped, result.problems) == ({"quota": 1, "left out: unasked": 1}, [])
    altering.change(folder, "bodies", lambda rows: [row for row in rows if row[0] != 6])
    assert [problem.why for problem in opened(folder).problems] == ["its body has not come"]


def test_an_altered_body_is_named_at_opening_too(tmp_path: Path):
    folder = make(tmp_path / "a", drive(new_car(LOG), 4))

    def turned(rows: altering.Rows) -> None:
        i, h, d = rows[3]
        rows[3] = (i, h, d[:-1] + bytes([d[-1] ^ 1]))

    altering.change(folder, "bodies", turned)
    [problem] = opened(folder).problems
    assert (problem.kind, "entry 5" in problem.where) == ("altered", True)


def test_the_same_time_twice_gives_the_same_files(tmp_path: Path):
    car = drive(new_car(LOG), 20)
    first, second = (make(tmp_path / name, car, asked=asked(8, 15)) for name in "ab")
    assert [path.name for path in sorted(first.iterdir())] == sorted(
        ["README.txt", "bundle.json", "keys.json", "verify.py",
         *(f"{LOG[:8].hex()}.{end}" for end in ("bodies", "cover", "entries", "notes"))]
    )  # fmt: skip
    for path in first.iterdir():
        assert path.read_bytes() == (second / path.name).read_bytes()


def test_nothing_of_other_times_is_disclosed(tmp_path: Path):
    """Neighbours, genesis, session and policy only; of the rest hashes alone."""
    car = drive(new_car(LOG), 40)
    folder = make(tmp_path / "a", car, asked=asked(20, 30))
    whole = b"".join(path.read_bytes() for path in sorted(folder.iterdir()))
    for index, (entry, body) in enumerate(zip(car.entries, car.bodies, strict=True)):
        inside = 20 <= index <= 30
        needed = index in (0, 2, 3)
        assert (entry in whole) == (inside or needed or index in (19, 31))
        if body:
            assert (body in whole) == (inside or needed)
    assert one(folder, "cover").stat().st_size < 41 * 30


def test_entries_that_explain_come_along_from_anywhere(tmp_path: Path):
    car = drive(new_car(LOG), 30)
    held = car.add(incident=ledger_pb2.Incident(record=9, held=[{"first": 10, "last": 10}]))
    other = car.add(incident=ledger_pb2.Incident(record=9, held=[{"first": 30, "last": 33}]))
    dropped, unrelated = car.drop(11, 11), car.drop(33, 33)
    car.bodies[11] = b""
    car.sign()
    folder = make(tmp_path / "a", car, asked=asked(8, 12))
    indices = {i for i, _, _ in altering.rows(one(folder, "entries"))}
    assert {held, dropped} <= indices
    assert indices.isdisjoint({other, unrelated})
    assert verdict(folder) == (0, "")


def test_a_body_that_goes_while_it_is_exported_is_explained(tmp_path: Path):
    """The agent runs: a body leaves after it was chosen; its drop entry comes along."""
    car = drive(new_car(LOG), 10)
    view, signed = View(car), []
    found = disclose(view, None, None)
    assert found is not None
    car.bodies[8] = b""
    car.drop(8, 8)
    car.loss()

    def sign() -> None:
        car.sign()
        signed.append(len(car.entries))

    with BundleWriter(tmp_path / "a") as writer:
        writer.add(view, found, sign=sign)
        writer.place(about(), asked())
    assert signed == [len(car.entries)]
    assert verdict(tmp_path / "a") == (0, "")
    told = json.loads((tmp_path / "a" / "bundle.json").read_text())
    assert told["presence"] == {"shared, routine": {"here": 9, "removed: quota": 1}}


def test_a_bundle_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    car = drive(new_car(LOG), 4)
    monkeypatch.setattr(View, "node", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(OSError, match="full"):
        make(tmp_path / "a", car, asked=asked(5, 6))
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_that_is_there_stays(tmp_path: Path):
    """Nor is one that another command is writing touched: of one second there may be several."""
    (tmp_path / "a.inland").mkdir()
    with BundleWriter(tmp_path / "a.inland") as other:
        make(tmp_path / "a.inland", drive(new_car(LOG), 2))
        assert other.folder.name == "a-2.inland"
    assert list((tmp_path / "a.inland").iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a-3.inland", "a.inland"]
    assert verdict(tmp_path / "a-3.inland") == (0, "")


def test_what_a_cut_export_left_does_not_disturb(tmp_path: Path):
    (tmp_path / ".a.part").mkdir()
    (tmp_path / ".a.part" / "old.entries").write_bytes(b"x")
    folder = make(tmp_path / "a", drive(new_car(LOG), 2))
    assert verdict(folder) == (0, "")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_what_is_no_bundle_is_said(tmp_path: Path):
    with pytest.raises(ConfigError, match="no bundle"):
        BundleSource(tmp_path)
    folder = make(tmp_path / "a", drive(new_car(LOG), 2))
    one(folder, "entries").write_bytes(b"\xff")
    with pytest.raises(SealError, match="cannot be read"):
        BundleSource(folder)


def test_a_hidden_entry_is_said_at_opening(tmp_path: Path):
    folder = make(tmp_path / "a", drive(new_car(LOG), 12))
    altering.hide(folder, 9)
    assert [p.why for p in opened(folder).problems] == ["entries 9 to 9: not disclosed"]
    assert opened(folder, from_ns=START_NS + 11 * S).problems == []
    assert BundleSource(folder).vehicle == VEHICLE
