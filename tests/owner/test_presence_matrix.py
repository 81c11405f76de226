"""The presence matrix: each state and each reason, from entries as the car writes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from agent.digest import sha256
from agent.frames import FRAME, SIGNAL, FrameBatch
from agent.owner import presence_matrix
from agent.owner.chronicle import Bodies, Chronicle, chronicle
from agent.owner.presence_matrix import Row, Rows, presence
from agent.owner.seen import Carriers, Seen
from agent.pb import ledger_pb2, moment_pb2, sealed_pb2
from agent.policy.model import SignalInfo, SignalLayout
from tests.capture.driving import TRACK, consenting, event, policy, rule

S = 10**9
T0 = 1_800_000_000 * S
LOG = b"l" * 16
NOTHING = Rows({}, {}, Carriers(np.zeros(0, FRAME)))
L = ledger_pb2
SPEED = {"Speed": 0, "Brake": 1}


class Book:
    """A ledger that a test writes: an entry a second unless it says when."""

    def __init__(self, recipients: int = sealed_pb2.SHARED) -> None:
        self.entries: list[tuple[bytes, L.Entry]] = []
        self.add(genesis=L.Genesis(vehicle="car-1", region="urn:inland:region:cn", log=LOG))
        self.add(0, boot=L.Boot(clean=True))
        self.recipients = recipients
        self.add(session=L.SessionBegun(session=b"s" * 16, recipients=recipients))

    def add(self, at_s: float | None = None, **what: Any) -> int:
        index = len(self.entries)
        at = moment_pb2.Moment(unix_ns=T0 + round((index if at_s is None else at_s) * S))
        self.entries.append((LOG, L.Entry(index=index, at=at, **what)))
        return index

    def decide(self, one: Any, at_s: float | None = None) -> None:
        self.add(at_s, policy=L.PolicyInForce(name=one.name, version=1, body=one.digest))

    def segment(self, lane: int = sealed_pb2.ROUTINE, at_s: float | None = None) -> int:
        return self.add(at_s, segment=L.SegmentSealed(session=b"s" * 16, lane=lane, bytes=100))

    def drop(self, reason: int, *indices: int) -> None:
        self.add(drop=L.Drop(reason=reason, range=[L.Range(first=i, last=i) for i in indices]))

    def told(
        self, *here: int, closed: Sequence[int] = (), why: str | None = None, begin_s: float = 0,
        end_s: float = 60,
    ) -> Chronicle:  # fmt: skip
        bodies = Bodies(lambda _, i: i in here, {(LOG, i) for i in closed}, lambda *_: why)
        return chronicle(
            self.entries, bodies,
            begin_ns=T0 + round(begin_s * S), end_ns=T0 + round(end_s * S),
        )  # fmt: skip


def kept(**more: Any) -> Any:
    """A policy that keeps Speed in a rule, and nothing else."""
    from agent.policy.clauses import SignalSelector

    one = rule("speed", signals=(SignalSelector("*", 0),), recipients=sealed_pb2.SHARED, **more)
    return policy(rules=(one,), recorder=None, events=(), driving=None)


def rows_of(book: Book, one: Any, *here: int, rows: Rows = NOTHING, **more: Any) -> dict[str, Row]:
    told = book.told(*here, **more)
    found = presence(told, {one.digest: one}, rows)
    return {row.info.name: row for row in found}


def reasons(row: Row) -> list[str]:
    return [name for name, _ in row.reasons]


def busy(one: Any, end_s: int = 60) -> Book:
    """Awake, deciding, with a segment every ten seconds."""
    book = Book()
    book.decide(one, 0)
    for at in range(10, end_s + 1, 10):
        book.segment(at_s=at)
    return book


def speed_samples(*at_s: float) -> np.ndarray:  # type: ignore[type-arg]
    batch = np.zeros(len(at_s), SIGNAL)
    batch["timestamp_ns"] = [T0 + round(at * S) for at in at_s]
    return batch


def frames(identifier: int, count: int, length: int) -> FrameBatch:
    batch = np.zeros(count, FRAME)
    batch["timestamp_ns"] = T0 + np.arange(count) * S
    batch["arbitration_id"], batch["length"] = identifier, length
    return batch


def test_present_says_how_often():
    one = kept()
    opened = Rows({sha256(one.dictionary): [speed_samples(1, 2, 5)]}, {}, NOTHING.carriers)
    row = rows_of(busy(one), one, rows=opened)["Speed"]
    assert row.state == "present"
    assert row.seen == Seen(3, T0 + S, T0 + 5 * S, 3 * S)
    assert row.seen.rate_hz == pytest.approx(0.5)
    assert row.reasons == []


def test_present_in_raw_frames_counts_what_a_decoder_finds():
    """A frame that is too short for the signal does not have it."""
    one = policy(rules=(), events=(), driving=None)
    both = np.concatenate([frames(0x100, 5, 2), frames(0x100, 4, 1)])
    rows = rows_of(busy(one), one, rows=Rows({}, {}, Carriers(both)))
    speed, brake = rows["Speed"].seen, rows["Brake"].seen
    assert (speed and speed.count, brake and brake.count) == (9, 5)


def test_a_value_in_an_event_record_is_presence():
    one = policy(rules=(), recorder=None, driving=None)
    noted = {sha256(one.dictionary): [(1, T0 + 7 * S)]}
    row = rows_of(busy(one), one, rows=Rows({}, noted, NOTHING.carriers))["Brake"]
    assert (row.state, row.seen) == ("present", Seen(1, T0 + 7 * S, T0 + 7 * S, 0))


def test_one_value_in_two_places_counts_once():
    """Raw frames, samples of them, and a record of one: five values, not eight."""
    one = kept()
    opened = Rows(
        {sha256(one.dictionary): [speed_samples(1, 3)]}, {sha256(one.dictionary): [(0, T0)]},
        Carriers(frames(0x100, 5, 2)),
    )  # fmt: skip
    row = rows_of(busy(one), one, rows=opened)["Speed"]
    assert row.seen == Seen(5, T0, T0 + 4 * S, S)


@pytest.mark.parametrize(
    ("reason", "name"),
    [(L.Drop.QUOTA, "quota"), (L.Drop.EXPIRED, "expired"), (L.Drop.WITHDRAWN, "withdrawn")],
)
def test_removed_says_why(reason: int, name: str):
    one = kept()
    book = busy(one)
    book.drop(reason, 4, 5)
    row = rows_of(book, one, 6, 7, 8, 9)["Speed"]
    assert (row.state, row.gone) == ("removed", {name: 2})


def test_a_drop_outside_the_time_explains_a_segment_in_it():
    one = kept()
    book = busy(one)
    book.add(3600, drop=L.Drop(reason=L.Drop.QUOTA, range=[L.Range(first=0, last=99)]))
    assert rows_of(book, one)["Speed"].gone == {"quota": 5}  # the sixth is after the time


def test_what_has_not_come_is_not_called_removed():
    one = kept()
    assert rows_of(busy(one), one)["Speed"].state == "not here"


def test_sealed_to_others_is_said():
    one = kept()
    rows = rows_of(busy(one), one, 4, 5, 6, 7, 8, closed=(4, 5, 6, 7, 8))
    assert rows["Speed"].state == "sealed to others"


def test_what_was_left_out_on_purpose_is_not_missing():
    one = kept()
    assert rows_of(busy(one), one, why="left out: lane")["Speed"].state == "not asked for"


def test_nothing_came_is_what_is_left():
    one = kept()
    book = Book()
    book.decide(one, 0)
    book.add(60, kept=L.Kept())
    row = rows_of(book, one)["Speed"]
    assert (row.state, reasons(row)) == ("not recorded", ["nothing came"])


def test_no_consent():
    one = consenting()
    book = Book()
    book.decide(one, 0)
    book.add(20, consent=L.ConsentChange(category=TRACK, state=L.ConsentChange.GRANTED,
                                         until_unix_ns=T0 + 40 * S))  # fmt: skip
    book.add(60, kept=L.Kept())
    row = rows_of(book, one)["Latitude"]
    assert row.state == "not recorded"
    assert dict(row.reasons) == {"no consent": 40 * S, "nothing came": 20 * S}


def test_a_reason_is_given_however_short_the_time_is():
    """What is shorter than a second is told of only if nothing else explains."""
    one = consenting()
    book = Book()
    book.decide(one, 0)
    row = rows_of(book, one, end_s=0.5)["Latitude"]
    assert (row.state, row.reasons) == ("not recorded", [("no consent", S // 2)])


@pytest.mark.parametrize("state", [L.ConsentChange.WITHDRAWN, L.ConsentChange.RESET])
def test_a_consent_ends_with_any_other_change(state: int):
    one = consenting()
    book = Book()
    book.decide(one, 0)
    for at, what in ((10, L.ConsentChange.GRANTED), (25, state)):
        book.add(at, consent=L.ConsentChange(category=TRACK, state=what))
    assert book.told().consented[TRACK] == ((T0 + 10 * S, T0 + 25 * S),)


def test_a_consent_that_ends_was_given_before():
    """A bundle of an hour has the withdrawal, and not the grant of last week."""
    book = Book()
    book.add(25, consent=L.ConsentChange(category=TRACK, state=L.ConsentChange.EXPIRED))
    book.add(40, consent=L.ConsentChange(category=TRACK, state=L.ConsentChange.EXPIRED))
    assert book.told().consented[TRACK] == ((T0, T0 + 25 * S),)


def test_no_recipient():
    one = kept()
    book = Book()
    book.decide(one, 0)
    book.add(60 - 1e-9, loss=L.Loss(count=9, cause=L.Loss.NO_RECIPIENT))
    assert reasons(rows_of(book, one)["Speed"]) == ["no recipient"]


def test_policy_not_in_force_and_car_asleep():
    one = kept()
    book = Book()
    book.decide(one, 10)
    book.add(30, policy=L.PolicyInForce(why="expired"))
    book.add(50, boot=L.Boot())
    book.add(60, kept=L.Kept())
    row = rows_of(book, one)["Speed"]
    told = dict(row.reasons)
    assert told["policy not in force"] == 40 * S
    assert told["car asleep"] == 20 * S - 1


def test_bus_down():
    from agent.policy.clauses import SignalSelector

    one = policy(
        rules=(rule("speed", signals=(SignalSelector("can1", 0),), recipients=sealed_pb2.SHARED),),
        recorder=None, events=(), driving=None,
    )  # fmt: skip
    book = Book()
    book.decide(one, 0)
    book.add(5, bus=L.BusState(channel="can1", state="missing"))
    book.add(7, bus=L.BusState(channel="can1", state="down"))
    book.add(45, bus=L.BusState(channel="can1", state="up"))
    book.add(60, kept=L.Kept())
    assert dict(rows_of(book, one)["Speed"].reasons)["bus down"] == 40 * S


def test_no_event_and_only_looked_at():
    one = policy(rules=(), recorder=None, events=(event(),))  # `driving` looks at Speed as well
    book = Book()
    book.decide(one, 0)
    book.add(60, kept=L.Kept())
    rows = rows_of(book, one)
    assert reasons(rows["Brake"]) == ["no event"]
    quiet = policy(rules=(), recorder=None, events=())
    book = Book()
    book.decide(quiet, 0)
    assert reasons(rows_of(book, quiet)["Speed"]) == ["only looked at"]


def test_with_a_dbc_what_no_policy_names_is_a_row():
    one = kept()
    layout = SignalLayout(0x7AB, False, 0, 8, False, 0)
    secret = SignalInfo("<script>", "M", "", 1.0, 0.0, 0, ())
    known = [(secret, layout), (one.signals[0], one.layouts[0])]
    told = busy(one).told()
    rows = presence(told, {one.digest: one}, NOTHING, known)
    assert [(row.info.name, row.state) for row in rows] == [
        ("Speed", "not here"), ("<script>", "no rule names it"),
    ]  # fmt: skip
    raw = Rows({}, {}, Carriers(frames(0x7AB, 3, 8)))
    rows = presence(told, {one.digest: one}, raw, known)
    assert rows[1].state == "present"


def states(book: Book, one: Any, here: Sequence[int]) -> set[str]:
    return {row.state for row in rows_of(book, one, *here).values()}


def test_a_matrix_that_takes_every_gap_for_removed_is_found(monkeypatch: pytest.MonkeyPatch):
    """The planted bug: what has not come is the sender's to explain, not the car's."""
    one = kept()
    assert states(busy(one), one, ()) == {"not here"}
    monkeypatch.setattr(presence_matrix, "ABSENT", "removed")
    assert states(busy(one), one, ()) != {"not here"}


def test_shelves_say_where_every_body_is():
    one = kept()
    book = busy(one)
    book.segment(sealed_pb2.RECORDER, at_s=30)
    held = book.segment(sealed_pb2.RECORDER, at_s=31)
    book.add(32, incident=L.Incident(record=4, held=[L.Range(first=held, last=held)], upload=True))
    book.drop(L.Drop.QUOTA, 5)
    told = book.told(4, 6)
    routine = told.shelves["shared", "routine"]
    assert (routine.segments, routine.here, routine.absent) == (5, 2, 2)
    assert routine.removed == {"quota": 1}
    recorder = told.shelves["shared", "recorder"]
    assert (recorder.segments, recorder.held, recorder.sealed_bytes) == (2, 1, 200)
    assert (told.vehicle, told.region) == ("car-1", "urn:inland:region:cn")


def test_the_time_is_that_of_the_entries_if_none_is_asked_for():
    book = busy(kept())
    told = chronicle(
        book.entries, Bodies(lambda *_: False), begin_ns=-(1 << 63), end_ns=(1 << 63) - 1
    )
    assert (told.begin_ns, told.end_ns) == (T0, T0 + 60 * S + 1)
    assert told.entries == len(book.entries)
    assert [one.version for one in told.policies] == [1]
