"""Opening for real: sealed by the vault's own code, received, opened, written."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from agent.errors import ConfigError, StationError
from agent.evidence import opening as opening_module
from agent.evidence.opening import Opened
from agent.evidence.selection import Request
from agent.frames import FRAME, SIGNAL
from agent.pb import ledger_pb2, policy_pb2, record_pb2, sealed_pb2
from agent.station import disclose as disclose_module
from agent.station.catalogue import catalogue
from agent.station.disclose import Order, disclose
from agent.station.journal import Journal
from agent.vault import keys
from tests.station.car import START_NS, SealingCar
from tests.station.conftest import Place
from tests.station.test_receive import give, receiver

DICTIONARY = policy_pb2.Dictionary(
    signal=[policy_pb2.Signal(name="speed", unit="km/h", factor=0.5, kind=1)]
)


def frames(count: int, start_ns: int, step_ns: int = 10**6) -> np.ndarray:  # type: ignore[type-arg]
    batch = np.zeros(count, FRAME)
    batch["timestamp_ns"] = start_ns + np.arange(count) * step_ns
    batch["arbitration_id"], batch["length"] = 0x100 + np.arange(count) % 3, 2
    batch["data"][:, 0] = np.arange(count) % 251
    batch["channel"] = np.arange(count) % 2
    return batch


def samples(count: int, start_ns: int) -> np.ndarray:  # type: ignore[type-arg]
    batch = np.zeros(count, SIGNAL)
    batch["timestamp_ns"] = start_ns + np.arange(count) * 10**6
    batch["raw"] = np.arange(count) - 3
    return batch


@pytest.fixture
def car(place: Place) -> SealingCar:
    """Entries: 0 genesis, 1 policy, 2 session, 3-5 segments that overlap in time."""
    car = SealingCar(place.car.vehicle, place.car.region, place.car.ledger_key)
    car.recipient = place.region.card.recipient_key
    car.owner = keys.generate_recipient()[1]
    car.genesis(), car.set_policy(DICTIONARY), car.begin_sealed()
    for number in range(3):
        start = START_NS + number * 500_000
        car.seal(frames(20, start), samples(10, start), payload=None)
    return car


def order(place: Place, **more: object) -> Order:
    request = replace(Request(place.car.vehicle), **more)  # type: ignore[arg-type]
    return Order(request, None, None, who="tester", reason="case 17", at="2026-11-22T00:00:00")


def opened(place: Place, **more: object) -> Opened:
    return disclose(place.region, order(place, **more))


def deliver(place: Place, car: SealingCar, *without: int) -> None:
    give(receiver(place), car, *(i for i in range(len(car.entries)) if i not in without))


def test_what_was_sealed_comes_out_in_order_of_time(
    place: Place, car: SealingCar, tmp_path: Path
) -> None:
    deliver(place, car)
    log, table = tmp_path / "a.log", tmp_path / "a.csv"
    result = disclose(place.region, replace(order(place), frames=str(log), signals=str(table)))
    assert (result.segments, result.frame_count, result.sample_count) == (3, 60, 30)
    assert result.problems == []
    lines = log.read_text().splitlines()
    assert len(lines) == 60
    assert lines[0] == "(1795000000.000000) can0 100#0000"
    stamps = [line[1:18] for line in lines]
    assert stamps == sorted(stamps)
    rows = list(csv.DictReader(io.StringIO(table.read_text())))
    assert len(rows) == 30
    assert rows[0] == {
        "time": "2026-11-18T11:06:40.000000Z",
        "unix": "1795000000.000000", "name": "speed", "value": "-1.5", "unit": "km/h",
        "label": "", "channel": "can0",
    }  # fmt: skip
    assert sorted(tmp_path.glob(".a.*")) == []
    assert log.stat().st_mode & 0o777 == 0o600


def test_moments_bound_rows(place: Place, car: SealingCar) -> None:
    deliver(place, car)
    result = opened(place, from_ns=START_NS + 10 * 10**6, to_ns=START_NS + 15 * 10**6)
    stamps = np.concatenate([batch["timestamp_ns"] for _, batch in result.frames])
    assert stamps.min() >= START_NS + 10 * 10**6
    assert stamps.max() <= START_NS + 15 * 10**6
    assert len(stamps) == 6 + 5 + 6  # on the whole, half and whole milliseconds


def kinds(result: Opened) -> list[str]:
    return [problem.kind for problem in result.problems]


def test_a_missing_session_is_named(place: Place, car: SealingCar) -> None:
    deliver(place, car, 2)
    result = opened(place)
    assert result.segments == 0
    assert kinds(result) == ["missing"] * 4  # three segments, and entry 2 itself
    assert "entry 2: not received" in result.problems[3].why


def test_a_missing_segment_is_named(place: Place, car: SealingCar) -> None:
    deliver(place, car, 4)
    result = opened(place)
    assert result.segments == 2
    assert [problem.why for problem in result.problems] == ["entry 4: not received"]


def test_a_tail_that_was_signed_for_and_has_not_come_is_named(
    place: Place, car: SealingCar
) -> None:
    station = receiver(place)
    give(station, car, *range(5))
    station.offer(car.topic("checkpoint"), car.checkpoint())
    station.flush()
    assert [problem.why for problem in opened(place).problems] == ["entry 5: not received"]


def test_a_missing_dictionary_is_named_and_frames_still_open(place: Place, car: SealingCar) -> None:
    car.bodies[1] = b""
    deliver(place, car)
    result = opened(place)
    assert (result.frame_count, result.sample_count) == (60, 0)
    assert kinds(result) == ["missing"] * 3


def test_a_dropped_body_is_explained(place: Place, car: SealingCar) -> None:
    car.drop(4, 4)
    car.bodies[4] = b""
    deliver(place, car)
    result = opened(place)
    assert (result.segments, result.dropped, result.problems) == (2, {"quota": 1}, [])


def test_what_is_for_the_owner_alone_stays_closed(place: Place, car: SealingCar) -> None:
    for recipients in (sealed_pb2.OWNER, sealed_pb2.BOTH):
        car.begin_sealed(recipients)
        car.seal(frames(5, START_NS))
    car.begin_sealed(sealed_pb2.SHARED)
    car.seal(frames(5, START_NS))
    deliver(place, car)
    result = opened(place)
    assert (result.segments, result.owner_only, result.problems) == (4, 2, [])


@pytest.mark.parametrize("column", ["body", "entry"])
@pytest.mark.parametrize("index", [2, 3])
def test_bytes_that_change_in_the_store_are_found(
    place: Place, car: SealingCar, column: str, index: int
) -> None:
    deliver(place, car)
    connection = place.store.connection
    [stored] = connection.execute(f"SELECT {column} FROM entries WHERE i = ?", (index,)).fetchone()
    for at in range(0, len(stored), max(1, len(stored) // 9)):
        changed = bytearray(stored)
        changed[at] ^= 1
        connection.execute(f"UPDATE entries SET {column} = ? WHERE i = ?", (bytes(changed), index))
        result = opened(place)
        assert kinds(result) == ["altered"] * (3 if index == 2 else 1), at


def test_content_that_is_not_what_the_ledger_committed_to_is_found(
    place: Place, car: SealingCar
) -> None:
    """The car seals one thing and writes the hash of another into its ledger."""
    index = car.seal(frames(5, START_NS), payload=b"not a payload")
    deliver(place, car)
    result = opened(place)
    assert [problem.kind for problem in result.problems] == ["altered"]
    assert f"entry {index}" in result.problems[0].where


def test_an_opener_that_trusts_the_store_is_caught(
    place: Place, car: SealingCar, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The planted bug: without the comparison, an entry that was moved in time passes."""
    deliver(place, car)
    entry = ledger_pb2.Entry.FromString(car.entries[3])
    entry.at.unix_ns += 1
    place.store.connection.execute(
        "UPDATE entries SET entry = ? WHERE i = 3", (entry.SerializeToString(),)
    )
    assert kinds(opened(place)) == ["altered"]
    monkeypatch.setattr(
        opening_module, "check_stored", lambda stored, *_: ledger_pb2.Entry.FromString(stored[0])
    )
    assert kinds(opened(place)) == []


