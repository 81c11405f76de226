"""The names of MQTT topics. Pure.

`inland/1/<region>/up/<vehicle>/<lane>` and `inland/1/<region>/down/<vehicle>/<receipt or policy>`,
where <region> is what follows `urn:inland:region:` and <vehicle> the pseudonym: CN of the client
certificate, MQTT user and client id. It is never a VIN.
"""

from __future__ import annotations

import re
from typing import Final

from agent.errors import ConfigError
from agent.region import URI_PREFIX

LANES: Final = ("session", "incident", "event", "routine")  # of entries, most urgent first
CHECKPOINT: Final = "checkpoint"
RECEIPT: Final = "receipt"
POLICY: Final = "policy"  # up: which bundle, from where on; down: pieces of it
_NOT_LANES: Final = (CHECKPOINT, POLICY)
_VEHICLE: Final = re.compile(r"[a-z0-9-]{8,40}")
_REGION: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")


def up(region: str, vehicle: str, lane: str) -> str:
    """Return the topic that a vehicle publishes to.

    Raises:
        ValueError: `lane` is none of ours; the hatch gave something else than an entry.
        ConfigError: see `down`.
    """
    if lane not in LANES and lane not in _NOT_LANES:
        raise ValueError(f"'{lane}' is no lane")
    return f"{_base(region)}/up/{_vehicle(vehicle)}/{lane}"


def down(region: str, vehicle: str, what: str) -> str:
    """Return the topic that a vehicle listens on.

    Args:
        region: urn:inland:region:<id>, as the region card gives it.
        vehicle: the pseudonym.
        what: RECEIPT or POLICY.

    Raises:
        ConfigError: the region id or the pseudonym could reach into another topic.
    """
    return f"{_base(region)}/down/{_vehicle(vehicle)}/{what}"


def _base(region: str) -> str:
    name = region.removeprefix(URI_PREFIX)
    if not _REGION.fullmatch(name):
        raise ConfigError(f"region id '{name}' does not fit into a topic", where="region card")
    return f"inland/1/{name}"


def _vehicle(vehicle: str) -> str:
    if not _VEHICLE.fullmatch(vehicle):
        raise ConfigError("a vehicle's id is 8 to 40 of a-z, 0-9 and '-'", where="vehicle.id")
    return vehicle
