"""Drives, counted over restarts: a consent that is given for one drive ends with it.

A drive begins when the policy's `driving` becomes true, and with each boot of the car's computer. A
restart within a drive is no new one: number, state and boot are remembered in the vault.

The condition speaks when its signals do. A car whose bus has been silent for 120 s is not driven.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt

SILENT_NS: Final = 120 * 10**9  # as long as a condition believes a sample
KEY: Final = "drive"
_FORM: Final = struct.Struct(">Q?16s")


class Drives:
    """The number of the present drive, and whether it goes on.

    Args:
        remembered: what was remembered last under KEY; None: nothing.
        remember: keeps a value durably under KEY.
        boot_id: of this boot, 16 bytes.

    Attributes:
        number: of the present drive, or of the last one; it never falls.
        driving: the car is driven.
    """

    def __init__(
        self, remembered: bytes | None, remember: Callable[[bytes], None], boot_id: bytes
    ) -> None:
        self._remember, self._boot_id = remember, boot_id
        self._seen_ns = -1
        self.number, self.driving, boot = 0, False, b""
        if remembered is not None and len(remembered) == _FORM.size:
            self.number, self.driving, boot = _FORM.unpack(remembered)
        if boot != boot_id:
            self._change(self.number + 1, driving=False)

    def see(self, true: npt.NDArray[np.bool_], boottime_ns: int) -> None:
        """Take the truth of `driving` at its instants.

        Args:
            true: in order; may be empty.
            boottime_ns: now.
        """
        if not len(true):
            if self._seen_ns < 0:
                self._seen_ns = boottime_ns  # a run that begins knows nothing; it waits as long
            if self.driving and boottime_ns - self._seen_ns >= SILENT_NS:
                self._change(self.number, driving=False)
            return
        self._seen_ns = boottime_ns
        if (true == self.driving).all():
            return
        before = np.append(self.driving, true[:-1])
        begun = int(np.count_nonzero(true & ~before))
        if begun or bool(true[-1]) != self.driving:
            self._change(self.number + begun, driving=bool(true[-1]))

    def _change(self, number: int, *, driving: bool) -> None:
        self.number, self.driving = number, driving
        self._remember(_FORM.pack(number, driving, self._boot_id))