def test_every_opening_is_recorded_before_it_happens(
    place: Place, car: SealingCar, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver(place, car)
    opened(place)

    def broken(*_: object) -> Opened:
        raise RuntimeError("no power")

    monkeypatch.setattr(disclose_module, "open_segments", broken)
    with pytest.raises(RuntimeError):
        opened(place)
    entries, head = journal(place).check()
    assert [(e["who"], e["segments"], e["reason"]) for e in entries] == [
        ("tester", 3, "case 17"), ("tester", 3, "case 17"),
    ]  # fmt: skip
    assert head.startswith("inland/cn/openings\n2\n")


def journal(place: Place) -> Journal:
    return Journal(place.store, "cn", place.region.signing_key("openings"))


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE openings SET entry = replace(entry, 'tester', 'nobody') WHERE i = 1",
        "DELETE FROM openings WHERE i = 1",
        "DELETE FROM openings WHERE i = 0",
        "UPDATE openings SET note = (SELECT note FROM openings WHERE i = 0) WHERE i = 1",
        "UPDATE openings SET i = 9 WHERE i = 2",
    ],
)
def test_an_altered_ledger_of_openings_is_found_and_nothing_is_opened(
    place: Place, car: SealingCar, change: str
) -> None:
    deliver(place, car)
    for _ in range(3):
        opened(place)
    if "replace" in change:
        change = change.replace(
            "replace(entry, 'tester', 'nobody')",
            "CAST(replace(CAST(entry AS TEXT), 'tester', 'nobody') AS BLOB)",
        )
    place.store.connection.execute(change)
    with pytest.raises(StationError, match="was altered"):
        journal(place).check()
    with pytest.raises(StationError, match="was altered"):
        opened(place)


