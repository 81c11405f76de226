"""Store once, receipt after commit, poison never in the way."""

from __future__ import annotations

import hashlib

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.pb import delivery_pb2, ledger_pb2
from agent.station import store as store_module
from agent.station.examine import RefusedError, Vehicle, examine, parse_topic
from agent.station.receive import RECEIPT_DOMAIN, Receiver
from agent.station.store import Outcome
from agent.vault import keys
from tests.station.car import Car
from tests.station.conftest import Place, enroll

NOW_NS = 1_795_000_000 * 10**9


def receiver(place: Place) -> Receiver:
    return Receiver(place.region, place.store, lambda: NOW_NS)


def give(receiver: Receiver, car: Car, *indices: int) -> dict[int, bytes]:
    for index in indices:
        receiver.offer(car.topic(), car.upload(index))
    return receipted(receiver, car)


def receipted(receiver: Receiver, car: Car) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    for topic, payload in receiver.flush():
        assert topic == f"inland/1/cn/down/{car.vehicle}/receipt"
        receipt = checked(receiver, payload)
        assert (receipt.vehicle, receipt.log) == (car.vehicle, car.log)
        assert receipt.region_unix_ns == NOW_NS
        found |= dict(zip(receipt.index, receipt.leaf, strict=True))
    return found


def checked(receiver: Receiver, payload: bytes) -> delivery_pb2.Receipt:
    signed = delivery_pb2.SignedReceipt.FromString(payload)
    public = receiver.region.card.receipt_keys[0]
    assert signed.kid == keys.kid(public)
    Ed25519PublicKey.from_public_bytes(public).verify(
        signed.signature, RECEIPT_DOMAIN + signed.receipt
    )
    return delivery_pb2.Receipt.FromString(signed.receipt)


def refusals(place: Place) -> dict[str, int]:
    return dict(place.store.connection.execute("SELECT code, count FROM refusals"))


def alarms(place: Place) -> list[str]:
    return [row[0] for row in place.store.connection.execute("SELECT code FROM alarms")]


def test_sound_entries_are_stored_and_receipted(place: Place) -> None:
    car, station = place.car, receiver(place)
    indices = (car.genesis(), car.begin(), car.segment(), car.loss())
    assert give(station, car, *indices) == {index: car.leaf(index) for index in indices}
    rows = place.store.connection.execute("SELECT i, kind, entry, body FROM entries").fetchall()
    assert [row[1] for row in rows] == ["genesis", "session", "segment", "loss"]
    assert all((row[2], row[3] or b"") == (car.entries[row[0]], car.bodies[row[0]]) for row in rows)


def test_changes_of_people_and_sessions_for_a_driver_are_taken(place: Place) -> None:
    """A station that does not know them would refuse the log from there on."""
    car, station = place.car, receiver(place)
    what = ledger_pb2.OwnerChange(
        kid=bytes(8), role=ledger_pb2.OwnerChange.OWNER_OF_CAR,
        what=ledger_pb2.OwnerChange.ENROLLED,
    )  # fmt: skip
    indices = (car.genesis(), car.add(owner=what), car.begin(recipients=5), car.segment())
    assert give(station, car, *indices) == {index: car.leaf(index) for index in indices}


def test_a_duplicate_is_stored_once_and_receipted_again(place: Place) -> None:
    car, station = place.car, receiver(place)
    index = car.genesis()
    give(station, car, index)
    assert give(station, car, index, index) == {0: car.leaf(0)}
    assert station.counters.stored == 1
    assert station.counters.duplicates == 2


def test_another_hash_for_an_identity_is_a_conflict_and_overwrites_nothing(place: Place) -> None:
    car, station = place.car, receiver(place)
    car.genesis()
    car.loss()
    give(station, car, 0, 1)
    first = car.entries[1]
    car.entries[1] = ledger_pb2.Entry(index=1, boot=ledger_pb2.Boot()).SerializeToString()
    assert give(station, car, 1, 1) == {}
    stored = place.store.connection.execute("SELECT entry FROM entries WHERE i = 1").fetchall()
    assert stored == [(first,)]
    assert alarms(place) == ["conflict"]
    assert place.store.connection.execute("SELECT i, count FROM conflicts").fetchall() == [(1, 2)]


def test_a_segment_waits_for_its_session(place: Place) -> None:
    """T81: a receipt would let the car forget what nobody could open."""
    car, station = place.car, receiver(place)
    car.genesis()
    session, segment = car.begin(), car.segment()
    assert give(station, car, segment) == {}
    assert station.counters.waiting == 1
    assert give(station, car, session) == {session: car.leaf(session)}
    assert give(station, car, segment) == {segment: car.leaf(segment)}


