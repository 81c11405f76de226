"""What recvmmsg wrote, as values: records and control data in, a FrameBatch and counts out. Pure.

- A record of 16 bytes is a can_frame, one of 72 bytes a canfd_frame; any other length is broken.
- Control data holds up to two items in any order: the kernel's stamp (SCM_TIMESTAMPNS) and the
  socket's cumulative count of dropped frames (SO_RXQ_OVFL, u32, absent while it is 0).

Layouts are those of 64-bit Linux, little endian. Source: linux/can.h, socket.h (struct cmsghdr).
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from agent.frames import BRS, ERROR, ESI, EXTENDED, FD, FRAME, FRAME_FD, REMOTE, FrameBatch

CAN_MTU: Final = 16
CANFD_MTU: Final = 72
CONTROL_WORDS: Final = 8  # 64 bytes a frame: 32 for the stamp, 24 for the drops, 8 to spare

_EFF: Final = 0x80000000
_RTR: Final = 0x40000000
_ERR: Final = 0x20000000
_CANFD_BRS: Final = 1
_CANFD_ESI: Final = 2

_SOL_SOCKET: Final = 1
_STAMP: Final = _SOL_SOCKET | 35 << 32  # level and type of a control item, as one word
_DROPS: Final = _SOL_SOCKET | 40 << 32
_STAMP_BYTES: Final = 32
_DROPS_BYTES: Final = 20

Words = npt.NDArray[np.uint64]
Integers = npt.NDArray[np.int64]


def record_dtype(data_bytes: int) -> np.dtype[np.void]:
    """Return the layout of can_frame (8 data bytes) or canfd_frame (64)."""
    return np.dtype(
        [
            ("id", "<u4"),
            ("len", "u1"),
            ("flags", "u1"),
            ("reserved", "u1", (2,)),
            ("data", "u1", (data_bytes,)),
        ]
    )


RECORD: Final = record_dtype(8)
RECORD_FD: Final = record_dtype(64)

# A record's top three id bits, its kind, and its length lie side by side: the row of a table.
_KIND_AT: Final = np.uint64(29)
_KIND_AND_LENGTH: Final = np.uint64(0x7FF)


def _is(kind: int, bit: int) -> bool:
    """Whether frames of a kind have an id bit; an error frame has no other."""
    return bool(kind << 29 & bit) and (bit == _ERR or not kind << 29 & _ERR)


def _head(kind: int, length: int) -> int:
    named = ((_ERR, ERROR), (_EFF, EXTENDED), (_RTR, REMOTE))
    return sum(flag for bit, flag in named if _is(kind, bit)) << 40 | length << 48


_TABLE: Final = [(kind, length) for length in range(9) for kind in range(8)]
_IDS: Final = np.array(
    [0x1FFFFFFF if _is(kind, _EFF) or _is(kind, _ERR) else 0x7FF for kind, _ in _TABLE], np.uint64
)
_HEADS: Final = np.array([_head(*row) for row in _TABLE], np.uint64)
_DATA: Final = np.array(  # a driver may leave rubbish behind the length; remote frames have no data
    [0 if _is(kind, _RTR) else (1 << 8 * length) - 1 for kind, length in _TABLE], np.uint64
)


def parse_control(words: Words, lengths: Integers) -> tuple[Integers, Integers]:
    """Return the stamp (ns, 0 where none) and the drop count (-1 where none) of each frame.

    Args:
        words: control buffers, shape (n, CONTROL_WORDS).
        lengths: bytes that the kernel wrote into each, shape (n,).
    """
    count = len(words)
    signed = words.view(np.int64)
    drops = np.full(count, -1, np.int64)
    # The usual case, one slice each: the stamp first in every row, alone or followed by the drops.
    if count and (words[:, 1] == _STAMP).all() and lengths.min() >= _STAMP_BYTES:
        stamps: Integers = signed[:, 2] * 1_000_000_000 + signed[:, 3]
        if lengths.max() >= _STAMP_BYTES + _DROPS_BYTES:
            has_drops = (lengths >= _STAMP_BYTES + _DROPS_BYTES) & (words[:, 5] == _DROPS)
            drops[has_drops] = signed[has_drops, 6] & 0xFFFFFFFF
        return stamps, drops
    stamps = np.zeros(count, np.int64)
    rows = np.arange(count)
    at = np.zeros(count, np.int64)
    for _ in range(2):
        rows = rows[(at[rows] + 2) * 8 < lengths[rows]]
        if not len(rows):
            break
        kind, start = words[rows, at[rows] + 1], at[rows]
        is_stamp = (kind == _STAMP) & (start * 8 + _STAMP_BYTES <= lengths[rows])
        is_drops = (kind == _DROPS) & (start * 8 + _DROPS_BYTES <= lengths[rows])
        whose, where = rows[is_stamp], start[is_stamp]
        stamps[whose] = signed[whose, where + 2] * 1_000_000_000 + signed[whose, where + 3]
        whose, where = rows[is_drops], start[is_drops]
        drops[whose] = signed[whose, where + 2] & 0xFFFFFFFF
        item_bytes = np.minimum(words[rows, start], CONTROL_WORDS * 8).astype(np.int64)
        at[rows] = start + np.maximum((item_bytes + 7) // 8, 2)
    return stamps, drops


def dropped_between(before: int, now: int) -> int:
    """Return how many frames the kernel dropped between two readings of its u32 count.

    0 if the second is the older one: a frame carries the count of the moment it was queued.
    """
    dropped = (now - before) & 0xFFFFFFFF
    return dropped if dropped < 1 << 31 else 0


def to_frames(
    records: npt.NDArray[np.void], sizes: Integers, stamps: Integers, channel: int
) -> tuple[FrameBatch, int]:
    """Return the frames (a copy) and the number of broken records.

    Args:
        records: as received, of layout RECORD or RECORD_FD.
        sizes: bytes received for each, which tell a CAN frame from a CAN FD frame.
        stamps: receive times, ns.
        channel: number of the bus.
    """
    if records.dtype == RECORD:
        good = (sizes == CAN_MTU) & (records["len"] <= 8)
        if good.all():
            return _classic_rows(records, stamps, channel), 0
        return _classic_rows(records[good], stamps[good], channel), int((~good).sum())
    broken = 0
    is_fd = sizes == CANFD_MTU
    good = (records["len"] <= np.where(is_fd, 64, 8)) & (is_fd | (sizes == CAN_MTU))
    if not good.all():
        broken = int((~good).sum())
        records, stamps, is_fd = records[good], stamps[good], is_fd[good]
    batch = _rows(records, is_fd)
    batch["timestamp_ns"] = stamps
    batch["channel"] = channel
    return batch, broken


def _classic_rows(records: npt.NDArray[np.void], stamps: Integers, channel: int) -> FrameBatch:
    """Return the rows of can_frames: both layouts are a few 64-bit words, so words are moved."""
    words = np.ascontiguousarray(records).view(np.uint64).reshape(-1, 2)
    first = words[:, 0]
    place = ((first >> _KIND_AT) & _KIND_AND_LENGTH).view(np.int64)
    batch = np.empty(len(records), FRAME)
    rows = batch.view(np.uint64).reshape(-1, 3)
    rows[:, 0] = stamps.view(np.uint64)
    rows[:, 1] = (first & _IDS[place]) | (_HEADS[place] | np.uint64(channel << 32))
    rows[:, 2] = words[:, 1] & _DATA[place]
    return batch


def _rows(records: npt.NDArray[np.void], is_fd: npt.NDArray[np.bool_]) -> FrameBatch:
    ids, lengths = records["id"], records["len"]
    is_wide = bool((lengths > 8).any())
    batch = np.zeros(len(records), FRAME_FD if is_wide else FRAME)
    is_error = (ids & _ERR) != 0
    is_extended = ((ids & _EFF) != 0) & ~is_error
    is_remote = ((ids & _RTR) != 0) & ~is_error & ~is_fd
    flags = is_extended * np.uint8(EXTENDED)
    if is_error.any() or is_remote.any():
        flags |= is_error * np.uint8(ERROR) | is_remote * np.uint8(REMOTE)
    if is_fd.any():
        fd_flags = records["flags"]
        flags |= is_fd * np.uint8(FD)
        flags |= (is_fd & ((fd_flags & _CANFD_BRS) != 0)) * np.uint8(BRS)
        flags |= (is_fd & ((fd_flags & _CANFD_ESI) != 0)) * np.uint8(ESI)
    plain_mask = np.where(is_extended | is_error, np.uint32(0x1FFFFFFF), np.uint32(0x7FF))
    batch["arbitration_id"] = ids & plain_mask
    batch["length"] = lengths
    batch["flags"] = flags
    width = 64 if is_wide else 8
    batch["data"] = records["data"][:, :width]
    # A driver may leave rubbish behind the length, and a remote frame has no data at all.
    filled = np.where(is_remote, np.uint8(0), lengths)
    if (filled < width).any():
        batch["data"][np.arange(width, dtype=np.uint8) >= filled[:, None]] = 0
    return batch
