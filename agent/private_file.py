"""Reading a secret from a file that nobody but its owner may touch: the same rule for every key."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from agent.errors import ConfigError

MAX_KEY_FILE_BYTES: Final = 16 * 1024  # a PEM Ed25519 key has 119


def read_private_file(path: Path, what: str) -> bytes:
    """Return the bytes of a secret file that nobody but its owner may touch.

    The mode is read from the open file, so that it cannot be exchanged between look and read.

    Raises:
        ConfigError: missing, unreadable, not a plain file, too large, or open to group or others.
    """
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            mode = stat.S_IMODE(status.st_mode)
            if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_KEY_FILE_BYTES:
                raise ConfigError(f"{what} is not a small plain file", where=str(path))
            if mode & 0o077:
                raise ConfigError(
                    f"{what} can be read by others (mode {mode:04o})", where=str(path),
                    todo=f"chmod 600 {path}",
                )  # fmt: skip
            return file.read(MAX_KEY_FILE_BYTES)
    except OSError as error:
        raise ConfigError(f"cannot read {what}: {error.strerror}", where=str(path)) from None
