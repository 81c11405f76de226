r"""The words of the live stream that both ends agree on: who signs what, what names it. Pure.

    signed    = "inland/live/v1\0" | u16 length of the challenge | challenge | kid (8) | frames (1)
    named     = SHA-256("inland/live-session/v1\0" | challenge | answer), first 16 bytes

- The challenge is signed as the bytes that the car sent: its nonce is of one connection, and it
  names vehicle, ownership and boot. So a signature is good once, in one car, for one owner's time.
- The domain before it is no other's: what was signed here is no request and no certificate.
- `named` stands as `log` in the session of the connection: a session of another connection, which
  somebody has recorded and plays again, is not taken for this one's.
"""

from __future__ import annotations

from typing import Final

from google.protobuf.message import DecodeError

from agent.digest import sha256
from agent.errors import HatchError
from agent.pb.live_pb2 import LiveAnswer, LiveChallenge

NONCE_BYTES: Final = 32
KID_BYTES: Final = 8
SIGNATURE_BYTES: Final = 64
BOOT_ID_BYTES: Final = 16
MAX_VEHICLE: Final = 64  # characters
MAX_CHALLENGE_BYTES: Final = 256
MAX_ANSWER_BYTES: Final = 256  # one has 80
MAX_MESSAGE_BYTES: Final = 512 << 10
_SIGNED: Final = b"inland/live/v1\0"
_NAMED: Final = b"inland/live-session/v1\0"


def signed(challenge: bytes, kid: bytes, *, frames: bool) -> bytes:
    """Return what a person signs.

    Args:
        challenge: LiveChallenge as it came.
        kid: of the person's recipient key, 8 bytes.
        frames: raw frames are asked for.

    Raises:
        ValueError: a challenge or kid of another size.
    """
    if len(challenge) > MAX_CHALLENGE_BYTES or len(kid) != KID_BYTES:
        raise ValueError(f"a challenge of {len(challenge)} bytes, a kid of {len(kid)}")
    length = len(challenge).to_bytes(2, "big")
    return _SIGNED + length + challenge + kid + bytes([frames])


def named(challenge: bytes, answer: bytes) -> bytes:
    """Return the 16 bytes that name the session of a connection.

    Args:
        challenge: as the car sent it.
        answer: LiveAnswer as the person's side sent it.
    """
    return sha256(_NAMED + challenge + answer)[:16]


def read_challenge(data: bytes) -> LiveChallenge:
    """Return the challenge of a car.

    Raises:
        HatchError: it is none.
    """
    try:
        found = LiveChallenge.FromString(data)
    except DecodeError:
        raise HatchError("no car answers here, but something else") from None
    sizes = len(found.nonce), len(found.boot_id)
    vehicle = found.vehicle
    if sizes != (NONCE_BYTES, BOOT_ID_BYTES) or len(data) > MAX_CHALLENGE_BYTES or not found.epoch:
        raise HatchError("no car answers here, but something else")
    if not vehicle or len(vehicle) > MAX_VEHICLE or not vehicle.isprintable():
        raise HatchError("no car answers here, but something else")
    return found


def read_answer(data: bytes) -> LiveAnswer | None:
    """Return a person's answer; None: it is none."""
    try:
        found = LiveAnswer.FromString(data)
    except DecodeError:
        return None
    right = len(found.kid) == KID_BYTES and len(found.signature) == SIGNATURE_BYTES
    return found if right else None
