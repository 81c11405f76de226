"""The region's end: its keys, which cars are given, and what it has receipted."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from random import Random
from unittest import mock

from agent.config import load_config
from agent.pb import delivery_pb2
from agent.region import load_region_card
from agent.station import authority, enrollment
from agent.station.authority import load_region
from agent.station.enrollment import enroll_vehicle
from agent.station.policy_repository import Repository
from agent.station.receive import Receiver
from agent.station.store import Store
from agent.vault import tree
from agent.vault.keys import load_ledger_key
from tests.policy.air import Air, policy
from tests.power.workloads import Note, Say, bug, workload
from tests.station.car import Car
from tests.station.conftest import make_region

NOW_NS = 1_795_000_000 * 10**9
NOW = dt.datetime(2027, 1, 10, 12, tzinfo=dt.UTC)
VEHICLES = ("v-0000000001", "v-0000000002")


def enroll(folder: Path, vehicle: str) -> None:
    region = load_region(folder / "region")
    store = Store(region.path / "station.db")
    try:
        enroll_vehicle(
            region, store, folder / vehicle, vehicle=vehicle, now=NOW, rng=Random(vehicle).randbytes
        )  # fmt: skip
    finally:
        store.close()


def usable(folder: Path, notes: list[Note]) -> None:
    """A region that was made is whole, knows its cars, and their bundles fit it."""
    if ("made",) not in notes and not (folder / "region").exists():
        make_region(folder / "region")
    region = load_region(folder / "region")
    for name in ("receipt", "cosign", "openings"):
        region.signing_key(name)
    assert region.issuing_ca().certificate.subject
    store = Store(region.path / "station.db")
    known = [vehicle for vehicle in VEHICLES if store.vehicle(vehicle) is not None]
    store.close()
    for vehicle in VEHICLES:
        bundle = folder / vehicle
        assert bundle.exists() or ("enrolled", vehicle) not in notes, "a bundle is lost"
        if bundle.exists():
            assert vehicle in known, "a bundle of a car that nobody knows"
            config = load_config(bundle / "agent.toml")
            assert config.vehicle.id == vehicle
            load_ledger_key(config.vehicle.ledger_key.file())
            assert load_region_card(config.region_card) == region.card
            assert (bundle / "zones.key").read_bytes() == region.zones_key()
    enroll(folder, "v-0000000003")


@workload(check=usable)
def region(folder: Path, say: Say) -> Iterator[None]:
    """A region is made, and two cars are enrolled."""
    yield
    make_region(folder / "region")
    say("made")
    for vehicle in VEHICLES:
        enroll(folder, vehicle)
        say("enrolled", vehicle)


# --- what it has receipted -----------------------------------------------------------------------


def receipted(folder: Path, notes: list[Note]) -> None:
    """What a car may forget is here, and a head that was co-signed has no rival."""
    home = load_region(folder / "region")
    store = Store(home.path / "station.db")
    try:
        rows = store.connection.execute("SELECT i, entry, body FROM entries")
        held = {i: (tree.leaf_hash(entry), body or b"") for i, entry, body in rows}
        for note in notes:
            for i, leaf, body in note[1] if note[0] == "receipted" else ():
                assert held.get(i) == (leaf, body), f"entry {i} was receipted, and is not here"
        assert store.connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        station = Receiver(home, store, lambda: NOW_NS)
        for topic, rival in (note[1:] for note in notes if note[0] == "cosigned"):
            station.offer(topic, rival)
            assert not station.flush(), "a second history was co-signed"
    finally:
        store.close()


@workload(check=receipted)
def receiving(folder: Path, say: Say) -> Iterator[None]:
    """Entries come, are committed and receipted; heads come and are co-signed."""
    make_region(folder / "region")
    enroll(folder, VEHICLES[0])
    home = load_region(folder / "region")
    store = Store(home.path / "station.db")
    station = Receiver(home, store, lambda: NOW_NS)
    car = Car.load(folder / VEHICLES[0], VEHICLES[0], home.card.region)
    car.genesis()
    car.begin()
    yield
    covered = given = 0
    for size in (3000, 200, 3000, 9000):
        for i in (car.segment(bytes(size)), car.loss(), car.segment()):
            assert i < len(car.entries)
        for i in range(given, len(car.entries)):
            station.offer(car.topic(), car.upload(i))
        given = len(car.entries)
        for _, payload in station.flush():
            receipt = receipt_of(payload)
            say("receipted", [(i, car.leaf(i), car.bodies[i]) for i in receipt.index])
        station.offer(car.topic("checkpoint"), car.checkpoint(from_size=covered))
        ((_, payload),) = station.flush()
        assert receipt_of(payload).cosigned
        covered = given
        rival = replace(car, entries=[*car.entries[:-1], b"another"])
        say("cosigned", car.topic("checkpoint"), rival.checkpoint())


def receipt_of(payload: bytes) -> delivery_pb2.Receipt:
    signed = delivery_pb2.SignedReceipt.FromString(payload)
    return delivery_pb2.Receipt.FromString(signed.receipt)


@bug(receiving)
def receipted_before_the_commit() -> AbstractContextManager[object]:
    """The station's store is not synced at each commit."""
    init = Store.__init__

    def quick(self: Store, path: Path) -> None:
        init(self, path)
        self.connection.execute("PRAGMA synchronous=NORMAL")

    return mock.patch.object(Store, "__init__", quick)


# --- what it publishes ----------------------------------------------------------------------------


def publishable(folder: Path, notes: list[Note]) -> None:
    """A car can take what is on offer, which is what was published, and the next can be."""
    (versions,) = next(note[1:] for note in notes[::-1] if note[0] == "offer")
    air = Air(folder / "air")
    taken = air.take(state=folder / "fresh", rehearsal=lambda _: None).version
    assert taken in versions, f"version {taken} is on offer, not one of {versions}"
    air.offer(policy(8))
    assert air.take(state=folder / "fresh", rehearsal=lambda _: None).version == 8


@workload(check=publishable)
def publishing(folder: Path, say: Say) -> Iterator[None]:
    """Two policies are published, one after the other."""
    air = Air(folder / "air")
    air.offer(policy(5))
    say("offer", (5,))
    yield
    for version in (6, 7):
        say("offer", (version - 1, version))
        air.offer(policy(version))
        say("offer", (version,))


@bug(publishing)
def published_without_sync() -> AbstractContextManager[object]:
    """The repository's files are written as they come."""
    return mock.patch.object(Repository, "put", lambda _, path, data: path.write_bytes(data))


# --- bugs of a region ----------------------------------------------------------------------------


@bug(region)
def bundle_without_sync() -> AbstractContextManager[object]:
    """The bundle is renamed as it is."""
    return mock.patch.object(enrollment, "place_folder", lambda draft, place: draft.rename(place))


@bug(region)
def region_without_sync() -> AbstractContextManager[object]:
    """The region is renamed as it is: only its keys are synced."""
    return mock.patch.object(authority, "place_folder", lambda draft, place: draft.rename(place))
