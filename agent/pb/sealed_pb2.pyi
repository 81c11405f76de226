from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Recipients(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RECIPIENTS_UNSPECIFIED: _ClassVar[Recipients]
    REGION: _ClassVar[Recipients]
    OWNER: _ClassVar[Recipients]
    SHARED: _ClassVar[Recipients]
    BOTH: _ClassVar[Recipients]
    DRIVER: _ClassVar[Recipients]

class Lane(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    INCIDENT: _ClassVar[Lane]
    EVENT: _ClassVar[Lane]
    ROUTINE: _ClassVar[Lane]
    RECORDER: _ClassVar[Lane]
RECIPIENTS_UNSPECIFIED: Recipients
REGION: Recipients
OWNER: Recipients
SHARED: Recipients
BOTH: Recipients
DRIVER: Recipients
INCIDENT: Lane
EVENT: Lane
ROUTINE: Lane
RECORDER: Lane

class SessionHeader(_message.Message):
    __slots__ = ("kem", "aead", "region", "vehicle", "log", "index", "session", "epoch", "recipients", "commitment")
    KEM_FIELD_NUMBER: _ClassVar[int]
    AEAD_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    VEHICLE_FIELD_NUMBER: _ClassVar[int]
    LOG_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    RECIPIENTS_FIELD_NUMBER: _ClassVar[int]
    COMMITMENT_FIELD_NUMBER: _ClassVar[int]
    kem: int
    aead: int
    region: str
    vehicle: str
    log: bytes
    index: int
    session: bytes
    epoch: int
    recipients: Recipients
    commitment: bytes
    def __init__(self, kem: _Optional[int] = ..., aead: _Optional[int] = ..., region: _Optional[str] = ..., vehicle: _Optional[str] = ..., log: _Optional[bytes] = ..., index: _Optional[int] = ..., session: _Optional[bytes] = ..., epoch: _Optional[int] = ..., recipients: _Optional[_Union[Recipients, str]] = ..., commitment: _Optional[bytes] = ...) -> None: ...

class Wrap(_message.Message):
    __slots__ = ("kid", "sealed")
    KID_FIELD_NUMBER: _ClassVar[int]
    SEALED_FIELD_NUMBER: _ClassVar[int]
    kid: _containers.RepeatedScalarFieldContainer[bytes]
    sealed: bytes
    def __init__(self, kid: _Optional[_Iterable[bytes]] = ..., sealed: _Optional[bytes] = ...) -> None: ...

class Wraps(_message.Message):
    __slots__ = ("wrap",)
    WRAP_FIELD_NUMBER: _ClassVar[int]
    wrap: _containers.RepeatedCompositeFieldContainer[Wrap]
    def __init__(self, wrap: _Optional[_Iterable[_Union[Wrap, _Mapping]]] = ...) -> None: ...

class SegmentHeader(_message.Message):
    __slots__ = ("log", "index", "session", "step", "epoch", "lane", "policy")
    LOG_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    LANE_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    log: bytes
    index: int
    session: bytes
    step: int
    epoch: int
    lane: Lane
    policy: bytes
    def __init__(self, log: _Optional[bytes] = ..., index: _Optional[int] = ..., session: _Optional[bytes] = ..., step: _Optional[int] = ..., epoch: _Optional[int] = ..., lane: _Optional[_Union[Lane, str]] = ..., policy: _Optional[bytes] = ...) -> None: ...
