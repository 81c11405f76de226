"""What commands share that need a person's private key: its options, and opening it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from agent.errors import ConfigError

if TYPE_CHECKING:
    from agent.owner.keyfile import OwnerKey

F = TypeVar("F", bound=Callable[..., Any])
KEY: Final = "owner.key"
DESCRIPTORS: Final = ("/dev/fd", "/proc/self/fd")
MAX_TEXT: Final = 4096  # bytes of a passphrase file


def key_options(whose: str) -> Callable[[F], F]:
    """Add --key and --passphrase-file.

    Args:
        whose: key it is, for the help.
    """

    def add(function: F) -> F:
        passphrase = click.option(
            "--passphrase-file", type=click.Path(path_type=Path, dir_okay=False),
            help="Its first line opens the key, in place of asking.",
        )  # fmt: skip
        key = click.option(
            "--key", "key_file", type=click.Path(path_type=Path, dir_okay=False), default=KEY,
            show_default=True, help=whose,
        )  # fmt: skip
        return key(passphrase(function))

    return add


def load_keys(paths: Iterable[Path], passphrase_file: Path | None) -> list[OwnerKey]:
    """Open key files, all with one passphrase, which is asked for if no file has it.

    Raises:
        ConfigError: a file is not there, or nobody can be asked.
        OwnerError: the passphrase opens it not.
    """
    from agent.owner import keyfile

    paths = list(paths)
    for path in paths:
        if not path.exists():
            raise ConfigError("no such key", where=str(path), todo="name it with --key")
    phrase = passphrase_of(passphrase_file)
    return [keyfile.load(path, phrase) for path in paths]


def first_line(path: Path) -> str:
    """Return the passphrase that a file has in its first line.

    A pipe that the shell has opened for us, <(pass show car), never touches a disk. One by another
    name may have nobody who writes: it would be waited for.

    Raises:
        ConfigError: it cannot be read, or has none.
    """
    from agent.files import read_small

    try:
        if str(path.parent) in DESCRIPTORS and path.is_fifo():
            with os.fdopen(os.dup(int(path.name)), "rb") as pipe:
                data = pipe.read(MAX_TEXT)
        else:
            data = read_small(path, MAX_TEXT)
        return data.decode().splitlines()[0]
    except (UnicodeDecodeError, IndexError):
        raise ConfigError("holds no passphrase", where=str(path)) from None


def passphrase_of(path: Path | None) -> str:
    """Return the passphrase of keys: the first line of a file, or what is typed."""
    if path is not None:
        return first_line(path)
    if not sys.stdin.isatty():
        raise ConfigError("nobody can be asked here", where="passphrase",
                          todo="say --passphrase-file FILE")  # fmt: skip
    phrase: str = click.prompt("passphrase of the key", hide_input=True, err=True)
    return phrase
