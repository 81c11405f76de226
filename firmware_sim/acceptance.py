"""The acceptance filter of an SJA1000 in dual mode, which `M` and `m` of SLCAN set. Pure.

Source: NXP SJA1000 data sheet, 6.4.15.
"""

from __future__ import annotations

from typing import Final

from firmware_sim.frames import Frame

DO_NOT_CARE: Final = 0xFFFFFFFF  # a mask that lets everything through: ones are not compared


def accepts(frame: Frame, code: int, mask: int) -> bool:
    """Return whether one of the two filters lets a frame through.

    A filter has 16 bits: 11 of id and the remote bit, or the upper 16 of a 29-bit id. The nibble
    of data that the first filter can compare is left out.

    Args:
        frame: on the bus.
        code: acceptance code, 32 bits, first filter in the upper half.
        mask: acceptance mask, likewise.
    """
    if frame.extended:
        seen, used = frame.arbitration_id >> 13, 0xFFFF
    else:
        seen, used = frame.arbitration_id << 5 | frame.remote << 4, 0xFFF0
    return any(not (seen ^ code >> shift) & ~(mask >> shift) & used for shift in (16, 0))
