"""The car's own vault against the station: what it seals is received, confirmed and opened."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from agent.digest import sha256
from agent.evidence.selection import Request
from agent.frames import FRAME, SIGNAL
from agent.pb import ledger_pb2, sealed_pb2
from agent.pb.moment_pb2 import Moment
from agent.station.disclose import Order, disclose
from agent.station.receive import Receiver
from agent.vault.identity import Identity
from agent.vault.segment import Draft
from agent.vault.vault import Vault
from tests.station.car import START_NS
from tests.station.conftest import VEHICLE, Place
from tests.station.test_receive import refusals


class Clock:
    """Turned by the test."""

    def __init__(self) -> None:
        self.ns = START_NS

    def moment(self) -> Moment:
        return Moment(unix_ns=self.ns, boottime_ns=self.ns - START_NS + 10**9)

    def now_ns(self) -> int:
        return self.ns


def open_vault(place: Place, clock: Clock, folder: Path) -> Vault:
    card = place.region.card
    identity = Identity(
        region=card.region, vehicle=VEHICLE, ledger_key=place.car.ledger_key,
        receipt_keys=card.receipt_keys, cosign_keys=card.cosign_keys,
        region_key=card.recipient_key, owner_key=None,
    )  # fmt: skip
    return Vault.open(
        folder, identity=identity, now=clock.moment, rng=os.urandom, boot_id=bytes(16),
        version="test", quota_bytes=8 << 20,
    )  # fmt: skip


def draft(clock: Clock, rows: int = 100, lane: int = sealed_pb2.ROUTINE) -> Draft:
    frames = np.zeros(rows, FRAME)
    frames["timestamp_ns"] = clock.ns - (rows - np.arange(rows)) * 10**6
    frames["arbitration_id"], frames["length"] = 0x123, 8
    moment = clock.moment()
    return Draft(
        frames=frames, signals=np.zeros(0, SIGNAL), channels=("can0",),
        recipients=sealed_pb2.REGION, lane=lane, resolution_ns=1000, keep_order=False,
        opened=moment, closed=moment, policy=bytes(32), dictionary=bytes(32), keep_s=0,
    )  # fmt: skip


def exchange(vault: Vault, station: Receiver, *, lose_receipts: bool = False) -> int:
    """Carry what waits to the station and its receipts back; return what still waits."""
    outgoing, _ = vault.take(1000, 1 << 20, {})
    base = f"inland/1/cn/up/{VEHICLE}"
    for out in outgoing:
        station.offer(f"{base}/{out.lane}", out.upload.SerializeToString())
    head = vault.checkpoint()
    if head is not None:
        station.offer(f"{base}/checkpoint", head.SerializeToString())
    for _, payload in station.flush():
        if not lose_receipts:
            assert vault.receipt(payload)[1]
    return vault.take(1000, 1 << 20, {})[1]


def test_a_cars_day_is_received_confirmed_cosigned_and_opened(place: Place, tmp_path: Path) -> None:
    clock = Clock()
    station = Receiver(place.region, place.store, clock.now_ns)
    vault = open_vault(place, clock, tmp_path / "state")
    for turn in range(30):
        clock.ns += 61 * 10**9
        vault.seal(draft(clock))
        vault.seal(draft(clock, lane=sealed_pb2.RECORDER))
        vault.record(ledger_pb2.Loss(channel="can0", count=1, cause=1))
        vault.housekeep()
        exchange(vault, station, lose_receipts=turn % 3 == 1)
    clock.ns += 61 * 10**9
    vault.housekeep()
    assert exchange(vault, station) == 0
    assert refusals(place) == {}
    assert vault.checkpoint() is None  # the newest head is co-signed
    vault.close()
    order = Order(Request(VEHICLE), None, str(tmp_path / "x.csv"), "tester", "", "now")
    opened = disclose(place.region, order)
    assert opened.problems == []
    assert (opened.segments, opened.in_car, opened.frame_count) == (30, 30, 3000)


def test_the_car_learns_what_policy_is_on_offer_and_no_replay_takes_it_back(
    place: Place, tmp_path: Path
) -> None:
    """A broker may repeat any receipt of the region; only the newest one says what is on offer."""
    clock, bundles = Clock(), iter([b"one", b"two"])
    vault = open_vault(place, clock, tmp_path / "state")
    assert vault.offered == (0, b"")
    receipts = []
    for bundle in bundles:
        clock.ns += 10**9
        station = Receiver(
            place.region, place.store, clock.now_ns, bundle=lambda group, now=bundle: now
        )
        station.offer(f"inland/1/cn/up/{VEHICLE}/policy", b"")
        ((_, payload),) = station.flush()
        receipts.append(payload)
        assert vault.receipt(payload) == (0, True)
        assert vault.offered == (clock.ns, sha256(bundle))
    assert vault.receipt(receipts[0]) == (0, True)
    assert vault.receipt(receipts[1][:-1]) == (0, False)
    assert vault.offered == (clock.ns, sha256(b"two"))
    vault.close()


def test_a_car_that_was_mended_is_received_with_its_gap(place: Place, tmp_path: Path) -> None:
    """A damaged spool file: a new log, a gap, and what could be salvaged of the old one."""
    clock = Clock()
    station = Receiver(place.region, place.store, clock.now_ns)
    vault = open_vault(place, clock, tmp_path / "state")
    for _ in range(40):
        clock.ns += 10**9
        vault.seal(draft(clock))
    vault.close()
    database = tmp_path / "state" / "spool" / "spool.db"
    damaged = bytearray(database.read_bytes())
    damaged[: 4096 + 200] = os.urandom(4096 + 200)
    for at in range(8 * 4096, len(damaged), 9 * 4096):
        damaged[at + 2000 : at + 2100] = os.urandom(100)
    database.write_bytes(damaged)
    vault = open_vault(place, clock, tmp_path / "state")
    left = [exchange(vault, station) for _ in range(4)]
    assert left[-1] == 0, (left, refusals(place))
    vault.close()


def test_a_car_that_ran_out_of_room_is_received_with_its_drops(
    place: Place, tmp_path: Path
) -> None:
    clock = Clock()
    station = Receiver(place.region, place.store, clock.now_ns)
    vault = open_vault(place, clock, tmp_path / "state")
    big = np.random.default_rng(1)
    for _ in range(80):
        clock.ns += 10**9
        one = draft(clock, rows=20_000)
        one.frames["data"] = big.integers(0, 256, (20_000, 8))
        vault.seal(one)
    while vault.take(64, 1 << 22, {})[1]:
        before = vault.take(64, 1 << 22, {})[1]
        exchange(vault, station)
        assert vault.take(64, 1 << 22, {})[1] < before
    vault.close()
    order = Order(Request(VEHICLE), None, None, "tester", "", "now")
    opened = disclose(place.region, order)
    assert opened.problems == []
    assert opened.dropped["quota"] > 0
    assert opened.segments + opened.dropped["quota"] == 80
