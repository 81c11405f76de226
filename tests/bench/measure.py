"""How figures are taken: process CPU time, medians of several runs, ratios inside one run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured thing against its baseline.

    Attributes:
        what: the bar of the design.
        ours: our figure.
        baseline: what it is compared with; empty: the bar is absolute.
        theirs: the baseline's figure in the same run.
        unit: of both.
        ratio: ours against theirs, the way round that the bar speaks of.
        bar: what the ratio (or our figure) must reach, as text.
        met: whether it does; None: not measured here, `note` says why.
        note: how it was measured.
    """

    what: str
    ours: float
    baseline: str
    theirs: float
    unit: str
    ratio: float
    bar: str
    met: bool | None
    note: str = ""

    def row(self) -> dict[str, object]:
        """As a JSON object."""
        return asdict(self)


def cpu_s(work: Callable[[], object], *, runs: int = 3) -> float:
    """Return the median process CPU time of a piece of work, in seconds."""
    spent = []
    for _ in range(runs):
        start = time.process_time()
        work()
        spent.append(time.process_time() - start)
    return statistics.median(spent)


def faster(
    what: str, ours: float, baseline: str, theirs: float, *, unit: str, bar: float, note: str = ""
) -> Figure:
    """A figure whose bar is "so many times less than the baseline"."""
    ratio = theirs / ours
    return Figure(
        what, ours, baseline, theirs, unit, ratio, f">= {bar:g}x less", ratio >= bar, note
    )


def smaller(
    what: str, ours: float, baseline: str, theirs: float, *, unit: str, bar: float, note: str = ""
) -> Figure:
    """A figure whose bar is "at most such a part of the baseline"."""
    ratio = ours / theirs
    return Figure(
        what, ours, baseline, theirs, unit, ratio, f"<= {bar:.2f} of it", ratio <= bar, note
    )


def at_most(what: str, ours: float, *, unit: str, bar: float, note: str = "") -> Figure:
    """A figure with an absolute bar."""
    return Figure(what, ours, "", 0.0, unit, ours / bar, f"<= {bar:g} {unit}", ours <= bar, note)


def left_out(what: str, bar: str, why: str) -> Figure:
    """A bar that cannot be measured on this machine."""
    return Figure(what, 0.0, "", 0.0, "", 0.0, bar, None, why)
