"""Opens the sealed zones of policies with the car's key, in memory alone; fails closed."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from agent.errors import InlandError

if TYPE_CHECKING:
    from agent.policy.zones import Zones

log = logging.getLogger(__name__)


class Places:
    """Opens zones.

    Args:
        key: file of the region's zones key; None: the car has none.
        region: urn:inland:region:<id>.
    """

    def __init__(self, key: Path | None, region: str) -> None:
        self._key, self._region = key, region

    def __call__(self, sealed: bytes) -> Zones | None:
        """Return the zones; None if they cannot be opened: then every place is protected."""
        # Imported where a policy has zones: the others do not pay for it.
        from agent.policy.zone_file import open_zones
        from agent.policy.zone_key import load_zones_key

        if self._key is None:
            log.error("zones: no vehicle.zones_key; every place counts as protected")
            return None
        try:
            return open_zones(sealed, load_zones_key(self._key), self._region)
        except InlandError as error:
            log.error("zones: %s; every place counts as protected", error)
            return None
