"""`inland station serve`: the station's MQTT client, one thread, one store.

- Mutual TLS 1.3 with the region's own CA; the broker must carry the region's host name.
- Messages are acknowledged to the broker after their commit, and it holds back at
  `RECEIVE_MAXIMUM`: memory is bounded by that, and a killed station loses nothing.
- A batch is up to 64 messages or 20 ms, then one transaction, then its receipts.
- Pieces of policies go out after receipts, and only so many at once.
- The broker gone: decorrelated jitter from 0.2 to 30 s, for ever. The store gone: the process ends.
- Nothing durable lives in MQTT: clean start, and cars send again what was not receipted.
"""

from __future__ import annotations

import fcntl
import logging
import math
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from agent.errors import ConfigError, LinkError, SpoolError
from agent.files import read_plain
from agent.station.authority import MAX_PEM_BYTES, STATION_USER, RegionFolder
from agent.station.broker import MAX_PACKET_BYTES
from agent.station.receive import BATCH, Receiver

BATCH_S: Final = 0.020
IDLE_S: Final = 0.25  # how soon a stop is noticed
CONNECT_S: Final = 20.0
KEEPALIVE_S: Final = 30
MAX_CHUNKS: Final = 16  # pieces of policies that the broker has not taken: 512 KiB
RECEIVE_MAXIMUM: Final = 256  # messages in flight to us: 64 MiB at the largest
FIRST_DELAY_S: Final = 0.2
LAST_DELAY_S: Final = 30.0
STATUS_S: Final = 60.0
CHORES_S: Final = 3600.0

log = logging.getLogger(__name__)


class ClosingSocket(ssl.SSLSocket):
    """A TLS socket that closes when its handshake fails: paho would leave it open."""

    def do_handshake(self, block: bool = False) -> None:  # as the library's
        """Shake hands, or close."""
        try:
            super().do_handshake(block)
        except BaseException:
            self.close()
            raise


class NamedContext(ssl.SSLContext):
    """A TLS context that checks for one name, whatever address was dialled."""

    host: str
    sslsocket_class = ClosingSocket

    def wrap_socket(self, *args: Any, **kwargs: Any) -> ssl.SSLSocket:
        """Wrap as ever, but for our host name."""
        return super().wrap_socket(*args, **{**kwargs, "server_hostname": self.host})


