"""Trusted time: what the agent believes of the clocks that the car's computer has.

Rules:
- Order and intervals come from ledger indices and CLOCK_BOOTTIME, never from wall time.
- Trusted time is max(floor, last time that the region signed) plus the boot time since then.
- The wall clock is believed only within [floor, floor + 3 years]; not in 1970, not in 2076.
- The floor never falls. The vault persists it: with every signed time that is news, with every
  checkpoint, and every ten minutes.
- What ends, ends by the *highest* time that was ever believed: a clock that is set back brings
  nothing back. Only a time that the region signs takes the highest down again, because a clock that
  was wrong once must not end everything for good.

Pure but for `read_clocks`, `boottime_s` and `boot_id`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

BUILD_FLOOR_NS: Final = 1_793_500_000 * 10**9  # 2026-11-01: no real moment is before the build
PLAUSIBLE_NS: Final = 3 * 365 * 86_400 * 10**9
# A signed time further ahead of what is known is a region's mistake: no certificate lives so long.
MAX_AHEAD_NS: Final = 10 * 365 * 86_400 * 10**9
STEP_NS: Final = 5 * 10**9  # a larger jump of the wall clock becomes a ledger entry

FLOOR: Final = 0
WALL: Final = 1
REGION: Final = 2  # values of ClockQuality in moment.proto


@dataclass(frozen=True, slots=True)
class Reading:
    """One look at the computer's clocks, ns."""

    wall_ns: int
    boottime_ns: int


@dataclass(frozen=True, slots=True)
class Trust:
    """What is known for certain: at `boottime_ns` of this boot it was at least `unix_ns`.

    Attributes:
        unix_ns: the highest floor or signed time.
        boottime_ns: CLOCK_BOOTTIME when that became known.
        signed: it is a time that the region signed in this boot.
    """

    unix_ns: int
    boottime_ns: int
    signed: bool


@dataclass(frozen=True, slots=True)
class Highest:
    """The highest time that was ever believed, and CLOCK_BOOTTIME when it was; both ns."""

    unix_ns: int
    boottime_ns: int


def read_clocks() -> Reading:
    """Read the wall clock and CLOCK_BOOTTIME (which counts through suspend)."""
    return Reading(time.time_ns(), time.clock_gettime_ns(time.CLOCK_BOOTTIME))


def boottime_s() -> float:
    """Return CLOCK_BOOTTIME in seconds: for ages and for what is due, which a suspend ages too."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def trusted_ns(trust: Trust, now: Reading) -> tuple[int, int]:
    """Return (ns since the Unix epoch, quality) for a reading, by the rules above."""
    at_least = trust.unix_ns + max(0, now.boottime_ns - trust.boottime_ns)
    if trust.signed:
        return at_least, REGION
    if trust.unix_ns <= now.wall_ns <= trust.unix_ns + PLAUSIBLE_NS:
        return max(now.wall_ns, at_least), WALL
    return at_least, FLOOR


def first_trusted_ns(now: Reading) -> int:
    """Return the trusted time of one who has learnt nothing yet, a command: ns since the epoch."""
    return trusted_ns(Trust(BUILD_FLOOR_NS, now.boottime_ns, signed=False), now)[0]


def learn(trust: Trust, signed_unix_ns: int, now: Reading) -> Trust:
    """Return the trust after the region has signed a time.

    An earlier time changes nothing, nor does one that is MAX_AHEAD_NS ahead.
    """
    known_ns = trust_at(trust, now)
    if not known_ns <= signed_unix_ns <= known_ns + MAX_AHEAD_NS:
        return trust
    return Trust(signed_unix_ns, now.boottime_ns, signed=True)


def trust_at(trust: Trust, now: Reading) -> int:
    """Return the earliest that it can be now, ns since the Unix epoch."""
    return trust.unix_ns + max(0, now.boottime_ns - trust.boottime_ns)


def highest(before: Highest, trusted: tuple[int, int], now: Reading) -> Highest:
    """Return the highest time at a reading whose trusted time is known, by the rules above."""
    unix_ns, quality = trusted
    if quality != REGION:
        passed_ns = max(0, now.boottime_ns - before.boottime_ns)
        unix_ns = max(unix_ns, before.unix_ns + passed_ns)
    return Highest(unix_ns, now.boottime_ns)


def stepped(before: Reading, now: Reading) -> bool:
    """Return whether the wall clock jumped against CLOCK_BOOTTIME between two readings."""
    drift = (now.wall_ns - before.wall_ns) - (now.boottime_ns - before.boottime_ns)
    return abs(drift) > STEP_NS


def boot_id() -> bytes:
    """Return the kernel's id of this boot, 16 bytes."""
    return bytes.fromhex(
        Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip().replace("-", "")
    )