def test_half_a_file_never_appears(
    place: Place, car: SealingCar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver(place, car)
    target = tmp_path / "a.log"
    target.write_text("good")

    def broken(*_: object) -> Iterator[bytes]:
        yield b"half"
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Opened, "candump", broken)
    with pytest.raises(ConfigError, match="No space left"):
        disclose(place.region, replace(order(place), frames=str(target)))
    assert target.read_text() == "good"
    assert list(tmp_path.glob(".a.log.*")) == []


EVENT = record_pb2.EventRecord(
    id=b"e" * 16, rule="hard-brake", trigger="speed > 30", stamp_ns=START_NS + 5 * 10**6,
    number=3, triggers=1, before_ns=1_800 * 10**9, after_ns=30 * 10**9, policy="p",
    policy_version=1, agent_version="0.3", since_previous_ms=1500,
    snapshot=[
        record_pb2.Value(signal=0, channel="can0", raw=175, age_ms=20),
        record_pb2.Value(signal=1, channel="*", raw=2),
        record_pb2.Value(signal=0, channel="can1", missing=True),
    ],
)  # fmt: skip


def with_records(place: Place, events: int = 2) -> SealingCar:
    car = SealingCar(place.car.vehicle, place.car.region, place.car.ledger_key)
    car.recipient = place.region.card.recipient_key
    gear = policy_pb2.Signal(name="gear", factor=1, choices={2: "D"})
    why = policy_pb2.Signal(name="why", factor=1, choices={4: "motion"})
    camera = policy_pb2.Camera(
        trigger=policy_pb2.Trigger(
            camera=policy_pb2.SignalSelector(signal=1), reason=policy_pb2.SignalSelector(signal=2)
        )
    )
    signals = policy_pb2.Dictionary(signal=[DICTIONARY.signal[0], gear, why])
    car.genesis(), car.set_policy(signals, camera), car.begin_sealed()
    first = record_pb2.EventRecord()
    first.CopyFrom(EVENT)
    last = record_pb2.EventRecord()
    last.CopyFrom(EVENT)
    last.complete, last.triggers = True, 2
    last.held.add(first=5, last=9)
    shots = [
        record_pb2.CameraRecord(stamp_ns=START_NS, camera=1, reason=4, state=1, clip=7, open=True),
        record_pb2.CameraRecord(
            stamp_ns=START_NS + 1, reason=3, why="zone", zone_class="military", count=12
        ),
    ]
    empty = np.zeros(0, FRAME)
    for record in [first, last][:events]:
        car.seal(empty, records=(record_pb2.Record(event=record),), lane=sealed_pb2.EVENT)
    car.seal(empty, records=tuple(record_pb2.Record(camera=shot) for shot in shots))
    return car


