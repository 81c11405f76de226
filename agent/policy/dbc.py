"""DBC files: where the signals that a policy names stand in frames.

The only file that imports cantools; it runs where policies are built, never in the running agent.

- A file is read as UTF-8, GBK or cp1252, whichever it is (`decode_text`).
- Overlapping signals and signals beyond their message are no reason to refuse a file, since real
  ones have them; a signal that is named must lie within 64 bytes.
- A message is J1939 if its frame format says so (VFrameFormat J1939PG, its own or the file's
  default), or the file does (ProtocolType J1939) and the message has no format of its own. Its id
  then stands for a parameter group (`j1939.py`). A source address alone says nothing.
- A name cut to 32 characters in a multiplexer's place (old tools do that) finds its signal.
- A file that cannot be read ends in one PolicyError with the line.
"""

from __future__ import annotations

import contextlib
import logging
import math
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from agent.errors import ConfigError, PolicyError
from agent.files import read_plain
from agent.policy.j1939 import free_bits, group_number
from agent.policy.model import (
    FLOAT32,
    FLOAT64,
    MAX_MUX_DEPTH,
    SIGNED,
    UNSIGNED,
    MuxLayout,
    SignalInfo,
    SignalLayout,
    last_bit,
)
from agent.units import nearest

MAX_DBC_BYTES: Final = 32 * 1024 * 1024
MAX_MUX_SPAN: Final = 65_536  # values of one range; cantools makes a list of them
_LINE: Final = re.compile(r"(.*) at line (\d+), column \d+: ")
_MUX_RANGE: Final = re.compile(r"^SG_MUL_VAL_[^;]*;", re.MULTILINE)
_GB2312: Final = re.compile(rb"[\xA1-\xFE][\xA1-\xFE]")
_HIGH: Final = re.compile(rb"[\x80-\xFF]+")


@dataclass(frozen=True, slots=True)
class Found:
    """A signal of a DBC file, ready for the compiled policy."""

    info: SignalInfo
    layout: SignalLayout


@dataclass(frozen=True, slots=True)
class _Candidate:
    file: str
    message: Any  # cantools objects carry no types
    signal: Any
    free_bits: int = 0  # of the id

    @property
    def text(self) -> str:
        return f"{self.message.name}.{self.signal.name}"


class Dictionary:
    """All signals of some DBC files, by name.

    Args:
        paths: of the files.

    Raises:
        PolicyError: a file is missing, too large or malformed.
        ConfigError: cantools is not installed.
    """

    def __init__(self, paths: list[Path]) -> None:
        self._files = [path.name for path in paths]
        self._by_name: dict[str, list[_Candidate]] = defaultdict(list)
        for path in paths:
            database = load_dbc(path)
            groups = _groups(database)
            for message in database.messages:
                number, free = message.frame_id, 0
                if _is_j1939(database, message):
                    free = free_bits(number, groups[group_number(number)])
                for signal in message.signals:
                    self._by_name[signal.name].append(_Candidate(path.name, message, signal, free))

    def find(self, message: str, name: str, *, where: str) -> Found:
        """Return the one signal of a name.

        Args:
            message: DBC message, or "" for any.
            name: of the signal.
            where: file and line that names it, for errors.

        Raises:
            PolicyError: unknown, ambiguous, or not readable as it is declared.
        """
        candidates = [
            one for one in self._by_name.get(name, []) if message in ("", one.message.name)
        ]
        if not candidates:
            self._refuse_unknown(message, name, where)
        found = {_found(one, where): one for one in candidates}
        if len(found) > 1:
            texts = [one.text for one in found.values()]
            if len(set(texts)) < len(texts):
                texts = [f"{one.text} of {one.file}" for one in found.values()]
            raise PolicyError(
                f"signal '{name}' is ambiguous: {', '.join(texts[:8])}",
                where=where,
                todo="write Message.Signal, and name only one of two files that disagree",
            )
        return next(iter(found))

    def all(self) -> Iterator[Found]:
        """Yield every signal, in no order; those that cannot be read as declared are left out."""
        for candidates in self._by_name.values():
            for one in candidates:
                with contextlib.suppress(PolicyError):
                    yield _found(one, one.file)

    def _refuse_unknown(self, message: str, name: str, where: str) -> None:
        if not self._files:
            raise PolicyError(
                f"signal '{name}' cannot be found: no DBC file is named",
                where=where, todo='add dbc = ["vehicle.dbc"] at the top',
            )  # fmt: skip
        if message and (others := self._by_name.get(name)):
            advice = f"it is in {', '.join(sorted({one.message.name for one in others})[:8])}"
        else:
            advice = nearest(name, self._by_name, noun="known signal")
        text = f"{message}.{name}" if message else name
        raise PolicyError(f"unknown signal '{text}'", where=where, todo=advice)


