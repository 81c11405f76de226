from agent.pb import delivery_pb2 as _delivery_pb2
from agent.pb import moment_pb2 as _moment_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class HatchRequest(_message.Message):
    __slots__ = ("next", "deliver", "report", "status", "checkpoint", "policy", "presence")
    NEXT_FIELD_NUMBER: _ClassVar[int]
    DELIVER_FIELD_NUMBER: _ClassVar[int]
    REPORT_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    PRESENCE_FIELD_NUMBER: _ClassVar[int]
    next: Next
    deliver: Deliver
    report: LinkReport
    status: StatusQuestion
    checkpoint: CheckpointQuestion
    policy: PolicyWanted
    presence: Presence
    def __init__(self, next: _Optional[_Union[Next, _Mapping]] = ..., deliver: _Optional[_Union[Deliver, _Mapping]] = ..., report: _Optional[_Union[LinkReport, _Mapping]] = ..., status: _Optional[_Union[StatusQuestion, _Mapping]] = ..., checkpoint: _Optional[_Union[CheckpointQuestion, _Mapping]] = ..., policy: _Optional[_Union[PolicyWanted, _Mapping]] = ..., presence: _Optional[_Union[Presence, _Mapping]] = ...) -> None: ...

class HatchReply(_message.Message):
    __slots__ = ("batch", "accepted", "status", "checkpoint", "error", "policy", "presence")
    BATCH_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    PRESENCE_FIELD_NUMBER: _ClassVar[int]
    batch: Batch
    accepted: Accepted
    status: bytes
    checkpoint: _delivery_pb2.CheckpointUpload
    error: str
    policy: _delivery_pb2.PolicyQuestion
    presence: Present
    def __init__(self, batch: _Optional[_Union[Batch, _Mapping]] = ..., accepted: _Optional[_Union[Accepted, _Mapping]] = ..., status: _Optional[bytes] = ..., checkpoint: _Optional[_Union[_delivery_pb2.CheckpointUpload, _Mapping]] = ..., error: _Optional[str] = ..., policy: _Optional[_Union[_delivery_pb2.PolicyQuestion, _Mapping]] = ..., presence: _Optional[_Union[Present, _Mapping]] = ...) -> None: ...

class Next(_message.Message):
    __slots__ = ("count", "bytes", "skip")
    COUNT_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    SKIP_FIELD_NUMBER: _ClassVar[int]
    count: int
    bytes: int
    skip: _containers.RepeatedCompositeFieldContainer[Awaiting]
    def __init__(self, count: _Optional[int] = ..., bytes: _Optional[int] = ..., skip: _Optional[_Iterable[_Union[Awaiting, _Mapping]]] = ...) -> None: ...

class Awaiting(_message.Message):
    __slots__ = ("log", "index")
    LOG_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    log: bytes
    index: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, log: _Optional[bytes] = ..., index: _Optional[_Iterable[int]] = ...) -> None: ...

class Batch(_message.Message):
    __slots__ = ("entry", "pending", "trusted_unix_ns", "quality", "head_wanted")
    ENTRY_FIELD_NUMBER: _ClassVar[int]
    PENDING_FIELD_NUMBER: _ClassVar[int]
    TRUSTED_UNIX_NS_FIELD_NUMBER: _ClassVar[int]
    QUALITY_FIELD_NUMBER: _ClassVar[int]
    HEAD_WANTED_FIELD_NUMBER: _ClassVar[int]
    entry: _containers.RepeatedCompositeFieldContainer[Outgoing]
    pending: int
    trusted_unix_ns: int
    quality: _moment_pb2.ClockQuality
    head_wanted: bool
    def __init__(self, entry: _Optional[_Iterable[_Union[Outgoing, _Mapping]]] = ..., pending: _Optional[int] = ..., trusted_unix_ns: _Optional[int] = ..., quality: _Optional[_Union[_moment_pb2.ClockQuality, str]] = ..., head_wanted: _Optional[bool] = ...) -> None: ...

class Outgoing(_message.Message):
    __slots__ = ("lane", "upload")
    LANE_FIELD_NUMBER: _ClassVar[int]
    UPLOAD_FIELD_NUMBER: _ClassVar[int]
    lane: str
    upload: _delivery_pb2.Upload
    def __init__(self, lane: _Optional[str] = ..., upload: _Optional[_Union[_delivery_pb2.Upload, _Mapping]] = ...) -> None: ...

class Deliver(_message.Message):
    __slots__ = ("kind", "payload")
    KIND_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    kind: str
    payload: bytes
    def __init__(self, kind: _Optional[str] = ..., payload: _Optional[bytes] = ...) -> None: ...

class Accepted(_message.Message):
    __slots__ = ("confirmed", "valid", "wants_policy")
    CONFIRMED_FIELD_NUMBER: _ClassVar[int]
    VALID_FIELD_NUMBER: _ClassVar[int]
    WANTS_POLICY_FIELD_NUMBER: _ClassVar[int]
    confirmed: int
    valid: bool
    wants_policy: bool
    def __init__(self, confirmed: _Optional[int] = ..., valid: _Optional[bool] = ..., wants_policy: _Optional[bool] = ...) -> None: ...

class LinkReport(_message.Message):
    __slots__ = ("connected", "peer", "last_error", "connects", "sent", "refused")
    class RefusedEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    CONNECTED_FIELD_NUMBER: _ClassVar[int]
    PEER_FIELD_NUMBER: _ClassVar[int]
    LAST_ERROR_FIELD_NUMBER: _ClassVar[int]
    CONNECTS_FIELD_NUMBER: _ClassVar[int]
    SENT_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    connected: bool
    peer: str
    last_error: str
    connects: int
    sent: int
    refused: _containers.ScalarMap[str, int]
    def __init__(self, connected: _Optional[bool] = ..., peer: _Optional[str] = ..., last_error: _Optional[str] = ..., connects: _Optional[int] = ..., sent: _Optional[int] = ..., refused: _Optional[_Mapping[str, int]] = ...) -> None: ...

class StatusQuestion(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class CheckpointQuestion(_message.Message):
    __slots__ = ("now",)
    NOW_FIELD_NUMBER: _ClassVar[int]
    now: bool
    def __init__(self, now: _Optional[bool] = ...) -> None: ...

class PolicyWanted(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Presence(_message.Message):
    __slots__ = ("enroll", "code")
    ENROLL_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    enroll: Enroll
    code: str
    def __init__(self, enroll: _Optional[_Union[Enroll, _Mapping]] = ..., code: _Optional[str] = ...) -> None: ...

class Enroll(_message.Message):
    __slots__ = ("recipient", "sign", "name", "role")
    RECIPIENT_FIELD_NUMBER: _ClassVar[int]
    SIGN_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    recipient: bytes
    sign: bytes
    name: str
    role: str
    def __init__(self, recipient: _Optional[bytes] = ..., sign: _Optional[bytes] = ..., name: _Optional[str] = ..., role: _Optional[str] = ...) -> None: ...

class Present(_message.Message):
    __slots__ = ("seconds", "id", "refused")
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    seconds: int
    id: str
    refused: str
    def __init__(self, seconds: _Optional[int] = ..., id: _Optional[str] = ..., refused: _Optional[str] = ...) -> None: ...
