"""What is on offer, one piece for one question, and what a car that asks without end costs."""

from __future__ import annotations

import hashlib
import logging

import pytest

from agent.errors import StationError
from agent.pb.delivery_pb2 import PolicyChunk, PolicyQuestion, Receipt, SignedReceipt
from agent.station import courier as courier_module
from agent.station.courier import BURST, CHUNK_BYTES, MAX_BUNDLE_BYTES, Courier
from agent.station.examine import RefusedError, Vehicle
from agent.station.receive import NO_LOG, Receiver
from tests.station.conftest import VEHICLE, Place
from tests.station.test_receive import NOW_NS, checked, refusals

CAR = Vehicle(VEHICLE, bytes(32))
OTHER = Vehicle("v-another000", bytes(32), "fleet-b")


def digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def ask(data: bytes, offset: int = 0) -> bytes:
    return PolicyQuestion(bundle=digest(data), offset=offset).SerializeToString()


class Region:
    """A repository that a test changes, and a clock."""

    def __init__(self, **bundles: bytes) -> None:
        self.bundles: dict[str, bytes | None] = dict(bundles)
        self.reads, self.now_s, self.broken = 0, 0.0, False
        self.courier = Courier(self.read, "inland/1/cn/down", clock=lambda: self.now_s)

    def read(self, group: str) -> bytes | None:
        self.reads += 1
        if self.broken:
            raise StationError("snapshot.json is missing", where="policy/")
        return self.bundles.get(group)

    def pieces(self, count: int = 100) -> list[tuple[str, PolicyChunk]]:
        chunks = self.courier.chunks(count)
        return [(topic, PolicyChunk.FromString(payload)) for topic, payload in chunks]


BUNDLE = bytes(range(256)) * 300  # 76,800 bytes: three pieces


def test_questions_bring_the_bundle_piece_by_piece():
    region, got = Region(default=BUNDLE), b""
    while len(got) < len(BUNDLE):
        assert region.courier.ask(CAR, ask(BUNDLE, len(got)))
        ((topic, piece),) = region.pieces()
        assert topic == f"inland/1/cn/down/{VEHICLE}/policy"
        assert (piece.bundle, piece.size, piece.offset) == (digest(BUNDLE), 76_800, len(got))
        assert len(piece.data) <= CHUNK_BYTES
        got += piece.data
    assert got == BUNDLE
    assert region.pieces() == []
    assert region.reads == 1, "looked up once a second at most"


def test_each_group_has_its_own():
    region = Region(default=BUNDLE)
    region.bundles["fleet-b"] = b"b" * 10
    assert region.courier.named(CAR) == digest(BUNDLE)
    assert region.courier.named(OTHER) == digest(b"b" * 10)
    assert not region.courier.ask(OTHER, ask(BUNDLE)), "not what its group is offered"
    assert region.pieces() == []


@pytest.mark.parametrize(
    "payload",
    [b"", ask(b"another"), ask(BUNDLE, len(BUNDLE)), ask(BUNDLE, 0xFFFFFFFF)],
)
def test_what_no_piece_answers_a_receipt_answers(payload: bytes):
    region = Region(default=BUNDLE)
    assert not region.courier.ask(CAR, payload)
    assert region.pieces() == []


@pytest.mark.parametrize("payload", [b"\xff\xff", b"\x0a\xff", bytes(65)])
def test_junk_is_refused(payload: bytes):
    with pytest.raises(RefusedError, match="malformed"):
        Region(default=BUNDLE).courier.ask(CAR, payload)


def test_the_last_question_counts_and_those_who_asked_first_come_first():
    region = Region(default=BUNDLE)
    cars = [Vehicle(f"v-{n:08d}", bytes(32)) for n in range(5)]
    for car in (*cars, cars[0], cars[0]):
        region.courier.ask(car, ask(BUNDLE, 7 if car is cars[0] else 0))
    assert region.courier.asking == 5
    first, rest = region.pieces(2), region.pieces()
    assert [topic.split("/")[4] for topic, _ in first + rest] == [car.name for car in cars]
    assert first[0][1].offset == 7


def test_a_car_that_asks_without_end_gets_little():
    region = Region(default=BUNDLE)
    codes, sent = [], 0
    for step in range(2000):
        region.now_s = step * 0.05  # 20 questions a second, for 100 s
        try:
            region.courier.ask(CAR, ask(BUNDLE))
        except RefusedError as error:
            codes.append(error.code)
        sent += len(region.pieces())
    assert BURST <= sent <= BURST + 0.5 * 100 + 1
    assert codes == ["policy-rate"] * (2000 - sent)
    assert region.courier.ask(OTHER, b"") is False, "the others are not its victims"


def test_those_who_ask_are_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(courier_module, "MAX_ASKING", 3)
    region = Region(default=BUNDLE)
    for n in range(3):
        region.courier.ask(Vehicle(f"v-{n:08d}", bytes(32)), ask(BUNDLE))
    with pytest.raises(RefusedError, match="policy-crowd"):
        region.courier.ask(CAR, ask(BUNDLE))
    assert len(region.courier._budget) == 3
    assert len(region.pieces()) == 3


