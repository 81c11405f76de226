from agent.pb import ledger_pb2 as _ledger_pb2
from agent.pb import moment_pb2 as _moment_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Record(_message.Message):
    __slots__ = ("event", "camera")
    EVENT_FIELD_NUMBER: _ClassVar[int]
    CAMERA_FIELD_NUMBER: _ClassVar[int]
    event: EventRecord
    camera: CameraRecord
    def __init__(self, event: _Optional[_Union[EventRecord, _Mapping]] = ..., camera: _Optional[_Union[CameraRecord, _Mapping]] = ...) -> None: ...

class EventRecord(_message.Message):
    __slots__ = ("id", "rule", "trigger", "stamp_ns", "at", "number", "since_previous_ms", "triggers", "complete", "before_ns", "after_ns", "held", "snapshot", "policy", "policy_version", "agent_version")
    ID_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    TRIGGER_FIELD_NUMBER: _ClassVar[int]
    STAMP_NS_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    SINCE_PREVIOUS_MS_FIELD_NUMBER: _ClassVar[int]
    TRIGGERS_FIELD_NUMBER: _ClassVar[int]
    COMPLETE_FIELD_NUMBER: _ClassVar[int]
    BEFORE_NS_FIELD_NUMBER: _ClassVar[int]
    AFTER_NS_FIELD_NUMBER: _ClassVar[int]
    HELD_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    POLICY_VERSION_FIELD_NUMBER: _ClassVar[int]
    AGENT_VERSION_FIELD_NUMBER: _ClassVar[int]
    id: bytes
    rule: str
    trigger: str
    stamp_ns: int
    at: _moment_pb2.Moment
    number: int
    since_previous_ms: int
    triggers: int
    complete: bool
    before_ns: int
    after_ns: int
    held: _containers.RepeatedCompositeFieldContainer[_ledger_pb2.Range]
    snapshot: _containers.RepeatedCompositeFieldContainer[Value]
    policy: str
    policy_version: int
    agent_version: str
    def __init__(self, id: _Optional[bytes] = ..., rule: _Optional[str] = ..., trigger: _Optional[str] = ..., stamp_ns: _Optional[int] = ..., at: _Optional[_Union[_moment_pb2.Moment, _Mapping]] = ..., number: _Optional[int] = ..., since_previous_ms: _Optional[int] = ..., triggers: _Optional[int] = ..., complete: _Optional[bool] = ..., before_ns: _Optional[int] = ..., after_ns: _Optional[int] = ..., held: _Optional[_Iterable[_Union[_ledger_pb2.Range, _Mapping]]] = ..., snapshot: _Optional[_Iterable[_Union[Value, _Mapping]]] = ..., policy: _Optional[str] = ..., policy_version: _Optional[int] = ..., agent_version: _Optional[str] = ...) -> None: ...

class Value(_message.Message):
    __slots__ = ("signal", "channel", "raw", "age_ms", "missing")
    SIGNAL_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    RAW_FIELD_NUMBER: _ClassVar[int]
    AGE_MS_FIELD_NUMBER: _ClassVar[int]
    MISSING_FIELD_NUMBER: _ClassVar[int]
    signal: int
    channel: str
    raw: int
    age_ms: int
    missing: bool
    def __init__(self, signal: _Optional[int] = ..., channel: _Optional[str] = ..., raw: _Optional[int] = ..., age_ms: _Optional[int] = ..., missing: _Optional[bool] = ...) -> None: ...

class CameraRecord(_message.Message):
    __slots__ = ("stamp_ns", "camera", "reason", "state", "clip", "open", "why", "zone_class", "count")
    STAMP_NS_FIELD_NUMBER: _ClassVar[int]
    CAMERA_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    CLIP_FIELD_NUMBER: _ClassVar[int]
    OPEN_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    ZONE_CLASS_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    stamp_ns: int
    camera: int
    reason: int
    state: int
    clip: int
    open: bool
    why: str
    zone_class: str
    count: int
    def __init__(self, stamp_ns: _Optional[int] = ..., camera: _Optional[int] = ..., reason: _Optional[int] = ..., state: _Optional[int] = ..., clip: _Optional[int] = ..., open: _Optional[bool] = ..., why: _Optional[str] = ..., zone_class: _Optional[str] = ..., count: _Optional[int] = ...) -> None: ...
