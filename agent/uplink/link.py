"""One connection to the region's broker: one paho client, our own loop, no thread.

Rules:
- MQTT 5, clean start, no will, no user name; Maximum Packet Size 256 KiB, Receive Maximum 16,
  no topic aliases. Nothing durable lives in MQTT.
- Nothing is subscribed but the topics of receipts and of policies. Messages for other topics are
  dropped; so are pieces of policies that nobody has had the time to take.
- Server references (0x9C, 0x9D) and the reasons of DISCONNECT are recorded and never followed.
- The broker's Receive Maximum and Maximum Packet Size are respected.
- Whether the link is alive, `vigil.py` decides; the broker is asked for a sign of life by
  subscribing again. paho's pings would not do: the broker may change their interval, and paho
  counts any byte as a sign of life, such as those of a packet that never ends. Nor does its clock
  count through suspend.
- What the broker sends unasked is bounded: paho keeps QoS 2 messages until they are released.
- A client is used for one connection. Everything that ends one is a LinkError. A silence need not
  end it: the kernel goes on trying, and what it gets through makes the link live again.
"""

from __future__ import annotations

import fcntl
import select
import socket
import struct
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import paho.mqtt
from paho.mqtt import client as paho_client
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from agent.errors import LinkError, RegionRefusedError
from agent.uplink.delivery import Ack
from agent.uplink.timing import (
    MAX_CHUNK_BYTES,
    MAX_CHUNKS,
    MAX_PACKET_BYTES,
    MAX_UNASKED_BYTES,
    RECEIVE_MAXIMUM,
    WINDOW_PACKETS,
    Timing,
)
from agent.uplink.tls import PinnedContext, is_of_the_peer
from agent.uplink.vigil import Vigil
from agent.uplink.way import Way

mqtt: Any = paho_client  # the published type stubs describe paho 1.6, we need 2.x
_properties: Any = Properties
_options: Any = SubscribeOptions

NOT_ALLOWED: Final = 0x87
TAKEN_OVER: Final = 0x8E
# MQTT 5.0, table 2-6: reasons that a person has to mend; trying again soon only makes it worse.
MENDED_BY_HAND: Final = frozenset({0x84, 0x85, 0x86, NOT_ALLOWED, 0x8A, 0x8C, TAKEN_OVER})
MAX_RECEIPT_BYTES: Final = 96 << 10  # fits into a request of the hatch
_MESSAGE_OVERHEAD: Final = 64  # of a PUBLISH besides topic and payload, generously
_OPTIONS: Final = _options(qos=1)
_READS: Final = 32  # packets taken in one turn
# What paho lets out on bytes that are no MQTT, besides OSError.
_PROTOCOL_ERRORS: Final = (ValueError, KeyError, IndexError, struct.error, paho.mqtt.MQTTException)


