from agent.pb import sealed_pb2 as _sealed_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Policy(_message.Message):
    __slots__ = ("name", "version", "region", "not_after_unix", "dictionary", "collect", "decode", "recorder", "event", "camera", "consent", "driving", "contact")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    NOT_AFTER_UNIX_FIELD_NUMBER: _ClassVar[int]
    DICTIONARY_FIELD_NUMBER: _ClassVar[int]
    COLLECT_FIELD_NUMBER: _ClassVar[int]
    DECODE_FIELD_NUMBER: _ClassVar[int]
    RECORDER_FIELD_NUMBER: _ClassVar[int]
    EVENT_FIELD_NUMBER: _ClassVar[int]
    CAMERA_FIELD_NUMBER: _ClassVar[int]
    CONSENT_FIELD_NUMBER: _ClassVar[int]
    DRIVING_FIELD_NUMBER: _ClassVar[int]
    CONTACT_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: int
    region: str
    not_after_unix: int
    dictionary: bytes
    collect: _containers.RepeatedCompositeFieldContainer[Collect]
    decode: _containers.RepeatedCompositeFieldContainer[Decode]
    recorder: Recorder
    event: _containers.RepeatedCompositeFieldContainer[Event]
    camera: Camera
    consent: _containers.RepeatedCompositeFieldContainer[ConsentTerm]
    driving: Condition
    contact: str
    def __init__(self, name: _Optional[str] = ..., version: _Optional[int] = ..., region: _Optional[str] = ..., not_after_unix: _Optional[int] = ..., dictionary: _Optional[bytes] = ..., collect: _Optional[_Iterable[_Union[Collect, _Mapping]]] = ..., decode: _Optional[_Iterable[_Union[Decode, _Mapping]]] = ..., recorder: _Optional[_Union[Recorder, _Mapping]] = ..., event: _Optional[_Iterable[_Union[Event, _Mapping]]] = ..., camera: _Optional[_Union[Camera, _Mapping]] = ..., consent: _Optional[_Iterable[_Union[ConsentTerm, _Mapping]]] = ..., driving: _Optional[_Union[Condition, _Mapping]] = ..., contact: _Optional[str] = ...) -> None: ...

class Dictionary(_message.Message):
    __slots__ = ("signal",)
    SIGNAL_FIELD_NUMBER: _ClassVar[int]
    signal: _containers.RepeatedCompositeFieldContainer[Signal]
    def __init__(self, signal: _Optional[_Iterable[_Union[Signal, _Mapping]]] = ...) -> None: ...

