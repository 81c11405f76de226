from agent.pb import sealed_pb2 as _sealed_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Policy(_message.Message):
    __slots__ = ("name", "version", "region", "not_after_unix", "dictionary", "collect", "decode")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    NOT_AFTER_UNIX_FIELD_NUMBER: _ClassVar[int]
    DICTIONARY_FIELD_NUMBER: _ClassVar[int]
    COLLECT_FIELD_NUMBER: _ClassVar[int]
    DECODE_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: int
    region: str
    not_after_unix: int
    dictionary: bytes
    collect: _containers.RepeatedCompositeFieldContainer[Collect]
    decode: _containers.RepeatedCompositeFieldContainer[Decode]
    def __init__(self, name: _Optional[str] = ..., version: _Optional[int] = ..., region: _Optional[str] = ..., not_after_unix: _Optional[int] = ..., dictionary: _Optional[bytes] = ..., collect: _Optional[_Iterable[_Union[Collect, _Mapping]]] = ..., decode: _Optional[_Iterable[_Union[Decode, _Mapping]]] = ...) -> None: ...

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
    __slots__ = ("id", "extended", "start", "bits", "big_endian", "mux")
    ID_FIELD_NUMBER: _ClassVar[int]
    EXTENDED_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    BITS_FIELD_NUMBER: _ClassVar[int]
    BIG_ENDIAN_FIELD_NUMBER: _ClassVar[int]
    MUX_FIELD_NUMBER: _ClassVar[int]
    id: int
    extended: bool
    start: int
    bits: int
    big_endian: bool
    mux: _containers.RepeatedCompositeFieldContainer[Mux]
    def __init__(self, id: _Optional[int] = ..., extended: _Optional[bool] = ..., start: _Optional[int] = ..., bits: _Optional[int] = ..., big_endian: _Optional[bool] = ..., mux: _Optional[_Iterable[_Union[Mux, _Mapping]]] = ...) -> None: ...

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
    __slots__ = ("id", "category", "purpose", "basis", "necessity", "recipients", "lane", "keep_s", "frames", "signals", "every_ns", "on_change", "resolution_ns", "order", "flush_ns")
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
    def __init__(self, id: _Optional[str] = ..., category: _Optional[str] = ..., purpose: _Optional[str] = ..., basis: _Optional[str] = ..., necessity: _Optional[str] = ..., recipients: _Optional[_Union[_sealed_pb2.Recipients, str]] = ..., lane: _Optional[_Union[_sealed_pb2.Lane, str]] = ..., keep_s: _Optional[int] = ..., frames: _Optional[_Iterable[_Union[FrameSelector, _Mapping]]] = ..., signals: _Optional[_Iterable[_Union[SignalSelector, _Mapping]]] = ..., every_ns: _Optional[int] = ..., on_change: _Optional[bool] = ..., resolution_ns: _Optional[int] = ..., order: _Optional[bool] = ..., flush_ns: _Optional[int] = ...) -> None: ...

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
    __slots__ = ("channel", "signal")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    SIGNAL_FIELD_NUMBER: _ClassVar[int]
    channel: str
    signal: int
    def __init__(self, channel: _Optional[str] = ..., signal: _Optional[int] = ...) -> None: ...
