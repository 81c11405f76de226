"""Raw values of signals out of frames, for many frames and signals in one pass.

- The value is what stands in the frame, before factor and offset: unsigned and float signals by
  their bits, signed ones sign-extended to 64 bits.
- Any field of 1 to 64 bits anywhere in 64 bytes, both byte orders, exactly as cantools decodes it
  with `allow_truncated`: a field that the frame is too short for is absent, not zero; a
  multiplexed one is absent if a multiplexer is, or has another value.
- The number of numpy calls does not depend on how many signals or ids there are, so that small
  batches are cheap as well: (row, signal) pairs are the unit of work, not signals.

A row is laid out as its data, nine zeros, its data reversed, nine zeros. A big-endian field is a
little-endian one in the reversed data, so both are one unaligned 64-bit load, one byte for the
ninth, a shift and a mask.

Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from agent.frames import FrameBatch
from agent.policy.model import SIGNED, SignalLayout, last_bit

Ints = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]
Bools = npt.NDArray[np.bool_]
Bytes = npt.NDArray[np.uint8]

SLACK: Final = 9  # bytes that a 64-bit field can reach beyond its first one
WIDTHS: Final = (8, 64)


def spread(counts: Ints, starts: Ints) -> tuple[Ints, Ints]:
    """Return (index of the run, element) for runs of consecutive elements laid end to end.

    Args:
        counts: length of each run.
        starts: first element of each run.
    """
    run = np.arange(len(counts)).repeat(counts)
    shift = starts + counts
    shift -= counts.cumsum()
    return run, np.arange(len(run)) + shift[run]


class Rows:
    """The data of a batch, laid out for unaligned loads."""

    def __init__(self, batch: FrameBatch) -> None:
        data = batch["data"]
        self.width = data.shape[1]
        self.stride = 2 * (self.width + SLACK)
        flat = np.zeros((len(batch), self.stride), np.uint8)
        flat[:, : self.width] = data
        flat[:, self.width + SLACK : self.stride - SLACK] = data[:, ::-1]
        self.bytes: Bytes = flat.reshape(-1)
        # Each index of this view is the 64-bit word that begins at that byte.
        self.words: Words = np.ndarray(
            (max(0, self.bytes.size - 7),), np.dtype("<u8"), self.bytes.data, strides=(1,)
        )
        self.bits: Ints = np.minimum(batch["length"], self.width).astype(np.int64) * 8


class Fields:
    """Positions of fields, as columns.

    Args:
        fields: (start bit, bits, big endian, signed) of each.
    """

    def __init__(self, fields: Sequence[tuple[int, int, bool, bool]]) -> None:
        self.needs: Ints = np.array(
            [last_bit(start, bits, big_endian=big) for start, bits, big, _ in fields], np.int64
        )
        start = np.array([field[0] for field in fields], np.int64)
        bits = np.array([field[1] for field in fields], np.uint64)
        big = np.array([field[2] for field in fields], np.bool_)
        signed = np.array([field[3] for field in fields], np.bool_)
        last = self.needs - 1
        self._shift: Words = np.where(big, 7 - last % 8, start % 8).astype(np.uint64)
        self._mask: Words = np.uint64(2**64 - 1) >> (np.uint64(64) - bits)
        top: Words = np.uint64(1) << (bits - np.uint64(1))
        self._sign: Words = np.where(signed, top, np.uint64(0))
        self._reaches_ninth = bool((self._shift + bits > 64).any())
        self._has_signed = bool(signed.any())
        self._byte: dict[int, Ints] = {}
        for width in WIDTHS:
            at = np.where(big, width + SLACK + width - 1 - last // 8, start // 8)
            # Beyond the row: never present there, any place in the row will do.
            self._byte[width] = np.where(self.needs <= 8 * width, at, 0)

    def load(self, rows: Rows, row: Ints, field: Ints) -> Words:
        """Return the value of each (row, field); nonsense where it does not fit the frame."""
        at = row * rows.stride + self._byte[rows.width][field]
        shift = self._shift[field]
        value: Words = rows.words[at] >> shift
        if self._reaches_ninth:
            ninth = rows.bytes[at + 8].astype(np.uint64)
            # In two steps, since a shift by 64 is undefined.
            value |= (ninth << np.uint64(1)) << (np.uint64(63) - shift)
        value &= self._mask[field]
        if self._has_signed:
            sign = self._sign[field]
            value ^= sign
            value -= sign
        return value


class Decoder:
    """All signals of a policy, ready to be read from frames.

    Args:
        layouts: of the signals, by number.
    """

    def __init__(self, layouts: Sequence[SignalLayout]) -> None:
        self._fields = Fields(
            [(one.start, one.bits, one.big_endian, one.kind == SIGNED) for one in layouts]
        )
        mux = [one for layout in layouts for one in layout.mux]
        self._mux_fields = Fields([(one.start, one.bits, one.big_endian, False) for one in mux])
        self._has_mux = bool(mux)
        self._mux_count: Ints = np.array([len(layout.mux) for layout in layouts], np.int64)
        self._mux_start: Ints = np.cumsum(self._mux_count) - self._mux_count
        self._range_count: Ints = np.array([len(one.ranges) for one in mux], np.int64)
        self._range_start: Ints = np.cumsum(self._range_count) - self._range_count
        self._first: Words = np.array([r[0] for one in mux for r in one.ranges], np.uint64)
        self._last: Words = np.array([r[1] for one in mux for r in one.ranges], np.uint64)

    def read(self, rows: Rows, row: Ints, signal: Ints) -> tuple[Ints, Bools, Bools]:
        """Read signals from frames that carry them.

        Args:
            rows: the frames.
            row: of each pair, the frame.
            signal: of each pair, the signal's number.

        Returns:
            Of each pair: the raw value, whether it is present, and whether the frame is too short
            for it (then it is not present).
        """
        raw = self._fields.load(rows, row, signal).view(np.int64)
        short = rows.bits[row] < self._fields.needs[signal]
        present = ~short
        if self._has_mux and (counts := self._mux_count[signal]).any():
            absent, mux_short = self._mux(rows, row, counts, self._mux_start[signal])
            present &= ~absent
            short |= mux_short
        return raw, present, short

    def _mux(self, rows: Rows, row: Ints, counts: Ints, starts: Ints) -> tuple[Bools, Bools]:
        """Return, of each pair, whether a multiplexer excludes it, and whether one is cut off."""
        pair, mux = spread(counts, starts)
        value = self._mux_fields.load(rows, row[pair], mux)
        cut = rows.bits[row[pair]] < self._mux_fields.needs[mux]
        one, span = spread(self._range_count[mux], self._range_start[mux])
        inside = (value[one] >= self._first[span]) & (value[one] <= self._last[span])
        hits = np.bincount(one[inside], minlength=len(mux))
        excluded = (hits == 0) | cut
        size = len(row)
        return (
            np.bincount(pair[excluded], minlength=size) > 0,
            np.bincount(pair[cut], minlength=size) > 0,
        )
