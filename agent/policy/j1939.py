"""J1939: which bits of a 29-bit id say what a frame holds, and which only how it travels.

    28..26 priority   25, 24 data pages   23..16 PF   15..8 PS   7..0 source address

- The data pages, PF and, from PF 240 on (PDU2), PS are the *parameter group*: what the data means.
  Below 240 (PDU1) PS is the destination, and no part of it.
- Priority never counts. A source address counts if a DBC file names a real one: from 254 on (null,
  and everybody) it stands for any.
- A destination does not count, unless the file itself has the group for several of them: messages
  that differ in nothing else (torque for the engine, torque for the retarder) are kept apart.

What does not count are the *free bits* of a signal's frame.

Source: SAE J1939-21 (PDU formats), J1939-81 (addresses 254 and 255); 254 for "any" is how Vector's
tools write DBC files.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from agent.policy.model import SignalLayout

PRIORITY: Final = 0x1C00_0000
PS: Final = 0xFF00
SOURCE: Final = 0xFF
PDU2: Final = 240  # the first PF whose PS belongs to the parameter group
NULL: Final = 254  # the first address that no sender has


def destination_bits(arbitration_id: int) -> int:
    """Return the bits of an id that are a destination: PS, or none."""
    return PS if arbitration_id >> 16 & 0xFF < PDU2 else 0


def group_number(arbitration_id: int) -> int:
    """Return the PGN of an id."""
    return (arbitration_id & ~(PRIORITY | destination_bits(arbitration_id))) >> 8


def free_bits(arbitration_id: int, others: Iterable[int] = ()) -> int:
    """Return the bits that do not count in the id of a J1939 message of a DBC file.

    Args:
        arbitration_id: of the message.
        others: ids of all J1939 messages of the file.
    """
    source = SOURCE if arbitration_id & SOURCE >= NULL else 0
    destination = destination_bits(arbitration_id)
    if any(_differ_in_destination(arbitration_id, other) for other in others):
        destination = 0
    return PRIORITY | destination | source


def _differ_in_destination(one: int, other: int) -> bool:
    """Return whether only the real destinations of two ids keep their frames apart."""
    here, there = (address >> 8 & 0xFF for address in (one, other))
    if group_number(one) != group_number(other) or here == there or NULL in (here, there):
        return False
    sources = one & SOURCE, other & SOURCE
    return sources[0] == sources[1] or max(sources) >= NULL


def is_free(bits: int, arbitration_id: int) -> bool:
    """Return whether these bits can be free in a 29-bit id: none, or some that J1939 has so."""
    rest = bits & ~PRIORITY
    possible = (0, SOURCE, destination_bits(arbitration_id), widest(arbitration_id) & ~PRIORITY)
    return not bits or (bits & PRIORITY == PRIORITY and rest in possible)


def widest(arbitration_id: int) -> int:
    """Return all bits of an id that are not its parameter group."""
    return PRIORITY | destination_bits(arbitration_id) | SOURCE


def words(layout: SignalLayout) -> str:
    """Return what a signal with free bits is found by: `PGN F004 from any source`."""
    number, free = layout.arbitration_id, layout.free_bits
    told = f"PGN {group_number(number):04X} from "
    told += "any source" if free & SOURCE else f"source {number & SOURCE:02X}"
    addressed = destination_bits(number) & ~free
    return told + (f" to {number >> 8 & 0xFF:02X}" if addressed else "")


def carriers(layouts: Sequence[SignalLayout]) -> list[int]:
    """Return a number for the frame of each signal: the same if one frame can hold both.

    Layouts of a parameter group share one if any of them has free bits; others have that of their
    id. Two sources of one group are told apart by their stamps.
    """
    groups = {_group(one) for one in layouts if one.free_bits}
    return [
        (_group(one) if _group(one) in groups else one.arbitration_id) << 1 | one.extended
        for one in layouts
    ]


def _group(layout: SignalLayout) -> int:
    wide = widest(layout.arbitration_id) if layout.extended else 0
    return layout.arbitration_id & ~wide


def same_bits(one: SignalLayout, other: SignalLayout) -> bool:
    """Return whether two signals can be the same bits of a frame, whatever number each is."""
    differ = (one.arbitration_id ^ other.arbitration_id) & ~(one.free_bits | other.free_bits)
    return (
        not differ
        and one.extended == other.extended
        and (one.start, one.bits, one.big_endian) == (other.start, other.bits, other.big_endian)
        and one.mux == other.mux
    )


def spans(arbitration_id: int, bits: int) -> Iterator[tuple[int, int]]:
    """Yield the inclusive ranges of ids that equal one but for its free bits."""
    run = (bits ^ (bits + 1)) >> 1  # free bits from bit 0 up are one range
    rest, some = bits & ~run, 0
    while True:
        yield arbitration_id | some, arbitration_id | some | run
        some = (some - rest) & rest
        if not some:
            return
