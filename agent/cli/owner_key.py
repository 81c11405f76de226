"""`inland owner keygen` and `recover`: on the owner's own computer, never in the car."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from agent.cli.common import json_option, print_json
from agent.cli.private_key import KEY, first_line
from agent.errors import ConfigError, OwnerError

if TYPE_CHECKING:
    from agent.owner.keyfile import OwnerKey

F = TypeVar("F", bound=Callable[..., Any])
PUBLIC: Final = "owner.pub"
MAX_TEXT: Final = 4096  # bytes of a sheet that was typed in


def _options(function: F) -> F:
    for option in (
        click.argument("folder", type=click.Path(path_type=Path, file_okay=False)),
        click.option("--name", default="owner", show_default=True, help="What people call it."),
        click.option("--passphrase-file", type=click.Path(path_type=Path, dir_okay=False),
                     help="Its first line, in place of asking."),
    ):  # fmt: skip
        function = option(function)
    return function


@click.command()
@_options
@click.option("--sheet", "sheets", multiple=True, type=click.Path(path_type=Path, dir_okay=False),
              help="Write the sheet to FILE.txt or FILE.html instead of showing it.")  # fmt: skip
@json_option
def keygen(
    folder: Path, *, name: str, passphrase_file: Path | None, sheets: tuple[Path, ...],
    as_json: bool,
) -> None:  # fmt: skip
    """Make a key in FOLDER: owner.key under a passphrase, and owner.pub for the car.

    The recovery sheet is shown once. Print it, or copy it by hand: it is the key.

    \b
    Examples:
      inland owner keygen ~/inland --name "Li Wei"
      inland owner keygen ~/inland --sheet /media/usb/sheet.html --json
    """
    from agent.owner import sheet
    from agent.owner.keyfile import SEED_BYTES, OwnerKey

    _check_name(name)
    for path in sheets:
        if path.suffix not in (".txt", ".html"):
            raise ConfigError("a sheet is FILE.txt or FILE.html", where=str(path))
    if as_json and not sheets:  # what programs read is kept in logs, and the sheet is the key
        raise ConfigError("--json shows no sheet", where="inland owner keygen",
                          todo="say --sheet FILE.txt or FILE.html")  # fmt: skip
    _check_free(folder)
    key = OwnerKey(os.urandom(SEED_BYTES), name)
    phrase = _passphrase(passphrase_file)
    with ExitStack() as unless_done:  # a key without its sheet, or the other way round, is a trap
        for path in sheets:
            make = sheet.as_page if path.suffix == ".html" else sheet.as_text
            _write(path, make(key.seed, name=name, kid=key.public.kid))
            unless_done.callback(path.unlink)
        _save(folder, key, phrase)
        unless_done.pop_all()
    if as_json:
        print_json(_told(folder, key) | {"sheets": [str(path.absolute()) for path in sheets]})
        return
    _say(folder, key)
    for path in sheets:
        click.echo(f"{path}: the recovery sheet; print it, then delete the file")
    if not sheets:
        click.echo("\n" + sheet.as_text(key.seed, name=name, kid=key.public.kid))


@click.command()
@_options
@click.option("--sheet", "sheet_file", type=click.Path(path_type=Path, dir_okay=False),
              help="Read the typed sheet from a file; - is standard input.")  # fmt: skip
@json_option
def recover(
    folder: Path, *, name: str, passphrase_file: Path | None, sheet_file: Path | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Make the key again in FOLDER from its recovery sheet.

    \b
    Example:
      inland owner recover ~/inland
    """
    from agent.owner import sheet
    from agent.owner.keyfile import OwnerKey

    _check_name(name)
    _check_free(folder)
    if sheet_file is not None:
        seed = sheet.read(_text(sheet_file))
    elif sys.stdin.isatty():
        seed = _typed()
    else:
        raise ConfigError("nobody can be asked here", where="inland owner recover",
                          todo="say --sheet FILE, or --sheet - for standard input")  # fmt: skip
    key = OwnerKey(seed, name)
    _save(folder, key, _passphrase(passphrase_file))
    if as_json:
        print_json(_told(folder, key))
        return
    _say(folder, key)
    click.echo("compare the key's name with the one on the sheet")


def _typed() -> bytes:
    """Ask for one group after another; a mistake is asked for again at once."""
    from agent.owner import sheet

    words: list[str] = []
    while len(words) < sheet.GROUPS:
        number = len(words) + 1
        typed = click.prompt(f"group {number} of {sheet.GROUPS}", default="", show_default=False)
        try:
            for step, word in enumerate(typed.split()):  # a whole line may be typed as well
                if number + step <= sheet.GROUPS:
                    sheet.read_group(number + step, word)
                    words.append(word)
        except OwnerError as error:
            click.echo(f"  {error}", err=True)
    return sheet.read(" ".join(words))


def _check_name(name: str) -> None:
    from agent.owner.public import MAX_NAME, is_name

    if not is_name(name):
        raise ConfigError(f"not 1 to {MAX_NAME} printable characters", where="--name")


def _check_free(folder: Path) -> None:
    for name in (KEY, PUBLIC):
        if (folder / name).exists() or (folder / name).is_symlink():
            raise ConfigError("is there already; a key is never overwritten",
                              where=str(folder / name), todo="choose another folder")  # fmt: skip


def _save(folder: Path, key: OwnerKey, passphrase: str) -> None:
    from agent.files import cannot_write, make_folder
    from agent.owner import keyfile

    _check_free(folder)
    try:
        make_folder(folder)
        with ExitStack() as unless_done:
            unless_done.callback((folder / KEY).unlink, missing_ok=True)
            keyfile.save(folder / KEY, key, passphrase, os.urandom)
            _write(folder / PUBLIC, key.public.text(), mode=0o644)
            unless_done.pop_all()
    except OSError as error:
        raise cannot_write(error, folder, todo="choose another folder") from None


def _told(folder: Path, key: OwnerKey) -> dict[str, Any]:
    place = folder.absolute()
    return {"id": key.public.kid, "name": key.public.name, "key": str(place / KEY),
            "public": str(place / PUBLIC)}  # fmt: skip


def _say(folder: Path, key: OwnerKey) -> None:
    click.echo(f"{folder / KEY}: the private key, under the passphrase; keep it at home")
    click.echo(f"{folder / PUBLIC}: for `inland owner enroll` in the car")
    click.echo(f"the key is called {key.public.kid}")


def _write(path: Path, content: str, *, mode: int = 0o600) -> None:
    from agent.files import cannot_write, sync_folder, write_new

    try:
        write_new(path, content.encode())
        path.chmod(mode)
        sync_folder(path.parent)
    except FileExistsError:
        raise ConfigError("is there already", where=str(path), todo="choose another name") from None
    except OSError as error:
        raise cannot_write(error, path, todo="choose another place") from None


def _passphrase(path: Path | None) -> str:
    from agent.owner.keyfile import check_passphrase

    if path is not None:
        phrase = first_line(path)
    elif sys.stdin.isatty():
        phrase = click.prompt("passphrase for the key", hide_input=True, confirmation_prompt=True)
    else:
        raise ConfigError("nobody can be asked here", where="passphrase",
                          todo="say --passphrase-file FILE")  # fmt: skip
    check_passphrase(phrase)
    return phrase


def _text(path: Path) -> str:
    from agent.files import read_small

    data = sys.stdin.buffer.read(MAX_TEXT + 1) if str(path) == "-" else read_small(path, MAX_TEXT)
    try:
        return data[:MAX_TEXT].decode()
    except UnicodeDecodeError:
        raise ConfigError("is no text", where=str(path)) from None
