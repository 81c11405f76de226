"""Files that the policy commands share: compiled policies, TOML texts, output."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from agent.errors import ConfigError

if TYPE_CHECKING:
    from agent.policy.model import Policy

FILE = click.Path(path_type=Path, dir_okay=False)
PATH = click.Path(path_type=Path)


def read_compiled(path: Path) -> bytes:
    """Return the bytes of a compiled policy.

    Raises:
        ConfigError: the file cannot be read.
    """
    from agent.policy.model import MAX_BYTES

    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(
            f"cannot read the policy: {error.strerror}", where=str(path),
            todo="`inland policy build` makes one",
        ) from None  # fmt: skip


def either_form(path: Path) -> Policy:
    """Return the policy of a TOML text (`*.toml`, built on the fly) or of a compiled file.

    Raises:
        PolicyError: it is refused, with file and line if it is a text.
        ConfigError: it cannot be read.
    """
    from agent.policy.compiled import read_policy

    if path.suffix == ".toml":
        from agent.policy.build import build_policy

        return read_policy(build_policy(path))
    return read_policy(read_compiled(path))


def write_compiled(path: Path, data: bytes) -> None:
    """Write a file so that it is there as a whole or not at all.

    Raises:
        ConfigError: the place cannot be written.
    """
    from agent.files import write_whole

    try:
        write_whole(path, [data], mode=0o644)
    except OSError as error:
        raise ConfigError(f"cannot write: {error.strerror}", where=str(path)) from None
