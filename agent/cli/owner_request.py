"""`inland owner request`: at home, what the region is asked for."""

from __future__ import annotations

from pathlib import Path

import click

from agent.cli.common import (
    expires_option,
    expiry_of,
    json_option,
    moments_of,
    output_option,
    print_json,
    save_new,
)
from agent.cli.private_key import key_options, load_keys
from agent.errors import ConfigError


@click.command()
@click.option("--region", required=True, help="Region that is asked, e.g. cn.")
@click.option("--vehicle", required=True, help="Pseudonym of the car, as its bundles say it.")
@click.option("--from", "start", metavar="TIME", help="ISO 8601 (UTC) or Unix seconds.")
@click.option("--to", "end", metavar="TIME", help="Inclusive; without it: to the newest entry.")
@click.option(
    "--category", "categories", multiple=True, metavar="NAME",
    help="Leave out what can only be of other categories. May be given several times.",
)  # fmt: skip
@click.option("--purpose", required=True, help="What for; it goes into the region's ledger.")
@expires_option
@key_options("The private key of whoever asks.")
@output_option
@json_option
def request(
    *, region: str, vehicle: str, start: str | None, end: str | None, categories: tuple[str, ...],
    purpose: str, expires: str | None, key_file: Path, passphrase_file: Path | None, output: Path,
    as_json: bool,
) -> None:  # fmt: skip
    """Sign a request for what the region has of your car: one bundle, sealed as it was recorded.

    The region answers with what is sealed to your key, and every ledger entry of the time in which
    you were enrolled. Send it the file; it is good once, and opens nothing.

    \b
    Examples:
      inland owner request --region cn --vehicle v-1f0c --purpose 'my accident' -o ask.json
      inland owner request --region cn --vehicle v-1f0c --from 2026-11-22T08:00:00
          --to 2026-11-22T09:00:00 --purpose insurance --expires 2026-12-24 -o ask.json
    """
    import os
    import time

    from agent.evidence.owner_request import ID_BYTES, OwnerRequest, write
    from agent.region import URI_PREFIX

    now_s = int(time.time())
    until_s = expiry_of(expires, now_s)
    from_ns, to_ns = moments_of(start, end)
    [key] = load_keys([key_file], passphrase_file)
    public = key.public
    asked = OwnerRequest(
        os.urandom(ID_BYTES).hex(), URI_PREFIX + region.removeprefix(URI_PREFIX), vehicle,
        from_ns, to_ns, categories, purpose, until_s, public.kid, public.sign,
    )  # fmt: skip
    try:
        signed = write(asked, key.signing)
    except ValueError as error:
        raise ConfigError(f"no request can say that: {error}", where="request") from None
    save_new(output, signed)
    if as_json:
        print_json({"request": str(output.absolute()), "id": asked.id, "kid": asked.kid,
                    "region": asked.region, "vehicle": asked.vehicle,
                    "expires_s": asked.expires_s})  # fmt: skip
        return
    click.echo(f"{output}: for the region; it answers with `inland station request`")