def tls_context(region: RegionFolder) -> NamedContext:
    """Return the station's TLS context: TLS 1.3, this region's CA alone, our own certificate.

    Raises:
        ConfigError: certificate or key cannot be read.
    """
    context = NamedContext(ssl.PROTOCOL_TLS_CLIENT)
    context.host = region.card.host
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | ssl.VERIFY_X509_STRICT
    certificate, key = region.path / "station.pem", region.path / "station.key"
    try:
        context.load_verify_locations(cadata="\n".join(region.card.issuing_ca))
        for path in (certificate, key):  # OpenSSL would wait for a pipe
            read_plain(path, MAX_PEM_BYTES)
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"the station's certificate cannot be used: {error}", where=str(certificate)
        ) from None
    return context


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Hold the folder for one serving process.

    Raises:
        SpoolError: another one has it.
    """
    with (folder / "serve.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SpoolError(
                "another `station serve` uses this folder", where=str(folder)
            ) from None
        yield


@dataclass(slots=True)
class Server:
    """Receives until told to stop.

    Attributes:
        region: whose station this is.
        receiver: where messages go.
        address: host or address of the broker; the certificate is checked for the card's host.
        rng: uniform in [0, 1), for the back-off.
        status: called with a dictionary when the link comes or goes, and once a minute.
        chores: called at the start and once an hour.
    """

    region: RegionFolder
    receiver: Receiver
    address: str
    rng: Callable[[], float]
    status: Callable[[dict[str, Any]], None]
    chores: Callable[[], None] = lambda: None
    _said: float = field(default=0.0, init=False)
    _did_chores: float = field(default=-math.inf, init=False)

    def run(self, stop: threading.Event) -> None:
        """Serve until `stop` is set.

        Raises:
            ConfigError: the station's own certificate cannot be used.
            SpoolError: the store failed.
        """
        context = tls_context(self.region)
        delay = FIRST_DELAY_S
        while not stop.is_set():
            link = Link(self.region, self.receiver, context)
            try:
                link.connect(self.address, stop)
                self._say("connected")
                delay = FIRST_DELAY_S
                while not stop.is_set():
                    link.step()
                    self._say_sometimes()
                    self._do_chores()
                link.finish()
            except OSError as error:
                delay = min(LAST_DELAY_S, FIRST_DELAY_S + self.rng() * 3 * delay)
                self._say("disconnected", error=str(error), retry_s=round(delay, 1))
            finally:
                link.close()
            stop.wait(delay)
        self._say("stopped")

    def _say_sometimes(self) -> None:
        if time.monotonic() - self._said >= STATUS_S:
            self._say("serving")

    def _do_chores(self) -> None:
        if time.monotonic() - self._did_chores >= CHORES_S:
            self._did_chores = time.monotonic()
            self.chores()

    def _say(self, state: str, **more: Any) -> None:
        self._said = time.monotonic()
        self.status({"state": state, **asdict(self.receiver.counters), **more})


def _send_at_once(_client: Any, _userdata: Any, opened: Any) -> None:
    # Acknowledgements are many small writes: Nagle's delay costs two thirds of the rate.
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class Link:
    """One connection to the broker."""

    def __init__(self, region: RegionFolder, receiver: Receiver, context: ssl.SSLContext) -> None:
        self._receiver = receiver
        self._port = region.card.port
        self._filters = [f"$share/station/inland/1/{region.region_id}/up/+/+"]
        self._filters.append(self._filters[0].removeprefix("$share/station/"))
        self._ready = False
        self._failed = ""
        self._since = 0.0
        self._unacknowledged: list[tuple[int, int]] = []
        self._chunks: set[int] = set()  # packet ids
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=STATION_USER,
            protocol=mqtt.MQTTv5,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        client.tls_set_context(context)
        client.suppress_exceptions = False
        client.max_inflight_messages_set(RECEIVE_MAXIMUM)
        client.max_queued_messages_set(100 * RECEIVE_MAXIMUM)  # receipts; a car asks again
        client.on_socket_open = _send_at_once
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.on_publish = lambda _c, _u, mid, _r, _p: self._chunks.discard(mid)
        client.on_disconnect = self._on_disconnect
        self._client = client

    def connect(self, address: str, stop: threading.Event) -> None:
        """Dial, and wait until the subscription stands.

        Raises:
            LinkError: the broker refused it, or took longer than 20 s.
            OSError: no connection, or TLS failed.
        """
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call, unused-ignore] # paho
        properties.ReceiveMaximum = RECEIVE_MAXIMUM
        properties.MaximumPacketSize = MAX_PACKET_BYTES
        self._client.connect(
            address, self._port, KEEPALIVE_S, clean_start=True, properties=properties
        )
        deadline = time.monotonic() + CONNECT_S
        while not self._ready and not stop.is_set():
            self._turn(IDLE_S)
            if time.monotonic() > deadline:
                raise LinkError("the broker did not answer in time", where=address)

    def step(self) -> None:
        """Turn the network once; commit and receipt a batch that is full or old enough.

        Raises:
            LinkError: the connection is gone.
            SpoolError: the store failed.
        """
        waiting = self._receiver.pending > 0 or bool(self._unacknowledged)
        left = self._since + BATCH_S - time.monotonic() if waiting else IDLE_S
        self._send_chunks()
        if left > 0 and len(self._unacknowledged) < BATCH:
            self._turn(left)
            return
        self.finish()
        self._turn(0)

    def finish(self) -> None:
        """Commit what has come in, acknowledge it, hand its receipts to the broker.

        Raises:
            SpoolError: the store failed.
        """
        receipts = self._receiver.flush()
        for mid, qos in self._unacknowledged:
            self._client.ack(mid, qos)
        self._unacknowledged.clear()
        for topic, payload in receipts:
            self._client.publish(topic, payload, qos=1)

    def _send_chunks(self) -> None:
        """Hand pieces of policies to the broker, few at a time: receipts do not wait for them."""
        for topic, payload in self._receiver.chunks(MAX_CHUNKS - len(self._chunks)):
            sent = self._client.publish(topic, payload, qos=1)
            if sent.rc == mqtt.MQTT_ERR_SUCCESS:  # else it is gone; the car asks again
                self._chunks.add(sent.mid)

    def close(self) -> None:
        """Leave in order if the connection stands; drop it otherwise."""
        if self._ready and self._client.socket() is not None:
            try:
                self._client.disconnect()
                self._client.loop(0)
            except OSError as error:
                log.debug("while disconnecting: %s", error)
        self._ready = False

    def _turn(self, timeout_s: float) -> None:
        code = self._client.loop(timeout_s)
        if self._failed or code != mqtt.MQTT_ERR_SUCCESS:
            raise LinkError(self._failed or mqtt.error_string(code))

    def _subscribe(self) -> None:
        options = SubscribeOptions(qos=1)
        self._client.subscribe(self._filters.pop(0), options=options)

    def _on_connect(self, _c: Any, _u: Any, _f: Any, code: ReasonCode, _p: Any) -> None:
        if code.is_failure:
            self._failed = f"the broker refused the connection: {code}"
            return
        self._subscribe()

    def _on_subscribe(self, _c: Any, _u: Any, _mid: int, codes: list[ReasonCode], _p: Any) -> None:
        if not codes[0].is_failure:
            self._ready = True
        elif self._filters:
            self._subscribe()  # a broker without shared subscriptions: one station, plain filter
        else:
            self._failed = f"the broker refused the subscription: {codes[0]}"

    def _on_message(self, _c: Any, _u: Any, message: mqtt.MQTTMessage) -> None:
        if not self._unacknowledged:
            self._since = time.monotonic()
        self._unacknowledged.append((message.mid, message.qos))
        try:
            topic = message.topic
        except UnicodeDecodeError:  # a broker that let it through
            topic = ""
        self._receiver.offer(topic, bytes(message.payload))

    def _on_disconnect(self, _c: Any, _u: Any, _f: Any, code: ReasonCode, _p: Any) -> None:
        self._failed = self._failed or f"disconnected: {code}"
