"""Text formats that are read line by line. Pure: a dialect turns lines into rows.

| dialect | line | stamps |
|---|---|---|
| gvret (SavvyCAN, GVRET) | `166064000,0000021A,false,0,8,FE,36,...`, columns by its header | µs |
| crtd (OVMS) | `1705316400.050000 3R11 131 00 00` | s with decimals |
| busmaster | `22:20:14:992 Rx 0 0000021A s 8 FE 36 ...` | time of day, ms or 0.1 ms |
| microchip (CAN BUS Analyzer) | `166064;RX;0x0000021A;8;0xFE;...` | ms |
| generic_id (SavvyCAN) | `0000021A,FE 36 12` | none: 0, 1, 2 ... ms |
| carbus (CarBus Analyzer) | `46,016<tab>1<tab>0004<tab>45A<tab>8<tab>5A 04 ...` | s and ms |

- Stamps stay as recorded. Only BUSMASTER's time of day is joined with the date of its header, taken
  as UTC since it names no zone; past midnight it goes on with the next day.
- A numbered bus n is channel "can<n>"; where a format names none it is "can0".
- CRTD ids say their width; microchip, generic_id and carbus do not: above 7FF they are 29-bit.
- `parse(line)` gives a Row, None for a line without a frame, or raises ValueError with the reason.

Source: files that SavvyCAN exports; OVMS CRTD documentation; BUSMASTER 3 log format.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable
from typing import Final

from agent.capture.logs.row import Row, decimal_ns, make_row

Parse = Callable[[str], Row | None]

_DAY_NS: Final = 86_400 * 10**9
_HALF_DAY_NS: Final = _DAY_NS // 2


def _data(digits: str) -> bytes:
    try:
        return bytes.fromhex(digits)
    except ValueError:
        raise ValueError("the data are no pairs of hex digits") from None


def _number(text: str, base: int, what: str) -> int:
    if not text.isalnum():  # int() would take signs, blanks and underscores
        raise ValueError(f"{text!r} is no {what}")
    try:
        return int(text, base)
    except ValueError:
        raise ValueError(f"{text!r} is no {what}") from None


def _signed(text: str) -> int:
    """Return a time in µs; SavvyCAN writes negative ones where the adapter's clock wrapped."""
    number = _number(text.removeprefix("-"), 10, "time in µs")
    return -number if text.startswith("-") else number


class Gvret:
    """SavvyCAN's own CSV, with or without a Dir column, with or without a trailing comma."""

    def __init__(self) -> None:
        self._at: dict[str, int] = {}

    def __call__(self, line: str) -> Row | None:
        """Read one line; the first must be the header."""
        cells = [cell.strip() for cell in line.split(",")]
        if not any(cells):
            return None
        if not self._at:
            self._at = {name.lower(): index for index, name in enumerate(cells)}
            missing = {"time stamp", "id", "extended", "bus", "len", "d1"} - set(self._at)
            if missing:
                raise ValueError(f"the header lacks {', '.join(sorted(missing))}")
            return None
        at = self._at
        if len(cells) < at["d1"]:
            raise ValueError(f"expected at least {at['d1']} columns")
        length = _number(cells[at["len"]], 10, "length")
        values = cells[at["d1"] : at["d1"] + length]
        if len(values) != length or any(len(value) != 2 for value in values):
            raise ValueError(f"expected {length} bytes of two hex digits")
        extended = cells[at["extended"]].lower()
        if extended not in ("true", "false", "1", "0"):
            raise ValueError("Extended must be true or false")
        return make_row(
            _signed(cells[at["time stamp"]]) * 1000,
            f"can{_number(cells[at['bus']], 10, 'bus number')}",
            _number(cells[at["id"]], 16, "id"),
            _data("".join(values)),
            extended=extended in ("true", "1"),
        )


_CRTD: Final = re.compile(r"(\d+)\.(\d{1,9})\s+(\d*)([A-Z][A-Z0-9]*)(?:\s+(.*))?")


def crtd(line: str) -> Row | None:
    """Read one line of an OVMS CRTD log."""
    line = line.strip()
    if not line or line.startswith("#"):
        return None
    match = _CRTD.fullmatch(line)
    if match is None:
        raise ValueError("expected: seconds record-type id bytes")
    seconds, fraction, bus, kind, rest = match.groups()
    if kind.startswith(("C", "E")):  # comment, command, event
        return None
    if kind not in ("R11", "R29", "T11", "T29"):
        raise ValueError(f"unknown record type {kind}")
    digits, _, data = (rest or "").partition(" ")
    return make_row(
        decimal_ns(seconds, fraction),
        f"can{bus or 0}",
        _number(digits, 16, "id"),
        _data(data),
        extended=kind.endswith("29"),
    )


_BUSMASTER: Final = re.compile(
    r"(\d+):(\d{1,2}):(\d{1,2}):(\d{1,6})\s+[RT]x\s+(\d+)\s+(?:0x)?([0-9A-Fa-f]+)\s+(s|x|sr|xr)\s+"
    r"(\d+)\s*(.*)",
)
_BUSMASTER_DATE: Final = re.compile(r"\*+START DATE AND TIME (\d+):(\d+):(\d+) .*")


