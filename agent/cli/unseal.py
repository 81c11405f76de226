"""`inland unseal`: what a region has sealed to whoever ordered it."""

from __future__ import annotations

from pathlib import Path

import click

from agent.cli.common import json_option, print_json
from agent.cli.private_key import key_options, load_keys
from agent.errors import SealError


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@key_options("The private key that it is sealed to.")
@click.option(
    "--order", "order_file", type=click.Path(path_type=Path, dir_okay=False),
    help="Refuse it if it does not answer this order.",
)  # fmt: skip
@click.option(
    "-o", "--out", type=click.Path(path_type=Path, file_okay=False), required=True,
    help="New folder for what is in it.",
)  # fmt: skip
@json_option
def command(
    *, file: Path, key_file: Path, passphrase_file: Path | None, order_file: Path | None,
    out: Path, as_json: bool,
) -> None:  # fmt: skip
    """Open FILE, which a region has sealed to the key that an order named.

    The key is one of `inland owner keygen`; an order names what `recipient` says in its owner.pub.

    \b
    Example:
      inland unseal case-17.sealed --key police.key --order order.json -o case-17
    """
    from agent.cli.station_request import read_signed
    from agent.digest import sha256
    from agent.evidence import box
    from agent.files import cannot_write
    from agent.vault import keys

    wanted = None if order_file is None else sha256(read_signed(order_file))
    [key] = load_keys([key_file], passphrase_file)
    try:
        if wanted is not None and box.answers(file) != wanted:
            raise SealError("it answers another order", where=str(file))
        box.unseal(file, {keys.kid(key.public.recipient): key.private}, out.absolute())
    except OSError as error:
        raise cannot_write(error, out) from None
    files = sorted(out.iterdir())
    if as_json:
        print_json({"folder": str(out.absolute()), "files": [path.name for path in files]})
        return
    for path in files:
        click.echo(f"{path}  {path.stat().st_size:,} bytes")