class Link:
    """A connection from CONNECT to its end.

    Args:
        context: TLS, pinned to the region; used for this link only.
        vehicle: MQTT client id.
        topic: of receipts: without it the link is of no use.
        timing: intervals.
        chunk_topic: of pieces of policies; a broker that refuses it ends nothing.
    """

    def __init__(
        self, context: PinnedContext, vehicle: str, topic: str, timing: Timing,
        chunk_topic: str = "",
    ) -> None:  # fmt: skip
        self.receive_maximum = WINDOW_PACKETS
        self.max_packet = MAX_PACKET_BYTES
        self.ended_by: int | None = None  # MQTT reason code
        self.peer = ""
        self._context, self._timing, self._clock = context, timing, context.clock
        self._topic, self._chunk_topic = topic, chunk_topic
        self._topics = [(name, _OPTIONS) for name in (topic, chunk_topic) if name]
        self._ended = ""
        self._worked = False
        self._vigil = Vigil(timing, self._clock(), peer="")
        self._way: Way | None = None
        self._asked_for = 0  # bytes that the broker was entitled to send
        self._acks: list[Ack] = []
        self._messages: list[bytes] = []
        self._chunks: list[bytes] = []
        self._client = self._make(vehicle)

    def _make(self, vehicle: str) -> Any:
        client = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2, client_id=vehicle, protocol=mqtt.MQTTv5,
            reconnect_on_failure=False,
        )  # fmt: skip
        client.max_inflight_messages_set(WINDOW_PACKETS)
        client.tls_set_context(self._context)
        client.on_socket_open = self._on_socket_open
        client.on_connect, client.on_disconnect = self._on_connect, self._on_disconnect
        client.on_subscribe, client.on_publish = self._on_subscribe, self._on_publish
        client.on_message = self._on_message
        return client

    def open(self, address: str, connect_s: float) -> None:
        """Connect to a literal address and send CONNECT; `step` until `ready`.

        Args:
            address: of the broker.
            connect_s: how long TCP may take.

        Raises:
            RegionRefusedError: the peer is not the region's broker; no MQTT byte was sent.
            LinkError: no connection.
        """
        wanted: Any = _properties(PacketTypes.CONNECT)
        wanted.MaximumPacketSize = MAX_PACKET_BYTES
        wanted.ReceiveMaximum = RECEIVE_MAXIMUM
        wanted.TopicAliasMaximum = 0
        self.peer = f"{address} port {self._context.card.port}"
        begun_s = self._clock()
        self._client.connect_timeout = connect_s
        try:
            with self._translated():
                self._client.connect(
                    address, self._context.card.port, keepalive=self._timing.keepalive_s,
                    clean_start=True, properties=wanted,
                )  # fmt: skip
        finally:
            now_s = self._clock()
            self._vigil = Vigil(self._timing, begun_s, peer=self.peer)
            self._vigil.opened(now_s)

    def fits(self, topic: str, payload: bytes) -> bool:
        """Return whether a message is small enough for both sides."""
        return len(topic) + len(payload) + _MESSAGE_OVERHEAD <= self.max_packet

    def publish(self, topic: str, payload: bytes) -> int:
        """Send with QoS 1 and return the packet id. Raises LinkError."""
        with self._translated():
            info = self._client.publish(topic, payload, qos=1)
            if info.rc != mqtt.MQTT_ERR_SUCCESS:
                raise self._end()
        self._asked_for += _MESSAGE_OVERHEAD
        return int(info.mid)

    def entitle(self, size: int) -> None:
        """Let the region send so many bytes more: the answer to a question, receipts aside."""
        self._asked_for += size

    def step(self, timeout_s: float) -> None:
        """Wait for the socket at most so long, then read, write and ping as needed.

        Raises:
            SilentLinkError: nothing was heard for too long; `listen` tells whether that changes.
            LinkError: the link ended, or must not go on.
        """
        self._turn(timeout_s)
        with self._translated():
            self._check(self._client.loop_misc())
        self._supervise(self._clock())

    def listen(self, timeout_s: float) -> bool:
        """Wait for a sign of life of a silent link at most so long; return whether it came.

        Nothing is sent but what the kernel repeats. Raises LinkError: the link ended.
        """
        self._turn(timeout_s)
        return not self._vigil.is_silent(self._clock())

    def _turn(self, timeout_s: float) -> None:
        sock = self._client.socket()
        if sock is None:
            raise self._end()
        self._vigil.turned(self._clock())
        write = select.POLLOUT if self._client.want_write() else 0
        poll = select.poll()
        poll.register(sock, select.POLLIN | write)
        ready = bool(sock.pending())
        timeout_s = 0 if ready else timeout_s
        events = sum(event for _, event in poll.poll(timeout_s * 1000))
        self._vigil.turned(self._clock(), timeout_s)
        with self._translated():
            if ready or events & ~select.POLLOUT:
                self._read()
            if events & select.POLLOUT:
                self._check(self._client.loop_write())

    @property
    def ready(self) -> bool:
        """Whether the broker listens to us and we to it."""
        return self._vigil.ready

    @property
    def is_alive(self) -> bool:
        """Whether it is ready and was heard of lately."""
        return self.ready and not self._vigil.is_silent(self._clock())

    @property
    def has_moved(self) -> bool:
        """Whether the car would take another way now: then a silence is its own doing."""
        return self._way is not None and self._way.is_another

    @property
    def slept_lately_s(self) -> float:
        """For how long the computer or the agent slept, if the link has just woken."""
        return self._vigil.slept_lately_s(self._clock())

    @property
    def was_hung_up(self) -> bool:
        """Whether the broker closed a link that worked and never slept, and gave no reason."""
        worked = self._worked and not self._vigil.has_slept
        return worked and self._context.ended and not self._ended

    def take_acks(self) -> list[Ack]:
        """Return the PUBACKs since the last call."""
        acks, self._acks = self._acks, []
        return acks

    def take_messages(self) -> list[bytes]:
        """Return the payloads of the receipt topic since the last call."""
        messages, self._messages = self._messages, []
        return messages

    def take_chunks(self) -> list[bytes]:
        """Return the payloads of the policy topic since the last call, MAX_CHUNKS at most."""
        chunks, self._chunks = self._chunks, []
        return chunks

    def close(self) -> None:
        """Say goodbye if that is possible without waiting, and close the socket."""
        self._vigil.ready = False
        sock = self._client.socket()
        if sock is None:
            return
        try:
            self._client.disconnect()
        except (OSError, *_PROTOCOL_ERRORS) as error:
            self._ended = self._ended or str(error)
        sock.close()  # also if DISCONNECT is still queued

    def _read(self) -> None:
        for _ in range(_READS):
            self._check(self._client.loop_read())
            sock = self._client.socket()
            if sock is None or not sock.pending():
                return

    def _check(self, code: int) -> None:
        if code != mqtt.MQTT_ERR_SUCCESS or self._client.socket() is None:
            raise self._end()

    def _end(self) -> LinkError:
        """Return why the link ended: our own socket's refusal, or the broker's word."""
        fault = self._context.fault
        if isinstance(fault, RegionRefusedError):
            return fault
        why = self._ended or (str(fault) if fault else "") or "no reason given"
        error = LinkError(f"the link ended: {why}", where=self.peer)
        # Without a fault the other end has closed; that a time is over is our own kernel's word.
        return error.of_the_peer() if fault is None or is_of_the_peer(fault) else error

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Turn what paho raises into a LinkError: its errors are about the peer's bytes."""
        try:
            yield
        except LinkError:
            raise
        except OSError as error:
            told = LinkError(f"no connection: {error}", where=self.peer)
            raise (told.of_the_peer() if is_of_the_peer(error) else told) from None
        except _PROTOCOL_ERRORS as error:
            raise LinkError(f"the broker breaks MQTT: {error!r}"[:200], where=self.peer) from None

    def _supervise(self, now_s: float) -> None:
        sock = self._client.socket()
        if sock is not None:
            (queued,) = struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)))
            self._vigil.queue(queued, now_s)
        if self._context.received > self._asked_for + MAX_UNASKED_BYTES:
            raise LinkError("the broker floods us", where=self.peer)
        if self._way is not None:
            self._way.look(now_s)
        if self._vigil.wants_a_sign(now_s):
            self._client.subscribe(self._topics)

    def _on_socket_open(self, _client: Any, _data: Any, sock: socket.socket) -> None:
        # Without NODELAY 22 messages a second instead of 2,224 (16 KiB, one at a time).
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._way = Way(sock.getpeername()[0], sock.getsockname()[0], self._clock())
        limit_ms = int(self._timing.given_up_s * 1000)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, limit_ms)

    def _on_connect(self, client: Any, _data: Any, _flags: Any, reason: Any, props: Any) -> None:
        self._vigil.heard(self._clock())
        if reason.is_failure:
            self._record("the broker refuses us", reason, props)
            return
        self.receive_maximum = getattr(props, "ReceiveMaximum", WINDOW_PACKETS)
        self.max_packet = min(MAX_PACKET_BYTES, getattr(props, "MaximumPacketSize", 1 << 28))
        client.subscribe(self._topics)

    def _on_subscribe(self, client: Any, _data: Any, _mid: int, reasons: Any, _props: Any) -> None:
        self._vigil.heard(self._clock())
        if not reasons or reasons[0].is_failure:
            self.ended_by = NOT_ALLOWED
            self._ended = f"the broker does not let us listen on {self._topic}"
            client.disconnect()
            return
        self._vigil.ready = self._worked = True

    def _on_publish(self, _client: Any, _data: Any, mid: int, reason: Any, _props: Any) -> None:
        self._vigil.heard(self._clock())
        self._acks.append(Ack(mid, reason.getName() if reason.is_failure else ""))

    def _on_message(self, _client: Any, _data: Any, message: Any) -> None:
        self._vigil.heard(self._clock())
        payload = bytes(message.payload)
        if self._chunk_topic and message.topic == self._chunk_topic:
            # What was asked for was paid when the question left (`entitle`).
            if len(payload) <= MAX_CHUNK_BYTES and len(self._chunks) < MAX_CHUNKS:
                self._chunks.append(payload)
            return
        if message.topic != self._topic or len(payload) > MAX_RECEIPT_BYTES:
            return  # counted as unasked
        self._asked_for += len(payload) + len(self._topic) + _MESSAGE_OVERHEAD
        self._messages.append(payload)

    def _on_disconnect(self, _client: Any, _data: Any, flags: Any, reason: Any, props: Any) -> None:
        self._vigil.ready = False
        if flags.is_disconnect_packet_from_server and reason is not None:
            self._record("the broker hung up", reason, props)

    def _record(self, what: str, reason: Any, props: Any) -> None:
        self.ended_by = int(reason.value)
        text = f"{what}: {reason.getName()} ({self.ended_by:#04x})"
        if self.ended_by == TAKEN_OVER:
            text += ": another client uses this vehicle's id and certificate"
        if hasattr(props, "ServerReference"):
            text += "; it names another server, which is not followed"
        self._ended = text
