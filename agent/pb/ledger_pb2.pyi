from agent.pb import sealed_pb2 as _sealed_pb2
from agent.pb import moment_pb2 as _moment_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Entry(_message.Message):
    __slots__ = ("index", "at", "genesis", "boot", "session", "segment", "policy", "loss", "drop", "clock", "refusal", "gap", "bus", "incident", "consent", "kept", "transfer", "owner")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    GENESIS_FIELD_NUMBER: _ClassVar[int]
    BOOT_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    DROP_FIELD_NUMBER: _ClassVar[int]
    CLOCK_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    GAP_FIELD_NUMBER: _ClassVar[int]
    BUS_FIELD_NUMBER: _ClassVar[int]
    INCIDENT_FIELD_NUMBER: _ClassVar[int]
    CONSENT_FIELD_NUMBER: _ClassVar[int]
    KEPT_FIELD_NUMBER: _ClassVar[int]
    TRANSFER_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    index: int
    at: _moment_pb2.Moment
    genesis: Genesis
    boot: Boot
    session: SessionBegun
    segment: SegmentSealed
    policy: PolicyInForce
    loss: Loss
    drop: Drop
    clock: ClockStep
    refusal: Refusal
    gap: Gap
    bus: BusState
    incident: Incident
    consent: ConsentChange
    kept: Kept
    transfer: Transfer
    owner: OwnerChange
    def __init__(self, index: _Optional[int] = ..., at: _Optional[_Union[_moment_pb2.Moment, _Mapping]] = ..., genesis: _Optional[_Union[Genesis, _Mapping]] = ..., boot: _Optional[_Union[Boot, _Mapping]] = ..., session: _Optional[_Union[SessionBegun, _Mapping]] = ..., segment: _Optional[_Union[SegmentSealed, _Mapping]] = ..., policy: _Optional[_Union[PolicyInForce, _Mapping]] = ..., loss: _Optional[_Union[Loss, _Mapping]] = ..., drop: _Optional[_Union[Drop, _Mapping]] = ..., clock: _Optional[_Union[ClockStep, _Mapping]] = ..., refusal: _Optional[_Union[Refusal, _Mapping]] = ..., gap: _Optional[_Union[Gap, _Mapping]] = ..., bus: _Optional[_Union[BusState, _Mapping]] = ..., incident: _Optional[_Union[Incident, _Mapping]] = ..., consent: _Optional[_Union[ConsentChange, _Mapping]] = ..., kept: _Optional[_Union[Kept, _Mapping]] = ..., transfer: _Optional[_Union[Transfer, _Mapping]] = ..., owner: _Optional[_Union[OwnerChange, _Mapping]] = ...) -> None: ...

class Genesis(_message.Message):
    __slots__ = ("region", "vehicle", "log", "ledger_key")
    REGION_FIELD_NUMBER: _ClassVar[int]
    VEHICLE_FIELD_NUMBER: _ClassVar[int]
    LOG_FIELD_NUMBER: _ClassVar[int]
    LEDGER_KEY_FIELD_NUMBER: _ClassVar[int]
    region: str
    vehicle: str
    log: bytes
    ledger_key: bytes
    def __init__(self, region: _Optional[str] = ..., vehicle: _Optional[str] = ..., log: _Optional[bytes] = ..., ledger_key: _Optional[bytes] = ...) -> None: ...

class Boot(_message.Message):
    __slots__ = ("boot_id", "clean", "version")
    BOOT_ID_FIELD_NUMBER: _ClassVar[int]
    CLEAN_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    boot_id: bytes
    clean: bool
    version: str
    def __init__(self, boot_id: _Optional[bytes] = ..., clean: _Optional[bool] = ..., version: _Optional[str] = ...) -> None: ...

class SessionBegun(_message.Message):
    __slots__ = ("body", "session", "recipients")
    BODY_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    RECIPIENTS_FIELD_NUMBER: _ClassVar[int]
    body: bytes
    session: bytes
    recipients: _sealed_pb2.Recipients
    def __init__(self, body: _Optional[bytes] = ..., session: _Optional[bytes] = ..., recipients: _Optional[_Union[_sealed_pb2.Recipients, str]] = ...) -> None: ...

