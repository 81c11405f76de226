"""The uplink against a real Mosquitto: mutual TLS, ACL by certificate, killed -9 under load."""

from __future__ import annotations

import os
import random
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.hatch import HatchClient, HatchServer
from agent.pb.delivery_pb2 import Upload
from tests.pki import VEHICLE, Pki
from tests.uplink.fakes import LOG, Capture, Station, leaf, make_uplink, running

needs_mosquitto = pytest.mark.skipif(
    not shutil.which("mosquitto"), reason="mosquitto is not installed"
)
pytestmark = needs_mosquitto

CONFIG = """
per_listener_settings true
listener {port} {address}
allow_anonymous false
tls_version tlsv1.3
cafile {ca}
certfile {leaf}
keyfile {leaf}
require_certificate true
use_identity_as_username true
acl_file {acl}
max_packet_size 262144
listener {inside} 127.0.0.1
allow_anonymous true
user root
"""
ACL = """
pattern write inland/1/north/up/%u/#
pattern read inland/1/north/down/%u/#
"""


def free_ports() -> tuple[int, int]:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("", 0)) as two:
        return one.getsockname()[1], two.getsockname()[1]


class Mosquitto:
    """A broker that can be killed and started again on the same ports."""

    def __init__(self, pki: Pki, folder: Path, address: str = "127.0.0.1") -> None:
        self.port, self.inside = free_ports()
        (folder / "acl").write_text(ACL)
        self.config = folder / "mosquitto.conf"
        self.log = folder / "log"
        self.config.write_text(
            CONFIG.format(
                port=self.port, inside=self.inside, ca=pki.ca_file, acl=folder / "acl",
                leaf=pki.leaf("mosquitto"), address=address,
            )
        )  # fmt: skip
        self.start()

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(["mosquitto", "-c", self.config], stderr=log)
        for _ in range(500):
            try:
                socket.create_connection(("127.0.0.1", self.inside), 1).close()
            except ConnectionRefusedError:
                pause(0.01)
            else:
                return
        raise AssertionError(self.log.read_text())

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def pause(seconds: float) -> None:
    threading.Event().wait(seconds)


def eventually(true: Callable[[], Any], timeout_s: float = 20) -> bool:
    for _ in range(int(timeout_s / 0.01)):
        if true():
            return True
        pause(0.01)
    return bool(true())


@pytest.fixture
def broker(pki: Pki, tmp_path: Path) -> Iterator[Mosquitto]:
    broker = Mosquitto(pki, tmp_path)
    yield broker
    broker.kill()


@contextmanager
def station_at(
    broker: Mosquitto, handle: Callable[[bytes], list[bytes]], reply_to: str = VEHICLE
) -> Iterator[None]:
    """Serve uploads inside the region until the end of the block, over any broker restart."""
    stop = threading.Event()

    def on_connect(client: mqtt.Client, *_: object) -> None:
        client.subscribe("inland/1/north/up/+/+", qos=1)

    def on_message(client: mqtt.Client, _data: object, message: mqtt.MQTTMessage) -> None:
        for reply in handle(message.payload):
            client.publish(f"inland/1/north/down/{reply_to}/receipt", reply, qos=1)

    def serve() -> None:
        while not stop.is_set():
            client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, reconnect_on_failure=False)
            client.on_connect, client.on_message = on_connect, on_message
            try:
                client.connect("127.0.0.1", broker.inside)
                while not stop.is_set() and client.loop(0.02) == mqtt.MQTT_ERR_SUCCESS:
                    pass
            except OSError:
                stop.wait(0.02)
            finally:
                client.disconnect()
                if client.socket() is not None:
                    client.socket().close()
                client._reset_sockets()

    thread = threading.Thread(target=serve, name="station")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(10)


@contextmanager
def hatch_of(capture: Capture, path: Path) -> Iterator[HatchClient]:
    server = HatchServer(path, capture.answer, allowed_uids=frozenset({os.getuid()}))
    stop = threading.Event()
    thread = threading.Thread(target=server.serve, args=(stop,), name="hatch")
    thread.start()
    try:
        yield HatchClient(path)
    finally:
        stop.set()
        thread.join(10)
        server.close()


def test_killed_three_times_under_load_with_lost_and_forged_receipts(
    pki: Pki, broker: Mosquitto, tmp_path: Path
) -> None:
    """Every entry arrives, once in effect; 10 % of receipts are lost, 10 % followed by lies."""
    count, rng = 400, random.Random(3)
    station, liar = Station(), Ed25519PrivateKey.generate()
    capture = Capture(station)
    capture.add(count, size=2000)

    def handle(payload: bytes) -> list[bytes]:
        receipt = station.store(payload)
        fate = rng.random()
        if fate < 0.1:
            return []
        upload = Upload.FromString(payload)
        other = {(upload.index + 1) % count: leaf(upload.entry)}
        lie = station.receipt(LOG, other, by=liar)
        wrong_leaf = station.receipt(LOG, other)  # well signed, for an entry that was not stored
        return [receipt, lie, wrong_leaf] if fate < 0.2 else [receipt]

    with (
        hatch_of(capture, tmp_path / "hatch") as hatch,
        station_at(broker, handle),
        running(make_uplink(pki, broker.port, capture, hatch=hatch)),
    ):
        for kill in range(1, 4):
            assert eventually(lambda kill=kill: len(capture.confirmed) >= 100 * kill), (
                capture.report
            )
            broker.kill()
            broker.start()
        assert eventually(lambda: not capture.pending), capture.report
    assert sorted(station.stored) == sorted(capture.confirmed) == [(LOG, i) for i in range(count)]
    assert capture.invalid > 0
    assert capture.report.connects >= 4


def test_without_a_client_certificate_the_reason_is_visible(pki: Pki, broker: Mosquitto) -> None:
    capture = Capture(Station())
    capture.add(1)
    with running(make_uplink(pki, broker.port, capture, certificate=None)):
        assert eventually(lambda: "certificate required" in capture.report.last_error.lower()), (
            capture.report
        )
    assert capture.report.connects >= 1
    assert not capture.report.connected


def test_certificate_of_another_region_is_refused_by_the_broker(
    pki: Pki, broker: Mosquitto, tmp_path: Path
) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    other = Pki(folder)
    capture = Capture(Station())
    with running(make_uplink(pki, broker.port, capture, certificate=other.vehicle_file)):
        assert eventually(lambda: "alert" in capture.report.last_error.lower()), capture.report


def test_other_vehicles_receipts_and_topics_are_out_of_reach(pki: Pki, broker: Mosquitto) -> None:
    """The ACL goes by the certificate: an uplink with another id in its settings gets nowhere."""
    station = Station()
    capture = Capture(station)
    capture.add(1)
    with (
        station_at(broker, lambda payload: [station.store(payload)]),
        running(make_uplink(pki, broker.port, capture, vehicle="car-00000000")),
    ):
        assert eventually(lambda: capture.report.last_error), capture.report
        pause(0.1)
    assert not station.stored


def test_two_clients_with_one_id_do_not_fight_for_ever(pki: Pki, broker: Mosquitto) -> None:
    """This Mosquitto closes the older link without saying why."""
    captures = Capture(Station()), Capture(Station())
    uplinks = [make_uplink(pki, broker.port, capture) for capture in captures]
    with running(uplinks[0]), running(uplinks[1]):
        said = lambda: [c for c in captures if "another client uses" in c.report.last_error]  # noqa: E731
        assert eventually(said), captures[0].report
        yielded = said()[0]
        other = captures[yielded is captures[0]]
        assert eventually(lambda: other.report.connected)
        assert not yielded.report.connected