class Signal(_message.Message):
    __slots__ = ("name", "message", "unit", "factor", "offset", "kind", "choices")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        UNSIGNED: _ClassVar[Signal.Kind]
        SIGNED: _ClassVar[Signal.Kind]
        FLOAT32: _ClassVar[Signal.Kind]
        FLOAT64: _ClassVar[Signal.Kind]
    UNSIGNED: Signal.Kind
    SIGNED: Signal.Kind
    FLOAT32: Signal.Kind
    FLOAT64: Signal.Kind
    class ChoicesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: str
        def __init__(self, key: _Optional[int] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    FACTOR_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    CHOICES_FIELD_NUMBER: _ClassVar[int]
    name: str
    message: str
    unit: str
    factor: float
    offset: float
    kind: Signal.Kind
    choices: _containers.ScalarMap[int, str]
    def __init__(self, name: _Optional[str] = ..., message: _Optional[str] = ..., unit: _Optional[str] = ..., factor: _Optional[float] = ..., offset: _Optional[float] = ..., kind: _Optional[_Union[Signal.Kind, str]] = ..., choices: _Optional[_Mapping[int, str]] = ...) -> None: ...

class Decode(_message.Message):
    __slots__ = ("id", "extended", "start", "bits", "big_endian", "mux", "free_bits")
    ID_FIELD_NUMBER: _ClassVar[int]
    EXTENDED_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    BITS_FIELD_NUMBER: _ClassVar[int]
    BIG_ENDIAN_FIELD_NUMBER: _ClassVar[int]
    MUX_FIELD_NUMBER: _ClassVar[int]
    FREE_BITS_FIELD_NUMBER: _ClassVar[int]
    id: int
    extended: bool
    start: int
    bits: int
    big_endian: bool
    mux: _containers.RepeatedCompositeFieldContainer[Mux]
    free_bits: int
    def __init__(self, id: _Optional[int] = ..., extended: _Optional[bool] = ..., start: _Optional[int] = ..., bits: _Optional[int] = ..., big_endian: _Optional[bool] = ..., mux: _Optional[_Iterable[_Union[Mux, _Mapping]]] = ..., free_bits: _Optional[int] = ...) -> None: ...

class Mux(_message.Message):
    __slots__ = ("start", "bits", "big_endian", "range")
    START_FIELD_NUMBER: _ClassVar[int]
    BITS_FIELD_NUMBER: _ClassVar[int]
    BIG_ENDIAN_FIELD_NUMBER: _ClassVar[int]
    RANGE_FIELD_NUMBER: _ClassVar[int]
    start: int
    bits: int
    big_endian: bool
    range: _containers.RepeatedCompositeFieldContainer[MuxRange]
    def __init__(self, start: _Optional[int] = ..., bits: _Optional[int] = ..., big_endian: _Optional[bool] = ..., range: _Optional[_Iterable[_Union[MuxRange, _Mapping]]] = ...) -> None: ...

class MuxRange(_message.Message):
    __slots__ = ("first", "last")
    FIRST_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    first: int
    last: int
    def __init__(self, first: _Optional[int] = ..., last: _Optional[int] = ...) -> None: ...

class Collect(_message.Message):
    __slots__ = ("id", "category", "purpose", "basis", "necessity", "recipients", "lane", "keep_s", "frames", "signals", "every_ns", "on_change", "resolution_ns", "order", "flush_ns", "space_m")
    ID_FIELD_NUMBER: _ClassVar[int]
    CATEGORY_FIELD_NUMBER: _ClassVar[int]
    PURPOSE_FIELD_NUMBER: _ClassVar[int]
    BASIS_FIELD_NUMBER: _ClassVar[int]
    NECESSITY_FIELD_NUMBER: _ClassVar[int]
    RECIPIENTS_FIELD_NUMBER: _ClassVar[int]
    LANE_FIELD_NUMBER: _ClassVar[int]
    KEEP_S_FIELD_NUMBER: _ClassVar[int]
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    SIGNALS_FIELD_NUMBER: _ClassVar[int]
    EVERY_NS_FIELD_NUMBER: _ClassVar[int]
    ON_CHANGE_FIELD_NUMBER: _ClassVar[int]
    RESOLUTION_NS_FIELD_NUMBER: _ClassVar[int]
    ORDER_FIELD_NUMBER: _ClassVar[int]
    FLUSH_NS_FIELD_NUMBER: _ClassVar[int]
    SPACE_M_FIELD_NUMBER: _ClassVar[int]
    id: str
    category: str
    purpose: str
    basis: str
    necessity: str
    recipients: _sealed_pb2.Recipients
    lane: _sealed_pb2.Lane
    keep_s: int
    frames: _containers.RepeatedCompositeFieldContainer[FrameSelector]
    signals: _containers.RepeatedCompositeFieldContainer[SignalSelector]
    every_ns: int
    on_change: bool
    resolution_ns: int
    order: bool
    flush_ns: int
    space_m: int
    def __init__(self, id: _Optional[str] = ..., category: _Optional[str] = ..., purpose: _Optional[str] = ..., basis: _Optional[str] = ..., necessity: _Optional[str] = ..., recipients: _Optional[_Union[_sealed_pb2.Recipients, str]] = ..., lane: _Optional[_Union[_sealed_pb2.Lane, str]] = ..., keep_s: _Optional[int] = ..., frames: _Optional[_Iterable[_Union[FrameSelector, _Mapping]]] = ..., signals: _Optional[_Iterable[_Union[SignalSelector, _Mapping]]] = ..., every_ns: _Optional[int] = ..., on_change: _Optional[bool] = ..., resolution_ns: _Optional[int] = ..., order: _Optional[bool] = ..., flush_ns: _Optional[int] = ..., space_m: _Optional[int] = ...) -> None: ...

class FrameSelector(_message.Message):
    __slots__ = ("channel", "first_id", "last_id", "extended", "any")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    FIRST_ID_FIELD_NUMBER: _ClassVar[int]
    LAST_ID_FIELD_NUMBER: _ClassVar[int]
    EXTENDED_FIELD_NUMBER: _ClassVar[int]
    ANY_FIELD_NUMBER: _ClassVar[int]
    channel: str
    first_id: int
    last_id: int
    extended: bool
    any: bool
    def __init__(self, channel: _Optional[str] = ..., first_id: _Optional[int] = ..., last_id: _Optional[int] = ..., extended: _Optional[bool] = ..., any: _Optional[bool] = ...) -> None: ...

class SignalSelector(_message.Message):
    __slots__ = ("channel", "signal", "grain")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    SIGNAL_FIELD_NUMBER: _ClassVar[int]
    GRAIN_FIELD_NUMBER: _ClassVar[int]
    channel: str
    signal: int
    grain: int
    def __init__(self, channel: _Optional[str] = ..., signal: _Optional[int] = ..., grain: _Optional[int] = ...) -> None: ...

class Condition(_message.Message):
    __slots__ = ("text", "term")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    text: str
    term: _containers.RepeatedCompositeFieldContainer[Term]
    def __init__(self, text: _Optional[str] = ..., term: _Optional[_Iterable[_Union[Term, _Mapping]]] = ...) -> None: ...

class Term(_message.Message):
    __slots__ = ("name", "signal")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SIGNAL_FIELD_NUMBER: _ClassVar[int]
    name: str
    signal: SignalSelector
    def __init__(self, name: _Optional[str] = ..., signal: _Optional[_Union[SignalSelector, _Mapping]] = ...) -> None: ...

class Recorder(_message.Message):
    __slots__ = ("window_ns", "frames", "recipients", "resolution_ns", "flush_ns", "purpose", "basis", "necessity")
    WINDOW_NS_FIELD_NUMBER: _ClassVar[int]
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    RECIPIENTS_FIELD_NUMBER: _ClassVar[int]
    RESOLUTION_NS_FIELD_NUMBER: _ClassVar[int]
    FLUSH_NS_FIELD_NUMBER: _ClassVar[int]
    PURPOSE_FIELD_NUMBER: _ClassVar[int]
    BASIS_FIELD_NUMBER: _ClassVar[int]
    NECESSITY_FIELD_NUMBER: _ClassVar[int]
    window_ns: int
    frames: _containers.RepeatedCompositeFieldContainer[FrameSelector]
    recipients: _sealed_pb2.Recipients
    resolution_ns: int
    flush_ns: int
    purpose: str
    basis: str
    necessity: str
    def __init__(self, window_ns: _Optional[int] = ..., frames: _Optional[_Iterable[_Union[FrameSelector, _Mapping]]] = ..., recipients: _Optional[_Union[_sealed_pb2.Recipients, str]] = ..., resolution_ns: _Optional[int] = ..., flush_ns: _Optional[int] = ..., purpose: _Optional[str] = ..., basis: _Optional[str] = ..., necessity: _Optional[str] = ...) -> None: ...

class Event(_message.Message):
    __slots__ = ("id", "when", "before_ns", "after_ns", "upload", "at_most", "period_ns", "retrigger_ns", "snapshot", "recipients", "purpose", "basis", "necessity", "keep_s")
    ID_FIELD_NUMBER: _ClassVar[int]
    WHEN_FIELD_NUMBER: _ClassVar[int]
    BEFORE_NS_FIELD_NUMBER: _ClassVar[int]
    AFTER_NS_FIELD_NUMBER: _ClassVar[int]
    UPLOAD_FIELD_NUMBER: _ClassVar[int]
    AT_MOST_FIELD_NUMBER: _ClassVar[int]
    PERIOD_NS_FIELD_NUMBER: _ClassVar[int]
    RETRIGGER_NS_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    RECIPIENTS_FIELD_NUMBER: _ClassVar[int]
    PURPOSE_FIELD_NUMBER: _ClassVar[int]
    BASIS_FIELD_NUMBER: _ClassVar[int]
    NECESSITY_FIELD_NUMBER: _ClassVar[int]
    KEEP_S_FIELD_NUMBER: _ClassVar[int]
    id: str
    when: Condition
    before_ns: int
    after_ns: int
    upload: bool
    at_most: int
    period_ns: int
    retrigger_ns: int
    snapshot: _containers.RepeatedCompositeFieldContainer[SignalSelector]
    recipients: _sealed_pb2.Recipients
    purpose: str
    basis: str
    necessity: str
    keep_s: int
    def __init__(self, id: _Optional[str] = ..., when: _Optional[_Union[Condition, _Mapping]] = ..., before_ns: _Optional[int] = ..., after_ns: _Optional[int] = ..., upload: _Optional[bool] = ..., at_most: _Optional[int] = ..., period_ns: _Optional[int] = ..., retrigger_ns: _Optional[int] = ..., snapshot: _Optional[_Iterable[_Union[SignalSelector, _Mapping]]] = ..., recipients: _Optional[_Union[_sealed_pb2.Recipients, str]] = ..., purpose: _Optional[str] = ..., basis: _Optional[str] = ..., necessity: _Optional[str] = ..., keep_s: _Optional[int] = ...) -> None: ...

class Camera(_message.Message):
    __slots__ = ("parked", "driving", "trigger", "position", "zones", "margin_m", "exit_ns", "no_fix_ns", "recipients", "purpose", "basis", "necessity", "keep_s", "at_most")
    class Parked(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        PARKED_OFF: _ClassVar[Camera.Parked]
        PARKED_OWNER: _ClassVar[Camera.Parked]
    PARKED_OFF: Camera.Parked
    PARKED_OWNER: Camera.Parked
    class Driving(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        DRIVING_OFF: _ClassVar[Camera.Driving]
        DRIVING_METADATA: _ClassVar[Camera.Driving]
    DRIVING_OFF: Camera.Driving
    DRIVING_METADATA: Camera.Driving
    PARKED_FIELD_NUMBER: _ClassVar[int]
    DRIVING_FIELD_NUMBER: _ClassVar[int]
    TRIGGER_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    ZONES_FIELD_NUMBER: _ClassVar[int]
    MARGIN_M_FIELD_NUMBER: _ClassVar[int]
    EXIT_NS_FIELD_NUMBER: _ClassVar[int]
    NO_FIX_NS_FIELD_NUMBER: _ClassVar[int]
    RECIPIENTS_FIELD_NUMBER: _ClassVar[int]
    PURPOSE_FIELD_NUMBER: _ClassVar[int]
    BASIS_FIELD_NUMBER: _ClassVar[int]
    NECESSITY_FIELD_NUMBER: _ClassVar[int]
    KEEP_S_FIELD_NUMBER: _ClassVar[int]
    AT_MOST_FIELD_NUMBER: _ClassVar[int]
    parked: Camera.Parked
    driving: Camera.Driving
    trigger: Trigger
    position: Position
    zones: bytes
    margin_m: int
    exit_ns: int
    no_fix_ns: int
    recipients: _sealed_pb2.Recipients
    purpose: str
    basis: str
    necessity: str
    keep_s: int
    at_most: int
    def __init__(self, parked: _Optional[_Union[Camera.Parked, str]] = ..., driving: _Optional[_Union[Camera.Driving, str]] = ..., trigger: _Optional[_Union[Trigger, _Mapping]] = ..., position: _Optional[_Union[Position, _Mapping]] = ..., zones: _Optional[bytes] = ..., margin_m: _Optional[int] = ..., exit_ns: _Optional[int] = ..., no_fix_ns: _Optional[int] = ..., recipients: _Optional[_Union[_sealed_pb2.Recipients, str]] = ..., purpose: _Optional[str] = ..., basis: _Optional[str] = ..., necessity: _Optional[str] = ..., keep_s: _Optional[int] = ..., at_most: _Optional[int] = ...) -> None: ...

class Trigger(_message.Message):
    __slots__ = ("camera", "reason", "state", "clip")
    CAMERA_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    CLIP_FIELD_NUMBER: _ClassVar[int]
    camera: SignalSelector
    reason: SignalSelector
    state: SignalSelector
    clip: SignalSelector
    def __init__(self, camera: _Optional[_Union[SignalSelector, _Mapping]] = ..., reason: _Optional[_Union[SignalSelector, _Mapping]] = ..., state: _Optional[_Union[SignalSelector, _Mapping]] = ..., clip: _Optional[_Union[SignalSelector, _Mapping]] = ...) -> None: ...

class Position(_message.Message):
    __slots__ = ("latitude", "longitude", "speed", "fix")
    LATITUDE_FIELD_NUMBER: _ClassVar[int]
    LONGITUDE_FIELD_NUMBER: _ClassVar[int]
    SPEED_FIELD_NUMBER: _ClassVar[int]
    FIX_FIELD_NUMBER: _ClassVar[int]
    latitude: SignalSelector
    longitude: SignalSelector
    speed: SignalSelector
    fix: Condition
    def __init__(self, latitude: _Optional[_Union[SignalSelector, _Mapping]] = ..., longitude: _Optional[_Union[SignalSelector, _Mapping]] = ..., speed: _Optional[_Union[SignalSelector, _Mapping]] = ..., fix: _Optional[_Union[Condition, _Mapping]] = ...) -> None: ...

class ConsentTerm(_message.Message):
    __slots__ = ("category", "max_days", "each_drive")
    CATEGORY_FIELD_NUMBER: _ClassVar[int]
    MAX_DAYS_FIELD_NUMBER: _ClassVar[int]
    EACH_DRIVE_FIELD_NUMBER: _ClassVar[int]
    category: str
    max_days: int
    each_drive: bool
    def __init__(self, category: _Optional[str] = ..., max_days: _Optional[int] = ..., each_drive: _Optional[bool] = ...) -> None: ...
