"""Filters in python-can's form: `{"can_id": 0x123, "can_mask": 0x7FF, "extended": False}`. Pure.

A frame passes if one filter's masked id equals its own and, where the filter says `extended`, the
id has that width. `None` lets everything pass, an empty list nothing. Error frames always pass:
in the kernel too they do not go through these filters.
"""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from agent.errors import ConfigError
from agent.frames import ERROR, EXTENDED, FrameBatch

Filters = Sequence[Mapping[str, Any]]

KERNEL_FILTERS: Final = 512  # CAN_RAW_FILTER_MAX of linux/can/raw.h
_EFF: Final = 0x80000000


def _normal(filters: Filters) -> Iterable[tuple[int, int]]:
    """Yield each filter as (id, mask) with the extended flag in bit 31."""
    for entry in filters:
        try:
            wanted, mask = int(entry["can_id"]), int(entry["can_mask"])
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"a filter needs can_id and can_mask: {dict(entry)}") from error
        if entry.get("extended") is not None:
            mask |= _EFF
            wanted = wanted | _EFF if entry["extended"] else wanted & ~_EFF
        yield wanted & 0xFFFFFFFF, mask & 0xFFFFFFFF


def pack(filters: Filters) -> bytes | None:
    """Return the filters as the kernel takes them, or None if there are more than it takes."""
    pairs = list(_normal(filters))
    if len(pairs) > KERNEL_FILTERS:
        return None
    return b"".join(struct.pack("=II", wanted & mask, mask) for wanted, mask in pairs)


class SoftwareFilter:
    """The same filters applied to batches, for interfaces without filters of their own.

    Args:
        filters: python-can's filter dicts; None lets everything pass.
    """

    def __init__(self, filters: Filters | None) -> None:
        self._wanted: dict[int, npt.NDArray[np.uint32]] | None = None
        if filters is None:
            return
        by_mask: dict[int, set[int]] = defaultdict(set)
        for wanted, mask in _normal(filters):
            by_mask[mask].add(wanted & mask)
        # One sorted array per mask: the cost grows with the number of masks, not of filters.
        self._wanted = {mask: np.array(sorted(ids), np.uint32) for mask, ids in by_mask.items()}

    def __call__(self, batch: FrameBatch) -> FrameBatch:
        """Return the rows that pass; the same object if all do."""
        if self._wanted is None or not len(batch):
            return batch
        ids = batch["arbitration_id"] | np.where(
            batch["flags"] & EXTENDED, np.uint32(_EFF), np.uint32(0)
        )
        passes = (batch["flags"] & ERROR) != 0
        for mask, wanted in self._wanted.items():
            masked = ids & np.uint32(mask)
            place = np.minimum(wanted.searchsorted(masked), len(wanted) - 1)
            passes |= wanted[place] == masked
        return batch if passes.all() else batch[passes]