def test_records_are_written_beside_the_rows(place: Place, tmp_path: Path) -> None:
    car = with_records(place)
    deliver(place, car)
    log = tmp_path / "drive.log"
    result = disclose(place.region, replace(order(place), frames=str(log)))
    assert (result.event_count, result.camera_count, result.problems) == (1, 2, [])
    [event] = map(json.loads, (tmp_path / "drive.events.jsonl").read_text().splitlines())
    assert event["record"] == "event record (EDR-like), not a type-approved EDR"
    assert (event["complete"], event["triggers"], event["held"]) == (True, 2, [[5, 9]])
    assert (event["time"], event["unix"]) == ("2026-11-18T11:06:40.005000Z", "1795000000.005000")
    assert event["snapshot"] == [
        {
            "signal": "speed", "channel": "can0", "raw": 175, "age_s": 0.02, "value": 87.5,
            "unit": "km/h",
        },
        {
            "signal": "gear", "channel": "*", "raw": 2, "age_s": 0.0, "value": 2, "unit": "",
            "label": "D",
        },
        {"signal": "speed", "channel": "can1", "missing": True},
    ]  # fmt: skip
    assert (event["log"], event["entry"], event["since_previous_s"]) == (car.log.hex(), 4, 1.5)
    shots = [json.loads(x) for x in (tmp_path / "drive.cameras.jsonl").read_text().splitlines()]
    assert [(s["gate"], s.get("why"), s["count"]) for s in shots] == [
        ("open", None, 1), ("closed", "zone", 12),
    ]  # fmt: skip
    assert shots[0]["reason_label"] == "motion"
    assert (shots[1]["zone_class"], "reason_label" in shots[1]) == ("military", False)
    assert not {"latitude", "longitude"} & set(shots[1])


def test_an_event_that_was_never_completed_is_told_as_it_is(place: Place) -> None:
    deliver(place, with_records(place, events=1))
    [line] = opened(place).events()
    assert (json.loads(line)["complete"], json.loads(line)["held"]) == (False, [])


def test_records_have_moments_and_stale_files_do_not_stay(place: Place, tmp_path: Path) -> None:
    deliver(place, with_records(place))
    for name in ("drive.events.jsonl", "drive.cameras.jsonl"):
        (tmp_path / name).write_text("of another opening")
    asked = replace(order(place, from_ns=START_NS + 1), signals=str(tmp_path / "drive.csv"))
    result = disclose(place.region, asked)
    assert (result.event_count, result.camera_count) == (1, 1)
    result = disclose(place.region, replace(asked, request=replace(asked.request, to_ns=START_NS)))
    assert (tmp_path / "drive.events.jsonl").read_text() == ""
    assert opened(place).event_count == 1  # and no file without a place for one


def test_records_without_their_dictionary_are_named(place: Place) -> None:
    car = with_records(place)
    deliver(place, car, 1)
    result = opened(place)
    assert "2 records whose" in [p.why for p in result.problems if "records" in p.why][-1]
    [line] = result.events()
    said = json.loads(line)["snapshot"][0]
    assert said == {"signal": "signal 0", "channel": "can0", "raw": 175, "age_s": 0.02}
    assert len(list(result.cameras())) == 2


def test_a_held_segment_of_the_recorder_opens_when_its_body_has_come(
    place: Place, car: SealingCar
) -> None:
    late = car.seal(frames(7, START_NS), lane=sealed_pb2.RECORDER)
    body, car.bodies[late] = car.bodies[late], b""
    deliver(place, car)
    result = opened(place)
    assert (result.segments, result.in_car, result.problems) == (3, 1, [])
    before = catalogue(place.store)["vehicles"][0]["logs"][0]["body_bytes"]
    car.bodies[late] = body
    give(receiver(place), car, late)
    result = opened(place)
    assert (result.segments, result.in_car, result.frame_count) == (4, 0, 67)
    after = catalogue(place.store)["vehicles"][0]["logs"][0]["body_bytes"]
    assert after - before == len(body)


def test_an_unknown_vehicle_or_log_is_named(place: Place, car: SealingCar) -> None:
    deliver(place, car)
    with pytest.raises(ConfigError, match="no vehicle"):
        opened(place, vehicle="v-nobody0000")
    with pytest.raises(ConfigError, match="no log"):
        opened(place, log="ffffffffffffffffff")


def test_the_catalogue_says_what_is_there_and_what_is_not(place: Place, car: SealingCar) -> None:
    car.loss(), car.drop(4, 4), car.loss()
    car.bodies[4] = b""
    station = receiver(place)
    give(station, car, *(i for i in range(8) if i != 5))
    station.offer(car.topic("checkpoint"), car.checkpoint())
    station.flush()
    found = catalogue(place.store)
    [vehicle] = found["vehicles"]
    [log] = vehicle["logs"]
    assert log["log"] == car.log.hex()
    assert (log["entries"], log["segments"]) == (7, 2)
    assert log["missing"] == [[5, 5], [8, 8]]
    assert (log["losses"], log["drops"]) == (3, {"quota": 1})
    assert log["checkpoint"]["size"] == 9
    assert (log["from_ns"], log["to_ns"]) == (START_NS, START_NS + 7 * 10**9)
    json.dumps(found)
