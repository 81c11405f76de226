"""Where the signals of car.dbc lie in a frame, and how physical values become bytes.

Reads the part of the DBC language that car.dbc uses (BO_, SG_, the cycle time and frame format
attributes), so the file is the only home of the layout; cantools is the independent oracle in the
tests and not needed here. Two signals have a meaning by their name: `...Counter` rises by one a
frame, `...Checksum` is the last byte.
Pure but for `load`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Final

COUNTER: Final = "Counter"
CHECKSUM: Final = "Checksum"

_EXTENDED_FLAG: Final = 0x80000000  # bit 31 of a DBC id
_FD_FORMATS: Final = ("14", "15")  # VFrameFormat: StandardCAN_FD, ExtendedCAN_FD
_MESSAGE: Final = re.compile(r"BO_ (\d+) (\w+): (\d+) \w+$")
_SIGNAL: Final = re.compile(
    r" SG_ (\w+) (M|m\d+)? ?: (\d+)\|(\d+)@([01])([+-]) \(([^,]+),([^)]+)\) \[([^|]+)\|([^\]]+)\]"
)
_ATTRIBUTE: Final = re.compile(r'BA_ "(GenMsgCycleTime|VFrameFormat)" BO_ (\d+) (\d+);$')

_Field = tuple[str, float, float, float, float, int, int]


def _crc_table(polynomial: int) -> bytes:
    table = bytearray()
    for start in range(256):
        value = start
        for _ in range(8):
            value = (value << 1) ^ (polynomial if value & 0x80 else 0)
            value &= 0xFF
        table.append(value)
    return bytes(table)


_CRC: Final = _crc_table(0x1D)


def crc8(data: bytes) -> int:
    """Return CRC-8 SAE J1850 (polynomial 0x1D, start and final XOR 0xFF) of the bytes."""
    value = 0xFF
    for byte in data:
        value = _CRC[value ^ byte]
    return value ^ 0xFF


@dataclass(frozen=True, slots=True)
class Signal:
    """A field of a frame.

    Attributes:
        name: unique in car.dbc.
        start, size: bits; start as in the DBC.
        big_endian, signed: how the raw integer is laid down.
        factor, offset: physical = raw * factor + offset.
        minimum, maximum: physical limits; values beyond are packed as the limit.
        group: the multiplexer value at which the field exists; None if it always does.
        selects: it is the multiplexer.
    """

    name: str
    start: int
    size: int
    big_endian: bool
    signed: bool
    factor: float
    offset: float
    minimum: float
    maximum: float
    group: int | None
    selects: bool

    def shift(self, length: int) -> int:
        """Return the place of the lowest bit in the frame's bytes read as one integer.

        Args:
            length: bytes of the frame; the integer is little- or big-endian as the signal is.
        """
        if not self.big_endian:
            return self.start
        # DBC counts big-endian starts from the highest bit of the field, bits in a byte downwards.
        from_top = (self.start // 8) * 8 + 7 - self.start % 8
        return length * 8 - from_top - self.size

    @property
    def limits(self) -> tuple[float, float]:
        """Return the physical limits that the bits can hold too."""
        low = -(1 << self.size - 1) if self.signed else 0
        high = (1 << self.size - self.signed) - 1
        return (
            max(self.minimum, low * self.factor + self.offset),
            min(self.maximum, high * self.factor + self.offset),
        )


@dataclass(frozen=True, slots=True)
class MessageLayout:
    """A DBC message.

    Attributes:
        name: as in the DBC.
        arbitration_id: without the DBC's flag bit.
        extended, fd: kind of frame.
        length: data bytes.
        cycle_ms: 0 if it is sent on events only.
        signals: in the order of the DBC.
    """

    name: str
    arbitration_id: int
    extended: bool
    fd: bool
    length: int
    cycle_ms: int
    signals: tuple[Signal, ...]

    @property
    def groups(self) -> int:
        """How many multiplexer values there are; 0 without a multiplexer."""
        return len({signal.group for signal in self.signals if signal.group is not None})


class Packer:
    """Packs one message; keeps its counter.

    Args:
        message: its layout.
    """

    def __init__(self, message: MessageLayout) -> None:
        self.message = message
        self._count = 0
        # What a frame needs, worked out once: for each multiplexer value (name, limits, offset,
        # factor, mask, place), little-endian fields first and big-endian ones after.
        groups = range(message.groups or 1)
        self._plans = [(self._plan(group, False), self._plan(group, True)) for group in groups]
        self._counter = next((s for s in message.signals if s.name.endswith(COUNTER)), None)
        self._has_checksum = any(s.name.endswith(CHECKSUM) for s in message.signals)
        self._prefix = message.arbitration_id.to_bytes(4, "big")

    def _plan(self, group: int, big_endian: bool) -> tuple[_Field, ...]:
        return tuple(
            (s.name, *s.limits, s.offset, s.factor, (1 << s.size) - 1, s.shift(self.message.length))
            for s in self.message.signals
            if s.big_endian is big_endian
            and s.group in (None, group)
            and not s.selects
            and not s.name.endswith((COUNTER, CHECKSUM))
        )

    def pack(self, values: Mapping[str, float]) -> bytes:
        """Return the next frame's data bytes.

        Args:
            values: physical value of each signal that is neither counter nor checksum. The
                multiplexer goes round by itself; of the others only those of its group are read.

        Raises:
            KeyError: a signal has no value.
        """
        group = self._count % len(self._plans)
        little, big = (_bits(plan, values) for plan in self._plans[group])
        for signal in self.message.signals if self.message.groups else ():
            if signal.selects:
                little |= group << signal.start
        if self._counter is not None:
            place = (self._count & 15) << self._counter.shift(self.message.length)
            if self._counter.big_endian:
                big |= place
            else:
                little |= place
        self._count += 1
        return self._finish(little, big)

    def _finish(self, little: int, big: int) -> bytes:
        length = self.message.length
        if big:
            little |= int.from_bytes(big.to_bytes(length, "big"), "little")
        data = little.to_bytes(length, "little")
        if not self._has_checksum:
            return data
        return data[:-1] + bytes([crc8(self._prefix + data[:-1])])


def _bits(plan: tuple[_Field, ...], values: Mapping[str, float]) -> int:
    whole = 0
    for name, low, high, offset, factor, mask, shift in plan:
        value = values[name]
        if value < low:
            value = low
        elif value > high:
            value = high
        whole |= (round((value - offset) / factor) & mask) << shift
    return whole


def parse(text: str) -> tuple[MessageLayout, ...]:
    """Return the messages of a DBC text, in its order.

    Raises:
        ValueError: a BO_ or SG_ line that is not understood; says which.
    """
    signals: dict[int, list[Signal]] = {}
    heads: dict[int, tuple[str, int]] = {}
    attributes: dict[tuple[str, int], str] = {}
    number = -1
    for at, line in enumerate(text.splitlines(), 1):
        if line.startswith("BO_ "):
            found = _MESSAGE.match(line)
            if found is None:
                raise ValueError(f"car.dbc:{at}: not a message: {line}")
            number = int(found[1])
            heads[number], signals[number] = (found[2], int(found[3])), []
        elif line.startswith(" SG_ "):
            signals[number].append(_signal(line, at))
        elif found := _ATTRIBUTE.match(line):
            attributes[found[1], int(found[2])] = found[3]
    return tuple(
        MessageLayout(
            name,
            key & ~_EXTENDED_FLAG,
            bool(key & _EXTENDED_FLAG),
            attributes.get(("VFrameFormat", key)) in _FD_FORMATS,
            length,
            int(attributes.get(("GenMsgCycleTime", key), 0)),
            tuple(signals[key]),
        )
        for key, (name, length) in heads.items()
    )


def _signal(line: str, at: int) -> Signal:
    found = _SIGNAL.match(line)
    if found is None:
        raise ValueError(f"car.dbc:{at}: not a signal: {line}")
    name, mux, start, size, order, sign = found.group(1, 2, 3, 4, 5, 6)
    factor, offset, low, high = (float(found[i]) for i in range(7, 11))
    return Signal(
        name=name,
        start=int(start),
        size=int(size),
        big_endian=order == "0",
        signed=sign == "-",
        factor=factor,
        offset=offset,
        minimum=low,
        maximum=high,
        group=int(mux[1:]) if mux and mux != "M" else None,
        selects=mux == "M",
    )


def load() -> tuple[MessageLayout, ...]:
    """Read car.dbc, which is part of this package."""
    return parse(resources.files("firmware_sim").joinpath("car.dbc").read_text("ascii"))
