"""The door for the dictionary: signals, and where they stand in frames.

Pure.
"""

from __future__ import annotations

import math
from typing import Final

from agent.pb import policy_pb2
from agent.policy.compiled_values import in_range, one_of, refusal, text
from agent.policy.j1939 import is_free
from agent.policy.model import (
    FLOAT32,
    FLOAT64,
    KINDS,
    MAX_CHOICES,
    MAX_EXTENDED,
    MAX_MUX_DEPTH,
    MAX_MUX_RANGES,
    MAX_STANDARD,
    MuxLayout,
    SignalInfo,
    SignalLayout,
    last_bit,
)

FRAME_BITS: Final = 512


def read_signal(wire: policy_pb2.Signal, where: str) -> SignalInfo:
    """Return what a reader needs of a signal.

    Raises:
        PolicyError: out of range.
    """
    in_range(len(wire.choices), 0, MAX_CHOICES, f"{where}: number of choices")
    if not (math.isfinite(wire.factor) and math.isfinite(wire.offset)):
        raise refusal(where, "factor or offset is not a number")
    return SignalInfo(
        name=text(wire.name, f"{where}: name"),
        message=text(wire.message, f"{where}: message"),
        unit=text(wire.unit, f"{where}: unit", least=0),
        factor=wire.factor,
        offset=wire.offset,
        kind=one_of(wire.kind, KINDS, f"{where}: kind"),
        choices=tuple(
            (raw, text(wire.choices[raw], f"{where}: choice {raw}", least=0))
            for raw in sorted(wire.choices)
        ),
    )


def read_layout(wire: policy_pb2.Decode, kind: int, where: str) -> SignalLayout:
    """Return where a signal stands in a frame.

    Raises:
        PolicyError: beyond a frame, or of another width than its kind.
    """
    in_range(wire.id, 0, MAX_EXTENDED if wire.extended else MAX_STANDARD, f"{where}: id")
    _check_free(wire, where)
    _field(wire.start, wire.bits, wire.big_endian, where)
    width = {FLOAT32: 32, FLOAT64: 64}.get(kind, wire.bits)
    if wire.bits != width:
        raise refusal(where, f"a float of {wire.bits} bits")
    in_range(len(wire.mux), 0, MAX_MUX_DEPTH, f"{where}: number of multiplexers")
    return SignalLayout(
        arbitration_id=wire.id,
        extended=wire.extended,
        start=wire.start,
        bits=wire.bits,
        big_endian=wire.big_endian,
        kind=kind,
        mux=tuple(_mux(one, f"{where}: mux") for one in wire.mux),
        free_bits=wire.free_bits,
    )


def _check_free(wire: policy_pb2.Decode, where: str) -> None:
    """Refuse free bits but J1939's, and a second way to write the same id."""
    wide = wire.extended and is_free(wire.free_bits, wire.id)
    if wire.free_bits and not wide:
        raise refusal(f"{where}: free_bits", f"{wire.free_bits:#x} are not those of a J1939 id")
    if wire.id & wire.free_bits:
        raise refusal(f"{where}: free_bits", "are set in the id", "build it again")


def _field(start: int, bits: int, big_endian: bool, where: str) -> None:
    in_range(bits, 1, 64, f"{where}: bits")
    in_range(start, 0, FRAME_BITS - 1, f"{where}: start")
    in_range(last_bit(start, bits, big_endian=big_endian), 1, FRAME_BITS, f"{where}: last bit")


def _mux(wire: policy_pb2.Mux, where: str) -> MuxLayout:
    _field(wire.start, wire.bits, wire.big_endian, where)
    in_range(len(wire.range), 1, MAX_MUX_RANGES, f"{where}: number of ranges")
    for one in wire.range:
        in_range(one.last, 0, 2**wire.bits - 1, f"{where}: last")
        in_range(one.first, 0, one.last, f"{where}: first")
    ranges = tuple((one.first, one.last) for one in wire.range)
    return MuxLayout(wire.start, wire.bits, wire.big_endian, ranges)
