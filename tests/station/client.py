"""An MQTT 5 client for tests: a thread of paho's, events instead of sleeps."""

from __future__ import annotations

import queue
import ssl
import threading
from pathlib import Path
from types import TracebackType

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from agent.region import RegionCard
from agent.station.serve import NamedContext

WAIT_S = 20.0


class Client:
    """Connects on entry; `refused` holds why if the broker did not let it in."""

    def __init__(
        self,
        card: RegionCard,
        client_id: str,
        certificate: Path | None,
        key: Path | None,
        *,
        version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    ) -> None:
        context = NamedContext(ssl.PROTOCOL_TLS_CLIENT)
        context.host = card.host
        context.maximum_version = version
        context.load_verify_locations(cadata="\n".join(card.issuing_ca))
        if certificate is not None and key is not None:
            context.load_cert_chain(certificate, key)
        self.card, self.refused = card, ""
        self.messages: queue.Queue[tuple[str, bytes]] = queue.Queue()
        self.connected = threading.Event()
        self.acknowledged: queue.Queue[tuple[int, bool]] = queue.Queue()
        self.granted: queue.Queue[bool] = queue.Queue()
        self.ended = threading.Event()
        self.paho = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id=client_id, protocol=mqtt.MQTTv5,
            reconnect_on_failure=False,
        )  # fmt: skip
        self.paho.tls_set_context(context)
        self.paho.max_inflight_messages_set(64)
        self.paho.on_connect = self._on_connect
        self.paho.on_disconnect = lambda *_: self.ended.set()
        self.paho.on_message = lambda _c, _u, m: self.messages.put((m.topic, m.payload))
        self.paho.on_publish = lambda _c, _u, mid, code, _p: self.acknowledged.put(
            (mid, not code.is_failure)
        )
        self.paho.on_subscribe = lambda _c, _u, _m, codes, _p: self.granted.put(
            not codes[0].is_failure
        )

    def __enter__(self) -> Client:
        try:
            self.paho.connect("127.0.0.1", self.card.port, 30, clean_start=True)
        except OSError as error:
            self.refused = str(error)
            return self
        self.paho.loop_start()
        # With TLS 1.3 a broker refuses a client's certificate after the handshake.
        while not self.connected.wait(0.01):
            if self.ended.is_set():
                self.refused = self.refused or "closed"
                break
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.paho.disconnect()
        self.paho.loop_stop()

    def subscribe(self, topic: str) -> bool:
        self.paho.subscribe(topic, qos=1)
        return self.granted.get(timeout=WAIT_S)

    def publish(self, topic: str, payload: bytes) -> bool:
        """Publish and wait; return whether the broker took it."""
        self.paho.publish(topic, payload, qos=1)
        return self.acknowledged.get(timeout=WAIT_S)[1]

    def _on_connect(self, _c, _u, _f, code, _p) -> None:  # type: ignore[no-untyped-def]
        if code.is_failure:
            self.refused = str(code)
            self.ended.set()
        else:
            self.connected.set()
