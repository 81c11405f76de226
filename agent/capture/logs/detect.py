"""Which format a log has: by content first, by extension second. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

COMPRESSIONS: Final = (".gz", ".bz2", ".zst")
KNOWN: Final = (
    "candump .log, SavvyCAN .csv, CRTD, BUSMASTER .log, Microchip CAN BUS Analyzer, CarBus .trc, "
    ".asc, .blf, .trc, .mf4, python-can .csv or .db; each also .gz, .bz2, .zst"
)

_MAGIC: Final = (
    (b"LOGG", "blf"),
    (b"MDF     ", "mf4"),
    (b"UnFinMF ", "mf4"),
    (b"SQLite format 3\0", "sqlite"),
    (b"@ TEXT @", "carbus"),
    (b"***BUSMASTER", "busmaster"),
)
_TEXT: Final = (
    (re.compile(rb"time stamp,\s*id,\s*extended,", re.IGNORECASE), "gvret"),
    (re.compile(rb"id,\s*data bytes\s*$", re.IGNORECASE | re.MULTILINE), "generic_id"),
    (re.compile(rb"timestamp,arbitration_id,extended,remote,error,dlc,data"), "python_can_csv"),
    (re.compile(rb"//-+\s*\nMicrochip Technology Inc\."), "microchip"),
    (re.compile(rb";\$FILEVERSION=|;#{10}|;-{10}|;\s+\S+\.trc\b", re.IGNORECASE), "trc"),
)
# A format whose lines all look alike: half of them at least, so that a text that only quotes some
# lines is no log, and a log with some broken lines is one.
_MOSTLY: Final[tuple[tuple[re.Pattern[bytes], str], ...]] = (
    (re.compile(rb"^\s*(?:\d+[ \t]+)?\(-?\d+\.\d+\)[ \t]+\S+[ \t]+[0-9A-Fa-f]+#", re.M), "candump"),
    (re.compile(rb"^\d+\.\d+[ \t]+\d*(?:[RT](?:11|29)[ \t]+[0-9A-Fa-f]|CXX|CEV)", re.M), "crtd"),
)
_ASC: Final = re.compile(rb"^(?:date\s+\w+\s|base\s+(?:hex|dec)\b)", re.M | re.I)
_LINE: Final = re.compile(rb"^[ \t]*[^#\s].*$", re.M)
_EXTENSIONS: Final = {
    ".asc": "asc",
    ".blf": "blf",
    ".mf4": "mf4",
    ".db": "sqlite",
    ".trc": "trc",
}
_EMPTY_IS_FINE: Final = (".log", ".candump", ".txt", ".crtd", ".csv")


def detect(head: bytes, name: str) -> str | None:
    """Return the format of a log, or None if it has none that we know.

    Args:
        head: its first bytes, decompressed.
        name: of the file.
    """
    head = head.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n")
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            return kind
    start = head.lstrip()
    for pattern, kind in _TEXT:
        if pattern.match(start):
            return kind
    for pattern, kind in _MOSTLY:
        if _is_most(pattern, head):
            return kind
    if _ASC.search(head):
        return "asc"
    suffix = extension(name)
    if not head.strip() and suffix in _EMPTY_IS_FINE:
        return "candump"  # a recording in which nothing came
    return _EXTENSIONS.get(suffix)


def _is_most(pattern: re.Pattern[bytes], head: bytes) -> bool:
    """Return whether at least half of the lines match, comments and blank lines aside."""
    found = len(pattern.findall(head))
    return found > 0 and 2 * found >= len(_LINE.findall(head))


def extension(name: str) -> str:
    """Return the extension in lower case, without that of a compression."""
    parts: Callable[[str], str] = str.lower
    name = parts(name)
    for compression in COMPRESSIONS:
        name = name.removesuffix(compression)
    return name[name.rfind(".") :] if "." in name else ""


_ASC_CHANNEL_0: Final = re.compile(rb"^\s*\d+\.\d+\s+(?:CANFD\s+)?0\s+[0-9A-Fa-f]+x?\s", re.M)


def first_channel(kind: str, head: bytes) -> int:
    """Return what python-can calls the first channel of such a log: 0, or -1.

    ASC counts channels from 1 and python-can from 0; some tools write an ASC that counts from 0.
    """
    return -1 if kind == "asc" and _ASC_CHANNEL_0.search(head) else 0
