"""A bad network on one port: it delays, stalls, cuts in the middle of a packet, and forgets.

One thread between a client and the real broker. What it does by chance, a seed decides. Nothing is
altered: TLS would only end the connection, and that is tested elsewhere.
"""

from __future__ import annotations

import select
import socket
import threading
import time
from dataclasses import dataclass, field
from random import Random

TURN_S = 0.01
CHUNK = 16 << 10


@dataclass(frozen=True)
class Weather:
    """What happens to connections.

    Attributes:
        delay_s: each way.
        stall: chance of a pause with each piece that is passed on.
        stall_s: longest pause.
        cut: chance that the connection is cut within a piece.
    """

    delay_s: float = 0.0
    stall: float = 0.0
    stall_s: float = 0.0
    cut: float = 0.0


@dataclass
class _Way:
    """One direction of a connection: pieces, and when they are due."""

    source: socket.socket
    sink: socket.socket
    pieces: list[tuple[float, bytes]] = field(default_factory=list)
    waiting: int = 0
    over: bool = False


class Network:
    """A way to a port of this machine, until the end of the block.

    Attributes:
        port: where clients connect.
        weather: may be exchanged at any moment.
        connections: made so far.
        cuts: connections that were cut.
        passed: bytes, both ways.
    """

    def __init__(self, target: int, weather: Weather | None = None, *, seed: int = 0) -> None:
        self.weather = weather or Weather()
        self.connections = self.cuts = self.passed = 0
        self._target, self._rng = target, Random(seed)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._ways: list[_Way] = []
        self._forgotten: list[socket.socket] = []
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="network")

    def __enter__(self) -> Network:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(10)
        self._listener.close()
        with self._lock:
            for way in self._ways:
                way.source.close()
            for sock in self._forgotten:
                sock.close()

    def forget(self) -> int:
        """Let go of every connection without a word, as a router does; return how many."""
        with self._lock:
            gone, self._ways = self._ways, []
            # The client's side stays open and nobody reads it. The broker's side as well: it
            # finds out by itself, as brokers do.
            self._forgotten += [way.source for way in gone]
        return len(gone) // 2

    def _run(self) -> None:
        while not self._stop.is_set():
            with self._lock:
                self._turn(time.monotonic())

    def _turn(self, now_s: float) -> None:
        readers = [way.source for way in self._ways if not way.over and way.waiting < 1 << 20]
        due = [way.pieces[0][0] for way in self._ways if way.pieces]
        wait_s = max(0.0, min([TURN_S, *(one - now_s for one in due)]))
        ready, _, _ = select.select([self._listener, *readers], [], [], wait_s)
        if self._listener in ready:
            self._accept()
        for way in list(self._ways):
            if way.source in ready:
                self._read(way, now_s)
        for way in list(self._ways):
            if way in self._ways:
                self._pass_on(way, time.monotonic())

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        try:
            broker = socket.create_connection(("127.0.0.1", self._target), 2)
        except OSError:
            client.close()
            return
        self.connections += 1
        for sock in (client, broker):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.settimeout(2)  # one that is not read, of a process that is stopped
        self._ways += [_Way(client, broker), _Way(broker, client)]

    def _read(self, way: _Way, now_s: float) -> None:
        try:
            data = way.source.recv(CHUNK)
        except OSError:
            data = b""
        way.over = not data
        due_s = now_s + self.weather.delay_s
        if data and self._rng.random() < self.weather.stall:
            due_s += self._rng.random() * self.weather.stall_s
        due_s = max(due_s, way.pieces[-1][0] if way.pieces else 0.0)
        way.pieces.append((due_s, data))
        way.waiting += len(data)

    def _pass_on(self, way: _Way, now_s: float) -> None:
        while way.pieces and way.pieces[0][0] <= now_s:
            _, data = way.pieces.pop(0)
            way.waiting -= len(data)
            cut = bool(data) and self._rng.random() < self.weather.cut
            if cut:
                data = data[: self._rng.randrange(len(data))]
            try:
                way.sink.sendall(data)
            except OSError:
                cut = True
            self.passed += len(data)
            self.cuts += cut
            if cut or (way.over and not way.pieces):
                self._drop(way)
                return

    def _drop(self, way: _Way) -> None:
        for one in [one for one in self._ways if one.source in (way.source, way.sink)]:
            self._ways.remove(one)
            one.source.close()
