"""Opened frames and samples as text that every tool reads. Pure, and without an object per frame.

- Frames: the log format of `candump -L`: `(1436509052.249713) can0 044#2A366C2BBA`, microseconds;
  CAN FD as `##<flags>`, remote frames as `#R<length>`, error frames with the error bit in the id.
  A stamp before 1970, which a wrapped clock may have left in a log, has a minus sign.
- Samples: CSV with a header line; time as ISO 8601 UTC and as Unix seconds, the physical value, its
  unit, and the label of the raw value where the dictionary has one.

Whole numbers stay whole: integers scaled by integers are exact at any size. Other scaled values are
written with 15 significant digits, which hides the last bit of binary rounding (0.3, not
0.30000000000000004).

Source: can-utils lib.c (snprintf_canframe), linux/can.h.
"""

from __future__ import annotations

import csv
import io
import struct
from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from agent.frames import BRS, ERROR, ESI, EXTENDED, FD, REMOTE, FrameBatch, SignalBatch
from agent.pb import policy_pb2

CHUNK_ROWS: Final = 65_536
CSV_HEADER: Final = "time,unix,name,value,unit,label,channel\n"
CAN_ERR_FLAG: Final = 0x2000_0000
HEAD_CHARS: Final = 20  # "(1436509052.249713) "

_HEX: Final = np.frombuffer(b"0123456789ABCDEF", np.uint8)
_PAIRS: Final = np.stack([np.repeat(_HEX, 16), np.tile(_HEX, 16)], axis=1)

_Bytes = npt.NDArray[np.uint8]


def candump(frames: FrameBatch, channels: tuple[str, ...]) -> Iterator[bytes]:
    """Yield the lines of frames, some 65,536 at a time.

    Args:
        frames: in the order they are to be written.
        channels: names by channel number.
    """
    for start in range(0, len(frames), CHUNK_ROWS):
        yield _candump(frames[start : start + CHUNK_ROWS], channels)


def samples_csv(
    samples: SignalBatch, dictionary: policy_pb2.Dictionary, channels: tuple[str, ...]
) -> Iterator[bytes]:
    """Yield CSV lines of samples, without the header.

    Args:
        samples: in the order they are to be written; each signal number is in the dictionary.
        dictionary: names, units, factors.
        channels: names by channel number.
    """
    for start in range(0, len(samples), CHUNK_ROWS):
        yield _samples(samples[start : start + CHUNK_ROWS], dictionary, channels)


def _candump(frames: FrameBatch, channels: tuple[str, ...]) -> bytes:
    heads = _heads(frames["timestamp_ns"])
    flags, lengths = frames["flags"], frames["length"]
    errors = np.where(flags & ERROR, CAN_ERR_FLAG, 0)
    ids = (frames["arbitration_id"] | errors).astype(np.uint32)
    # Some writers of logs forget the flag; an id that needs 29 bits is never cut to 11.
    wide = ((flags & (EXTENDED | ERROR)) != 0) | (ids > 0x7FF)
    kind = np.where(flags & REMOTE, 2, np.where(flags & FD, 1, 0))
    # All lines of one shape have one length and are written as one matrix.
    shape = ((frames["channel"].astype(np.int64) * 2 + wide) * 4 + kind) * 256 + lengths
    shape = shape * 2 + (frames["timestamp_ns"] < 0)
    shapes, group = np.unique(shape, return_inverse=True)
    parts: list[tuple[npt.NDArray[np.intp], _Bytes]] = []
    sizes = np.zeros(len(frames), np.int64)
    for number, value in enumerate(shapes.tolist()):
        rows = np.flatnonzero(group == number)
        name = channels[value >> 12].encode()
        text = _shape(frames[rows], ids[rows], heads[rows], name, bool(value >> 11 & 1))
        if value & 1:
            text = np.concatenate([_constant(len(rows), b"(-"), text[:, 1:]], axis=1)
        parts.append((rows, text))
        sizes[rows] = text.shape[1]
    ends = np.cumsum(sizes)
    out = np.empty(int(ends[-1]), np.uint8)
    for rows, text in parts:
        places = (ends[rows] - text.shape[1])[:, None] + np.arange(text.shape[1])
        out[places] = text
    return out.tobytes()


