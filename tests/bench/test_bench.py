"""The cheap figures, so that a regression is noticed.

The bars are those of the design, taken by half: a ratio of two CPU times inside one run moves by a
third on a machine that is shared, and what is to be noticed is a change of the design, not a
neighbour. Sizes and written bytes do not move; they must meet their bars in full.
"""

from __future__ import annotations

import pytest

from tests.bench import reading, sealing, sizes
from tests.bench.measure import Figure

MARGIN = 0.5
EXACT = ("flash bytes", "sealing overhead", "stored")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def is_near(figure: Figure) -> bool:
    """Whether a figure meets its bar, or half of it where CPU time is measured."""
    if figure.what.startswith(EXACT) or not figure.baseline:
        return bool(figure.met)
    return figure.ratio >= MARGIN * float(figure.bar.removeprefix(">= ").removesuffix("x less"))


@pytest.mark.parametrize(
    "measure",
    [
        reading.socketcan,
        reading.slcan,
        lambda: sealing.figures(81_920),
        lambda: sizes.sizes(2 * sizes.SEGMENT, logs=False),
    ],
    ids=["socketcan", "slcan", "sealing", "sizes"],
)
def test_bars_hold(measure) -> None:
    figures = measure()
    assert figures
    for figure in figures:
        assert is_near(figure), figure


def test_a_regression_is_noticed() -> None:
    bar = ">= 10x less"
    assert is_near(Figure("reading", 1.0, "python-can", 6.0, "us", 6.0, bar, False))
    assert not is_near(Figure("reading", 1.0, "python-can", 4.0, "us", 4.0, bar, False))
    assert not is_near(Figure("stored", 1.0, "blf", 2.0, "B", 0.5, "<= 0.35 of it", False))
