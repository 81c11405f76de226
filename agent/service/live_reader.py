"""One connection of the live socket, without its socket: bytes in, bytes out.

| state | what comes | what becomes of it |
|---|---|---|
| challenged | an answer that an enrolled person has signed, who may see something | watching |
| | any other answer | one sentence: ended |
| | bytes that are no answer | HatchError: closed without a word |
| watching | any byte | HatchError: closed |

Invariant: before `watching` nothing but challenge and refusal leaves; after it, nothing that is not
sealed to the person's key. What the connection has no room for is counted and told, never waited
for. The parts are steps of one chain: who reads sees at once if one is missing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from agent import live
from agent.errors import HatchError
from agent.hatch_frames import Frames, frame
from agent.pb import sealed_pb2
from agent.pb.live_pb2 import (
    LiveAnswer,
    LiveChallenge,
    LiveMessage,
    LivePart,
    LivePolicy,
    LiveRefused,
)
from agent.pb.moment_pb2 import Moment
from agent.vault.enrolled import Onlooker
from agent.vault.seal import seal_segment, seal_session
from agent.vault.session import SECRET_BYTES, Session

MAX_WAITING: Final = 1 << 20  # bytes that a slow reader may leave unread, beside the kernel's
PART_BYTES: Final = 256 << 10  # of pieces, before another part is begun
OVERHEAD: Final = 1024  # of a part that is sealed and framed, more than it ever is
STRANGER: Final = "nobody with this key is enrolled here, or the signature is not by it"
NOT_DRIVING: Final = "this key is a driver's who does not drive now: there is nothing to see"


@dataclass(frozen=True, slots=True)
class Car:
    """Who speaks.

    Attributes:
        vehicle: pseudonym.
        region: urn:inland:region:<id>.
        epoch: ownership of the car.
        boot_id: of this run of its computer, 16 bytes.
        aead: of the sessions, 1 or 2.
    """

    vehicle: str
    region: str
    epoch: int
    boot_id: bytes
    aead: int


@dataclass(frozen=True, slots=True)
class Piece:
    """What was kept at once of one rule set.

    Attributes:
        lane: sealed_pb2.Lane number.
        payload: SegmentPayload bytes.
        counts: frames, samples and records in it.
    """

    lane: int
    payload: bytes
    counts: tuple[int, int, int]


class LiveReader:
    """See the module.

    Args:
        car: who speaks.
        rng: returns so many random bytes.
    """

    def __init__(self, car: Car, rng: Callable[[int], bytes]) -> None:
        self._car, self._rng = car, rng
        self._heard = Frames(live.MAX_ANSWER_BYTES)
        self._session: Session | None = None
        self._log = b""
        self._index = 0
        self._lost = [0, 0, 0]
        self._policy: bytes | None = None  # that is still to be told
        self.onlooker: Onlooker | None = None  # who watches; None: not known yet, or ended
        self.frames = False  # raw frames are wanted
        self.is_ended = False  # what is in `out` is the last
        self.out: deque[memoryview] = deque()
        self.waiting = 0  # bytes in `out`
        self._challenge = LiveChallenge(
            nonce=rng(live.NONCE_BYTES), vehicle=car.vehicle, epoch=car.epoch, boot_id=car.boot_id
        ).SerializeToString(deterministic=True)
        self._say(LiveMessage(challenge=self._challenge))

    def hear(self, data: bytes, people: Sequence[Onlooker]) -> Onlooker | None:
        """Take bytes as they came; return who has proved to be one of the people, if they have.

        They watch as soon as `begin` is called, or are refused.

        Raises:
            HatchError: what has come is no answer, or nothing was to come.
        """
        if self.is_ended or self.onlooker is not None:
            raise HatchError("nothing more was to come")
        self._heard.feed(data)
        message = self._heard.take()
        if message is None:
            return None
        answer = live.read_answer(message)
        if answer is None or self._heard.holds_part():
            raise HatchError("not an answer")
        found = next((one for one in people if one.kid == answer.kid), None)
        # One sentence for both: who asks with a stranger's kid does not learn whether it is known.
        if found is None or not self._is_signed(answer, found):
            self.refuse(STRANGER)
            return None
        if not found.opens:
            self.refuse(NOT_DRIVING)
            return None
        self._log, self.frames = live.named(self._challenge, message), answer.frames
        return found

    def _is_signed(self, answer: LiveAnswer, by: Onlooker) -> bool:
        said = live.signed(self._challenge, answer.kid, frames=answer.frames)
        try:
            Ed25519PublicKey.from_public_bytes(by.sign).verify(answer.signature, said)
        except (InvalidSignature, UnsupportedAlgorithm, ValueError):
            return False
        return True

    def refuse(self, why: str, *, later: bool = False) -> None:
        """Say no, and nothing after it."""
        self._say(LiveMessage(refused=LiveRefused(why=why, later=later)))
        self.is_ended = True

    def begin(self, onlooker: Onlooker, compiled: bytes) -> None:
        """Let somebody watch who has proved who they are.

        Args:
            onlooker: as `hear` has returned it.
            compiled: the policy in force.
        """
        car, secret = self._car, self._rng(SECRET_BYTES)
        whose = sealed_pb2.OWNER if sealed_pb2.OWNER in onlooker.opens else sealed_pb2.DRIVER
        header = sealed_pb2.SessionHeader(
            aead=car.aead, region=car.region, vehicle=car.vehicle, log=self._log, index=0,
            session=self._rng(16), epoch=car.epoch, recipients=whose,
        )  # fmt: skip
        sealed = seal_session(header, secret, ((onlooker.recipient,),))
        self._session = Session(secret, session=header.session, aead=car.aead)
        self.onlooker = onlooker
        self._say(LiveMessage(session=sealed))
        self.decide(compiled)

    def decide(self, compiled: bytes) -> None:
        """Note which policy decides from here on; the next part tells it."""
        self._policy = compiled

    def lose(self, counts: Sequence[int]) -> None:
        """Count what was lost on the way; the next part that has room tells it."""
        self._lost = [one + more for one, more in zip(self._lost, counts, strict=True)]

    def give(self, pieces: Sequence[Piece], at: Moment, *, ended: str = "") -> None:
        """Seal what is new, as many parts as it takes; none at all is one part.

        Args:
            pieces: in order.
            at: now.
            ended: why nothing more comes; empty: it goes on.
        """
        part, size = LivePart(at=at), 0
        for piece in pieces:
            if size + len(piece.payload) > PART_BYTES and size:
                self._send(part, size)
                part, size = LivePart(at=at), 0
            if not self._has_room(size + len(piece.payload)):
                self.lose(piece.counts)
                continue
            part.piece.add(lane=sealed_pb2.Lane.Name(piece.lane), payload=piece.payload)
            size += len(piece.payload)
        part.ended = ended
        self._send(part, size)
        self.is_ended = self.is_ended or bool(ended)

    def _has_room(self, size: int) -> bool:
        return self.waiting + size + len(self._policy or b"") + OVERHEAD <= MAX_WAITING

    def _send(self, part: LivePart, size: int) -> None:
        if not self._has_room(size):
            return  # it has no pieces: they were counted, and the rest can be told later
        assert self._session is not None  # it watches
        assert self.onlooker is not None
        if self._index == 0:
            part.opens.extend(sorted(self.onlooker.opens))  # type: ignore[arg-type]  # numbers of the enum
        if self._policy is not None:
            part.policy.CopyFrom(LivePolicy(compiled=self._policy))
        part.lost_frames, part.lost_samples, part.lost_records = self._lost
        self._policy, self._lost = None, [0, 0, 0]
        header = sealed_pb2.SegmentHeader(
            log=self._log, index=self._index, epoch=self._car.epoch, lane=sealed_pb2.ROUTINE
        )
        self._index += 1
        body = seal_segment(self._session, header, part.SerializeToString(deterministic=True))
        self._say(LiveMessage(segment=body))

    def _say(self, message: LiveMessage) -> None:
        data = frame(message.SerializeToString(), live.MAX_MESSAGE_BYTES)
        self.out.append(memoryview(data))
        self.waiting += len(data)

    def left(self, count: int) -> None:
        """Note that so many bytes of the first of `out` have left."""
        self.waiting -= count
        rest = self.out[0][count:]
        if rest:
            self.out[0] = rest
        else:
            self.out.popleft()