def test_a_new_bundle_is_named_within_a_second_and_old_questions_lapse():
    region = Region(default=BUNDLE)
    region.courier.ask(CAR, ask(BUNDLE))
    region.bundles["default"] = b"new"
    assert region.courier.named(CAR) == digest(BUNDLE)
    region.now_s = 1.0
    assert region.pieces() == []
    assert region.courier.named(CAR) == digest(b"new")
    region.bundles["default"], region.now_s = None, 2.0
    assert region.courier.named(CAR) == b""


def test_what_cannot_be_read_or_taken_changes_nothing(caplog: pytest.LogCaptureFixture):
    """Two megabytes no car would take; a broken repository is told once, not each second."""
    region = Region(default=BUNDLE)
    assert region.courier.named(CAR) == digest(BUNDLE)
    caplog.clear()
    for second in range(1, 4):
        region.now_s, region.broken = float(second), True
        assert region.courier.named(CAR) == digest(BUNDLE)
    region.broken, region.bundles["default"] = False, bytes(2_000_000)
    for second in range(4, 8):
        region.now_s = float(second)
        assert region.courier.named(CAR) == digest(BUNDLE)
    region.bundles["default"], region.now_s = bytes(MAX_BUNDLE_BYTES), 9.0
    assert region.courier.named(CAR) == digest(bytes(MAX_BUNDLE_BYTES))
    texts = [message for _, level, message in caplog.record_tuples if level == logging.WARNING]
    assert ["snapshot.json" in text for text in texts] == [True, False, False]
    assert "2000000 bytes" in texts[1]


def receiver(place: Place, bundle: bytes | None) -> Receiver:
    return Receiver(place.region, place.store, lambda: NOW_NS, bundle=lambda group: bundle)


def receipts(station: Receiver) -> list[Receipt]:
    return [checked(station, payload) for _, payload in station.flush()]


def test_every_receipt_names_what_is_on_offer(place: Place):
    car, station = place.car, receiver(place, BUNDLE)
    car.genesis()
    station.offer(car.topic(), car.upload(0))
    station.offer(car.topic("checkpoint"), car.checkpoint())
    station.offer(car.topic("policy"), b"")
    of_entry, of_checkpoint, of_question = receipts(station)
    assert {r.policy for r in (of_entry, of_checkpoint, of_question)} == {digest(BUNDLE)}
    assert list(of_entry.index) == [0]
    assert of_checkpoint.cosigned
    assert (of_question.log, list(of_question.index)) == (NO_LOG, [])
    assert of_question.region_unix_ns == NOW_NS
    assert station.pending == 0


def test_without_a_repository_nothing_is_named(place: Place):
    car = place.car
    station = Receiver(place.region, place.store, lambda: NOW_NS)
    car.genesis()
    station.offer(car.topic(), car.upload(0))
    station.offer(car.topic("policy"), ask(BUNDLE))
    assert [receipt.policy for receipt in receipts(station)] == [b"", b""]
    assert station.chunks(10) == []


def test_a_piece_goes_to_the_car_of_the_topic_and_many_questions_are_one_receipt(place: Place):
    car, station = place.car, receiver(place, BUNDLE)
    station.offer(car.topic("policy"), ask(BUNDLE))
    assert station.flush() == []
    ((topic, _),) = station.chunks(10)
    assert topic == f"inland/1/cn/down/{VEHICLE}/policy"
    assert station.counters.chunks == 1
    for _ in range(200):
        station.offer(car.topic("policy"), b"")
    assert len(station.flush()) == 1
    assert refusals(place)["policy-rate"] > 100


def test_a_stranger_is_told_nothing(place: Place):
    station = receiver(place, BUNDLE)
    station.offer("inland/1/cn/up/v-stranger00/policy", ask(BUNDLE))
    assert station.flush() == []
    assert station.chunks(10) == []
    assert refusals(place) == {"unknown-vehicle": 1}


def test_the_signature_covers_the_name(place: Place):
    """A broker that puts another digest into a receipt is found out by the car."""
    car, station = place.car, receiver(place, BUNDLE)
    station.offer(car.topic("policy"), b"")
    ((_, payload),) = station.flush()
    signed = SignedReceipt.FromString(payload)
    receipt = Receipt.FromString(signed.receipt)
    receipt.policy = digest(b"other")
    assert signed.receipt.replace(digest(BUNDLE), digest(b"other")) == receipt.SerializeToString()
    forged = SignedReceipt(
        receipt=receipt.SerializeToString(), kid=signed.kid, signature=signed.signature
    )
    from agent.vault.receipts import RefusedReceiptError, verify_receipt

    options = {"receipt_keys": place.region.card.receipt_keys, "vehicle": VEHICLE}
    assert verify_receipt(payload, **options).policy == digest(BUNDLE)
    with pytest.raises(RefusedReceiptError, match="signature"):
        verify_receipt(forged.SerializeToString(), **options)


def test_a_store_of_before_groups_is_brought_up(place: Place):
    """Cars that were enrolled then are of the default group."""
    from agent.station.store import Store

    connection = place.store.connection
    connection.execute("ALTER TABLE vehicles DROP COLUMN policy_group")
    connection.execute("PRAGMA user_version = 1")
    store = Store(place.store.path)
    try:
        assert store.vehicle(VEHICLE).group == "default"
        store.enroll("v-another000", bytes(32), 1, "fleet-b")
        assert store.vehicle("v-another000") == OTHER
    finally:
        store.close()
