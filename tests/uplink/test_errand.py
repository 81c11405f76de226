"""When the uplink asks for policies, on a clock that the test moves."""

from __future__ import annotations

import pytest

from agent.errors import HatchError, LinkError
from agent.pb.delivery_pb2 import PolicyQuestion
from agent.pb.hatch_pb2 import Accepted
from agent.uplink.errand import Errand
from agent.uplink.timing import MAX_CHUNKS, MAX_STRAY, Timing
from tests.uplink.fakes import Capture, DirectHatch, Station

PERIOD_S = Timing().policy_s
WANTED = PolicyQuestion(bundle=bytes(32), offset=7)
NEXT = Accepted(valid=True, wants_policy=True)


@pytest.fixture
def capture() -> Capture:
    return Capture(Station())


@pytest.fixture
def errand(capture: Capture) -> Errand:
    errand = Errand(DirectHatch(capture), period_s=PERIOD_S)
    errand.connected(0.0)
    return errand


def test_at_a_connection_and_once_a_minute(errand: Errand, capture: Capture):
    capture.wanted = WANTED
    asked = [at_s for at_s in range(300) if errand.question(float(at_s)) is not None]
    assert asked == [0, 60, 120, 180, 240]
    errand.connected(250.5)
    assert errand.question(250.5) == WANTED.SerializeToString()


def test_receipts_do_not_repeat_a_question_that_is_under_way(errand: Errand, capture: Capture):
    """Each of a thousand receipts names the bundle, until it is here."""
    errand.question(0.0)
    capture.wanted = WANTED
    errand.receipt(True, 1.0, bundle=WANTED.bundle)
    assert errand.question(1.0) is not None
    for at_s in range(2, 50):
        errand.receipt(True, float(at_s), bundle=WANTED.bundle)
        assert errand.question(float(at_s)) is None
    errand.keep([b"piece"])
    capture.on_chunk = lambda payload: NEXT
    errand.hand_in(50.0, peer="broker")
    assert errand.question(50.0) is not None


def test_another_bundle_in_the_middle_of_one_is_asked_for_at_the_next_receipt(
    errand: Errand, capture: Capture
):
    capture.wanted = WANTED
    errand.question(0.0)
    errand.receipt(True, 1.0, bundle=WANTED.bundle)
    errand.keep([b"of the old one"])  # capture refuses it
    errand.hand_in(2.0, peer="broker")
    errand.receipt(True, 3.0, bundle=WANTED.bundle)
    assert errand.question(3.0) == WANTED.SerializeToString()


def test_a_receipt_that_names_another_bundle_than_was_asked_for_brings_a_question_at_once(
    errand: Errand, capture: Capture
):
    """The region answers a question for the one before with a receipt, and sends no piece."""
    capture.wanted = WANTED
    assert errand.question(0.0) is not None
    capture.wanted = PolicyQuestion(bundle=b"n" * 32)
    errand.receipt(True, 1.0, bundle=b"n" * 32)
    assert errand.question(1.0) == capture.wanted.SerializeToString()
    errand.receipt(True, 2.0, bundle=b"n" * 32)
    assert errand.question(2.0) is None


def test_news_reach_an_idle_car_within_two_minutes(errand: Errand):
    """With any phase of the last receipt: the region is asked if it was silent for long."""
    for heard_s in range(0, 60, 7):
        errand.connected(0.0)
        errand.receipt(False, float(heard_s), bundle=WANTED.bundle)
        asked_s = next(at_s for at_s in range(1000) if errand.question(float(at_s)) == b"")
        assert asked_s - heard_s <= 90


def test_a_car_that_gets_receipts_asks_the_region_nothing(errand: Errand, capture: Capture):
    for at_s in range(600):
        errand.receipt(False, float(at_s), bundle=WANTED.bundle)
        assert errand.question(float(at_s)) is None
    assert capture.questions == 10


def test_a_piece_that_completes_or_comes_twice_brings_no_question(errand: Errand, capture: Capture):
    capture.wanted = WANTED
    errand.question(0.0)
    capture.on_chunk = lambda payload: Accepted(valid=True)
    errand.keep([b"last"])
    errand.hand_in(1.0, peer="broker")
    assert errand.question(1.0) is None


def test_good_pieces_do_not_pay_for_bad_ones_to_come(errand: Errand, capture: Capture):
    """A broker cannot save up: after any number of good pieces, as many bad ones are too many."""
    capture.on_chunk = lambda payload: NEXT
    for _ in range(200):
        errand.keep([b"good"])
        errand.hand_in(0.0, peer="broker")
    capture.on_chunk = lambda payload: Accepted(valid=False)
    for _ in range(MAX_STRAY):
        errand.keep([b"bad"])
        errand.hand_in(0.0, peer="broker")
    errand.keep([b"bad"])
    with pytest.raises(LinkError, match="broker: the broker passes on pieces"):
        errand.hand_in(0.0, peer="broker")


def test_what_waits_for_capture_is_bounded(errand: Errand, capture: Capture):
    for number in range(100):
        errand.keep([b"%d" % number])
    errand.hand_in(0.0, peer="broker")
    assert len(capture.chunks) == MAX_CHUNKS


def test_without_capture_the_piece_is_asked_for_again(errand: Errand, capture: Capture):
    capture.wanted, capture.failing = WANTED, True
    errand.keep([b"piece"])
    with pytest.raises(HatchError):
        errand.hand_in(1.0, peer="broker")
    capture.failing = False
    errand.hand_in(2.0, peer="broker")
    assert capture.chunks == []
    assert errand.question(2.0) == WANTED.SerializeToString()
