"""The person's side of the live stream: prove who you are, and read what the car keeps, as it does.

Order of checks, all fail closed:
1. a challenge of the right form; its bytes are signed, with what is asked for, and nothing else;
2. the session is of this connection (`live.named`), of the vehicle and ownership that asked, opens
   with our key, and is for nobody beside us;
3. every part is the next step of its chain and opens: none is left out, repeated or altered;
4. the payload's columns, and the dictionary that its signals are named by.

That it is the car who speaks is not proved: whoever knows our public key could seal something to
it. What has to be believed by others is in the ledger, and in a bundle.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from google.protobuf.message import DecodeError

from agent import live
from agent.digest import sha256
from agent.errors import HatchError, OwnerError, SealError
from agent.files import short_name
from agent.hatch_frames import Frames, frame
from agent.owner.keyfile import OwnerKey
from agent.pb import policy_pb2, sealed_pb2
from agent.pb.live_pb2 import LiveAnswer, LiveChallenge, LiveMessage, LivePart
from agent.vault import keys
from agent.vault.opening import SessionReader, open_session, parse_segment
from agent.vault.segment import Payload, decode_payload

SILENT_S: Final = 10.0  # a car says something once a second
LOOK_S: Final = 0.25  # at `is_over`
NOBODY: Final = "no car answers here"
RUNNING: Final = "is `inland capture` running, and is this its socket?"
_CHUNK: Final = 64 << 10
_WAIT: Final = struct.pack("ll", int(SILENT_S), 0)  # struct timeval
_MEANT: Final = frozenset({sealed_pb2.OWNER, sealed_pb2.DRIVER})


@dataclass(frozen=True, slots=True)
class Rule:
    """The policy in force, as far as a reader needs it.

    Attributes:
        name: of the policy; empty: none is in force.
        version: of it.
        digest: SHA-256 of its dictionary.
        dictionary: names, units, factors.
        trigger: which signals announce a camera's trigger.
        offers: something of it can be opened with this key alone.
    """

    name: str
    version: int
    digest: bytes
    dictionary: policy_pb2.Dictionary
    trigger: policy_pb2.Trigger
    offers: bool


@dataclass(frozen=True, slots=True)
class Part:
    """What has come at once.

    Attributes:
        arrived_ns: when, by the reader's own wall clock.
        sealed_ns: when the car sealed it, by the wall clock that the stamps are by.
        pieces: (lane, payload), in the order in which they were kept.
        rule: the policy that decides from here on; None: the same as before.
        lost: frames, samples and records that there was no room for.
        ended: why nothing more comes; empty: it goes on.
    """

    arrived_ns: int
    sealed_ns: int
    pieces: tuple[tuple[int, Payload], ...]
    rule: Rule | None
    lost: tuple[int, int, int]
    ended: str


@dataclass(slots=True)
class Stream:
    """A connection that was let in.

    Attributes:
        vehicle: pseudonym that the car gave.
        is_owner: as the owner; False: as a driver.
    """

    vehicle: str
    is_owner: bool
    _link: _Link
    _session: SessionReader
    _where: str
    _opens: frozenset[int] = frozenset()
    _rules: dict[bytes, Rule] = field(default_factory=dict)
    _step: int = 0

    def parts(self) -> Iterator[Part]:
        """Yield what comes, until the car ends it or `is_over` says so.

        Raises:
            HatchError: the connection broke, or nothing has come for SILENT_S.
            SealError: a part is altered, or one is missing.
        """
        while (message := self._link.take()) is not None:
            arrived_ns = time.time_ns()
            if message.WhichOneof("what") != "segment":
                raise SealError("something else than a part has come", where=self._where)
            part = self._part(self._open(message.segment), arrived_ns)
            yield part
            if part.ended:
                return

    def _open(self, body: bytes) -> LivePart:
        _, header, _, _ = parse_segment(body)
        if (header.step, header.index) != (self._step, self._step):
            raise SealError(
                f"part {self._step} is missing on the way: part {header.step} has come",
                where=self._where,
            )
        self._step += 1
        try:
            return LivePart.FromString(self._session.open_segment(body))
        except DecodeError:
            raise SealError("a part that is none", where=self._where) from None

    def _part(self, said: LivePart, arrived_ns: int) -> Part:
        if said.opens:
            self._opens = frozenset(said.opens)
        rule = None
        if said.HasField("policy"):
            rule = _rule(said.policy.compiled, self._opens, self._where)
            self._rules[rule.digest] = rule
        pieces = tuple((one.lane, decode_payload(one.payload)) for one in said.piece)
        return Part(
            arrived_ns, said.at.unix_ns, pieces, rule,
            (said.lost_frames, said.lost_samples, said.lost_records), said.ended,
        )  # fmt: skip

    def rule_of(self, payload: Payload) -> Rule:
        """Return the policy that a payload was kept under.

        Raises:
            SealError: the car has not said which, or a signal is not in its dictionary.
        """
        rule = self._rules.get(payload.dictionary)
        if rule is None:
            raise SealError("signals of a policy that has not come", where=self._where)
        if len(payload.signals) and (
            int(payload.signals["signal"].max()) >= len(rule.dictionary.signal)
        ):
            raise SealError("a signal that its dictionary does not have", where=self._where)
        return rule

    def close(self) -> None:
        """Close the connection."""
        self._link.close()


def connect(
    path: Path, key: OwnerKey, *, frames: bool, is_over: Callable[[], bool] = lambda: False
) -> Stream | None:
    """Return the stream of the car at a socket; None: `is_over` said so first.

    Args:
        path: of the socket.
        key: of whoever asks.
        frames: raw frames as well.
        is_over: looked at several times a second.

    Raises:
        HatchError: nobody answers, or not as a car does; or it cannot let us in now.
        OwnerError: the car says no.
        SealError: its session is not for this key, or not of this connection.
    """
    link = _Link(path, is_over)
    try:
        stream = _prove(link, str(path), key, frames=frames)
    except BaseException:
        link.close()
        raise
    if stream is None:
        link.close()
    return stream


def _prove(link: _Link, where: str, key: OwnerKey, *, frames: bool) -> Stream | None:
    message = link.take()
    if message is None:
        return None
    if message.WhichOneof("what") != "challenge":
        raise HatchError("no car answers here, but something else", where=where)
    challenge = live.read_challenge(message.challenge)
    kid = keys.kid(key.public.recipient)
    said = live.signed(message.challenge, kid, frames=frames)
    answer = LiveAnswer(kid=kid, frames=frames, signature=key.signing.sign(said))
    sent = answer.SerializeToString(deterministic=True)
    link.send(frame(sent, live.MAX_ANSWER_BYTES))
    reply = link.take()
    if reply is None:
        return None
    kind = reply.WhichOneof("what")
    if kind == "refused":
        error = HatchError if reply.refused.later else OwnerError
        raise error(f"the car {challenge.vehicle} says no: {reply.refused.why}")
    if kind != "session":
        raise HatchError("no car answers here, but something else", where=where)
    session = open_session(reply.session, {kid: key.private})
    if session.header.log != live.named(message.challenge, sent):
        raise SealError("the session is of another connection", where=where)
    return _stream(link, where, challenge, session)


def _stream(link: _Link, where: str, challenge: LiveChallenge, session: SessionReader) -> Stream:
    header = session.header
    if header.recipients not in _MEANT:
        raise SealError("the session is for others beside us", where=where)
    if (header.vehicle, header.epoch) != (challenge.vehicle, challenge.epoch):
        raise SealError("the session is of another car, or of another ownership", where=where)
    return Stream(
        challenge.vehicle, header.recipients == sealed_pb2.OWNER, link, session,
        f"live stream of {challenge.vehicle}",
    )  # fmt: skip


def _rule(compiled: bytes, opens: frozenset[int], where: str) -> Rule:
    try:
        policy = policy_pb2.Policy.FromString(compiled)
        dictionary = policy_pb2.Dictionary.FromString(policy.dictionary)
    except DecodeError:
        raise SealError("a policy that is none", where=where) from None
    sets = {rule.recipients for rule in policy.collect} | {rule.recipients for rule in policy.event}
    sets |= {policy.recorder.recipients, policy.camera.recipients}
    return Rule(
        policy.name, policy.version, sha256(policy.dictionary), dictionary, policy.camera.trigger,
        bool(opens & sets),
    )  # fmt: skip


class _Link:
    """A socket to a car, in messages."""

    def __init__(self, path: Path, is_over: Callable[[], bool]) -> None:
        self._where, self._is_over = str(path), is_over
        self._frames = Frames(live.MAX_MESSAGE_BYTES)
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # A full backlog is waited for, which Python's own timeout does not do; but not for ever.
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _WAIT)
        try:
            with short_name(path) as name:
                self._sock.connect(name)
        except OSError as error:
            self._sock.close()
            raise HatchError(
                f"{NOBODY}: {error.strerror}", where=self._where, todo=RUNNING
            ) from None
        self._sock.settimeout(LOOK_S)

    def send(self, data: bytes) -> None:
        try:
            self._sock.sendall(data)
        except OSError as error:
            raise self._broken(str(error)) from None

    def take(self) -> LiveMessage | None:
        """Return the next message; None: it is over."""
        silent_s = time.monotonic() + SILENT_S
        while True:
            if self._is_over():  # looked at before each message: a full bus leaves no pause
                return None
            message = self._frames.take()
            if message is not None:
                break
            try:
                data = self._sock.recv(_CHUNK)
            except TimeoutError:
                if time.monotonic() > silent_s:
                    raise self._broken(f"nothing for {SILENT_S:.0f} s") from None
                continue
            except OSError as error:
                raise self._broken(str(error.strerror)) from None
            if not data:
                raise self._broken("the other end closed it")
            self._frames.feed(data)
        try:
            return LiveMessage.FromString(message)
        except DecodeError:
            raise HatchError("no car answers here, but something else", where=self._where) from None

    def _broken(self, why: str) -> HatchError:
        return HatchError(f"the connection to the car broke: {why}", where=self._where,
                          todo="connect again")  # fmt: skip

    def close(self) -> None:
        self._sock.close()