def _shape(
    frames: FrameBatch, ids: npt.NDArray[np.uint32], heads: _Bytes, name: bytes, wide: bool
) -> _Bytes:
    """Return the lines of frames that share channel, id width, kind and length."""
    digits = 8 if wide else 3
    shifts = np.arange(4 * (digits - 1), -1, -4, dtype=np.uint32)
    columns = [heads, _constant(len(frames), name + b" "), _HEX[(ids[:, None] >> shifts) & 15]]
    flags, length = int(frames["flags"][0]), int(frames["length"][0])
    if flags & REMOTE:
        columns.append(_constant(len(frames), b"#R%X\n" % length if length else b"#R\n"))
        return np.concatenate(columns, axis=1)
    columns.append(_constant(len(frames), b"##" if flags & FD else b"#"))
    if flags & FD:
        fd = frames["flags"]
        code = ((fd & BRS) != 0).astype(np.uint8) + 2 * ((fd & ESI) != 0).astype(np.uint8)
        columns.append(_HEX[code][:, None])
    columns.append(_PAIRS[frames["data"][:, :length]].reshape(len(frames), 2 * length))
    columns.append(_constant(len(frames), b"\n"))
    return np.concatenate(columns, axis=1)


def _constant(rows: int, text: bytes) -> _Bytes:
    return np.broadcast_to(np.frombuffer(text, np.uint8), (rows, len(text)))


def _heads(stamps: npt.NDArray[np.int64]) -> _Bytes:
    """Return `(seconds.microseconds) ` of each stamp, without its sign."""
    micros = np.abs(stamps // 1000)
    heads = np.empty((len(stamps), HEAD_CHARS), np.uint8)
    heads[:] = np.frombuffer(b"(0000000000.000000) ", np.uint8)
    for column in (17, 16, 15, 14, 13, 12, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1):
        rest = micros // 10
        heads[:, column] += (micros - 10 * rest).astype(np.uint8)
        micros = rest
    return heads


def _samples(
    samples: SignalBatch, dictionary: policy_pb2.Dictionary, channels: tuple[str, ...]
) -> bytes:
    stamps = samples["timestamp_ns"]
    times = np.datetime_as_string(stamps.astype("M8[ns]"), unit="us")
    micros = stamps // 1000
    tails = np.empty(len(samples), object)
    for number in np.unique(samples["signal"]).tolist():
        rows = np.flatnonzero(samples["signal"] == number)
        raws, place = np.unique(samples["raw"][rows], return_inverse=True)
        signal = dictionary.signal[number]
        choices = dict(signal.choices)
        texts = [_fields(signal, choices, raw) for raw in raws.tolist()]
        tails[rows] = np.array(texts, object)[place]
    names = [quoted(name) for name in channels]
    lines = [
        f"{time}Z,{_seconds(micro)},{tail},{names[channel]}\n"
        for time, micro, tail, channel in zip(
            times.tolist(),
            micros.tolist(),
            tails.tolist(),
            samples["channel"].tolist(),
            strict=True,
        )
    ]
    return "".join(lines).encode()


def _seconds(micros: int) -> str:
    """Return µs as Unix seconds."""
    seconds, rest = divmod(abs(micros), 1_000_000)
    return f"{'-' if micros < 0 else ''}{seconds}.{rest:06d}"


def _fields(signal: policy_pb2.Signal, choices: dict[int, str], raw: int) -> str:
    value = physical(signal, raw)
    return ",".join((quoted(signal.name), value, quoted(signal.unit), quoted(choices.get(raw, ""))))


def physical(signal: policy_pb2.Signal, raw: int) -> str:
    """Return the physical value of a raw one, as text.

    Args:
        signal: kind, factor and offset.
        raw: as in a SignalBatch: signed 64 bits that hold the value's bits.
    """
    factor, offset = signal.factor, signal.offset
    if signal.kind == policy_pb2.Signal.FLOAT32:
        bits = struct.pack("<I", raw & 0xFFFF_FFFF)
        return f"{struct.unpack('<f', bits)[0] * factor + offset:.9g}"
    if signal.kind == policy_pb2.Signal.FLOAT64:
        value: float = struct.unpack("<d", struct.pack("<q", raw))[0]
        return repr(value * factor + offset)
    whole = raw & 0xFFFF_FFFF_FFFF_FFFF if signal.kind == policy_pb2.Signal.UNSIGNED else raw
    if factor.is_integer() and offset.is_integer():
        return str(whole * int(factor) + int(offset))
    return f"{whole * factor + offset:.15g}"


def quoted(text: str) -> str:
    """Return a CSV field, quoted where it has to be."""
    if not any(mark in text for mark in ',"\r\n'):
        return text
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow([text])
    return line.getvalue()