def load_dbc(path: Path) -> Any:
    """Read one DBC file.

    Raises:
        PolicyError: missing, too large or malformed, with the line where it is known.
        ConfigError: cantools is not installed.
    """
    try:
        from cantools.database import load_string  # noqa: PLC0415 - an optional dependency
        from cantools.database.errors import UnsupportedDatabaseFormatError  # noqa: PLC0415
    except ImportError:
        raise ConfigError("cantools is not installed", todo="pip install 'inland[dbc]'") from None
    try:
        data = read_plain(path, MAX_DBC_BYTES)
    except FileNotFoundError:
        raise PolicyError("no such DBC file", where=str(path)) from None
    except OSError as error:
        raise PolicyError(f"cannot read the DBC file: {error.strerror}", where=str(path)) from None
    if len(data) > MAX_DBC_BYTES:
        raise PolicyError(f"DBC file above {MAX_DBC_BYTES} bytes", where=str(path))
    text = decode_text(data)
    _check_mux_ranges(text, path)
    try:
        with _quiet():
            return load_string(text, "dbc", strict=False)
    except UnsupportedDatabaseFormatError as error:
        raise _malformed(path, text, str(error.e_dbc)) from None


def decode_text(data: bytes) -> str:
    r"""Return the text of a DBC file, whichever encoding it has.

    UTF-8 is certain when it fits. GBK and cp1252 both accept nearly anything ("\xB0C", degrees
    Celsius in cp1252, is also a Chinese character in GBK), but Chinese text consists of pairs of
    high bytes, and Western text of high bytes on their own.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        pass
    runs = _HIGH.findall(data)
    paired = sum(len(run) for run in runs if _GB2312.match(run) and len(run) % 2 == 0)
    if 2 * paired > sum(map(len, runs)):
        return data.decode("gb18030", "replace")
    return data.decode("cp1252", "replace")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep cantools from logging about duplicate names, which are found here when they matter."""
    logger = logging.getLogger("cantools")
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(before)


def _check_mux_ranges(text: str, path: Path) -> None:
    for entry in _MUX_RANGE.finditer(text):
        for first, last in re.findall(r"(\d+)\s*-\s*(\d+)", entry[0]):
            if int(last) - int(first) >= MAX_MUX_SPAN:
                line = text.count("\n", 0, entry.start()) + 1
                raise PolicyError(
                    f"multiplexer range {first}-{last} is too long",
                    where=f"{path}:{line}", todo=f"at most {MAX_MUX_SPAN} values",
                )  # fmt: skip


def _malformed(path: Path, text: str, reason: str) -> PolicyError:
    """Return one line about a file that cantools refused, with the line of the file."""
    found = _LINE.match(reason)
    if found:
        return PolicyError(
            f"malformed DBC: {found[1].lower()}", where=f"{path}:{found[2]}", todo="correct it"
        )
    # Its other objections end with the name of a message or with a line of the file.
    words = re.findall(r"\w+", reason)
    line = next(
        (n for n, one in enumerate(text.splitlines(), 1)
         if words and re.search(rf"\b(?:BO_|VAL_|SIG_VALTYPE_)\s.*\b{words[-1]}\b", one)),
        0,
    )  # fmt: skip
    place = f"{path}:{line}" if line else str(path)
    return PolicyError(f"malformed DBC: {' '.join(reason.split())[:300].rstrip('.')}", where=place)


def _groups(database: Any) -> dict[int, list[int]]:
    """Return the ids of a file's J1939 messages by parameter group."""
    groups: dict[int, list[int]] = defaultdict(list)
    for message in database.messages:
        if _is_j1939(database, message):
            groups[group_number(message.frame_id)].append(message.frame_id)
    return groups


