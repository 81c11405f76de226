"""Opened signals as CSV and as JSON lines, for spreadsheets and for programs. Pure.

- Each row has the moment as UTC and as local time with its offset, both ISO 8601, and as Unix
  seconds; the physical value, its unit and, where the dictionary has one, the label of the value.
- Whole numbers stay whole and scaled ones have 15 digits, as in `text.physical`. JSON has no name
  for NaN and infinity: they are strings.
- A signal name, unit, label or bus can hold anything: it is quoted as CSV and JSON ask for. A cell
  that a spreadsheet would take for a formula is a name of the car's maker, and stays as it is.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from agent.evidence.text import physical, quoted
from agent.frames import SignalBatch
from agent.pb import policy_pb2

CHUNK_ROWS: Final = 65_536
CSV_HEADER: Final = b"utc,local,unix_s,signal,value,unit,label,bus\n"
_MINUTE_NS: Final = 60 * 10**9
_NO_NUMBERS: Final = ("nan", "inf", "-inf")
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)

Ints = npt.NDArray[np.int64]
_Tail = Callable[[policy_pb2.Signal], Callable[[str, str], str]]  # -> (value, label) -> the rest


def csv_rows(
    samples: SignalBatch,
    dictionary: policy_pb2.Dictionary,
    channels: tuple[str, ...],
    zone: dt.tzinfo,
) -> Iterator[bytes]:
    """Yield rows of a CSV, without the header.

    Args:
        samples: in the order they are to be written; each signal number is in the dictionary.
        dictionary: names, units, factors.
        channels: names by channel number.
        zone: of the local time.
    """
    names = [quoted(name) for name in channels]
    for part in _chunks(samples):
        tails = _tails(part, dictionary, _csv_tail)
        yield "".join(
            f"{utc}Z,{local},{unix},{tail},{names[bus]}\n"
            for utc, local, unix, tail, bus in _columns(part, zone, tails)
        ).encode()


def json_lines(
    samples: SignalBatch,
    dictionary: policy_pb2.Dictionary,
    channels: tuple[str, ...],
    zone: dt.tzinfo,
) -> Iterator[bytes]:
    """Yield samples as JSON, one object a line; see `csv_rows`."""
    names = [json.dumps(name, ensure_ascii=False) for name in channels]
    for part in _chunks(samples):
        tails = _tails(part, dictionary, _json_tail)
        yield "".join(
            f'{{"utc": "{utc}Z", "local": "{local}", "unix_s": {unix}, {tail},'
            f' "bus": {names[bus]}}}\n'
            for utc, local, unix, tail, bus in _columns(part, zone, tails)
        ).encode()


def offset_text(offset: dt.timedelta) -> str:
    """Return an offset from UTC as ISO 8601 writes it: "+08:00"."""
    minutes = round(offset.total_seconds() / 60)
    return f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02d}:{abs(minutes) % 60:02d}"


def local_offsets(stamps_ns: Ints, zone: dt.tzinfo) -> tuple[list[dt.timedelta], Ints]:
    """Return the offsets from UTC that occur among stamps, and which each has.

    A zone changes at a whole minute, so each minute is asked for once.
    """
    minutes, place = np.unique(stamps_ns // _MINUTE_NS, return_inverse=True)
    offsets: dict[dt.timedelta, int] = {}
    numbers = [
        offsets.setdefault(_offset(int(minute), zone), len(offsets)) for minute in minutes.tolist()
    ]
    return list(offsets), np.array(numbers, np.int64)[place]


def _offset(minute: int, zone: dt.tzinfo) -> dt.timedelta:
    at = (_EPOCH + dt.timedelta(minutes=minute)).astimezone(zone)
    return at.utcoffset() or dt.timedelta()


def _chunks(samples: SignalBatch) -> Iterator[SignalBatch]:
    for start in range(0, len(samples), CHUNK_ROWS):
        yield samples[start : start + CHUNK_ROWS]


def _columns(
    samples: SignalBatch, zone: dt.tzinfo, tails: list[str]
) -> Iterator[tuple[str, str, str, str, int]]:
    stamps: Ints = samples["timestamp_ns"]
    offsets, which = local_offsets(stamps, zone)
    shifts = np.array([round(one.total_seconds()) * 10**9 for one in offsets], np.int64)
    texts = [offset_text(one) for one in offsets]
    local = np.datetime_as_string((stamps + shifts[which]).astype("M8[ns]"), unit="us").tolist()
    return zip(
        np.datetime_as_string(stamps.astype("M8[ns]"), unit="us").tolist(),
        (at + texts[number] for at, number in zip(local, which.tolist(), strict=True)),
        _seconds(stamps // 1000),
        tails,
        samples["channel"].tolist(),
        strict=True,
    )


def _tails(samples: SignalBatch, dictionary: policy_pb2.Dictionary, tail: _Tail) -> list[str]:
    """Return the rest of each row; each value of a signal is written once."""
    tails = np.empty(len(samples), object)
    for number in np.unique(samples["signal"]).tolist():
        rows = np.flatnonzero(samples["signal"] == number)
        raws, place = np.unique(samples["raw"][rows], return_inverse=True)
        signal = dictionary.signal[number]
        choices, write = dict(signal.choices), tail(signal)
        texts = [write(physical(signal, raw), choices.get(raw, "")) for raw in raws.tolist()]
        tails[rows] = np.array(texts, object)[place]
    found: list[str] = tails.tolist()
    return found


def _csv_tail(signal: policy_pb2.Signal) -> Callable[[str, str], str]:
    name, unit = quoted(signal.name), quoted(signal.unit)
    return lambda value, label: f"{name},{value},{unit},{quoted(label) if label else ''}"


def _json_tail(signal: policy_pb2.Signal) -> Callable[[str, str], str]:
    name, unit = (json.dumps(text, ensure_ascii=False) for text in (signal.name, signal.unit))

    def write(value: str, label: str) -> str:
        number = value if value not in _NO_NUMBERS else f'"{value}"'
        more = f', "label": {json.dumps(label, ensure_ascii=False)}' if label else ""
        return f'"signal": {name}, "value": {number}, "unit": {unit}{more}'

    return write


def _seconds(micros: Ints) -> Iterator[str]:
    """Yield µs as Unix seconds."""
    seconds, rest = np.divmod(np.abs(micros), 1_000_000)
    for negative, whole, part in zip(
        (micros < 0).tolist(), seconds.tolist(), rest.tolist(), strict=True
    ):
        yield f"{'-' if negative else ''}{whole}.{part:06d}"
