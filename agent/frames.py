"""FrameBatch and SignalBatch: the only forms in which frames and signals travel through the agent.

Both are numpy structured arrays, one row a frame or a sample. There is no Python object per frame
on the way from the bus to the sealed segment. Rows are in arrival order. A batch that was handed on
is not written to again.

Frames come in two widths, 8 and 64 data bytes; bytes beyond `length` are zero. A remote frame has
the length it asks for and no data. An error frame carries the kernel's error class bits as its id
(linux/can/error.h). `channel` is a number in a `ChannelTable`.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

EXTENDED: Final = 1  # 29-bit arbitration id
REMOTE: Final = 2
ERROR: Final = 4
FD: Final = 8  # CAN FD frame
BRS: Final = 16  # FD: bit rate switch
ESI: Final = 32  # FD: error state indicator

FrameBatch = npt.NDArray[np.void]
SignalBatch = npt.NDArray[np.void]


def _frame_dtype(width: int) -> np.dtype[np.void]:
    return np.dtype(
        [
            (
                "timestamp_ns",
                "<i8",
            ),  # kernel receive or recorded time, ns since 1970, UTC
            ("arbitration_id", "<u4"),  # 11 or 29 bits, no flag bits
            ("channel", "u1"),
            ("flags", "u1"),
            ("length", "u1"),  # bytes of data, 0..8 or 0..64
            ("pad", "u1"),
            ("data", "u1", (width,)),
        ]
    )


FRAME: Final = _frame_dtype(8)  # 24 bytes a row
FRAME_FD: Final = _frame_dtype(64)  # 80 bytes a row

SIGNAL: Final = np.dtype(
    [
        ("timestamp_ns", "<i8"),
        ("signal", "<u2"),  # index in the policy's dictionary
        ("channel", "u1"),
        ("pad", "u1", (5,)),
        ("raw", "<i8"),  # value before scaling; unsigned and float64 values by their 64 bits
    ]
)

MAX_CHANNELS: Final = 255  # fits the u1 column; more buses than any car has


def widen(batch: FrameBatch) -> FrameBatch:
    """Return the batch with 64 data bytes a row; the same object if it already has them."""
    if batch.dtype == FRAME_FD:
        return batch
    wide = np.zeros(len(batch), FRAME_FD)
    for name in ("timestamp_ns", "arbitration_id", "channel", "flags", "length"):
        wide[name] = batch[name]
    wide["data"][:, :8] = batch["data"]
    return wide


def concatenate(batches: list[FrameBatch]) -> FrameBatch:
    """Return one batch with the rows of all, in order; 64 bytes wide if one of them is.

    A single batch is returned as it is: nobody writes to a batch that was handed on.
    """
    if not batches:
        return np.zeros(0, FRAME)
    if len(batches) == 1:
        return batches[0]
    if len({batch.dtype for batch in batches}) > 1:
        batches = [widen(batch) for batch in batches]
    # Rows without their columns: numpy copies a structured row column by column, five times slower.
    rows = np.dtype((np.void, batches[0].itemsize))
    return np.concatenate([batch.view(rows) for batch in batches]).view(batches[0].dtype)


class ChannelTable:
    """Names of the buses by their number in a batch, e.g. 0 -> "can0". Grows, never shrinks.

    One table belongs to one running agent (or one log reader); readers number their channels when
    they open, so a number means the same bus in every batch.
    """

    def __init__(self, names: tuple[str, ...] = ()) -> None:
        self._names: list[str] = list(names)

    @property
    def names(self) -> tuple[str, ...]:
        """All names, by number."""
        return tuple(self._names)

    def number(self, name: str) -> int:
        """Return the number of a channel, giving it the next one if it is new.

        Raises:
            ValueError: more than 255 channels.
        """
        if name not in self._names:
            if len(self._names) >= MAX_CHANNELS:
                raise ValueError(f"more than {MAX_CHANNELS} CAN channels")
            self._names.append(name)
        return self._names.index(name)
