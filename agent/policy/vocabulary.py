"""What a rule may be about: categories, purposes and bases, as data.

- Each category has a class and the longest time that a car may keep it. What is not listed here
  does not exist: a policy that names it is refused.
- *Denied* categories are collected by nobody, for no purpose.
- *Sensitive* categories need the person's consent (basis "consent").
- *Agent* categories are written by the agent itself; a bus cannot be collected under their name,
  so their long retention is no way around the caps of the others.
- *Approved* categories describe many cars together and need a law or an order.

The same checks run on the text when a policy is built and on the compiled form at install and boot.

Source: Several Provisions on Automobile Data Security (China, order no. 7, 2021), GB/T 41871-2022,
GB/T 32960, and the retention they name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from agent.units import nearest

DAY_S: Final = 86_400

OPERATION: Final = "operation"  # about the machine; personal only when tied to a VIN
PERSONAL: Final = "personal"
SENSITIVE: Final = "sensitive"
IMPORTANT: Final = "important"  # about a region or its infrastructure
DENIED: Final = "denied"
AGENT: Final = "agent"  # written by the agent about itself


@dataclass(frozen=True, slots=True)
class Category:
    """One kind of data.

    Attributes:
        name: as a policy writes it.
        kind: class, one of the constants above.
        keep_cap_s: longest time in the car, s; 0: memory only, never stored.
        about: for people.
    """

    name: str
    kind: str
    keep_cap_s: int
    about: str


CATEGORIES: Final[dict[str, Category]] = {
    name: Category(name, kind, days * DAY_S, about)
    for name, kind, days, about in (
        ("vehicle.identity", PERSONAL, 365, "VIN, plate, ICCID"),
        ("vehicle.state", OPERATION, 7, "speed, gear, brake, steering, doors"),
        ("powertrain", OPERATION, 7, "motor, inverter, torque"),
        ("battery", OPERATION, 7, "voltage, current, state of charge, cells"),
        ("diag.dtc", OPERATION, 90, "fault codes"),
        ("location.point", SENSITIVE, 7, "a single position"),
        ("location.track", SENSITIVE, 7, "positions over time"),
        ("exterior.image", SENSITIVE, 1, "pictures of the surroundings"),
        ("exterior.video", SENSITIVE, 1, "films of the surroundings"),
        ("exterior.pointcloud", SENSITIVE, 1, "lidar and radar points"),
        ("exterior.parked", SENSITIVE, 1, "surveillance while parked"),
        ("cabin.image", SENSITIVE, 0, "pictures of the cabin"),
        ("cabin.audio", SENSITIVE, 0, "sound in the cabin"),
        ("cabin.biometric", DENIED, 0, "faces, voices, pulse"),
        ("phone.contacts", DENIED, 0, "contacts of a connected phone"),
        ("phone.calendar", DENIED, 0, "calendar of a connected phone"),
        ("phone.messages", DENIED, 0, "messages of a connected phone"),
        ("credentials", DENIED, 0, "passwords, keys, tokens"),
        ("traffic.flow", IMPORTANT, 7, "flow of traffic from many cars"),
        ("charging.network", IMPORTANT, 7, "operation of charging stations"),
        ("security.event", OPERATION, 183, "signs of attacks on the car's networks"),
        ("event.record", AGENT, 1096, "records of accidents"),
        ("agent.audit", AGENT, 183, "what the agent did"),
        ("consent.record", AGENT, 1096, "consents given and withdrawn"),
    )
}

PURPOSES: Final = (
    "regulatory_monitoring", "safety_event", "owner_access", "diagnostics_repair",
    "product_improvement", "insurance", "navigation", "authority_order",
    "security_monitoring", "ota",
)  # fmt: skip

BASES: Final = ("consent", "safety", "law:<reference>", "order:<reference>")
_REFERENCE: Final = re.compile(r"(law|order):(?=\S)[^\x00-\x1f\x7f]{1,120}")


@dataclass(frozen=True, slots=True)
class Objection:
    """Why a rule is refused: the key it is about, what is wrong, what to do."""

    key: str
    what: str
    todo: str = ""


def objection(*, category: str, purpose: str, basis: str, keep_s: int) -> Objection | None:
    """Return why a rule may not be, or None if it may.

    Args:
        category: name of a category.
        purpose: one of `PURPOSES`.
        basis: "consent", "safety", "law:<reference>" or "order:<reference>".
        keep_s: how long the car would keep it, s.
    """
    known = CATEGORIES.get(category)
    if known is None:
        advice = nearest(category, CATEGORIES, noun="category")
        return Objection("category", f"unknown category '{category}'", advice)
    if purpose not in PURPOSES:
        advice = nearest(purpose, PURPOSES, noun="purpose")
        return Objection("purpose", f"unknown purpose '{purpose}'", advice)
    if basis not in ("consent", "safety") and not _REFERENCE.fullmatch(basis):
        return Objection("basis", f"unknown basis '{basis}'", f"bases are {', '.join(BASES)}")
    return _class_objection(known, basis) or _keep_objection(known, keep_s)


def _class_objection(category: Category, basis: str) -> Objection | None:
    if category.kind == DENIED:
        return Objection("category", f"category '{category.name}' is never collected",
                         "take the rule out")  # fmt: skip
    if category.kind == AGENT:
        return Objection(
            "category",
            f"category '{category.name}' is written by the agent, not collected from a bus",
            "choose the category of the signals",
        )
    if category.kind == SENSITIVE and basis != "consent":
        return Objection("basis", f"category '{category.name}' is sensitive and needs the basis "
                         f"'consent', not '{basis}'")  # fmt: skip
    if basis == "consent":
        return Objection("basis", "consent is not supported by this version: without a consent "
                         "nothing could be kept", "take the rule out")  # fmt: skip
    if category.kind == IMPORTANT and not basis.startswith(("law:", "order:")):
        return Objection("basis", f"category '{category.name}' is important data and needs a basis "
                         f"'law:<reference>' or 'order:<reference>', not '{basis}'")  # fmt: skip
    return None


def _keep_objection(category: Category, keep_s: int) -> Objection | None:
    if keep_s <= category.keep_cap_s:
        return None
    if category.keep_cap_s == 0:
        return Objection("keep", f"category '{category.name}' is never stored", "take the rule out")
    return Objection("keep", f"keeps '{category.name}' too long",
                     f"at most {category.keep_cap_s // DAY_S}d")  # fmt: skip
