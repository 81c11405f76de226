"""The hatch: the Unix socket between capture and uplink, and the only road between the two.

Rules:
- A message is u32 big endian length, then HatchRequest (to capture) or HatchReply (to the uplink).
  A reply is at most 1 MiB, a request 128 KiB: many empty fields cost a parser far more memory.
- Capture serves, the uplink asks. One answer per question, in order; the next question of a client
  is not even read before the answer to the last one has left.
- Mode 0660; SO_PEERCRED must name an allowed uid; at most 4 clients (the one silent longest makes
  room); one that sends junk, or stops in the middle of a message, is closed and counted.
- Whom the mode alone lets in, a member of the socket's group, is a visitor: it may ask what
  visitors may ask, and anything else closes it. Some kinds are not even for all who are allowed:
  the uplink may not ask for an enrollment.
- The thread that serves spends at most 30 % of one core, whatever is asked of it.
- A socket file that nobody answers on is replaced; one that somebody answers on is an error.
- What `answer` raises besides InlandError ends the process.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from types import MappingProxyType
from typing import Final

from google.protobuf.message import DecodeError

from agent.errors import HatchError, InlandError
from agent.files import short_name
from agent.hatch_frames import Frames, frame
from agent.hatch_socket import accept, bind, remove
from agent.pb import hatch_pb2 as pb
from agent.pb.delivery_pb2 import CheckpointUpload, PolicyQuestion
from agent.pb.hatch_pb2 import HatchReply, HatchRequest

MAX_REPLY_BYTES: Final = 1 << 20
MAX_REQUEST_BYTES: Final = 128 << 10
MAX_CLIENTS: Final = 4
STUCK_S: Final = 10.0  # a message half sent, or a reply half read, for this long
CORE_SHARE: Final = 0.3  # of one core, for everything that clients can cause
BURST_S: Final = 0.1  # CPU time that may run up before the share is enforced
TURN_S: Final = 0.2  # how often the server looks at `stop`
ANSWER_S: Final = 10.0  # how long a client waits for an answer
LAST_LOOK_S: Final = 0.01  # at what has come when that time is over
LATE_READS: Final = 32  # of 64 KiB: more than an answer has
_CHUNK: Final = 64 << 10

Answer = Callable[[HatchRequest], HatchReply]


@dataclass(slots=True)
class HatchCounts:
    """Clients refused by uid, closed for junk or for getting stuck, crowded out; and answers.

    A visitor that asks for more than visitors may counts as refused.
    """

    answered: int = 0
    refused: int = 0
    junk: int = 0
    crowded_out: int = 0


@dataclass(slots=True)
class _Client:
    sock: socket.socket
    uid: int
    heard_s: float
    is_visitor: bool
    stuck_since_s: float | None = None
    frames: Frames = field(default_factory=lambda: Frames(MAX_REQUEST_BYTES))
    reply: memoryview = field(default_factory=lambda: memoryview(b""))


class HatchServer:
    """Capture's side.

    Args:
        path: the socket file; its folder must exist.
        answer: replies to a request, in the thread that serves; an InlandError becomes an `error`.
        allowed_uids: who may ask anything.
        visitors: kinds of requests that whoever else can open the socket file may ask; none: such
            a client is refused.
        reserved: kinds of requests that not all of `allowed_uids` may make, and who may; another
            client that asks is closed.

    Raises:
        HatchError: somebody answers on `path` already, or it cannot be bound.
    """

    def __init__(
        self,
        path: Path,
        answer: Answer,
        *,
        allowed_uids: frozenset[int],
        visitors: frozenset[str] = frozenset(),
        reserved: Mapping[str, frozenset[int]] = MappingProxyType({}),
    ) -> None:
        self.path = path
        self.counts = HatchCounts()
        self._answer = answer
        self._allowed_uids, self._visitors = allowed_uids, visitors
        self._reserved = reserved
        self._clients: dict[int, _Client] = {}
        self._listener, self._inode = bind(path)
        self._poll = select.poll()
        self._poll.register(self._listener, select.POLLIN)

    def serve(self, stop: Event) -> None:
        """Answer until `stop` is set. Blocks; `close` afterwards."""
        wall, cpu, debt_s = time.monotonic(), time.thread_time(), 0.0
        while not stop.is_set():
            for fd, events in self._poll.poll(TURN_S * 1000):
                if fd in self._clients:
                    self._turn(fd, events)
                elif fd == self._listener.fileno():
                    self._accept()
            self._close_stuck(time.monotonic())
            now_wall, now_cpu = time.monotonic(), time.thread_time()
            debt_s = max(0.0, debt_s + (now_cpu - cpu) - CORE_SHARE * (now_wall - wall))
            wall, cpu = now_wall, now_cpu
            if debt_s > BURST_S:
                stop.wait((debt_s - BURST_S / 2) / CORE_SHARE)

    def close(self) -> None:
        """Close everything; remove the socket file if it is still ours."""
        for fd in list(self._clients):
            self._drop(fd)
        self._listener.close()
        remove(self.path, self._inode)

    def _accept(self) -> None:
        came = accept(self._listener)
        if came is None:
            return
        sock, uid = came
        is_visitor = uid not in self._allowed_uids
        if is_visitor and not self._visitors:
            self.counts.refused += 1
            sock.close()
            return
        if len(self._clients) >= MAX_CLIENTS:
            self.counts.crowded_out += 1
            self._drop(min(self._clients, key=lambda fd: self._clients[fd].heard_s))
        sock.setblocking(False)
        self._clients[sock.fileno()] = _Client(sock, uid, time.monotonic(), is_visitor)
        self._poll.register(sock, select.POLLIN)

    def _turn(self, fd: int, events: int) -> None:
        client = self._clients[fd]
        move = self._send if events & select.POLLOUT else self._receive
        try:
            if not move(client):
                self._drop(fd)  # the client went away: it asks again when it is back
                return
            while not client.reply and (message := client.frames.take()) is not None:
                request = _request(message)
                if not self._may_ask(client, request.WhichOneof("what") or ""):
                    self.counts.refused += 1
                    self._drop(fd)
                    return
                client.reply = memoryview(self._reply(request))
                self.counts.answered += 1
                self._send(client)
        except HatchError:
            self.counts.junk += 1
            self._drop(fd)
            return
        stuck = bool(client.reply) or client.frames.holds_part()
        client.stuck_since_s = time.monotonic() if stuck else None
        self._poll.modify(client.sock, select.POLLOUT if client.reply else select.POLLIN)

    def _may_ask(self, client: _Client, kind: str) -> bool:
        if client.is_visitor:
            return kind in self._visitors
        return client.uid in self._reserved.get(kind, self._allowed_uids)

    def _reply(self, request: HatchRequest) -> bytes:
        try:
            return frame(self._answer(request).SerializeToString(), MAX_REPLY_BYTES)
        except InlandError as error:
            return frame(HatchReply(error=str(error)[:1000]).SerializeToString(), MAX_REPLY_BYTES)

    def _send(self, client: _Client) -> bool:
        """Send what leaves at once; return whether the client is still there."""
        try:
            client.reply = client.reply[client.sock.send(client.reply) :]
        except BlockingIOError:
            return True
        except OSError:
            return False
        return True

    def _receive(self, client: _Client) -> bool:
        """Take what came; return whether the client is still there."""
        try:
            data = client.sock.recv(_CHUNK)
        except OSError:
            return False
        client.frames.feed(data)
        client.heard_s = time.monotonic()
        return bool(data)

    def _close_stuck(self, now_s: float) -> None:
        for fd, client in list(self._clients.items()):
            if client.stuck_since_s is not None and now_s - client.stuck_since_s > STUCK_S:
                self.counts.junk += 1
                self._drop(fd)

    def _drop(self, fd: int) -> None:
        client = self._clients.pop(fd)
        self._poll.unregister(fd)
        client.sock.close()


def _request(message: bytes) -> HatchRequest:
    try:
        request = HatchRequest.FromString(message)
    except DecodeError:
        request = HatchRequest()
    if request.WhichOneof("what") is None:
        raise HatchError("not a request")
    return request


class HatchClient:
    """The uplink's side, for one thread. Connects when first asked, and again after any failure."""

    def __init__(self, path: Path, *, timeout_s: float = ANSWER_S) -> None:
        self.path = path
        self._timeout_s = timeout_s
        self._sock: socket.socket | None = None
        self._frames = Frames(MAX_REPLY_BYTES)

    def next(self, count: int, max_bytes: int, skip: Mapping[bytes, Collection[int]]) -> pb.Batch:
        """Return the most urgent entries that are not confirmed. Raises HatchError.

        Args:
            count: at most so many; 0 asks only for the time and for how many are pending.
            max_bytes: at most so many bytes, unless the first entry alone is larger.
            skip: entries already under way, indices by log.
        """
        under_way = [pb.Awaiting(log=log, index=sorted(indices)) for log, indices in skip.items()]
        question = pb.Next(count=count, bytes=max_bytes, skip=under_way)
        return self._ask(HatchRequest(next=question), "batch").batch

    def deliver(self, kind: str, payload: bytes) -> pb.Accepted:
        """Hand in what came from the region: a "receipt" or "policy". Raises HatchError."""
        request = HatchRequest(deliver=pb.Deliver(kind=kind, payload=payload))
        return self._ask(request, "accepted").accepted

    def report(self, report: pb.LinkReport) -> None:
        """Tell how the link is. Raises HatchError."""
        self._ask(HatchRequest(report=report), "accepted")

    def status(self) -> bytes:
        """Return the agent's state as JSON. Raises HatchError."""
        return self._ask(HatchRequest(status=pb.StatusQuestion()), "status").status

    def checkpoint(self, *, now: bool = False) -> CheckpointUpload | None:
        """Return the signed tree head to upload, or None if nothing is new. Raises HatchError.

        Args:
            now: sign what is here, and let the region see it at once.
        """
        reply = self._ask(HatchRequest(checkpoint=pb.CheckpointQuestion(now=now)), "checkpoint")
        return reply.checkpoint if reply.checkpoint.note else None

    def policy(self) -> PolicyQuestion | None:
        """Return which policy bundle to ask the region for, None if none. Raises HatchError."""
        reply = self._ask(HatchRequest(policy=pb.PolicyWanted()), "policy")
        return reply.policy if reply.policy.bundle else None

    def presence(self, question: pb.Presence) -> pb.Present:
        """Ask for an enrollment, or hand in its code. Raises HatchError."""
        return self._ask(HatchRequest(presence=question), "presence").presence

    def close(self) -> None:
        """Close the connection; the next question opens another."""
        if self._sock is not None:
            self._sock.close()
        self._sock, self._frames = None, Frames(MAX_REPLY_BYTES)

    def _ask(self, request: HatchRequest, expected: str) -> HatchReply:
        where = str(self.path)
        try:
            reply = HatchReply.FromString(self._exchange(request.SerializeToString()))
        except (OSError, DecodeError, HatchError) as error:
            self.close()
            todo = "is `inland capture` running?"
            if isinstance(error, PermissionError):
                todo = "say sudo, or join the group of this socket"
            why = getattr(error, "strerror", None) or error
            raise HatchError(f"capture does not answer: {why}", where=where, todo=todo) from None
        kind = reply.WhichOneof("what")
        if kind == "error":
            raise HatchError(reply.error, where=where)
        if kind != expected:
            self.close()
            raise HatchError(f"capture answers '{kind}' instead of '{expected}'", where=where)
        return reply

    def _exchange(self, request: bytes) -> bytes:
        if self._sock is None:
            self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._sock.settimeout(self._timeout_s)
            with short_name(self.path) as name:
                self._sock.connect(name)
        deadline_s = time.monotonic() + self._timeout_s
        self._sock.sendall(frame(request, MAX_REQUEST_BYTES))
        late = 0
        while (message := self._frames.take()) is None:
            left_s = deadline_s - time.monotonic()
            late += left_s <= 0
            if late > LATE_READS:
                raise TimeoutError(f"no answer in {self._timeout_s} s")
            # The answer may be there though its time is over: if this process was stopped.
            self._sock.settimeout(max(left_s, LAST_LOOK_S))
            data = self._sock.recv(_CHUNK)
            if not data:
                raise ConnectionResetError("it closed the hatch")
            self._frames.feed(data)
        self._sock.settimeout(self._timeout_s)
        return message