def _is_j1939(database: Any, message: Any) -> bool:
    """Return whether a message's id stands for a parameter group."""
    if not message.is_extended_frame:
        return False
    if message.protocol == "j1939" or "VFrameFormat" in message.dbc.attributes:
        return bool(message.protocol == "j1939")
    said, defined = (
        some.get("ProtocolType")
        for some in (database.dbc.attributes, database.dbc.attribute_definitions)
    )
    protocol = said.value if said is not None else defined.default_value if defined else ""
    return str(protocol).upper() == "J1939"


def _found(candidate: _Candidate, where: str) -> Found:
    """Return a signal as values.

    Raises:
        PolicyError: it cannot be read from any frame.
    """
    signal, message = candidate.signal, candidate.message
    kind = _kind(candidate, where)
    _check_field(candidate, signal, where)
    choices = {int(raw): str(label) for raw, label in (signal.choices or {}).items()}
    if not (math.isfinite(signal.scale) and math.isfinite(signal.offset)):
        raise _useless(candidate, where, "has a factor or offset that is not a number")
    if any(not -(2**63) <= raw < 2**63 for raw in choices):
        raise _useless(candidate, where, "has labels for values of more than 63 bits")
    info = SignalInfo(
        name=signal.name, message=message.name, unit=signal.unit or "",
        factor=float(signal.scale), offset=float(signal.offset), kind=kind,
        choices=tuple(sorted(choices.items())),
    )  # fmt: skip
    return Found(
        info,
        SignalLayout(
            arbitration_id=message.frame_id & ~candidate.free_bits,
            extended=message.is_extended_frame,
            start=signal.start, bits=signal.length, big_endian=signal.byte_order == "big_endian",
            kind=kind, mux=tuple(_mux(candidate, where)), free_bits=candidate.free_bits,
        ),
    )  # fmt: skip


def _useless(candidate: _Candidate, where: str, why: str) -> PolicyError:
    return PolicyError(f"signal '{candidate.text}' of {candidate.file} {why}", where=where)


def _kind(candidate: _Candidate, where: str) -> int:
    signal = candidate.signal
    if not signal.is_float:
        return SIGNED if signal.is_signed else UNSIGNED
    kinds = {32: FLOAT32, 64: FLOAT64}
    if signal.length not in kinds:
        raise _useless(candidate, where, f"is a float of {signal.length} bits")
    return kinds[signal.length]


def _check_field(candidate: _Candidate, signal: Any, where: str) -> None:
    big = signal.byte_order == "big_endian"
    if not 1 <= signal.length <= 64:
        raise _useless(candidate, where, f"has {signal.length} bits; from 1 to 64 are possible")
    if signal.start < 0 or last_bit(signal.start, signal.length, big_endian=big) > 512:
        raise _useless(candidate, where, "lies beyond 64 bytes")


def _mux(candidate: _Candidate, where: str) -> Iterator[MuxLayout]:
    """Yield the multiplexers that a signal depends on, innermost first."""
    signal = candidate.signal
    for _ in range(MAX_MUX_DEPTH + 1):
        if signal.multiplexer_signal is None:
            return
        parent = _multiplexer(candidate, signal.multiplexer_signal, where)
        _check_field(candidate, parent, where)
        top = 1 << (parent.length - (1 if parent.is_signed else 0))
        values = sorted(value for value in signal.multiplexer_ids or () if 0 <= value < top)
        if not values or parent.is_float:
            raise _useless(candidate, where, "is multiplexed by a value that cannot occur")
        yield MuxLayout(
            parent.start, parent.length, parent.byte_order == "big_endian", _ranges(values)
        )
        signal = parent
    raise _useless(candidate, where, "is multiplexed in a circle or too deeply")


def _multiplexer(candidate: _Candidate, name: str, where: str) -> Any:
    signals = [one for one in candidate.message.signals if one.is_multiplexer]
    exact = [one for one in signals if one.name == name]
    near = exact or [one for one in signals if one.name.startswith(name)]
    if len(near) != 1:
        raise _useless(candidate, where, f"is multiplexed by '{name}', which is not there")
    return near[0]


def _ranges(values: list[int]) -> tuple[tuple[int, int], ...]:
    ranges: list[tuple[int, int]] = []
    for value in values:
        if ranges and value == ranges[-1][1] + 1:
            ranges[-1] = (ranges[-1][0], value)
        elif not ranges or value > ranges[-1][1]:
            ranges.append((value, value))
    return tuple(ranges)
