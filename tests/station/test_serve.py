"""The whole station against real brokers: who gets in, what comes back, what a kill costs."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from agent.errors import ConfigError, SpoolError, StationError
from agent.pb import delivery_pb2
from agent.station.authority import RegionFolder
from agent.station.broker import Broker, Kind, start_broker
from agent.station.receive import RECEIPT_DOMAIN, Receiver
from agent.station.serve import Server, only_one
from agent.station.store import Store
from tests.station.client import WAIT_S, Client
from tests.station.conftest import VEHICLE, Place, enroll, make_region

MOSQUITTO = shutil.which("mosquitto", path=os.environ.get("PATH", "") + ":/usr/sbin")
needs_mosquitto = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")
KINDS = [pytest.param("mosquitto", marks=needs_mosquitto), "iotcore"]
SERVE = "import sys; from agent.cli.station import command; command(sys.argv[1:])"


@contextlib.contextmanager
def serving(
    region: RegionFolder, make: type[Receiver] = Receiver, **options: object
) -> Iterator[Server]:
    """A station in a thread of this process, connected."""
    stop, connected, failed = threading.Event(), threading.Event(), []

    def say(status: dict) -> None:  # type: ignore[type-arg]
        if status["state"] == "connected":
            connected.set()

    server_holder: list[Server] = []
    made = threading.Event()

    def run() -> None:
        store = Store(region.path / "station.db")
        receiver = make(region, store, time.time_ns, **options)
        server_holder.append(Server(region, receiver, "127.0.0.1", lambda: 0.0, say))
        made.set()
        try:
            server_holder[0].run(stop)
        except BaseException as error:
            failed.append(error)
            raise
        finally:
            store.close()

    thread = threading.Thread(target=run, name="station")
    thread.start()
    try:
        assert made.wait(WAIT_S)
        assert connected.wait(WAIT_S)
        yield server_holder[0]
    finally:
        stop.set()
        thread.join(WAIT_S)
        assert not failed


def client_of(place: Place, name: str = VEHICLE) -> Client:
    return Client(
        place.region.card, name, place.bundle / "vehicle.pem", place.bundle / "vehicle.key"
    )


def collect(client: Client, place: Place, wanted: set[int]) -> None:
    """Wait until every wanted index has a valid receipt."""
    public = Ed25519PublicKey.from_public_bytes(place.region.card.receipt_keys[0])
    while wanted:
        topic, payload = client.messages.get(timeout=WAIT_S)
        assert topic == f"inland/1/cn/down/{VEHICLE}/receipt"
        signed = delivery_pb2.SignedReceipt.FromString(payload)
        public.verify(signed.signature, RECEIPT_DOMAIN + signed.receipt)
        receipt = delivery_pb2.Receipt.FromString(signed.receipt)
        for index, leaf in zip(receipt.index, receipt.leaf, strict=True):
            assert leaf == place.car.leaf(index)
            wanted.discard(index)


@pytest.fixture
def mosquitto(place: Place) -> Iterator[Broker]:
    with start_broker(place.region.path, "mosquitto") as broker:
        yield broker


@pytest.mark.parametrize("kind", KINDS)
def test_uploads_come_back_as_receipts(place: Place, kind: Kind) -> None:
    car = place.car
    car.genesis(), car.begin()
    for size in (10, 1000, 200_000):
        car.segment(os.urandom(size))
    with start_broker(place.region.path, kind) as broker, serving(place.region) as server:
        assert broker.kind == kind
        with client_of(place) as client:
            assert client.subscribe(f"inland/1/cn/down/{VEHICLE}/#")
            for index in range(5):
                client.paho.publish(car.topic(), car.upload(index), qos=1)
            client.paho.publish(car.topic("checkpoint"), car.checkpoint(), qos=1)
            collect(client, place, set(range(5)))
            while server.receiver.counters.cosigned == 0:
                client.messages.get(timeout=WAIT_S)
    assert server.receiver.counters.stored == 5
    assert server.receiver.counters.refused == 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_broker_that_comes_back_is_found_again(place: Place, kind: Kind) -> None:
    car = place.car
    car.genesis(), car.loss()
    with contextlib.ExitStack() as stack:
        broker = start_broker(place.region.path, kind)
        stack.callback(broker.stop)
        stack.enter_context(serving(place.region))
        os.kill(broker.pid, signal.SIGKILL)
        broker.stop()
        again = start_broker(place.region.path, kind)
        stack.callback(again.stop)
        with client_of(place) as client:
            assert client.subscribe(f"inland/1/cn/down/{VEHICLE}/#")
            deadline = time.monotonic() + WAIT_S
            while client.messages.empty() and time.monotonic() < deadline:
                client.publish(car.topic(), car.upload(0))  # until the station is there
                client.ended.wait(0.05)
            collect(client, place, {0})


@needs_mosquitto
def test_a_foreign_topic_is_refused_by_the_broker(place: Place, mosquitto: Broker) -> None:
    with client_of(place) as client:
        assert client.publish(place.car.topic(), b"x")
        assert not client.publish("inland/1/cn/up/v-another000/routine", b"x")
        assert not client.publish(f"inland/1/cn/down/{VEHICLE}/receipt", b"x")
        assert not client.publish(f"inland/1/eu/up/{VEHICLE}/routine", b"x")


@needs_mosquitto
def test_a_car_reads_nothing_of_another(place: Place, mosquitto: Broker, tmp_path: Path) -> None:
    """Mosquitto grants what it will not deliver; so what counts is what arrives."""
    enroll(place.region, tmp_path / "other", "v-another000")
    certificate, key = tmp_path / "other" / "vehicle.pem", tmp_path / "other" / "vehicle.key"
    with (
        Client(place.region.card, "v-another000", certificate, key) as spy,
        client_of(place) as mine,
        Client(
            place.region.card, "station",
            place.region.path / "station.pem", place.region.path / "station.key",
        ) as station,
    ):  # fmt: skip
        for topic in ("#", "inland/1/cn/#", f"inland/1/cn/down/{VEHICLE}/#", "$share/s/inland/#"):
            spy.subscribe(topic)
        assert mine.publish(place.car.topic(), b"secret")
        assert station.publish(f"inland/1/cn/down/{VEHICLE}/receipt", b"secret")
        assert station.publish("inland/1/cn/down/v-another000/receipt", b"mine")
        assert spy.messages.get(timeout=WAIT_S)[1] == b"mine"
        while not spy.messages.empty():
            assert spy.messages.get()[1] == b"mine"


@needs_mosquitto
def test_nobody_pushes_the_station_off_by_its_client_id(place: Place, mosquitto: Broker) -> None:
    with serving(place.region), client_of(place, "station") as impostor:
        place.car.genesis()
        assert impostor.subscribe(f"inland/1/cn/down/{VEHICLE}/#")
        assert impostor.publish(place.car.topic(), place.car.upload(0))
        collect(impostor, place, {0})


@needs_mosquitto
def test_no_certificate_is_refused(place: Place, mosquitto: Broker) -> None:
    with Client(place.region.card, VEHICLE, None, None) as client:
        assert client.refused


@needs_mosquitto
def test_a_certificate_of_another_region_is_refused(
    place: Place, mosquitto: Broker, tmp_path: Path
) -> None:
    other = make_region(tmp_path / "eu", "eu")
    enroll(other, tmp_path / "eu-car")
    certificate, key = tmp_path / "eu-car" / "vehicle.pem", tmp_path / "eu-car" / "vehicle.key"
    with Client(place.region.card, VEHICLE, certificate, key) as client:
        assert client.refused


@needs_mosquitto
def test_tls_1_2_is_refused(place: Place, mosquitto: Broker) -> None:
    with Client(
        place.region.card, VEHICLE, place.bundle / "vehicle.pem", place.bundle / "vehicle.key",
        version=ssl.TLSVersion.TLSv1_2,
    ) as client:  # fmt: skip
        assert client.refused


@needs_mosquitto
def test_a_packet_over_the_limit_is_refused(place: Place, mosquitto: Broker) -> None:
    with client_of(place) as client:
        client.paho.publish(place.car.topic(), bytes(300_000), qos=1)
        assert client.ended.wait(WAIT_S)


@pytest.mark.parametrize("kind", KINDS)
def test_a_taken_port_is_named(place: Place, kind: Kind) -> None:
    with (
        start_broker(place.region.path, kind) as broker,
        pytest.raises(StationError, match=str(broker.port)),
    ):
        start_broker(place.region.path, kind)


@needs_mosquitto
def test_a_broker_that_does_not_start_is_named_with_its_log(place: Place) -> None:
    (place.region.path / "broker.key").write_text("nonsense")
    with pytest.raises(StationError, match=r"broker\.log"):
        start_broker(place.region.path, "mosquitto")


def test_an_absent_broker_is_a_configuration_error(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.station.broker._mosquitto", lambda: None)
    with pytest.raises(ConfigError, match="mosquitto is not installed"):
        start_broker(place.region.path, "mosquitto")
    with start_broker(place.region.path, "auto") as broker:
        assert broker.kind == "iotcore"
        assert "demonstrations only" in broker.describe()


def test_two_stations_do_not_share_a_folder(place: Place) -> None:
    with (
        only_one(place.region.path),
        pytest.raises(SpoolError, match="another"),
        only_one(place.region.path),
    ):
        pass


def start_serve(region: RegionFolder, *options: str) -> subprocess.Popen[str]:
    """The station as its own process; returns when it is connected."""
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, "serve", str(region.path), "--json", *options],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    line = process.stdout.readline()
    assert '"connected"' in line, line
    return process


@needs_mosquitto
def test_sigterm_ends_it_in_order(place: Place, mosquitto: Broker) -> None:
    process = start_serve(place.region)
    with client_of(place) as client:
        client.subscribe(f"inland/1/cn/down/{VEHICLE}/#")
        place.car.genesis()
        client.publish(place.car.topic(), place.car.upload(0))
        collect(client, place, {0})
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=WAIT_S)
    assert process.returncode == 0
    assert '"stopped"' in out
    assert '"stored": 1' in out


def test_with_its_own_broker_it_stops_both(place: Place) -> None:
    process = start_serve(place.region, "--with-broker")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=WAIT_S)
    assert process.returncode == 0
    with socket.create_server(("127.0.0.1", place.region.card.port)):
        pass  # the port is free again


@needs_mosquitto
@pytest.mark.slow
def test_kill_9_under_load_loses_nothing_that_was_receipted(
    place: Place, mosquitto: Broker
) -> None:
    """Ten kills at any moment; each receipt that ever came is in the store."""
    kill_under_load(place, kills=10)


@needs_mosquitto
def test_kill_9_once(place: Place, mosquitto: Broker) -> None:
    kill_under_load(place, kills=1)


def kill_under_load(place: Place, kills: int) -> None:
    car = place.car
    car.genesis(), car.begin()
    for _ in range(300 * kills):
        car.segment(os.urandom(200))
    receipted: set[int] = set()
    process = start_serve(place.region)
    with client_of(place) as client:
        client.subscribe(f"inland/1/cn/down/{VEHICLE}/#")
        for round_ in range(kills + 1):
            for _ in range(300):  # else a quick station might have nothing left to receipt
                car.segment(os.urandom(200))
            missing = set(range(len(car.entries))) - receipted
            for index in sorted(missing):
                client.paho.publish(car.topic(), car.upload(index), qos=1)
            if round_ == kills:
                collect(client, place, missing)
                break
            seen = indices_of(client)  # at least one, then kill
            os.kill(process.pid, signal.SIGKILL)
            process.communicate()
            receipted |= seen
            while not client.messages.empty():
                receipted |= indices_of(client)
            assert_stored(place, receipted)
            process = start_serve(place.region)
    process.terminate()
    process.communicate(timeout=WAIT_S)
    assert_stored(place, set(range(len(car.entries))))


def indices_of(client: Client) -> frozenset[int]:
    signed = delivery_pb2.SignedReceipt.FromString(client.messages.get(timeout=WAIT_S)[1])
    return frozenset(delivery_pb2.Receipt.FromString(signed.receipt).index)


def assert_stored(place: Place, indices: set[int]) -> None:
    rows = place.store.connection.execute("SELECT i, leaf, body FROM entries").fetchall()
    stored = {i: (leaf, body) for i, leaf, body in rows}
    assert len(rows) == len(stored)
    for index in indices:
        assert stored[index] == (place.car.leaf(index), place.car.bodies[index] or None)
