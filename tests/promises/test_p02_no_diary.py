"""P2, what happened when: the disk tells neither which event it was, nor the hour of any one event.

Two cars drive the same day. One brakes hard in the morning and races in the evening, the other the
other way round. Whatever can be read of their state folders without a recipient's key is the same,
so nobody can tell by it which of the two days it was.
"""

from __future__ import annotations

import re
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.capture import accounts
from agent.capture.limits import NAME, Limits
from agent.capture.slot import Change
from agent.digest import sha256
from agent.pb import ledger_pb2, sealed_pb2
from agent.policy.headings import Heading, headings
from tests.capture import driving
from tests.capture.driving import Car, S

HOUR_NS = 3600 * S
BRAKE, RACE = "hard-brake", "raced-through-the-village"
EVENTS = (
    driving.event(id=BRAKE, at_most=2, retrigger_ns=S),
    driving.event(
        id=RACE, when=driving.condition("Speed > 200 and Speed < 255", "Speed"), at_most=2,
        retrigger_ns=S,
    ),
)  # fmt: skip
RULE = "kept-when-a-door-opens"


def happen(car: Car, event: str) -> None:
    if event == BRAKE:
        car.drive(0.1, brake=200)
    else:
        car.drive(0.1, speed=240)


def live(car: Car, first: str, second: str, **more: Any) -> None:
    """Two drives of a day, an event in each; a restart, and what belongs to another month."""
    rules = (driving.rule(RULE, frames=(driving.EVERY,), on_change=False),)
    policy = driving.policy(events=EVENTS, rules=rules)
    car.vault.close()
    car.start(**more)
    # The bytes of a policy are not sealed and name what may happen: these name nothing.
    car.slot.next = Change(policy, b"the bytes of a policy", "installed")
    for event in (first, second):
        car.step(pass_ns=6 * HOUR_NS)
        car.drive(25)
        happen(car, event)
        car.drive(9)
        car.stand(3)
    car.crash(**more)
    car.slot.next = Change(policy, b"the bytes of a policy", "started")
    for _ in range(3):  # one more than `at_most` allows
        car.drive(9)
        happen(car, first)
        happen(car, second)
    car.drive(9)
    car.step(pass_ns=31 * 24 * HOUR_NS)
    car.drive(1)
    car.sealer.finish()


def names() -> dict[bytes, str]:
    """What must be in no file: the names, and whatever a name is easily turned into."""
    found: dict[bytes, str] = {}
    for name in (BRAKE, RACE, RULE):
        digest = sha256(name.encode())
        found |= {name.encode(): name, digest[:6]: name, digest.hex()[:12].encode(): name}
    return found


def without_randomness(text: str) -> str:
    """Ids, salts, hashes and signatures say nothing: they are as good as random."""
    return re.sub(r'(\w+): "(?:[^"\\]|\\.)*"', lambda m: (
        m[0] if m[1] in ("region", "vehicle", "version", "month", "category", "purpose", "why",
                         "name", "channel") else f"{m[1]}: ?"
    ), text)  # fmt: skip


def of_the_ledger(rows: list[Any]) -> Iterator[str]:
    for index, stored in rows:
        entry = ledger_pb2.Entry.FromString(stored)
        assert entry.index == index
        # A frame that says "brake" packs to another size than one that says "speed": a recorder's
        # segment gives that away, which is said in SECURITY.md. What the agent notes does not.
        if entry.HasField("segment") and entry.segment.lane in (
            sealed_pb2.RECORDER, sealed_pb2.ROUTINE,
        ):  # fmt: skip
            entry.segment.bytes = 0
        yield without_randomness(str(entry))


