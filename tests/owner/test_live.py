"""The live stream: exactly what the ledger will hold for a person, and nothing for anybody else."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.capture.live import LiveFeed
from agent.evidence.opening import Opened, open_segments
from agent.evidence.selection import Request, find
from agent.frames import FrameBatch, SignalBatch
from agent.owner import register
from agent.owner.keyfile import OwnerKey
from agent.owner.register import Register
from agent.pb import sealed_pb2
from agent.pb.policy_pb2 import Dictionary
from agent.policy import consent_file
from agent.policy.engine import Kept
from agent.policy.terms import terms
from tests.owner.drive import Ledger
from tests.owner.looking import VEHICLE, Looker, Watched, serving
from tests.owner.people import ANNA, BELA, drive, enroll, privates
from tests.test_scenarios import S, log_of

TRACK = "location.point"
Rows = Mapping[tuple[Any, ...], list[tuple[Any, ...]]]


@pytest.fixture
def car(tmp_path: Path) -> Iterator[Watched]:
    """A car with an owner who drives and who agreed to a track of the own journeys."""
    made = Watched(tmp_path)
    enroll(made.people, ANNA)
    with consent_file.edit(tmp_path / "consent.json", wait=True) as held:
        held.book = held.book.grant(
            terms(made.policy, TRACK), now_ns=made.unix_ns, until_ns=made.unix_ns + 86_400 * S,
            each_drive=False,
        )  # fmt: skip
    yield made
    made.vault.close()


def hard_brake(car: Watched, seconds: int = 20) -> FrameBatch:
    frames = log_of(
        car.folder, "hard-brake", seconds, "--brake-at", str(seconds // 2), channels=car
    )
    frames["timestamp_ns"] += car.unix_ns - int(frames["timestamp_ns"][0])
    return frames


def samples_of(batch: SignalBatch, words: Dictionary, buses: tuple[str, ...]) -> Iterator[Any]:
    for row in batch:
        signal = words.signal[int(row["signal"])]
        key = signal.message, signal.name, buses[row["channel"]]
        yield key, (int(row["timestamp_ns"]), int(row["raw"]))


def frames_of(batch: FrameBatch, buses: tuple[str, ...]) -> Iterator[Any]:
    for row in batch:
        key = "frame", int(row["arbitration_id"]), buses[row["channel"]]
        data = bytes(row["data"][: row["length"]])
        yield key, (int(row["timestamp_ns"]), int(row["flags"]), data)


def seen_by(looker: Looker) -> Rows:
    """What came live, in order, by (lane, signal or frame, bus)."""
    found = defaultdict(list)
    for part in looker.parts:
        assert part.lost == (0, 0, 0)
        for lane, payload in part.pieces:
            rule = looker.stream.rule_of(payload)
            samples = samples_of(payload.signals, rule.dictionary, payload.channels)
            for key, row in (*samples, *frames_of(payload.frames, payload.channels)):
                found[lane, *key].append(row)
            for record in payload.records:
                found[lane, "record"].append(record.SerializeToString(deterministic=True))
    return found


def opened_by(folder: Path, key: OwnerKey) -> Rows:
    """What a key opens of the ledger, by the owner's own code, in the same form."""
    ledger = Ledger(folder / "state" / "spool" / "spool.db")
    request = Request(VEHICLE)
    everybody = frozenset(sealed_pb2.Recipients.values())
    opened: Opened = open_segments(
        ledger, find(ledger, request), request, privates(key), others=everybody
    )
    assert opened.problems == []
    found = defaultdict(list)
    for span, name, batch in opened.samples:
        for key_, row in samples_of(batch, opened.dictionaries[name], opened.channels.names):
            found[span.lane, *key_].append(row)
    for span, batch in opened.frames:
        for key_, row in frames_of(batch, opened.channels.names):
            found[span.lane, *key_].append(row)
    for noted in opened.noted:
        lane = ledger.entries[noted.index].segment.lane
        found[lane, "record"].append(noted.record.SerializeToString(deterministic=True))
    return found


