"""Delivery as a simulation on virtual time: a lossy network, a broker that forgets, a region.

Every random choice is hypothesis', so a failure shrinks and can be replayed.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from agent.uplink import delivery as module
from agent.uplink.delivery import Delivery
from agent.uplink.timing import (
    MAX_AWAITING,
    MAX_PACKET_BYTES,
    MAX_PARKED,
    PARK_AFTER_TRIES,
    WINDOW_BYTES,
    WINDOW_PACKETS,
)

LOG = b"L" * 16


def make() -> Delivery:
    delivery = Delivery(resend_s=30, resend_cap_s=3600)
    delivery.connected(65535)
    return delivery


class ForgetsNothing(Delivery):
    """Planted bug: a PUBACK counts as delivered, so the entry is never given again."""

    def acknowledged(self, mid: int, now_s: float) -> None:
        flight = self._flights.get(mid)
        super().acknowledged(mid, now_s)
        if flight is not None and flight.key in self._awaiting:
            self._awaiting[flight.key].due_s = float("inf")


class World(RuleBasedStateMachine):
    """Capture holds `pending`; packets fly as (mid, index); the region stores once."""

    delivery_class: type[Delivery] = Delivery

    @initialize()
    def start(self) -> None:
        self.now_s = 0.0
        self.delivery = self.delivery_class(resend_s=30, resend_cap_s=3600)
        self.pending: dict[int, int] = {}  # index -> lane
        self.made = self.mid = 0
        self.up: list[tuple[int, int]] = []
        self.down: list[int] = []
        self.stored: dict[int, int] = {}
        self.online = False

    @rule(lane=st.integers(0, 3))
    def produce(self, lane: int) -> None:
        self.pending[self.made] = lane
        self.made += 1

    @precondition(lambda self: not self.online)
    @rule(receive_maximum=st.integers(0, 20))
    def connect(self, receive_maximum: int) -> None:
        self.online = True
        self.delivery.connected(receive_maximum)

    @precondition(lambda self: self.online)
    @rule()
    def disconnect(self) -> None:
        self.online = False
        self.up.clear()
        self.delivery.disconnected(self.now_s)

    @rule(wait_s=st.sampled_from([0.1, 10, 31, 4000]))
    def wait(self, wait_s: float) -> None:
        self.now_s += wait_s

    @precondition(lambda self: self.online)
    @rule()
    def send(self) -> None:
        count, _ = self.delivery.room()
        skip = self.delivery.skip(self.now_s).get(LOG, [])
        rows = sorted((lane, index) for index, lane in self.pending.items() if index not in skip)
        for _, index in rows[:count]:
            self.mid += 1
            self.delivery.sent((LOG, index), 100, self.mid, self.now_s)
            self.up.append((self.mid, index))

    @precondition(lambda self: self.up)
    @rule(at=st.integers(0, 99), fate=st.sampled_from(["stored", "broker lost it", "receipt lost"]))
    def broker(self, at: int, fate: str) -> None:
        mid, index = self.up.pop(at % len(self.up))
        self.delivery.acknowledged(mid, self.now_s)
        if fate != "broker lost it":
            self.stored[index] = self.stored.get(index, 0) + 1
            if fate == "stored":
                self.down.append(index)

    @precondition(lambda self: self.down and self.online)
    @rule(at=st.integers(0, 99), twice=st.booleans())
    def receipt(self, at: int, twice: bool) -> None:
        index = self.down[at % len(self.down)]
        if not twice:
            self.down.remove(index)
        self.pending.pop(index, None)
        self.delivery.confirmed(LOG, [index], self.now_s)

    @invariant()
    def bounds_hold(self) -> None:
        if hasattr(self, "delivery"):
            assert self.delivery.in_flight <= WINDOW_PACKETS
            assert self.delivery.awaiting <= MAX_AWAITING

    def teardown(self) -> None:
        """On a fair network everything arrives within two hours, whatever happened before."""
        if not hasattr(self, "delivery"):
            return
        if not self.online:
            self.connect(16)
        for mid, _ in self.up:
            self.delivery.acknowledged(mid, self.now_s)
        self.up.clear()
        for _ in range(40):
            self.send()
            while self.up:
                self.broker(0, "stored")
            while self.down:
                self.receipt(0, twice=False)
            self.now_s += 300
        assert not self.pending, f"never delivered: {sorted(self.pending)}"


QUIET = settings(
    max_examples=60, stateful_step_count=30, deadline=None, database=None,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip


def test_everything_arrives_whatever_the_network_does() -> None:
    run_state_machine_as_test(World, settings=QUIET)


def test_simulation_finds_the_planted_trust_in_puback() -> None:
    class Broken(World):
        delivery_class = ForgetsNothing

    quick = settings(  # the same examples in each run, and no shrinking
        QUIET, max_examples=400, derandomize=True, phases=[Phase.generate],
        report_multiple_bugs=False,
    )  # fmt: skip
    with pytest.raises(AssertionError, match="never delivered"):
        run_state_machine_as_test(Broken, settings=quick)


def test_puback_frees_the_window_and_nothing_else() -> None:
    delivery = make()
    for mid in range(WINDOW_PACKETS):
        delivery.sent((LOG, mid), 10, mid, 0.0)
    assert delivery.room() == (0, 0)
    delivery.acknowledged(3, 1.0)
    assert delivery.room()[0] == 1
    assert sorted(delivery.skip(1.0)[LOG]) == list(range(WINDOW_PACKETS))
    delivery.confirmed(LOG, [3], 2.0)
    assert 3 not in delivery.skip(2.0)[LOG]


def test_bytes_bound_the_window_but_one_packet_always_fits() -> None:
    delivery = make()
    assert delivery.room() == (WINDOW_PACKETS, MAX_PACKET_BYTES)
    delivery.sent((LOG, 1), WINDOW_BYTES, 1, 0.0)
    assert delivery.room() == (0, 0)


def test_resend_waits_double_up_to_an_hour_and_end_when_the_region_is_back() -> None:
    delivery, now_s, waits = make(), 0.0, []
    for mid in range(PARK_AFTER_TRIES - 1):
        delivery.sent((LOG, 7), 10, mid, now_s)
        delivery.acknowledged(mid, now_s)
        begun = now_s
        while delivery.skip(now_s):
            now_s += 1
        waits.append(now_s - begun)
    assert waits == [30, 60, 120, 240, 480]
    delivery.sent((LOG, 8), 10, 99, now_s)
    delivery.sent((LOG, 7), 10, 98, now_s)
    delivery.confirmed(LOG, [8], now_s)
    delivery.acknowledged(98, now_s)
    assert delivery.parked == 1
    delivery.confirmed(LOG, [7], now_s)
    assert (delivery.parked, delivery.awaiting, delivery.skip(now_s)) == (0, 0, {})


def test_entry_that_the_region_never_confirms_is_parked_and_comes_again() -> None:
    delivery, now_s = make(), 0.0
    for mid in range(PARK_AFTER_TRIES):
        delivery.sent((LOG, 7), 10, mid, now_s)
        delivery.acknowledged(mid, now_s)
        now_s += 3600
    assert (delivery.awaiting, delivery.parked) == (0, 1)
    now_s = 3600 * (PARK_AFTER_TRIES + 1)
    assert delivery.skip(now_s) == {}


def test_entry_on_which_the_broker_hangs_up_is_parked_after_some_falls() -> None:
    """A broker that ends the connection on one message must not stop all others."""
    delivery = make()
    for fall in range(module.PARK_AFTER_FALLS):
        assert delivery.parked == 0
        delivery.connected(16)
        delivery.sent((LOG, 7), 10, 1, fall)
        delivery.sent((LOG, 8), 10, 2, fall)
        delivery.disconnected(fall)
    assert delivery.skip(fall) == {LOG: [7]}


def test_what_was_under_way_on_a_link_that_lives_again_has_its_time_from_then_on() -> None:
    """Its acknowledgements and receipts are on their way: nothing is due, nothing has stalled."""
    delivery = make()
    for mid in (1, 2):
        delivery.sent((LOG, mid), 100, mid, 0.0)
    delivery.acknowledged(1, 1.0)
    assert delivery.stalled_s(170.0) == 170
    delivery.resumed(170.0)
    assert delivery.stalled_s(170.0) == 0
    assert delivery.skip(199.0) == {LOG: [1, 2]}
    delivery.acknowledged(2, 171.0)
    assert delivery.skip(201.0) == {}
    assert delivery.in_flight == 0


def test_connections_that_move_something_park_nothing() -> None:
    delivery = make()
    for fall in range(3 * module.PARK_AFTER_FALLS):
        delivery.connected(16)
        delivery.sent((LOG, fall), 10, 1, fall)
        delivery.sent((LOG, fall + 1), 10, 2, fall)
        delivery.acknowledged(1, fall)
        delivery.disconnected(fall)
    assert delivery.parked == 0


def test_parked_and_awaiting_are_bounded() -> None:
    delivery = make()
    for index in range(2 * MAX_PARKED):
        delivery.park((LOG, index), 0.0)
    assert delivery.parked == MAX_PARKED
    delivery = make()
    for index in range(2 * MAX_AWAITING):
        if delivery.room()[0]:
            delivery.sent((LOG, index), 10, index, 0.0)
            delivery.acknowledged(index, 0.0)
    assert delivery.awaiting == MAX_AWAITING


def test_broker_receive_maximum_is_respected() -> None:
    delivery = make()
    delivery.connected(3)
    assert delivery.room()[0] == 3
    delivery.connected(0)  # against the protocol; one at a time then
    assert delivery.room()[0] == 1


def test_stall_is_the_age_of_the_oldest_packet() -> None:
    delivery = make()
    assert delivery.stalled_s(5.0) == 0
    delivery.sent(None, 10, 1, 1.0)
    delivery.sent((LOG, 1), 10, 2, 3.0)
    assert delivery.stalled_s(5.0) == 4
    delivery.acknowledged(1, 5.0)
    assert delivery.stalled_s(5.0) == 2
    assert delivery.awaiting == 1
