"""`disclosures.json` of a bundle from the region: who got what of the vehicle, by its word.

The region's ledger of openings is of all its vehicles; a bundle has the entries that are of this
one, and the signed head of all. They are not proved to be all of them: the region says so, and has
signed what it would be caught with.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from agent.errors import SealError
from agent.files import read_if_there
from agent.strict_json import fields, listed, parse_json, text

FILE: Final = "disclosures.json"
FORMAT: Final = "inland disclosures 1"
MAX_BYTES: Final = 16 << 20


@dataclass(frozen=True, slots=True)
class Disclosures:
    """What the region says of its openings.

    Attributes:
        vehicle: pseudonym.
        origin: name of the ledger of openings.
        openings: entries of it, as the region keeps them.
        checkpoint: its signed head.
    """

    vehicle: str
    origin: str
    openings: Sequence[Mapping[str, Any]]
    checkpoint: str

    def content(self) -> bytes:
        """Return the file."""
        values = {
            "format": FORMAT, "vehicle": self.vehicle, "origin": self.origin,
            "openings": list(self.openings), "checkpoint": self.checkpoint,
        }  # fmt: skip
        return json.dumps(values, indent=1, ensure_ascii=True).encode() + b"\n"


def disclosures_of(folder: Path) -> Disclosures | None:
    """Return what a bundle says; None if it says nothing: a car's does not.

    Raises:
        ConfigError: it cannot be read.
        SealError: it is not of this version.
    """
    path = folder / FILE
    data = read_if_there(path, MAX_BYTES)
    if data is None:
        return None
    try:
        found = parse_json(data)
        form, vehicle, origin, openings, note = fields(
            found, "format", "vehicle", "origin", "openings", "checkpoint"
        )
        if text(form) != FORMAT:
            raise ValueError(f"its format is {form[:40]!r}")
        return Disclosures(text(vehicle), text(origin), _entries(openings), text(note))
    except ValueError as error:
        raise SealError(f"cannot be read: {error}", where=str(path)) from None


def _entries(value: object) -> list[Mapping[str, Any]]:
    found = listed(value)
    for one in found:
        if not isinstance(one, dict) or type(one.get("i")) is not int:
            raise ValueError("an opening that is none")
        for name in ("at", "who", "from", "to", "reason"):
            text(one.get(name))
    return found
