"""What a replay did, in figures and in words."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

import click

from agent.cli.common import print_json

_HISTOGRAM: Final = 64


@dataclass(slots=True)
class Summary:
    """What a replay did. `late` counts frames by the power of two of their lateness in µs."""

    sent: int = 0
    broken: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    retries: int = 0
    worst_us: float = 0.0
    total_late_us: float = 0.0
    late: list[int] = field(default_factory=lambda: [0] * _HISTOGRAM)
    interrupted: bool = False

    def note_late(self, late_us: float) -> None:
        """Count one frame's lateness; early ones (there are none) count as on time."""
        late_us = max(0.0, late_us)
        self.worst_us = max(self.worst_us, late_us)
        self.total_late_us += late_us
        self.late[min(int(late_us).bit_length(), _HISTOGRAM - 1)] += 1

    def late_us(self, share: float) -> int:
        """Return the lateness that this share of the frames stays below, as a power of two, µs."""
        wanted, seen = share * sum(self.late), 0
        for bits, count in enumerate(self.late):
            seen += count
            if seen >= wanted:
                return 1 << bits
        return 1 << _HISTOGRAM

    def as_dict(self) -> dict[str, Any]:
        """Return the summary for --json."""
        paced = sum(self.late)
        return {
            "sent": self.sent,
            "broken": self.broken,
            "skipped": dict(self.skipped),
            "seconds": round(self.seconds, 6),
            "retries": self.retries,
            "interrupted": self.interrupted,
            "late_us": {
                "mean": round(self.total_late_us / paced, 1),
                "p99_below": self.late_us(0.99),
                "max": round(self.worst_us, 1),
            }
            if paced
            else None,
        }


def report(summary: Summary, *, as_json: bool) -> None:
    """Say it, once, at the end."""
    figures = summary.as_dict()
    if as_json:
        print_json(figures)
        return
    text = f"sent {summary.sent} frames in {summary.seconds:.1f} s"
    if late := figures["late_us"]:
        text += f", late by {late['mean']} µs on average, 99 % below {late['p99_below']} µs"
        text += f", at most {late['max']} µs"
    click.echo(text + (", interrupted" if summary.interrupted else ""))
    for why, count in summary.skipped.items():
        click.echo(f"not sent: {count} ({why})")
    if summary.broken:
        click.echo(f"broken lines: {summary.broken}")
