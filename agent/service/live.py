"""The live socket: people see at once what is sealed to them, and nobody sees anything else.

Rules:
- A Unix socket of mode 0666: whoever is in the car may knock. What comes of it is a challenge, and
  a refusal for all but enrolled people (`live_reader.py`); all else is sealed to their keys.
- At most MAX_WATCHING watch, at most MAX_KNOCKING are being asked. Of those the user with most
  loses its oldest when another knocks, so that nobody takes another user's place. An answer is due
  within ANSWER_S.
- Strangers cost at most CORE_SHARE of a core: beyond that nobody is let in for a while. Who watches
  already does not notice.
- The sealer never waits for anything here. A reader that is slow loses, and is told; one that reads
  nothing for STUCK_S is closed.
- A change of the people ends every stream: connect again, and be judged anew.
"""

from __future__ import annotations

import select
import socket
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Final

from agent.capture.live import Decides, LiveFeed, Lost, People
from agent.errors import HatchError
from agent.hatch_socket import accept, bind, remove
from agent.pb.moment_pb2 import Moment
from agent.service.live_reader import Car, LiveReader, Piece
from agent.vault.enrolled import Onlooker
from agent.vault.segment import Draft, encode_payload

MODE: Final = 0o666
MAX_WATCHING: Final = 4
MAX_KNOCKING: Final = 16
ANSWER_S: Final = 5.0
STUCK_S: Final = 60.0
BEAT_S: Final = 1.0  # a reader hears something at least so often
TURN_S: Final = 0.25  # how often the thread looks at `stop`
CORE_SHARE: Final = 0.1
BURST_S: Final = 0.1  # CPU time that may run up before the share is enforced
CHANGED: Final = "the people of this car, or who drives, have changed: connect again"
ENDS: Final = "the agent in the car has ended"
BUSY: Final = "as many people watch as may at once"
_CHUNK: Final = 4096


@dataclass(slots=True)
class _Client:
    sock: socket.socket
    uid: int
    reader: LiveReader
    since_s: float  # when it came, and since it watches when it last took something
    said_s: float = 0.0  # when it was last given something


