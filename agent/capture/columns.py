"""Text by columns: lines of equal shape are a matrix of characters, fields slices of it. Pure.

Shared by the readers of SLCAN streams and of candump logs.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from agent.frames import FRAME, FrameBatch

Characters = npt.NDArray[np.uint8]
Offsets = npt.NDArray[np.int64]

HEX_DIGITS: Final = b"0123456789ABCDEFabcdef"


def _nibbles() -> Characters:
    table = np.full(256, 255, np.uint8)
    for digit in HEX_DIGITS:
        table[digit] = int(chr(digit), 16)
    return table


NIBBLES: Final = _nibbles()  # value of each hex digit, 255 for anything else


def matrix(text: Characters, starts: Offsets, width: int) -> Characters:
    """Return the `width` characters from each start, one row a start (a copy)."""
    if not len(starts):
        return np.zeros((0, width), np.uint8)
    # Each item of this view is the text from one character on, and is moved in one piece.
    windows: npt.NDArray[np.void] = np.ndarray(
        (len(text) - width + 1,), np.dtype((np.void, width)), text.data, strides=(1,)
    )
    return windows[starts].view(np.uint8).reshape(-1, width)


def rows_below(values: Characters, limit: int) -> npt.NDArray[np.bool_]:
    """Return for each row whether all its values are below the limit."""
    # Most often all are: one look at the whole is many times faster than one a row.
    if not values.size or values.max() < limit:
        return np.ones(len(values), np.bool_)
    below: npt.NDArray[np.bool_] = values.max(axis=1) < limit
    return below


def hex_number(nibbles: Characters) -> npt.NDArray[np.uint32]:
    """Return the number that each row of hex digit values spells, at most 8 digits."""
    number = np.zeros(len(nibbles), np.uint32)
    for column in range(nibbles.shape[1]):
        number = (number << np.uint32(4)) | nibbles[:, column]
    return number


def hex_bytes(nibbles: Characters) -> Characters:
    """Return the bytes that each row of hex digit values spells, two digits a byte."""
    return (nibbles[:, 0::2] << np.uint8(4)) | nibbles[:, 1::2]


def decimal_number(digits: Characters) -> Offsets:
    """Return the number that each row of decimal digit values (0-9) spells, at most 18 digits."""
    number = np.zeros(len(digits), np.int64)
    for column in range(digits.shape[1]):
        number *= 10
        number += digits[:, column]
    return number


def narrow(batch: FrameBatch) -> FrameBatch:
    """Return the batch with 8 data bytes a row if no row has more; else the same object."""
    if batch.dtype == FRAME or (batch["length"] > 8).any():
        return batch
    slim = np.zeros(len(batch), FRAME)
    for name in ("timestamp_ns", "arbitration_id", "channel", "flags", "length"):
        slim[name] = batch[name]
    slim["data"] = batch["data"][:, :8]
    return slim