def of_the_spool(path: Path, scratch: Path) -> Iterator[Any]:
    """Every row of every table, as whoever has the file reads it."""
    scratch.mkdir()
    for file in path.parent.iterdir():
        shutil.copy(file, scratch / file.name)
    spool = sqlite3.connect(scratch / path.name)
    rows = {name: spool.execute(f"SELECT * FROM {name}").fetchall() for (name,) in spool.execute(
        "SELECT name FROM sqlite_master WHERE type='table' AND name NOT LIKE 'sqlite%'"
    ).fetchall() if not name.startswith("_")}  # fmt: skip
    spool.close()
    assert {"ledger", "body", "item", "hold", "held", "memory", "meta"} <= set(rows)
    yield from of_the_ledger(rows.pop("ledger"))
    lanes = dict(lanes_of(rows["body"]))
    yield [
        (i, lane, 0 if lane >= sealed_pb2.ROUTINE else size) for i, (lane, size) in lanes.items()
    ]
    # The last column is a hash of the entry, which is compared above.
    yield [(shelf, i, *more) for shelf, i, _, *more, _ in rows["item"]]
    yield [(key, value) for key, value in rows["meta"] if key not in ("log", "floor")]
    for name in ("hold", "held", "memory", "salvage"):
        yield name, rows[name]


def lanes_of(bodies: list[Any]) -> Iterator[tuple[int, tuple[int, int]]]:
    """Lane and size of each sealed segment, from its header."""
    for i, blob in bodies:
        if blob[:4] == b"iSG1":
            header = sealed_pb2.SegmentHeader.FromString(
                blob[6 : 6 + int.from_bytes(blob[4:6], "big")]
            )
            yield i, (header.lane, len(blob))


def read(folder: Path, scratch: Path) -> list[Any]:
    """Return what can be read of a state folder; fails if a name is in it."""
    state, found = folder / "state", []
    for path in sorted(path for path in state.rglob("*") if path.is_file()):
        raw = path.read_bytes()
        for needle, name in names().items():
            assert needle not in raw, f"{name} in {path.name}"
        if path.name == "spool.db":
            found += of_the_spool(path, scratch)
        elif not path.name.startswith("spool.db-"):
            found.append((path.relative_to(state), raw))
    return found


def check_no_diary(quick: Path, **more: Any) -> None:
    days = []
    for number, order in enumerate(((BRAKE, RACE), (RACE, BRAKE))):
        folder = quick / f"car {number}"
        folder.mkdir()
        car = Car(folder)
        live(car, *order, **{name: make(folder) for name, make in more.items()})
        assert [one.rule for one in car.events() if one.complete] == [*order, *order]
        assert car.sealer.counters.events.suppressed == 4  # the second and the third of each
        # Before its end as well: what is in the write-ahead log can be read.
        days.append(read(folder, quick / f"copy {number}"))
        car.vault.close()
        days[-1] += read(folder, quick / f"copy {number} at the end")
    assert len(days[0]) > 100
    assert days[0] == days[1]


def test_p02_the_disk_tells_neither_which_event_it_was_nor_the_hour_of_any(quick: Path) -> None:
    check_no_diary(quick)
    for number in (0, 1):  # what must know it does not survive the computer's boot
        assert (quick / f"car {number}" / NAME).is_file()


def test_p02_records_of_their_own_length_are_found(quick: Path, monkeypatch) -> None:
    monkeypatch.setattr("agent.vault.segment._pad", lambda payload: None)
    with pytest.raises(AssertionError):
        check_no_diary(quick)


def test_p02_books_that_name_rules_are_found(quick: Path, monkeypatch) -> None:
    monkeypatch.setattr(accounts, "headings", lambda policy: {
        name: (Heading(heading.category, name, heading.recipients), keep_s)
        for name, (heading, keep_s) in headings(policy).items()
    })  # fmt: skip
    with pytest.raises(AssertionError, match=r" in spool\.db"):
        check_no_diary(quick)


def test_p02_counts_by_rule_on_the_disk_are_found(quick: Path) -> None:
    with pytest.raises(AssertionError, match=r" in events\.json"):
        check_no_diary(quick, limits=lambda folder: Limits(folder / "state" / NAME, bytes(16)))
