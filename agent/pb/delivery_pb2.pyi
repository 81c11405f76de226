from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Upload(_message.Message):
    __slots__ = ("log", "index", "entry", "body")
    LOG_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    ENTRY_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    log: bytes
    index: int
    entry: bytes
    body: bytes
    def __init__(self, log: _Optional[bytes] = ..., index: _Optional[int] = ..., entry: _Optional[bytes] = ..., body: _Optional[bytes] = ...) -> None: ...

class CheckpointUpload(_message.Message):
    __slots__ = ("log", "note", "from_size", "proof")
    LOG_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    FROM_SIZE_FIELD_NUMBER: _ClassVar[int]
    PROOF_FIELD_NUMBER: _ClassVar[int]
    log: bytes
    note: str
    from_size: int
    proof: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, log: _Optional[bytes] = ..., note: _Optional[str] = ..., from_size: _Optional[int] = ..., proof: _Optional[_Iterable[bytes]] = ...) -> None: ...

class SignedReceipt(_message.Message):
    __slots__ = ("receipt", "kid", "signature")
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    KID_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    receipt: bytes
    kid: bytes
    signature: bytes
    def __init__(self, receipt: _Optional[bytes] = ..., kid: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...

class Receipt(_message.Message):
    __slots__ = ("vehicle", "log", "index", "leaf", "region_unix_ns", "cosigned", "policy", "hollow", "regroup_s")
    VEHICLE_FIELD_NUMBER: _ClassVar[int]
    LOG_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    LEAF_FIELD_NUMBER: _ClassVar[int]
    REGION_UNIX_NS_FIELD_NUMBER: _ClassVar[int]
    COSIGNED_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    HOLLOW_FIELD_NUMBER: _ClassVar[int]
    REGROUP_S_FIELD_NUMBER: _ClassVar[int]
    vehicle: str
    log: bytes
    index: _containers.RepeatedScalarFieldContainer[int]
    leaf: _containers.RepeatedScalarFieldContainer[bytes]
    region_unix_ns: int
    cosigned: str
    policy: bytes
    hollow: _containers.RepeatedScalarFieldContainer[int]
    regroup_s: int
    def __init__(self, vehicle: _Optional[str] = ..., log: _Optional[bytes] = ..., index: _Optional[_Iterable[int]] = ..., leaf: _Optional[_Iterable[bytes]] = ..., region_unix_ns: _Optional[int] = ..., cosigned: _Optional[str] = ..., policy: _Optional[bytes] = ..., hollow: _Optional[_Iterable[int]] = ..., regroup_s: _Optional[int] = ...) -> None: ...

class PolicyQuestion(_message.Message):
    __slots__ = ("bundle", "offset")
    BUNDLE_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    bundle: bytes
    offset: int
    def __init__(self, bundle: _Optional[bytes] = ..., offset: _Optional[int] = ...) -> None: ...

class PolicyChunk(_message.Message):
    __slots__ = ("bundle", "size", "offset", "data")
    BUNDLE_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    bundle: bytes
    size: int
    offset: int
    data: bytes
    def __init__(self, bundle: _Optional[bytes] = ..., size: _Optional[int] = ..., offset: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class PolicyBundle(_message.Message):
    __slots__ = ("file",)
    FILE_FIELD_NUMBER: _ClassVar[int]
    file: _containers.RepeatedCompositeFieldContainer[PolicyFile]
    def __init__(self, file: _Optional[_Iterable[_Union[PolicyFile, _Mapping]]] = ...) -> None: ...

class PolicyFile(_message.Message):
    __slots__ = ("name", "data")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    name: str
    data: bytes
    def __init__(self, name: _Optional[str] = ..., data: _Optional[bytes] = ...) -> None: ...
