"""The presence matrix as a CSV file, for programs. Pure."""

from __future__ import annotations

import csv
import datetime as dt
import io
from collections.abc import Iterable, Iterator
from typing import Final

from agent.owner.presence_matrix import Row

COLUMNS: Final = (
    "signal", "message", "unit", "state", "why", "samples", "first_utc", "last_utc", "rate_hz",
    "longest_gap_s", "removed_segments", "removed_why", "named_by", "category", "recipients",
)  # fmt: skip
_EPOCH: Final = dt.datetime(1970, 1, 1)  # noqa: DTZ001 # written with its Z


def presence_csv(rows: Iterable[Row]) -> Iterator[bytes]:
    """Yield a line for the head and for every row.

    `why` is a list of `reason (seconds)`, parted by semicolons, as are the last three columns.
    """
    yield _line(COLUMNS)
    for row in rows:
        yield _line(_cells(row))


def _cells(row: Row) -> tuple[object, ...]:
    keeping = [one for one in row.namings if one.clause]
    seen: tuple[object, ...] = (0, "", "", "", "")
    if (there := row.seen) is not None:
        seen = (
            there.count, _utc(there.first_ns), _utc(there.last_ns),
            f"{there.rate_hz:.6g}" if there.rate_hz else "", f"{there.gap_ns / 1e9:.6f}",
        )  # fmt: skip
    return (
        row.info.name, row.info.message, row.info.unit, row.state,
        "; ".join(f"{name} ({ns / 1e9:.3f})" for name, ns in row.reasons), *seen,
        sum(row.gone.values()),
        "; ".join(f"{why} ({count})" for why, count in sorted(row.gone.items())),
        *("; ".join(dict.fromkeys(getattr(one, name) for one in keeping))
          for name in ("clause", "category", "recipients")),
    )  # fmt: skip


def _utc(unix_ns: int) -> str:
    at = _EPOCH + dt.timedelta(microseconds=unix_ns // 1000)
    return at.isoformat(timespec="microseconds") + "Z"


def _line(cells: Iterable[object]) -> bytes:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(cells)
    return line.getvalue().encode()
