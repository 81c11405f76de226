from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class ZoneTable(_message.Message):
    __slots__ = ("zone_class", "of", "vertices", "latitude", "longitude")
    ZONE_CLASS_FIELD_NUMBER: _ClassVar[int]
    OF_FIELD_NUMBER: _ClassVar[int]
    VERTICES_FIELD_NUMBER: _ClassVar[int]
    LATITUDE_FIELD_NUMBER: _ClassVar[int]
    LONGITUDE_FIELD_NUMBER: _ClassVar[int]
    zone_class: _containers.RepeatedScalarFieldContainer[str]
    of: _containers.RepeatedScalarFieldContainer[int]
    vertices: _containers.RepeatedScalarFieldContainer[int]
    latitude: _containers.RepeatedScalarFieldContainer[int]
    longitude: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, zone_class: _Optional[_Iterable[str]] = ..., of: _Optional[_Iterable[int]] = ..., vertices: _Optional[_Iterable[int]] = ..., latitude: _Optional[_Iterable[int]] = ..., longitude: _Optional[_Iterable[int]] = ...) -> None: ...
