"""Files that the policy commands share: compiled policies, TOML texts, output."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agent.errors import ConfigError, PolicyError
from agent.files import cannot_write, read_plain

if TYPE_CHECKING:
    from agent.policy.model import Policy

TEXT = ".toml"
FILE = click.Path(path_type=Path, dir_okay=False)
PATH = click.Path(path_type=Path)


def read_compiled(path: Path) -> bytes:
    """Return the bytes of a compiled policy.

    Raises:
        ConfigError: the file cannot be read, or is a text.
    """
    from agent.policy.model import MAX_BYTES

    if path.suffix == TEXT and path.is_file():
        raise ConfigError("is a policy's text", where=str(path),
                          todo=f"compile it: inland policy build {path}")  # fmt: skip
    try:
        return read_plain(path, MAX_BYTES)
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

    if path.suffix == TEXT:
        from agent.policy.build import build_policy

        return read_policy(build_policy(path))
    data = read_compiled(path)
    with of_file(path):
        return read_policy(data)


def in_force(state: Path) -> Policy | None:
    """Return the policy in force of a state folder; None if there is none.

    Raises:
        PolicyError: it is damaged.
        ConfigError: it cannot be read.
    """
    from agent.policy import compiled, store

    folder = state / "policy"
    data = store.active(folder)
    if data is None:
        return None
    with of_file(folder / store.ACTIVE):
        return compiled.read_policy(data)


@contextmanager
def of_file(path: Path) -> Iterator[None]:
    """Name the file in what is said about the compiled policy in it."""
    try:
        yield
    except PolicyError as error:
        where = f"{path}: {error.where}" if error.where else str(path)
        raise PolicyError(error.what, where=where, todo=error.todo) from None


def write_compiled(path: Path, data: bytes) -> None:
    """Write a file so that it is there as a whole or not at all.

    Raises:
        ConfigError: the place cannot be written.
        DiskError: it has no room.
    """
    from agent.files import write_output

    try:
        write_output(path, [data], mode=0o644)
    except OSError as error:
        raise cannot_write(error, path, todo="name another file") from None