def driven(car: Watched, key: OwnerKey = ANNA, **more: Any) -> tuple[Rows, Rows]:
    """What somebody sees of a drive while it happens, and what the ledger has of it for them."""
    frames = hard_brake(car)
    with serving(car.folder, car.feed):
        car.stand(1)
        looker = Looker(car.folder / "live.sock", key, **more)
        for _ in car.play(frames):
            pass
        car.stand(1)
        car.sealer.finish()
    looker.end()
    assert looker.ended
    seen = seen_by(looker)
    car.vault.close()
    return seen, opened_by(car.folder, key)


@pytest.mark.timeout(120)
def test_an_owner_sees_exactly_what_the_ledger_holds_for_that_key(car: Watched):
    """Signal by signal, frame by frame, event by event: on change, every, raw, box, consent."""
    seen, held = driven(car)
    assert seen == held
    names = {key[2] for key in seen if key[1] not in ("frame", "record")}
    assert {"Gear", "VehicleSpeed", "SteeringAngle", "Latitude"} <= names
    assert not names & {"BatterySoc", "CellVoltage01"}  # for the region alone, for both
    lanes = {key[0] for key in seen}
    assert lanes == {sealed_pb2.ROUTINE, sealed_pb2.RECORDER, sealed_pb2.INCIDENT}
    assert len(seen[sealed_pb2.INCIDENT, "record"]) == 2  # the trigger, and the end


def test_a_driver_sees_exactly_what_is_for_whoever_drives(car: Watched):
    """And the owner, who does not drive, all but that."""
    enroll(car.people, BELA, register.DRIVER)
    drive(car.people, BELA)
    seen, held = driven(car, BELA)
    assert seen == held
    assert {key[2] for key in seen if key[1] != "frame"} == {"SteeringAngle"}


def test_without_raw_frames_the_samples_are_the_same(car: Watched):
    seen, held = driven(car, frames=False)
    assert seen == {key: rows for key, rows in held.items() if key[1] != "frame"}


@pytest.mark.parametrize(
    "bug",
    [
        "finer stamps",
        "for the region too",
        *(
            pytest.param(one, marks=pytest.mark.slow)
            for one in ("no recorder", "a sample less", "events left out")
        ),
    ],
)
def test_a_planted_difference_is_found(car: Watched, monkeypatch: pytest.MonkeyPatch, bug: str):
    """The comparison sees what it is there for."""
    draft, keep, onlookers = LiveFeed._draft, LiveFeed.keep, Register.onlookers.fget
    assert onlookers is not None

    def finer(self: Any, rule_set: Any, *rest: Any, **more: Any) -> Any:
        return draft(self, replace(rule_set, resolution_ns=1), *rest, **more)

    def without(self: LiveFeed, kept: list[Kept], *rest: Any) -> None:
        keep(self, [one for one in kept if one.rule_set.lane != sealed_pb2.RECORDER], *rest)

    def fewer(self: LiveFeed, kept: list[Kept], *rest: Any) -> None:
        cut = [Kept(one.rule_set, one.frames, one.signals[1:]) for one in kept]
        keep(self, cut, *rest)

    def wider(self: Register) -> Any:
        return tuple(
            replace(one, opens=one.opens | {sealed_pb2.REGION, sealed_pb2.BOTH})
            for one in onlookers(self)
        )

    target, name, value = {
        "finer stamps": (LiveFeed, "_draft", finer),
        "no recorder": (LiveFeed, "keep", without),
        "for the region too": (Register, "onlookers", property(wider)),
        "a sample less": (LiveFeed, "keep", fewer),
        "events left out": (LiveFeed, "note", lambda *_: None),
    }[bug]
    monkeypatch.setattr(target, name, value)
    seen, held = driven(car)
    assert seen != held
