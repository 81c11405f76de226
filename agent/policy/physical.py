"""Raw values of signals to physical ones: raw * factor + offset, in float64.

- Unsigned values are their 64 bits without a sign; floats are their bits (FLOAT32: the lower 32).
- Whole numbers above 2^53 lose their lowest bits, as every float64 does; whoever shows a single
  value to people takes `agent.evidence.text.physical`, which keeps whole numbers whole.
- NaN and infinity are handed on as they are.

Pure.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from agent.policy.model import FLOAT32, FLOAT64, UNSIGNED, SignalInfo

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def physical(raw: Ints, info: SignalInfo) -> Floats:
    """Return the physical values of raw ones.

    Args:
        raw: as in a SignalBatch, any shape.
        info: kind, factor and offset.
    """
    with np.errstate(all="ignore"):  # bits of floats may be NaNs of any sort
        return _number(np.ascontiguousarray(raw), info.kind) * info.factor + info.offset


def _number(raw: Ints, kind: int) -> Floats:
    if kind == FLOAT32:
        return raw.astype(np.uint32).view(np.float32).astype(np.float64)
    if kind == FLOAT64:
        return raw.view(np.float64)
    return (raw.view(np.uint64) if kind == UNSIGNED else raw).astype(np.float64)


class Scales:
    """`physical` of many signals at once.

    Args:
        infos: the signals, by the numbers that `values` is given.
    """

    def __init__(self, infos: Sequence[SignalInfo]) -> None:
        self._factor = np.array([one.factor for one in infos], np.float64)
        self._offset = np.array([one.offset for one in infos], np.float64)
        self._kind = np.array([one.kind for one in infos], np.uint8)
        # Most signals are whole numbers that fit 63 bits: for these one conversion will do.
        self._floats = [int(kind) for kind in {*self._kind.tolist()} & {FLOAT32, FLOAT64}]

    def values(self, raw: Ints, number: Ints) -> Floats:
        """Return the physical value of each (raw value, signal). The caller ignores NaN warnings.

        Args:
            raw: contiguous.
            number: which signal each is of; same shape.
        """
        whole = raw.astype(np.float64)
        if len(raw) and int(raw.min()) < 0:
            unsigned = (raw < 0) & (self._kind[number] == UNSIGNED)
            whole[unsigned] = raw[unsigned].view(np.uint64)
        for kind in self._floats:
            some = self._kind[number] == kind
            whole[some] = _number(raw[some], kind)
        return whole * self._factor[number] + self._offset[number]
