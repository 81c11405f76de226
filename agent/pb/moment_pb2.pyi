from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ClockQuality(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CLOCK_FLOOR: _ClassVar[ClockQuality]
    CLOCK_WALL: _ClassVar[ClockQuality]
    CLOCK_REGION: _ClassVar[ClockQuality]
CLOCK_FLOOR: ClockQuality
CLOCK_WALL: ClockQuality
CLOCK_REGION: ClockQuality

class Moment(_message.Message):
    __slots__ = ("unix_ns", "boottime_ns", "quality")
    UNIX_NS_FIELD_NUMBER: _ClassVar[int]
    BOOTTIME_NS_FIELD_NUMBER: _ClassVar[int]
    QUALITY_FIELD_NUMBER: _ClassVar[int]
    unix_ns: int
    boottime_ns: int
    quality: ClockQuality
    def __init__(self, unix_ns: _Optional[int] = ..., boottime_ns: _Optional[int] = ..., quality: _Optional[_Union[ClockQuality, str]] = ...) -> None: ...