class Busmaster:
    """A BUSMASTER log: the header says the base of numbers, the kind of times and the date."""

    def __init__(self) -> None:
        self._base, self._midnight_ns, self._last_ns = 16, 0, 0
        self._is_time_of_day = True

    def __call__(self, line: str) -> Row | None:
        """Read one line."""
        line = line.strip()
        if not line:
            return None
        if line.startswith("***"):
            self._header(line)
            return None
        match = _BUSMASTER.fullmatch(line)
        if match is None:
            raise ValueError("expected: h:mm:ss:ms Rx channel id type length bytes")
        hours, minutes, seconds, fraction, bus, digits, kind, length_text, rest = match.groups()
        length, data = int(length_text), self._bytes(rest.split())
        if kind.endswith("r"):
            data = b""
        elif len(data) != length:
            raise ValueError(f"expected {length} bytes, found {len(data)}")
        return make_row(
            self._stamp(int(hours) * 3600 + int(minutes) * 60 + int(seconds), fraction),
            f"can{bus}",
            _number(digits, self._base, "id"),
            data,
            extended=kind.startswith("x"),
            remote=length if kind.endswith("r") else None,
        )

    def _header(self, line: str) -> None:
        if line.startswith("***DEC***"):
            self._base = 10
        elif line.startswith(("***RELATIVE MODE", "***ABSOLUTE MODE")):
            self._is_time_of_day, self._midnight_ns = False, 0
        elif match := _BUSMASTER_DATE.match(line):
            day, month, year = (int(part) for part in match.groups())
            date = datetime.datetime(year, month, day, tzinfo=datetime.UTC)
            self._midnight_ns = int(date.timestamp()) * 10**9

    def _bytes(self, texts: list[str]) -> bytes:
        if self._base == 16:
            return _data("".join(texts)) if all(len(text) == 2 for text in texts) else _data("?")
        return bytes(_number(text, 10, "byte") for text in texts)

    def _stamp(self, seconds: int, fraction: str) -> int:
        # Up to three digits are milliseconds, not padded ("15:2" is 15.002 s); four are 0.1 ms.
        in_day = decimal_ns(str(seconds), fraction.rjust(3, "0"))
        if self._is_time_of_day:
            if in_day < self._last_ns - _HALF_DAY_NS:
                self._midnight_ns += _DAY_NS
            self._last_ns = in_day
        return self._midnight_ns + in_day


_MICROCHIP: Final = re.compile(
    r"(\d+);[RT]X;(?:0x)?([0-9A-Fa-f]+)x?;(\d+);((?:(?:0x)?[0-9A-Fa-f]{2};?)*)"
)


class Microchip:
    """A log of Microchip's CAN BUS Analyzer: two ruled lines around its header."""

    def __init__(self) -> None:
        self._rules = 0

    def __call__(self, line: str) -> Row | None:
        """Read one line."""
        line = line.strip()
        if line.startswith("//"):
            self._rules += 1
            return None
        if not line or self._rules < 2:
            return None
        match = _MICROCHIP.fullmatch(line)
        if match is None:
            raise ValueError("expected: ms;RX;0xID;length;0xBYTE;...")
        milliseconds, digits, length, rest = match.groups()
        data = _data(rest.replace("0x", "").replace(";", ""))
        if len(data) != int(length):
            raise ValueError(f"expected {length} bytes, found {len(data)}")
        arbitration_id = int(digits, 16)
        return make_row(
            int(milliseconds) * 1_000_000,
            "can0",
            arbitration_id,
            data,
            extended=arbitration_id > 0x7FF,
        )


class GenericId:
    """Ids and bytes without times: the rows are 1 ms apart, so that they have an order."""

    def __init__(self) -> None:
        self._count = -1

    def __call__(self, line: str) -> Row | None:
        """Read one line; the first is the header."""
        line = line.strip()
        if self._count < 0:
            self._count = 0
            return None
        if not line:
            return None
        digits, comma, rest = line.partition(",")
        if not comma:
            raise ValueError("expected: id,bytes")
        arbitration_id = _number(digits, 16, "id")
        row = make_row(
            self._count * 1_000_000,
            "can0",
            arbitration_id,
            _data(rest),
            extended=arbitration_id > 0x7FF,
        )
        self._count += 1
        return row


_CARBUS: Final = re.compile(
    r"(\d+),(\d{3})\t(\d+)\t[0-9A-Fa-f]+\t([0-9A-Fa-f]+)\t(\d+)\t([0-9A-Fa-f ]*)(?:\t.*)?"
)


def carbus(line: str) -> Row | None:
    """Read one line of a CarBus Analyzer trace."""
    if not line.strip() or line.startswith("@"):
        return None
    match = _CARBUS.fullmatch(line)
    if match is None:
        raise ValueError("expected: s,ms, channel, flags, id, length, bytes between tabs")
    seconds, milliseconds, bus, digits, length, rest = match.groups()
    data, arbitration_id = _data(rest), int(digits, 16)
    if len(data) != int(length):
        raise ValueError(f"expected {length} bytes, found {len(data)}")
    return make_row(
        decimal_ns(seconds, milliseconds),
        f"can{bus}",
        arbitration_id,
        data,
        extended=arbitration_id > 0x7FF,
    )


# Each read makes its own parser: some remember their header.
DIALECTS: Final[dict[str, Callable[[], Parse]]] = {
    "gvret": Gvret,
    "crtd": lambda: crtd,
    "busmaster": Busmaster,
    "microchip": Microchip,
    "generic_id": GenericId,
    "carbus": lambda: carbus,
}
