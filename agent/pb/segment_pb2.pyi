from agent.pb import record_pb2 as _record_pb2
from agent.pb import moment_pb2 as _moment_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SegmentPayload(_message.Message):
    __slots__ = ("salt", "boot_id", "opened", "closed", "frame_count", "sample_count", "frames", "signals", "dictionary", "record", "padding")
    SALT_FIELD_NUMBER: _ClassVar[int]
    BOOT_ID_FIELD_NUMBER: _ClassVar[int]
    OPENED_FIELD_NUMBER: _ClassVar[int]
    CLOSED_FIELD_NUMBER: _ClassVar[int]
    FRAME_COUNT_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_COUNT_FIELD_NUMBER: _ClassVar[int]
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    SIGNALS_FIELD_NUMBER: _ClassVar[int]
    DICTIONARY_FIELD_NUMBER: _ClassVar[int]
    RECORD_FIELD_NUMBER: _ClassVar[int]
    PADDING_FIELD_NUMBER: _ClassVar[int]
    salt: bytes
    boot_id: bytes
    opened: _moment_pb2.Moment
    closed: _moment_pb2.Moment
    frame_count: int
    sample_count: int
    frames: bytes
    signals: bytes
    dictionary: bytes
    record: _containers.RepeatedCompositeFieldContainer[_record_pb2.Record]
    padding: bytes
    def __init__(self, salt: _Optional[bytes] = ..., boot_id: _Optional[bytes] = ..., opened: _Optional[_Union[_moment_pb2.Moment, _Mapping]] = ..., closed: _Optional[_Union[_moment_pb2.Moment, _Mapping]] = ..., frame_count: _Optional[int] = ..., sample_count: _Optional[int] = ..., frames: _Optional[bytes] = ..., signals: _Optional[bytes] = ..., dictionary: _Optional[bytes] = ..., record: _Optional[_Iterable[_Union[_record_pb2.Record, _Mapping]]] = ..., padding: _Optional[bytes] = ...) -> None: ...

class FrameColumns(_message.Message):
    __slots__ = ("origin_ns", "resolution_ns", "channels", "channel", "id", "flags", "length", "rows", "period", "stamp_width", "stamps", "data", "order")
    ORIGIN_NS_FIELD_NUMBER: _ClassVar[int]
    RESOLUTION_NS_FIELD_NUMBER: _ClassVar[int]
    CHANNELS_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    FLAGS_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    PERIOD_FIELD_NUMBER: _ClassVar[int]
    STAMP_WIDTH_FIELD_NUMBER: _ClassVar[int]
    STAMPS_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    ORDER_FIELD_NUMBER: _ClassVar[int]
    origin_ns: int
    resolution_ns: int
    channels: _containers.RepeatedScalarFieldContainer[str]
    channel: _containers.RepeatedScalarFieldContainer[int]
    id: _containers.RepeatedScalarFieldContainer[int]
    flags: _containers.RepeatedScalarFieldContainer[int]
    length: _containers.RepeatedScalarFieldContainer[int]
    rows: _containers.RepeatedScalarFieldContainer[int]
    period: _containers.RepeatedScalarFieldContainer[int]
    stamp_width: int
    stamps: bytes
    data: bytes
    order: bytes
    def __init__(self, origin_ns: _Optional[int] = ..., resolution_ns: _Optional[int] = ..., channels: _Optional[_Iterable[str]] = ..., channel: _Optional[_Iterable[int]] = ..., id: _Optional[_Iterable[int]] = ..., flags: _Optional[_Iterable[int]] = ..., length: _Optional[_Iterable[int]] = ..., rows: _Optional[_Iterable[int]] = ..., period: _Optional[_Iterable[int]] = ..., stamp_width: _Optional[int] = ..., stamps: _Optional[bytes] = ..., data: _Optional[bytes] = ..., order: _Optional[bytes] = ...) -> None: ...

class SignalColumns(_message.Message):
    __slots__ = ("origin_ns", "resolution_ns", "channels", "channel", "signal", "rows", "period", "stamp_width", "stamps", "value_width", "values", "order")
    ORIGIN_NS_FIELD_NUMBER: _ClassVar[int]
    RESOLUTION_NS_FIELD_NUMBER: _ClassVar[int]
    CHANNELS_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    SIGNAL_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    PERIOD_FIELD_NUMBER: _ClassVar[int]
    STAMP_WIDTH_FIELD_NUMBER: _ClassVar[int]
    STAMPS_FIELD_NUMBER: _ClassVar[int]
    VALUE_WIDTH_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    ORDER_FIELD_NUMBER: _ClassVar[int]
    origin_ns: int
    resolution_ns: int
    channels: _containers.RepeatedScalarFieldContainer[str]
    channel: _containers.RepeatedScalarFieldContainer[int]
    signal: _containers.RepeatedScalarFieldContainer[int]
    rows: _containers.RepeatedScalarFieldContainer[int]
    period: _containers.RepeatedScalarFieldContainer[int]
    stamp_width: int
    stamps: bytes
    value_width: int
    values: bytes
    order: bytes
    def __init__(self, origin_ns: _Optional[int] = ..., resolution_ns: _Optional[int] = ..., channels: _Optional[_Iterable[str]] = ..., channel: _Optional[_Iterable[int]] = ..., signal: _Optional[_Iterable[int]] = ..., rows: _Optional[_Iterable[int]] = ..., period: _Optional[_Iterable[int]] = ..., stamp_width: _Optional[int] = ..., stamps: _Optional[bytes] = ..., value_width: _Optional[int] = ..., values: _Optional[bytes] = ..., order: _Optional[bytes] = ...) -> None: ...
