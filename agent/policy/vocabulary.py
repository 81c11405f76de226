"""What a policy may be about: categories, purposes and bases with their limits, as data.

- Each category has a class, the longest time that a car may keep it, how fine it may be for others
  than the owner, who may open it, and how long a consent may last. What is not listed here does
  not exist: a policy that names it is refused.
- *Denied* categories are collected by nobody, for no purpose.
- *Sensitive* categories need the person's consent (basis "consent").
- *Agent* categories are written by the agent itself; a bus cannot be collected under their name,
  so their long retention is no way around the caps of the others.
- *Important* categories describe many cars together and need a law or an order.

The checks that hold a policy against this are in `load_checks.py`; the same ones run on the text
when a policy is built and on the compiled form at install and boot.

Source: Several Provisions on Automobile Data Security (China, order no. 7, 2021), GB/T 44464-2024,
GB/T 32960, GB 39732-2020, UN R155. Limits that no rule gives in figures are the product's own.

Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

DAY_S: Final = 86_400

GENERAL: Final = "general"  # not about a person by construction
OPERATION: Final = "operation"  # about the machine; personal only when tied to a VIN
PERSONAL: Final = "personal"
SENSITIVE: Final = "sensitive"
IMPORTANT: Final = "important"  # about a region or its infrastructure
DENIED: Final = "denied"
AGENT: Final = "agent"  # written by the agent about itself

# Rules that are not a category's own, as refusals name them.
DEFAULT_DENY: Final = "default deny, GB/T 44464 5.1.1"
CONSENT: Final = "GB/T 44464 5.2.2"
PRECISION: Final = "GB/T 44464 5.3"
EXTERIOR: Final = "GB/T 44464 5.6.1"
CABIN: Final = "GB/T 44464 5.1.3"
BIOMETRIC: Final = "GB/T 44464 5.5.2"
IN_REGION: Final = "order no. 7 art. 11"
NEVER_READ: Final = "hard denial"
AGENT_ALONE: Final = "agent category"
ZONES: Final = "fail closed near protected zones"


@dataclass(frozen=True, slots=True)
class Finest:
    """How fine data may be that others than the owner alone can open.

    Attributes:
        space_m: edge of the grid that positions are rounded to, m; a step of `SPACES`.
        time_s: between two samples, s.
    """

    space_m: int
    time_s: int


@dataclass(frozen=True, slots=True)
class Category:
    """One kind of data.

    Attributes:
        name: as a policy writes it.
        kind: class, one of the constants above.
        keep_cap_s: longest time in the car, s; 0: memory only, never stored.
        rule: where its limits come from; refusals name it.
        about: for people.
        finest: limit for others than the owner alone; None: there is none.
        owner_alone: nobody but the owner may be able to open it.
        each_drive: a consent to it must end with the drive.
    """

    name: str
    kind: str
    keep_cap_s: int
    rule: str
    about: str
    finest: Finest | None = None
    owner_alone: bool = False
    each_drive: bool = False

    @property
    def default(self) -> str:
        """Whether it is written without a rule that asks for it: "on" or "off"."""
        return "on" if self.kind == AGENT else "off"


COARSE: Final = Finest(space_m=100, time_s=10)
WEEK_S: Final = 7 * DAY_S  # as long as GB/T 32960 wants data to wait for a link
HALF_YEAR_S: Final = 183 * DAY_S
THREE_YEARS_S: Final = 1096 * DAY_S

CATEGORIES: Final[dict[str, Category]] = {
    category.name: category
    for category in (
        Category("vehicle.identity", PERSONAL, 365 * DAY_S, "GB/T 44464 5.4.2", "VIN, plate, SIM"),
        Category("vehicle.state", OPERATION, WEEK_S, "GB/T 32960", "speed, gear, brake, doors"),
        Category("powertrain", OPERATION, WEEK_S, "GB/T 32960", "motor, inverter, torque"),
        Category("battery", OPERATION, WEEK_S, "GB/T 32960", "voltage, current, charge, cells"),
        Category("diag.dtc", OPERATION, 90 * DAY_S, "order no. 7 art. 6", "fault codes"),
        Category("location.point", SENSITIVE, WEEK_S, CONSENT, "a single position", COARSE),
        Category("location.track", SENSITIVE, WEEK_S, CONSENT, "positions over time", COARSE),
        Category("exterior.image", SENSITIVE, DAY_S, EXTERIOR, "pictures of the surroundings",
                 owner_alone=True, each_drive=True),
        Category("exterior.video", SENSITIVE, DAY_S, EXTERIOR, "films of the surroundings",
                 owner_alone=True, each_drive=True),
        Category("exterior.pointcloud", SENSITIVE, DAY_S, EXTERIOR, "lidar and radar points",
                 owner_alone=True, each_drive=True),
        Category("exterior.parked", SENSITIVE, DAY_S, EXTERIOR, "surveillance while parked",
                 owner_alone=True),
        Category("cabin.image", SENSITIVE, 0, CABIN, "pictures of the cabin",
                 owner_alone=True, each_drive=True),
        Category("cabin.audio", SENSITIVE, 0, CABIN, "sound in the cabin",
                 owner_alone=True, each_drive=True),
        Category("cabin.biometric", DENIED, 0, BIOMETRIC, "faces, voices, pulse"),
        Category("phone.contacts", DENIED, 0, NEVER_READ, "contacts of a connected phone"),
        Category("phone.calendar", DENIED, 0, NEVER_READ, "calendar of a connected phone"),
        Category("phone.messages", DENIED, 0, NEVER_READ, "messages of a connected phone"),
        Category("credentials", DENIED, 0, NEVER_READ, "passwords, keys, tokens"),
        Category("traffic.flow", IMPORTANT, WEEK_S, IN_REGION, "flow of traffic from many cars"),
        Category("charging.network", IMPORTANT, WEEK_S, IN_REGION, "charging stations at work"),
        Category("security.event", GENERAL, HALF_YEAR_S, "UN R155", "attacks on the networks"),
        Category("event.record", AGENT, THREE_YEARS_S, "GB 39732", "records of accidents"),
        Category("agent.audit", AGENT, HALF_YEAR_S, "UN R155", "what the agent did"),
        Category("consent.record", AGENT, THREE_YEARS_S, CONSENT, "consents given and withdrawn"),
    )
}  # fmt: skip

EVENT_RECORD: Final = CATEGORIES["event.record"]  # of [recorder], [[event]] and [camera]
PARKED: Final = CATEGORIES["exterior.parked"]  # of cameras in a parked car

PURPOSES: Final = (
    "regulatory_monitoring", "safety_event", "owner_access", "diagnostics_repair",
    "product_improvement", "insurance", "navigation", "authority_order",
    "security_monitoring", "ota",
)  # fmt: skip
CONSENT_PURPOSES: Final = ("product_improvement", "insurance")  # whatever the category

BASES: Final = ("consent", "safety", "law:<reference>", "order:<reference>")

# Precision in space as a policy writes it -> m. Coordinates are cut to 4, 3, 2 or 1 decimals of a
# degree, of which 3 are 111 m.
SPACES: Final = {"none": 0, "10m": 10, "100m": 100, "1km": 1000, "district": 10_000}
DECIMALS: Final = {10: 4, 100: 3, 1000: 2, 10_000: 1}

MAX_CONSENT_DAYS: Final = 365  # a consent without end is none

# Of the camera gate. A policy may be stricter.
MIN_MARGIN_M: Final = 500
MIN_EXIT_S: Final = 60
MAX_NO_FIX_S: Final = 10