class LiveServer:
    """See the module. One thread serves.

    Args:
        path: the socket file; its folder must exist.
        feed: what is kept.
        car: who speaks.
        rng: returns so many random bytes.
        moment: reads the clocks.

    Raises:
        HatchError: somebody answers on `path` already, or it cannot be bound.
    """

    def __init__(
        self, path: Path, feed: LiveFeed, car: Car, *, rng: Callable[[int], bytes],
        moment: Callable[[], Moment],
    ) -> None:  # fmt: skip
        self.path = path
        self._feed, self._car, self._rng, self._moment = feed, car, rng, moment
        self._people: tuple[Onlooker, ...] | None = None  # None: the sealer has not looked yet
        self._compiled = b""
        self._clients: dict[int, _Client] = {}
        self._debt_s = 0.0  # CPU time that strangers have had beyond their share
        self._listens = False
        self._listener, self._inode = bind(path, mode=MODE)
        self._poll = select.poll()
        self._poll.register(feed.fileno(), select.POLLIN)

    def run(self, stop: Event) -> None:
        """Serve until `stop` is set, and close."""
        try:
            self.serve(stop)
        finally:
            self.close()

    def serve(self, stop: Event) -> None:
        """Serve until `stop` is set. Blocks; `close` afterwards."""
        wall_s = time.monotonic()
        while not stop.is_set():
            self._let_in()
            ready = dict(self._poll.poll(TURN_S * 1000))
            # What the sealer says comes first: nobody is judged by yesterday's people.
            if ready.pop(self._feed.fileno(), None):
                self._pass_on()
            used_s = sum(self._turn(fd, events) for fd, events in ready.items())
            now_s = time.monotonic()
            self._look_after(now_s)
            self._debt_s = max(0.0, self._debt_s + used_s - CORE_SHARE * (now_s - wall_s))
            wall_s = now_s
        self._pass_on()
        for client in self._watching():
            client.reader.give((), self._moment(), ended=ENDS)
            self._send(client)

    def close(self) -> None:
        """Close everything; remove the socket file if it is still ours."""
        for client in list(self._clients.values()):
            self._drop(client)
        self._listener.close()
        remove(self.path, self._inode)

    # --- what the sealer says -------------------------------------------------------------------

    def _pass_on(self) -> None:
        run: list[Draft | Lost] = []
        for item in self._feed.take():
            if isinstance(item, Draft | Lost):
                run.append(item)
                continue
            self._hand(run)
            run = []
            if isinstance(item, People):
                self._admit(item.onlookers)
            elif isinstance(item, Decides):
                self._compiled = item.compiled
                for client in self._watching():
                    client.reader.decide(item.compiled)
        self._hand(run)

    def _admit(self, people: tuple[Onlooker, ...]) -> None:
        self._people = people
        for client in self._watching():
            client.reader.give((), self._moment(), ended=CHANGED)
            self._send(client)
        self._set_wanted()

    def _hand(self, run: Sequence[Draft | Lost]) -> None:
        """Give each reader what it may see of a run."""
        encoded: dict[int, Piece] = {}  # a payload is the same for all who may see it
        at = self._moment() if run else Moment()
        for client in self._watching() if run else ():
            reader, pieces = client.reader, list[Piece]()
            assert reader.onlooker is not None  # it watches
            for number, one in enumerate(run):
                if one.recipients not in reader.onlooker.opens:
                    continue
                if isinstance(one, Lost):
                    reader.lose((one.frames if reader.frames else 0, one.samples, 0))
                elif reader.frames or len(one.signals) or one.records:
                    if number not in encoded:
                        encoded[number] = self._piece(one)
                    pieces.append(encoded[number])
            if pieces:
                reader.give(pieces, at)
                self._send(client)

    def _piece(self, draft: Draft) -> Piece:
        payload = encode_payload(draft, salt=self._rng(32), boot_id=self._car.boot_id)
        counts = len(draft.frames), len(draft.signals), len(draft.records)
        return Piece(draft.lane, payload, counts)

    # --- connections ----------------------------------------------------------------------------

    def _watching(self) -> list[_Client]:
        return [
            client for client in self._clients.values()
            if client.reader.onlooker is not None and not client.reader.is_ended
        ]  # fmt: skip

    def _let_in(self) -> None:
        """Listen, unless it is not known yet who may watch, or strangers have had their share."""
        listens = self._people is not None and self._debt_s <= BURST_S
        if listens == self._listens:
            return
        self._listens = listens
        if listens:
            self._poll.register(self._listener, select.POLLIN)
        else:
            self._poll.unregister(self._listener)

    def _turn(self, fd: int, events: int) -> float:
        """Do what a connection asks for; return the CPU time of it that is a stranger's, s."""
        began_s = time.thread_time()
        client = self._clients.get(fd)
        is_known = client is not None and client.reader.onlooker is not None
        if client is not None:
            self._serve(client, events)
        elif fd == self._listener.fileno():
            self._accept()
        return 0.0 if is_known else time.thread_time() - began_s

    def _accept(self) -> None:
        came = accept(self._listener)
        if came is None:
            return
        sock, uid = came
        self._make_room()
        sock.setblocking(False)
        client = _Client(sock, uid, LiveReader(self._car, self._rng), time.monotonic())
        self._clients[sock.fileno()] = client
        self._poll.register(sock, select.POLLIN)
        self._send(client)

    def _make_room(self) -> None:
        knocking = [one for one in self._clients.values() if one.reader.onlooker is None]
        if len(knocking) < MAX_KNOCKING:
            return
        (most, _), *_ = Counter(one.uid for one in knocking).most_common(1)
        self._drop(min((one for one in knocking if one.uid == most), key=lambda one: one.since_s))

    def _serve(self, client: _Client, events: int) -> None:
        if events & select.POLLOUT:
            self._send(client)
        if not events & ~select.POLLOUT or client.sock.fileno() not in self._clients:
            return  # there is nothing to be heard, or it is closed by now
        try:
            data = client.sock.recv(_CHUNK)
            if not data:
                raise HatchError("it went away")
            proved = client.reader.hear(data, self._people or ())
        except BlockingIOError:
            return
        except (OSError, HatchError):
            self._drop(client)
            return
        if proved is not None:
            self._begin(client, proved)
        self._send(client)

    def _begin(self, client: _Client, onlooker: Onlooker) -> None:
        if len(self._watching()) >= MAX_WATCHING:
            client.reader.refuse(BUSY, later=True)
            return
        client.reader.begin(onlooker, self._compiled)
        client.reader.give((), self._moment())
        client.since_s = client.said_s = time.monotonic()
        self._set_wanted()

    def _set_wanted(self) -> None:
        found: frozenset[int] = frozenset()
        for client in self._watching():
            found |= client.reader.onlooker.opens if client.reader.onlooker else frozenset()
        self._feed.wanted = found

    def _send(self, client: _Client) -> None:
        """Send what leaves at once; close what has said its last word, or is gone."""
        reader = client.reader
        client.said_s = time.monotonic()
        try:
            while reader.out:
                reader.left(client.sock.send(reader.out[0]))
                client.since_s = client.said_s if reader.onlooker is not None else client.since_s
        except BlockingIOError:
            self._poll.modify(client.sock, select.POLLIN | select.POLLOUT)
            return
        except OSError:
            self._drop(client)
            return
        if reader.is_ended:
            self._drop(client)
        else:
            self._poll.modify(client.sock, select.POLLIN)

    def _look_after(self, now_s: float) -> None:
        """Beat, and close what takes too long."""
        for client in list(self._clients.values()):
            reader = client.reader
            watches = reader.onlooker is not None and not reader.is_ended
            due_s = (STUCK_S if reader.out else float("inf")) if watches else ANSWER_S
            if now_s - client.since_s > due_s:
                self._drop(client)
            elif watches and now_s - client.said_s > BEAT_S:
                reader.give((), self._moment())
                self._send(client)

    def _drop(self, client: _Client) -> None:
        del self._clients[client.sock.fileno()]
        self._poll.unregister(client.sock)
        client.sock.close()
        if client.reader.onlooker is not None:
            self._set_wanted()
