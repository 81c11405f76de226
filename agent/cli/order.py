"""`inland order`: an authority signs what a region has to open."""

from __future__ import annotations

import base64
from pathlib import Path

import click

from agent.cli.common import (
    LANES,
    expires_option,
    expiry_of,
    json_option,
    moment_of,
    output_option,
    print_json,
    save_new,
    span_of,
)
from agent.cli.private_key import key_options, load_keys
from agent.errors import ConfigError


@click.command()
@click.option("--region", required=True, help="Region that has to open, e.g. cn.")
@click.option("--vehicle", required=True, help="Pseudonym of the car.")
@click.option("--from", "start", metavar="TIME", required=True,
              help="First moment: ISO 8601 (UTC if no zone) or Unix seconds.")  # fmt: skip
@click.option("--to", "end", metavar="TIME", required=True, help="Last moment, inclusive.")
@click.option("--lane", "lanes", multiple=True, type=click.Choice(LANES),
              help="Only this lane. May be given several times.")  # fmt: skip
@click.option("--authority", required=True, help="Name by which the region trusts the key.")
@click.option("--officer", required=True, help="Who answers for it.")
@click.option("--reference", required=True, help="File number; the owner is told.")
@click.option("--basis", required=True, help="The law that allows it; the owner is told.")
@expires_option
@click.option("--tell-from", metavar="TIME",
              help="The owner is told from then on, a year from now at the latest.  "
                   "[default: at once]")  # fmt: skip
@click.option("--readable", is_flag=True,
              help="Have it answered with a readable folder, not sealed to the key.")  # fmt: skip
@key_options("The private key of the authority.")
@output_option
@json_option
def command(
    *, region: str, vehicle: str, start: str, end: str, lanes: tuple[str, ...], authority: str,
    officer: str, reference: str, basis: str, expires: str | None, tell_from: str | None,
    readable: bool, key_file: Path, passphrase_file: Path | None, output: Path, as_json: bool,
) -> None:  # fmt: skip
    """Sign an order to open one window of one car. The region serves it once, and records it.

    The key is one of `inland owner keygen`. The region serves its orders once somebody there has
    added it (`inland station order-key add`, as it is shown here), and seals what it opens to it.

    \b
    Example:
      inland order --region cn --vehicle v-1f0c --from 2026-11-22T08:00:00
          --to 2026-11-22T08:30:00 --authority 'City police' --officer 'Zhao Min'
          --reference 'case 17' --basis 'Criminal Procedure Law, article 54'
          --key police.key -o order.json
    """
    import os
    import time

    from agent.region import URI_PREFIX
    from agent.station.order import ID_BYTES, AuthorityOrder, read, write

    now_s = int(time.time())
    expires_s = expiry_of(expires, now_s)
    from_ns, to_ns = span_of(start, end)
    tell_from_s = moment_of(tell_from, "--tell-from", 0) // 10**9
    [key] = load_keys([key_file], passphrase_file)
    wanted = AuthorityOrder(
        os.urandom(ID_BYTES).hex(), URI_PREFIX + region.removeprefix(URI_PREFIX), reference, basis,
        authority, officer, vehicle, from_ns, to_ns, lanes, now_s, expires_s, tell_from_s,
        b"" if readable else key.public.recipient,
    )  # fmt: skip
    try:
        signed = write(wanted, key.signing)
        read(signed, {authority: key.public.sign})  # as the region will
    except ValueError as error:
        raise ConfigError(f"no order can say that: {error}", where="order") from None
    save_new(output, signed)
    public = base64.b64encode(key.public.sign).decode()
    if as_json:
        print_json({"order": str(output.absolute()), "id": wanted.id, "region": wanted.region,
                    "vehicle": vehicle, "expires_s": expires_s, "sealed": not readable,
                    "public": public})  # fmt: skip
        return
    click.echo(f"{output}: for the region; it serves it with `inland station order`")
    click.echo(f"trusted there by: inland station order-key add FOLDER '{authority}' {public}")
