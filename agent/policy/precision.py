"""How a position is made coarser, and in which units it is known.

A coordinate is cut to 4, 3, 2 or 1 decimals of a degree. Raw values are rounded down to a multiple
of the *grain*, the number of raw steps in a cell; a cell is never smaller than the decimals say.

Pure.
"""

from __future__ import annotations

import math
from typing import Final

from agent.policy.model import SIGNED, UNSIGNED, SignalInfo
from agent.policy.vocabulary import DECIMALS

MAX_GRAIN: Final = 2**62
_DEGREES: Final = frozenset({"deg", "degs", "degree", "degrees", "°", "º", "度"})

_KMH: Final = frozenset({"km/h", "kmh", "kph", "kmph", "km/hr", "kilometers per hour"})


def is_degrees(unit: str) -> bool:
    """Return whether a DBC unit means degrees of an angle."""
    return unit.strip().lower() in _DEGREES


def grain(info: SignalInfo, space_m: int, *, needed: bool) -> int:
    """Return how many raw steps of a signal make one cell of a grid; 0: it is not rounded.

    Args:
        info: of the signal.
        space_m: edge of a cell, m: a step of `vocabulary.DECIMALS`; 0: nothing is rounded.
        needed: a signal that is no angle cannot stay as it is.

    Raises:
        ValueError: the signal cannot be rounded.
    """
    if not space_m or not (needed or is_degrees(info.unit)):
        return 0
    name = f"'{info.message}.{info.name}'"
    if not is_degrees(info.unit):
        raise ValueError(f"{name} is not in degrees and cannot be made coarser; give it a rule of "
                         "another category, or of the owner alone")  # fmt: skip
    if info.kind not in (SIGNED, UNSIGNED) or info.factor == 0:
        raise ValueError(f"{name} has no fixed steps and cannot be made coarser; name another one")
    from fractions import Fraction  # noqa: PLC0415 - with decimals 400 KiB, for policies with places

    # A factor of 1E-07 is not exactly a ten-millionth; the decimal that was meant is.
    step = abs(Fraction(repr(info.factor)))
    return min(math.ceil(Fraction(1, 10 ** DECIMALS[space_m]) / step), MAX_GRAIN)


def check_position(latitude: SignalInfo, longitude: SignalInfo, speed: SignalInfo) -> None:
    """Check that a position's signals are in the units that the camera gate reckons in.

    Raises:
        ValueError: a signal is in another unit. One without a unit may be right.
    """
    for info in (latitude, longitude):
        if info.unit.strip() and not is_degrees(info.unit):
            raise ValueError(f"'{info.message}.{info.name}' is in {info.unit}, not in degrees")
    if speed.unit.strip() and speed.unit.strip().lower() not in _KMH:
        raise ValueError(f"'{speed.message}.{speed.name}' is in {speed.unit}, not in km/h")
