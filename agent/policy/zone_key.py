"""The region's zones key, from the file that a region, a car or an engineer has."""

from __future__ import annotations

from pathlib import Path

from agent.errors import ConfigError
from agent.files import read_private_file
from agent.policy.zone_file import KEY_BYTES


def load_zones_key(path: Path) -> bytes:
    """Return the key that opens sealed zones, 32 bytes.

    Raises:
        ConfigError: missing, unreadable, open to others than its owner, or of another length.
    """
    key = read_private_file(path, "the zones key")
    if len(key) != KEY_BYTES:
        raise ConfigError(
            f"a zones key has {KEY_BYTES} bytes, not {len(key)}", where=str(path),
            todo="take zones.key from the region's folder or the vehicle's bundle",
        )  # fmt: skip
    return key
