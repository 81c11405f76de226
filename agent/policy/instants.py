"""The instants of a condition: the frames that hold a sample of a signal that it names.

Most conditions are decided by what their signals lie between. So which frames the instants are, and
which sample belongs to which of them, is found only when somebody asks.

Pure but for what was found.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from agent.policy.physical import Floats, Ints

Places = Sequence[Ints | None]
Found = tuple[Ints, Ints, Places]
NOTHING: Final = np.zeros(0, np.int64)
NOBODY: Final = -1
STAMP, RAW, VALUE = range(3)


class Samples(NamedTuple):
    """The samples of one signal in a stretch, in order; there is one, or they are NO_SAMPLES.

    Attributes:
        t: their stamps, as the condition sees them.
        raw: raw values.
        value: physical ones, NaN if unknown.
        least: of the values; NaN if one is unknown.
        most: of them.
        first_ns: the first stamp.
        last_ns: the last one.
    """

    t: Ints
    raw: Ints
    value: Floats
    least: float
    most: float
    first_ns: int
    last_ns: int

    def column(self, number: int) -> npt.NDArray[Any]:
        """Return STAMP, RAW or VALUE."""
        return (self.t, self.raw, self.value)[number]


NO_SAMPLES: Final = Samples(NOTHING, NOTHING, np.zeros(0, np.float64), math.nan, math.nan, 0, 0)


class Instants:
    """The instants of a stretch; there is one.

    Args:
        samples: of each signal; one of them has some.
        find: finds stamp and row of each instant, and the instants of each signal's samples (None:
            all).

    Attributes:
        samples: as given.
        first_ns: stamp of the first one, if their stamps never fall.
        last_ns: stamp of the last one, if their stamps never fall.
        alone: number of the only signal that has samples, NOBODY: there are several.
    """

    __slots__ = ("_find", "_found", "alone", "first_ns", "last_ns", "samples")

    def __init__(self, samples: Sequence[Samples], find: Callable[[], Found]) -> None:
        self.samples, self._find = samples, find
        self._found: Found | None = None
        first_ns = last_ns = 0
        alone, count = NOBODY, 0
        for number, one in enumerate(samples):
            if one is not NO_SAMPLES:
                if not count or one.first_ns < first_ns:
                    first_ns = one.first_ns
                if not count or one.last_ns > last_ns:
                    last_ns = one.last_ns
                alone, count = number, count + 1
        self.first_ns, self.last_ns = first_ns, last_ns
        self.alone = alone if count == 1 else NOBODY

    @property
    def t(self) -> Ints:
        """Their stamps."""
        return self._all()[0] if self.alone == NOBODY else self.samples[self.alone].t

    @property
    def rows(self) -> Ints:
        """Row of the batch: the last sample of each frame."""
        return self._all()[1]

    def at(self, number: int) -> Ints | None:
        """Return the instants at which a signal has a sample, rising; None: all."""
        if self.alone != NOBODY:
            return None if number == self.alone else NOTHING
        return self._all()[2][number]

    def _all(self) -> Found:
        if self._found is None:
            self._found = self._find()
        return self._found


def samples_of(t: Ints, raw: Ints, value: Floats) -> Samples:
    """Return samples in order of their stamps."""
    if not len(t):
        return NO_SAMPLES
    return Samples(t, raw, value, *extremes(value), int(t[0]), int(t[-1]))


def extremes(numbers: Floats) -> tuple[float, float]:
    """Return the least and the most of some numbers, of which there is one; NaN if one is."""
    return float(np.minimum.reduce(numbers)), float(np.maximum.reduce(numbers))