class SegmentSealed(_message.Message):
    __slots__ = ("body", "plain", "session", "lane", "bytes")
    BODY_FIELD_NUMBER: _ClassVar[int]
    PLAIN_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    LANE_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    body: bytes
    plain: bytes
    session: bytes
    lane: _sealed_pb2.Lane
    bytes: int
    def __init__(self, body: _Optional[bytes] = ..., plain: _Optional[bytes] = ..., session: _Optional[bytes] = ..., lane: _Optional[_Union[_sealed_pb2.Lane, str]] = ..., bytes: _Optional[int] = ...) -> None: ...

class PolicyInForce(_message.Message):
    __slots__ = ("body", "name", "version", "why")
    BODY_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    body: bytes
    name: str
    version: int
    why: str
    def __init__(self, body: _Optional[bytes] = ..., name: _Optional[str] = ..., version: _Optional[int] = ..., why: _Optional[str] = ...) -> None: ...

class Loss(_message.Message):
    __slots__ = ("channel", "count", "cause")
    class Cause(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        UNKNOWN: _ClassVar[Loss.Cause]
        KERNEL: _ClassVar[Loss.Cause]
        QUEUE: _ClassVar[Loss.Cause]
        BROKEN: _ClassVar[Loss.Cause]
        SEAL: _ClassVar[Loss.Cause]
        NO_RECIPIENT: _ClassVar[Loss.Cause]
        OVERRUN: _ClassVar[Loss.Cause]
    UNKNOWN: Loss.Cause
    KERNEL: Loss.Cause
    QUEUE: Loss.Cause
    BROKEN: Loss.Cause
    SEAL: Loss.Cause
    NO_RECIPIENT: Loss.Cause
    OVERRUN: Loss.Cause
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    channel: str
    count: int
    cause: Loss.Cause
    def __init__(self, channel: _Optional[str] = ..., count: _Optional[int] = ..., cause: _Optional[_Union[Loss.Cause, str]] = ...) -> None: ...

class Drop(_message.Message):
    __slots__ = ("range", "reason")
    class Reason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        UNSPECIFIED: _ClassVar[Drop.Reason]
        CONFIRMED: _ClassVar[Drop.Reason]
        QUOTA: _ClassVar[Drop.Reason]
        EXPIRED: _ClassVar[Drop.Reason]
        ROTTEN: _ClassVar[Drop.Reason]
        ROLLED: _ClassVar[Drop.Reason]
        WITHDRAWN: _ClassVar[Drop.Reason]
        TRANSFERRED: _ClassVar[Drop.Reason]
    UNSPECIFIED: Drop.Reason
    CONFIRMED: Drop.Reason
    QUOTA: Drop.Reason
    EXPIRED: Drop.Reason
    ROTTEN: Drop.Reason
    ROLLED: Drop.Reason
    WITHDRAWN: Drop.Reason
    TRANSFERRED: Drop.Reason
    RANGE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    range: _containers.RepeatedCompositeFieldContainer[Range]
    reason: Drop.Reason
    def __init__(self, range: _Optional[_Iterable[_Union[Range, _Mapping]]] = ..., reason: _Optional[_Union[Drop.Reason, str]] = ...) -> None: ...

class Range(_message.Message):
    __slots__ = ("first", "last")
    FIRST_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    first: int
    last: int
    def __init__(self, first: _Optional[int] = ..., last: _Optional[int] = ...) -> None: ...

class ClockStep(_message.Message):
    __slots__ = ("from_unix_ns", "to_unix_ns")
    FROM_UNIX_NS_FIELD_NUMBER: _ClassVar[int]
    TO_UNIX_NS_FIELD_NUMBER: _ClassVar[int]
    from_unix_ns: int
    to_unix_ns: int
    def __init__(self, from_unix_ns: _Optional[int] = ..., to_unix_ns: _Optional[int] = ...) -> None: ...

class Refusal(_message.Message):
    __slots__ = ("what", "code", "count")
    WHAT_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    what: str
    code: str
    count: int
    def __init__(self, what: _Optional[str] = ..., code: _Optional[str] = ..., count: _Optional[int] = ...) -> None: ...

class Gap(_message.Message):
    __slots__ = ("why", "log", "size", "salvaged")
    WHY_FIELD_NUMBER: _ClassVar[int]
    LOG_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    SALVAGED_FIELD_NUMBER: _ClassVar[int]
    why: str
    log: bytes
    size: int
    salvaged: int
    def __init__(self, why: _Optional[str] = ..., log: _Optional[bytes] = ..., size: _Optional[int] = ..., salvaged: _Optional[int] = ...) -> None: ...

class BusState(_message.Message):
    __slots__ = ("channel", "state", "count")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    channel: str
    state: str
    count: int
    def __init__(self, channel: _Optional[str] = ..., state: _Optional[str] = ..., count: _Optional[int] = ...) -> None: ...

class Incident(_message.Message):
    __slots__ = ("record", "held", "upload", "state", "count", "log")
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        COMPLETE: _ClassVar[Incident.State]
        INTERRUPTED: _ClassVar[Incident.State]
        SUPPRESSED: _ClassVar[Incident.State]
    COMPLETE: Incident.State
    INTERRUPTED: Incident.State
    SUPPRESSED: Incident.State
    RECORD_FIELD_NUMBER: _ClassVar[int]
    HELD_FIELD_NUMBER: _ClassVar[int]
    UPLOAD_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    LOG_FIELD_NUMBER: _ClassVar[int]
    record: int
    held: _containers.RepeatedCompositeFieldContainer[Range]
    upload: bool
    state: Incident.State
    count: int
    log: bytes
    def __init__(self, record: _Optional[int] = ..., held: _Optional[_Iterable[_Union[Range, _Mapping]]] = ..., upload: _Optional[bool] = ..., state: _Optional[_Union[Incident.State, str]] = ..., count: _Optional[int] = ..., log: _Optional[bytes] = ...) -> None: ...

class ConsentChange(_message.Message):
    __slots__ = ("category", "state", "until_unix_ns", "terms", "each_drive")
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        NEVER_ASKED: _ClassVar[ConsentChange.State]
        GRANTED: _ClassVar[ConsentChange.State]
        WITHDRAWN: _ClassVar[ConsentChange.State]
        EXPIRED: _ClassVar[ConsentChange.State]
        NEEDS_RENEWAL: _ClassVar[ConsentChange.State]
        RESET: _ClassVar[ConsentChange.State]
        REFUSED: _ClassVar[ConsentChange.State]
    NEVER_ASKED: ConsentChange.State
    GRANTED: ConsentChange.State
    WITHDRAWN: ConsentChange.State
    EXPIRED: ConsentChange.State
    NEEDS_RENEWAL: ConsentChange.State
    RESET: ConsentChange.State
    REFUSED: ConsentChange.State
    CATEGORY_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    UNTIL_UNIX_NS_FIELD_NUMBER: _ClassVar[int]
    TERMS_FIELD_NUMBER: _ClassVar[int]
    EACH_DRIVE_FIELD_NUMBER: _ClassVar[int]
    category: str
    state: ConsentChange.State
    until_unix_ns: int
    terms: bytes
    each_drive: bool
    def __init__(self, category: _Optional[str] = ..., state: _Optional[_Union[ConsentChange.State, str]] = ..., until_unix_ns: _Optional[int] = ..., terms: _Optional[bytes] = ..., each_drive: _Optional[bool] = ...) -> None: ...

class OwnerChange(_message.Message):
    __slots__ = ("kid", "role", "what", "sign")
    class Role(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        ROLE_UNSPECIFIED: _ClassVar[OwnerChange.Role]
        OWNER_OF_CAR: _ClassVar[OwnerChange.Role]
        DRIVER_OF_CAR: _ClassVar[OwnerChange.Role]
    ROLE_UNSPECIFIED: OwnerChange.Role
    OWNER_OF_CAR: OwnerChange.Role
    DRIVER_OF_CAR: OwnerChange.Role
    class What(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        WHAT_UNSPECIFIED: _ClassVar[OwnerChange.What]
        ENROLLED: _ClassVar[OwnerChange.What]
        REMOVED: _ClassVar[OwnerChange.What]
        DRIVES: _ClassVar[OwnerChange.What]
        NOBODY_DRIVES: _ClassVar[OwnerChange.What]
    WHAT_UNSPECIFIED: OwnerChange.What
    ENROLLED: OwnerChange.What
    REMOVED: OwnerChange.What
    DRIVES: OwnerChange.What
    NOBODY_DRIVES: OwnerChange.What
    KID_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    WHAT_FIELD_NUMBER: _ClassVar[int]
    SIGN_FIELD_NUMBER: _ClassVar[int]
    kid: bytes
    role: OwnerChange.Role
    what: OwnerChange.What
    sign: bytes
    def __init__(self, kid: _Optional[bytes] = ..., role: _Optional[_Union[OwnerChange.Role, str]] = ..., what: _Optional[_Union[OwnerChange.What, str]] = ..., sign: _Optional[bytes] = ...) -> None: ...

class Transfer(_message.Message):
    __slots__ = ("from_epoch", "to_epoch", "custody", "erased")
    FROM_EPOCH_FIELD_NUMBER: _ClassVar[int]
    TO_EPOCH_FIELD_NUMBER: _ClassVar[int]
    CUSTODY_FIELD_NUMBER: _ClassVar[int]
    ERASED_FIELD_NUMBER: _ClassVar[int]
    from_epoch: int
    to_epoch: int
    custody: str
    erased: _containers.RepeatedCompositeFieldContainer[Erased]
    def __init__(self, from_epoch: _Optional[int] = ..., to_epoch: _Optional[int] = ..., custody: _Optional[str] = ..., erased: _Optional[_Iterable[_Union[Erased, _Mapping]]] = ...) -> None: ...

class Erased(_message.Message):
    __slots__ = ("lane", "recipients", "bodies", "bytes")
    LANE_FIELD_NUMBER: _ClassVar[int]
    RECIPIENTS_FIELD_NUMBER: _ClassVar[int]
    BODIES_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    lane: _sealed_pb2.Lane
    recipients: _sealed_pb2.Recipients
    bodies: int
    bytes: int
    def __init__(self, lane: _Optional[_Union[_sealed_pb2.Lane, str]] = ..., recipients: _Optional[_Union[_sealed_pb2.Recipients, str]] = ..., bodies: _Optional[int] = ..., bytes: _Optional[int] = ...) -> None: ...

class Kept(_message.Message):
    __slots__ = ("month", "amount", "number")
    MONTH_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    month: str
    amount: _containers.RepeatedCompositeFieldContainer[Amount]
    number: int
    def __init__(self, month: _Optional[str] = ..., amount: _Optional[_Iterable[_Union[Amount, _Mapping]]] = ..., number: _Optional[int] = ...) -> None: ...

class Amount(_message.Message):
    __slots__ = ("category", "purpose", "recipients", "frames", "samples", "records", "shortest_keep_s", "longest_keep_s")
    CATEGORY_FIELD_NUMBER: _ClassVar[int]
    PURPOSE_FIELD_NUMBER: _ClassVar[int]
    RECIPIENTS_FIELD_NUMBER: _ClassVar[int]
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    SHORTEST_KEEP_S_FIELD_NUMBER: _ClassVar[int]
    LONGEST_KEEP_S_FIELD_NUMBER: _ClassVar[int]
    category: str
    purpose: str
    recipients: _sealed_pb2.Recipients
    frames: int
    samples: int
    records: int
    shortest_keep_s: int
    longest_keep_s: int
    def __init__(self, category: _Optional[str] = ..., purpose: _Optional[str] = ..., recipients: _Optional[_Union[_sealed_pb2.Recipients, str]] = ..., frames: _Optional[int] = ..., samples: _Optional[int] = ..., records: _Optional[int] = ..., shortest_keep_s: _Optional[int] = ..., longest_keep_s: _Optional[int] = ...) -> None: ...