def test_session_after_segment_in_one_batch_receipts_both(place: Place) -> None:
    car, station = place.car, receiver(place)
    car.genesis()
    session, segment = car.begin(), car.segment()
    assert set(give(station, car, segment, session)) == {session, segment}


def test_a_stripped_body_is_not_receipted_until_a_drop_explains_it(place: Place) -> None:
    """An uplink that was taken over may delay, but not make the car delete what it withheld."""
    car, station = place.car, receiver(place)
    car.genesis(), car.begin()
    stripped, dropped = car.segment(), car.segment()
    give(station, car, 0, 1)
    for index in (stripped, dropped):
        station.offer(car.topic(), car.upload(index, body=b""))
    assert receipted(station, car) == {}
    drop = car.drop(dropped, dropped)
    station.offer(car.topic(), car.upload(drop))
    for index in (stripped, dropped):
        station.offer(car.topic(), car.upload(index, body=b""))
    assert set(receipted(station, car)) == {drop, dropped}
    assert set(give(station, car, stripped)) == {stripped}
    body = place.store.connection.execute("SELECT body FROM entries WHERE i = ?", (stripped,))
    assert body.fetchone()[0] == car.bodies[stripped]


def test_a_segment_of_the_recorder_comes_without_its_body(place: Place) -> None:
    """It stays in the car until an event asks for it; then the body follows."""
    car, station = place.car, receiver(place)
    car.genesis(), car.begin()
    held = car.segment(lane=3)
    give(station, car, 0, 1)
    station.offer(car.topic(), car.upload(held, body=b""))
    assert set(receipted(station, car)) == {held}
    assert set(give(station, car, held)) == {held}
    body = place.store.connection.execute("SELECT body FROM entries WHERE i = ?", (held,))
    assert body.fetchone()[0] == car.bodies[held]


def hollow(receiver: Receiver) -> list[int]:
    return [i for _, payload in receiver.flush() for i in checked(receiver, payload).hollow]


def test_a_receipt_says_what_is_here_without_its_body(place: Place) -> None:
    """So that one that was on its way confirms no body that an event has asked for since."""
    car, station = place.car, receiver(place)
    car.genesis(), car.begin()
    held, dropped, whole = car.segment(lane=3), car.segment(), car.segment()
    drop = car.drop(dropped, dropped)
    for index in (0, 1, drop, whole):
        station.offer(car.topic(), car.upload(index))
    for index in (held, dropped):
        station.offer(car.topic(), car.upload(index, body=b""))
    assert hollow(station) == [held, dropped]
    station.offer(car.topic(), car.upload(held, body=b""))
    station.offer(car.topic(), car.upload(held))  # the body comes: of two in a batch, either first
    assert hollow(station) == []
    station.offer(car.topic(), car.upload(held, body=b""))
    assert hollow(station) == []  # it is here, whatever an old message says


def test_a_late_body_fills_its_entry_once_and_overwrites_nothing(place: Place) -> None:
    car, station = place.car, receiver(place)
    car.genesis(), car.begin()
    held = car.segment(lane=3)
    give(station, car, 0, 1)
    station.offer(car.topic(), car.upload(held, body=b""))
    assert set(receipted(station, car)) == {held}
    other = car.bodies[held][:-1] + b"y"
    station.offer(car.topic(), car.upload(held, body=other))
    assert receipted(station, car) == {}
    assert refusals(place) == {"body-hash": 1}
    for outcome in (Outcome.STORED, Outcome.DUPLICATE):
        vehicle = Vehicle(car.vehicle, car.ledger_key.public_key().public_bytes_raw())
        arrival = examine(car.upload(held), vehicle, car.region)
        assert place.store.commit([arrival], NOW_NS) == [outcome]
    body = place.store.connection.execute("SELECT body FROM entries WHERE i = ?", (held,))
    assert body.fetchone()[0] == car.bodies[held]


