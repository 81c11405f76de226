"""Words for the numbers of enums in what a car or a region has written. Pure.

Readers outlive writers: a car of next year may enter a cause that this program does not know yet.
proto3 keeps the number, and so do we.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from google.protobuf.internal.enum_type_wrapper import _EnumTypeWrapper


def name_of(kind: _EnumTypeWrapper[Any], number: int) -> str:
    """Return the name of a value in small letters: "no_recipient"; an unknown one is its number."""
    known = kind.DESCRIPTOR.values_by_number.get(number)
    return str(number) if known is None else known.name.lower()
