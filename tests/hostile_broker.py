"""A TLS server on loopback that speaks just enough MQTT 5 to misbehave, and counts what it gets.

`received` holds every application byte that arrived after a handshake: for an impostor it must stay
empty. `Script` says how it behaves once a client has sent CONNECT.
"""

from __future__ import annotations

import os
import select
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

CONNECT, CONNACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK, PINGREQ, PINGRESP, DISCONNECT = (
    0x10, 0x20, 0x30, 0x40, 0x82, 0x90, 0xC0, 0xD0, 0xE0,
)  # fmt: skip


def packet(command: int, body: bytes) -> bytes:
    """Return an MQTT packet."""
    size, length = len(body), bytearray()
    while True:
        size, digit = divmod(size, 128)
        length.append(digit | (0x80 if size else 0))
        if not size:
            return bytes([command]) + bytes(length) + body


def take_packet(data: bytearray) -> tuple[int, bytes] | None:
    """Remove and return the first whole packet, or None."""
    size = shift = 0
    for at in range(1, min(5, len(data))):
        size |= (data[at] & 0x7F) << shift
        shift += 7
        if not data[at] & 0x80:
            if len(data) < at + 1 + size:
                return None
            command, body = data[0], bytes(data[at + 1 : at + 1 + size])
            del data[: at + 1 + size]
            return command, body
    return None


def publish(topic: str, payload: bytes, *, qos: int = 0, mid: int = 1) -> bytes:
    """Return a PUBLISH packet."""
    name = topic.encode()
    identity = struct.pack(">H", mid) if qos else b""
    body = struct.pack(">H", len(name)) + name + identity + b"\0" + payload
    return packet(PUBLISH | qos << 1, body)


@dataclass
class Script:
    """How the broker behaves. Bytes are whole packets; None: say nothing.

    `after_suback` is sent once the client has subscribed; `on_publish` may answer a PUBLISH (topic,
    payload, mid) with packets of its own, before or instead of the PUBACK.
    """

    connack: bytes | None = packet(CONNACK, b"\0\0\0")
    suback: bool = True
    puback: bool = True
    pong: bool = True
    after_suback: bytes = b""
    on_publish: Callable[[str, bytes, int], bytes] = lambda topic, payload, mid: b""
    close_after_connect: bool = False
    read_pause_s: float = 0.0  # before each TLS record that is read: a slow uplink
    deaf: bool = False  # answers nothing at all after the SUBACK


@dataclass
class HostileBroker:
    """Serves one client, until the next one knocks, in a thread. Use it as a context manager."""

    certificate: Path
    script: Script = field(default_factory=Script)
    client_ca: Path | None = None
    tls12: bool = False
    raw: Callable[[socket.socket, threading.Event], None] | None = None  # instead of TLS

    def __post_init__(self) -> None:
        self.accepted = self.handshakes = 0
        self.received = bytearray()
        self.packets: list[tuple[int, bytes]] = []
        self.saw_hello = self.saw_client_certificate = False
        self.is_held = False  # stands still, as a process that is stopped: reads and says nothing
        self._subscribed = False
        self._stop = threading.Event()
        self._leave = ""  # how the present client is left: forgotten, hung up or cut
        self._forgotten: list[int] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.01)
        if self.script.read_pause_s:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.port: int = self._listener.getsockname()[1]
        self._tls = self._context()
        self._thread = threading.Thread(target=self._serve, name="hostile-broker")

    def _context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate)
        if self.tls12:
            context.maximum_version = ssl.TLSVersion.TLSv1_2
        if self.client_ca:
            context.verify_mode = ssl.CERT_OPTIONAL
            context.load_verify_locations(self.client_ca)
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context._msg_callback = self._on_tls_message  # type: ignore[attr-defined]
        return context

    def _on_tls_message(self, _c: Any, way: str, _v: Any, kind: int, message: int, _d: Any) -> None:
        if way == "read" and int(kind) == 22:
            self.saw_hello |= int(message) == 1
            self.saw_client_certificate |= int(message) == 11

    def __enter__(self) -> HostileBroker:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join(10)
        self._listener.close()
        for fd in self._forgotten:
            os.close(fd)

    def forget(self) -> None:
        """Leave the present client alone: its connection stays open, nobody reads it any more."""
        self._leave = "forgotten"
        assert self.wait(lambda: not self._leave)

    def hang_up(self) -> None:
        """Close the present client's connection in good order, without a reason."""
        self._leave = "hung up"
        assert self.wait(lambda: not self._leave)

    def cut(self) -> None:
        """End the present client's connection as a network does: without TLS's goodbye."""
        self._leave = "cut"
        assert self.wait(lambda: not self._leave)

    def wait(self, true: Callable[[], bool], timeout_s: float = 10.0) -> bool:
        """Return whether something became true in time."""
        for _ in range(int(timeout_s / 0.01)):
            if true():
                return True
            self._stop.wait(0.01)
        return true()

    def _serve(self) -> None:
        while not self._stop.is_set():
            try:
                sock, _ = self._listener.accept()
            except TimeoutError:
                continue
            self.accepted += 1
            with sock:
                sock.settimeout(5)
                if self.raw:
                    self.raw(sock, self._stop)
                    continue
                try:
                    with self._tls.wrap_socket(sock, server_side=True) as tls:
                        self.handshakes += 1
                        tls.settimeout(0.02)
                        self._talk(tls)
                except (OSError, ValueError):
                    continue

    def _talk(self, tls: ssl.SSLSocket) -> None:
        data = bytearray()
        while not self._stop.is_set():
            if self._leave:
                how, self._leave = self._leave, ""
                if how == "forgotten":
                    self._forgotten.append(os.dup(tls.fileno()))
                elif how == "hung up":
                    tls.unwrap()
                return  # the socket is closed
            if self.is_held and not select.select([self._listener], [], [], 0.01)[0]:
                continue
            if select.select([self._listener], [], [], 0)[0]:
                return
            try:
                self._stop.wait(self.script.read_pause_s)
                more = tls.recv(65536)
            except TimeoutError:
                continue
            if not more:
                return
            self.received += more
            data += more
            while (taken := take_packet(data)) is not None:
                self.packets.append(taken)
                tls.settimeout(5)
                tls.sendall(self._answer(*taken))
                tls.settimeout(0.02)
                if self.script.close_after_connect and taken[0] == CONNECT:
                    return

    def _answer(self, command: int, body: bytes) -> bytes:
        script = self.script
        if command == CONNECT:
            self._subscribed = False
            return script.connack or b""
        if script.deaf and self._subscribed:
            return b""
        if command == SUBSCRIBE and script.suback:
            self._subscribed = True
            return packet(SUBACK, body[:2] + b"\0\x01") + script.after_suback
        if command & 0xF0 == PUBLISH:
            size = struct.unpack(">H", body[:2])[0]
            topic, mid = body[2 : 2 + size].decode(), body[2 + size : 4 + size]
            extra = script.on_publish(topic, body[5 + size :], struct.unpack(">H", mid)[0])
            return extra + (packet(PUBACK, mid) if script.puback else b"")
        if command == PINGREQ and script.pong:
            return packet(PINGRESP, b"")
        return b""