def test_a_station_that_forgets_what_is_hollow_is_caught(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The planted bug."""
    monkeypatch.setattr(store_module.Store, "is_hollow", lambda *_: False)
    with pytest.raises(AssertionError):
        test_a_receipt_says_what_is_here_without_its_body(place)


def test_a_salvaged_entry_without_its_body_is_explained_by_the_gap(place: Place) -> None:
    car, station = place.car, receiver(place)
    car.genesis(), car.begin()
    rotten = car.segment()
    give(station, car, 0, 1)
    station.offer(car.topic(), car.upload(rotten, body=b""))
    assert receipted(station, car) == {}
    new = Car(car.vehicle, car.region, car.ledger_key)
    new.genesis(), new.add(gap=ledger_pb2.Gap(why="corrupt", log=car.log))
    give(station, new, 0, 1)
    station.offer(car.topic(), car.upload(rotten, body=b""))
    assert set(receipted(station, car)) == {rotten}


def test_a_forged_body_is_refused(place: Place) -> None:
    car, station = place.car, receiver(place)
    car.genesis(), car.begin()
    segment = car.segment()
    forged = car.bodies[segment][:-1] + b"y"
    station.offer(car.topic(), car.upload(segment, body=forged))
    assert receipted(station, car) == {}
    assert refusals(place) == {"body-hash": 1}


def test_a_body_of_another_place_is_refused(place: Place) -> None:
    car, station = place.car, receiver(place)
    car.genesis(), car.begin()
    segment = car.segment()
    body = car.bodies[segment]
    moved = car.add(
        body,
        segment=ledger_pb2.SegmentSealed(
            body=hashlib.sha256(body).digest(), session=car.session, lane=2
        ),
    )
    assert give(station, car, moved) == {}
    assert refusals(place) == {"header": 1}


@pytest.mark.parametrize("kind", ["key", "vehicle", "late", "unknown", "index"])
def test_a_ledger_that_is_not_the_enrolled_one_is_refused(place: Place, kind: str) -> None:
    car, station = place.car, receiver(place)
    genesis = ledger_pb2.Genesis(
        region=car.region, vehicle=car.vehicle, log=car.log,
        ledger_key=car.ledger_key.public_key().public_bytes_raw(),
    )  # fmt: skip
    index, code = 0, {"key": "ledger-key", "vehicle": "genesis", "late": "genesis-place"}.get(kind)
    if kind == "key":
        genesis.ledger_key = bytes(32)
    elif kind == "vehicle":
        genesis.vehicle = "v-another00"
    elif kind == "late":
        car.loss()
        index = 1
    entry = ledger_pb2.Entry(index=index, genesis=genesis)
    if kind == "unknown":
        entry, code = ledger_pb2.Entry(), "unknown-kind"
        entry.at.unix_ns = 1
    if kind == "index":
        entry.index, code = 7, "index"
    payload = delivery_pb2.Upload(log=car.log, index=index, entry=entry.SerializeToString())
    station.offer(car.topic(), payload.SerializeToString())
    assert station.flush() == []
    assert refusals(place) == {code: 1}


def test_an_unknown_vehicle_is_refused_and_logged_once(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    car, station = place.car, receiver(place)
    car.genesis()
    car.vehicle = "v-stranger00"
    for _ in range(5):
        station.offer(car.topic(), car.upload(0))
        station.offer(car.topic(), car.upload(0))
        assert station.flush() == []
    assert refusals(place) == {"unknown-vehicle": 10}
    assert len(caplog.records) == 1


def test_strangers_do_not_fill_the_store(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "MAX_REFUSALS", 3)
    car, station = place.car, receiver(place)
    car.genesis()
    for number in range(9):
        car.vehicle = f"v-stranger{number:02}"
        station.offer(car.topic(), car.upload(0))
    station.flush()
    rows = dict(place.store.connection.execute("SELECT vehicle, count FROM refusals"))
    assert len(rows) == 4
    assert rows[store_module.OTHERS] == 6


def test_two_cars_never_mix(place: Place, tmp_path) -> None:  # type: ignore[no-untyped-def]
    """The vehicle comes from the topic: another car's upload stays its own."""
    station, mine = receiver(place), place.car
    other = enroll(place.region, tmp_path / "other", "v-another000")
    mine.genesis(), other.genesis()
    other.log = mine.log
    give(station, mine, 0)
    station.offer(other.topic(), mine.upload(0))
    assert station.flush() == []
    assert refusals(place) == {"ledger-key": 1}


def check_never_wrong(place: Place, car: Car, payload: bytes) -> None:
    """Nothing raises; what is receipted is stored, with the body that its entry names."""
    station = receiver(place)
    station.offer(car.topic(), payload)
    station.offer(car.topic("checkpoint"), payload)
    for _, receipt in station.flush():
        known = checked(station, receipt)
        for index, leaf in zip(known.index, known.leaf, strict=True):
            [(raw, body)] = place.store.connection.execute(
                "SELECT e.entry, e.body FROM entries e JOIN logs USING (log)"
                " WHERE log_id = ? AND i = ? AND leaf = ?", (known.log, index, leaf),
            )  # fmt: skip
            entry = ledger_pb2.Entry.FromString(raw)
            what = getattr(entry, str(entry.WhichOneof("what")))
            assert body is None or hashlib.sha256(body).digest() == what.body


def three_entries(place: Place) -> Car:
    car = Car(place.car.vehicle, place.car.region, place.car.ledger_key)
    car.genesis(), car.begin(), car.segment()
    return car


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_bytes_of_any_kind_never_raise_and_are_never_receipted_wrongly(data, place: Place) -> None:  # type: ignore[no-untyped-def]
    car = three_entries(place)
    payload = bytearray(car.upload(data.draw(st.sampled_from([0, 1, 2]))))
    for _ in range(data.draw(st.integers(1, 4))):
        payload[data.draw(st.integers(0, len(payload) - 1))] ^= data.draw(st.integers(1, 255))
    cut = data.draw(st.integers(0, len(payload)))
    check_never_wrong(place, car, bytes(payload[:cut]))


def flip_a_few(place: Place) -> None:
    for part in range(20):
        car = three_entries(place)  # a log of its own: the first that comes is the one that counts
        check_never_wrong(place, car, car.upload(1))
        flipped = bytearray(car.upload(2))
        flipped[len(flipped) * part // 20] ^= 0x10
        check_never_wrong(place, car, bytes(flipped))


def test_flipped_bytes_are_never_receipted_wrongly(place: Place) -> None:
    flip_a_few(place)


def test_a_station_that_does_not_check_bodies_is_caught(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The planted bug."""
    monkeypatch.setattr("agent.station.examine._check_body", lambda *_: None)
    with pytest.raises(AssertionError):
        flip_a_few(place)


def test_every_truncation_of_an_upload_is_refused_or_another_entry(place: Place) -> None:
    car = place.car
    car.genesis(), car.begin(), car.segment()
    vehicle = Vehicle(car.vehicle, car.ledger_key.public_key().public_bytes_raw())
    whole = car.upload(2)
    for end in range(len(whole)):
        try:
            arrival = examine(whole[:end], vehicle, car.region)
        except RefusedError:
            continue
        assert arrival.body is None  # cut before the body: an entry alone, which is not receipted
        assert arrival.owes_body


def test_a_station_that_forgets_the_session_rule_is_caught(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The planted bug: without the rule, the check above sees a receipt."""
    monkeypatch.setattr(store_module.Store, "_has_session", lambda *_: True)
    with pytest.raises(AssertionError):
        test_a_segment_waits_for_its_session(place)


def test_a_store_that_overwrites_is_caught(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    original = store_module.Store._conflict

    def sloppy(self, log, arrival, now_ns):  # type: ignore[no-untyped-def]
        self.connection.execute(
            "UPDATE entries SET entry = ? WHERE log = ? AND i = ?",
            (arrival.entry, log, arrival.index),
        )
        original(self, log, arrival, now_ns)

    monkeypatch.setattr(store_module.Store, "_conflict", sloppy)
    with pytest.raises(AssertionError):
        test_another_hash_for_an_identity_is_a_conflict_and_overwrites_nothing(place)


def test_a_forged_receipt_does_not_verify(place: Place) -> None:
    car, station = place.car, receiver(place)
    car.genesis()
    station.offer(car.topic(), car.upload(0))
    [(_, payload)] = station.flush()
    signed = delivery_pb2.SignedReceipt.FromString(payload)
    receipt = delivery_pb2.Receipt.FromString(signed.receipt)
    receipt.index[0] = 9
    signed.receipt = receipt.SerializeToString()
    with pytest.raises(InvalidSignature):
        checked(station, signed.SerializeToString())


def test_nothing_of_a_failed_batch_stays(place: Place) -> None:
    car = place.car
    car.genesis(), car.loss()
    vehicle = Vehicle(car.vehicle, car.ledger_key.public_key().public_bytes_raw())
    sound = examine(car.upload(0), vehicle, car.region)
    broken = store_module.Arrival(**{
        **{f: getattr(sound, f) for f in sound.__slots__}, "index": 1, "leaf": None
    })  # fmt: skip
    with pytest.raises(store_module.SpoolError):
        place.store.commit([sound, broken], NOW_NS)
    assert place.store.connection.execute("SELECT count(*) FROM entries").fetchone() == (0,)
    assert place.store.commit([sound], NOW_NS) == [Outcome.STORED]


@pytest.mark.parametrize(
    "topic",
    ["", "inland/1/eu/up/v-0123456789/routine", "inland/1/cn/down/v-0123456789/receipt",
     "inland/1/cn/up/v-0123456789", "inland/1/cn/up/v-0123456789/routine/x",
     "inland/1/cn/up/v-0123456789/recorder", "/////"],
)  # fmt: skip
def test_another_topic_is_refused(topic: str) -> None:
    with pytest.raises(RefusedError):
        parse_topic(topic, "cn")
