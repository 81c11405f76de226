from agent.pb import moment_pb2 as _moment_pb2
from agent.pb import sealed_pb2 as _sealed_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class LiveMessage(_message.Message):
    __slots__ = ("challenge", "refused", "session", "segment")
    CHALLENGE_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    challenge: bytes
    refused: LiveRefused
    session: bytes
    segment: bytes
    def __init__(self, challenge: _Optional[bytes] = ..., refused: _Optional[_Union[LiveRefused, _Mapping]] = ..., session: _Optional[bytes] = ..., segment: _Optional[bytes] = ...) -> None: ...

class LiveChallenge(_message.Message):
    __slots__ = ("nonce", "vehicle", "epoch", "boot_id")
    NONCE_FIELD_NUMBER: _ClassVar[int]
    VEHICLE_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    BOOT_ID_FIELD_NUMBER: _ClassVar[int]
    nonce: bytes
    vehicle: str
    epoch: int
    boot_id: bytes
    def __init__(self, nonce: _Optional[bytes] = ..., vehicle: _Optional[str] = ..., epoch: _Optional[int] = ..., boot_id: _Optional[bytes] = ...) -> None: ...

class LiveAnswer(_message.Message):
    __slots__ = ("kid", "frames", "signature")
    KID_FIELD_NUMBER: _ClassVar[int]
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    kid: bytes
    frames: bool
    signature: bytes
    def __init__(self, kid: _Optional[bytes] = ..., frames: _Optional[bool] = ..., signature: _Optional[bytes] = ...) -> None: ...

class LiveRefused(_message.Message):
    __slots__ = ("why", "later")
    WHY_FIELD_NUMBER: _ClassVar[int]
    LATER_FIELD_NUMBER: _ClassVar[int]
    why: str
    later: bool
    def __init__(self, why: _Optional[str] = ..., later: _Optional[bool] = ...) -> None: ...

class LivePart(_message.Message):
    __slots__ = ("at", "piece", "opens", "policy", "lost_frames", "lost_samples", "lost_records", "ended")
    AT_FIELD_NUMBER: _ClassVar[int]
    PIECE_FIELD_NUMBER: _ClassVar[int]
    OPENS_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    LOST_FRAMES_FIELD_NUMBER: _ClassVar[int]
    LOST_SAMPLES_FIELD_NUMBER: _ClassVar[int]
    LOST_RECORDS_FIELD_NUMBER: _ClassVar[int]
    ENDED_FIELD_NUMBER: _ClassVar[int]
    at: _moment_pb2.Moment
    piece: _containers.RepeatedCompositeFieldContainer[LivePiece]
    opens: _containers.RepeatedScalarFieldContainer[_sealed_pb2.Recipients]
    policy: LivePolicy
    lost_frames: int
    lost_samples: int
    lost_records: int
    ended: str
    def __init__(self, at: _Optional[_Union[_moment_pb2.Moment, _Mapping]] = ..., piece: _Optional[_Iterable[_Union[LivePiece, _Mapping]]] = ..., opens: _Optional[_Iterable[_Union[_sealed_pb2.Recipients, str]]] = ..., policy: _Optional[_Union[LivePolicy, _Mapping]] = ..., lost_frames: _Optional[int] = ..., lost_samples: _Optional[int] = ..., lost_records: _Optional[int] = ..., ended: _Optional[str] = ...) -> None: ...

class LivePiece(_message.Message):
    __slots__ = ("lane", "payload")
    LANE_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    lane: _sealed_pb2.Lane
    payload: bytes
    def __init__(self, lane: _Optional[_Union[_sealed_pb2.Lane, str]] = ..., payload: _Optional[bytes] = ...) -> None: ...

class LivePolicy(_message.Message):
    __slots__ = ("compiled",)
    COMPILED_FIELD_NUMBER: _ClassVar[int]
    compiled: bytes
    def __init__(self, compiled: _Optional[bytes] = ...) -> None: ...
