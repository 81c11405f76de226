"""`inland station request`, `order`, `order-key`: what others have signed."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from agent.cli.common import counted, json_option, print_json
from agent.errors import ConfigError

FOLDER = click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
FILE = click.argument("file", type=click.Path(dir_okay=False, path_type=Path))


def read_signed(path: Path) -> bytes:
    """Return a signed file as it is.

    Raises:
        ConfigError: it cannot be read.
    """
    from agent.evidence.signed import MAX_BYTES
    from agent.files import read_small

    return read_small(path, MAX_BYTES)


@click.command()
@FOLDER
@FILE
@click.option(
    "-o", "--out", type=click.Path(path_type=Path, file_okay=False, exists=True), default=".",
    help="The folder in which the bundle is made.  [default: here]",
)  # fmt: skip
@json_option
def request(*, folder: Path, file: Path, out: Path, as_json: bool) -> None:
    """Answer the request in FILE with a bundle. Nothing is opened; it is recorded first.

    The signer has to be, or to have been at the time asked for, a person that the car enrolled. A
    request is served once, until it expires; the answer has what is sealed to that person.

    \b
    Example:
      inland station request cn ask.json -o answers
    """
    import contextlib
    import datetime as dt

    from agent.station.answer import answer
    from agent.station.authority import load_region
    from agent.station.disclose import os_user
    from agent.station.store import Store

    region, data = load_region(folder), read_signed(file)
    with contextlib.closing(Store(region.path / "station.db")) as store:
        done = answer(region, store, data, out, who=os_user(), now=dt.datetime.now(dt.UTC))
    if as_json:
        print_json({
            "bundle": str(done.folder), "vehicle": done.request.vehicle, "kid": done.request.kid,
            "role": done.role, "bodies": done.bodies, "opening": done.opening,
            "verdict": done.result["verdict"], "later": done.later,
        })  # fmt: skip
        return
    click.echo(str(done.folder))
    click.echo(f"for the {done.role} {done.request.kid}: {counted(done.bodies, 'sealed part')}")
    if done.later:
        newer = counted(done.later, "newer entry is", "newer entries are")
        click.echo(f"  {newer} not in it: they wait for the region's co-signature", err=True)
    for line in done.result["altered"] + done.result["missing"]:
        click.echo(f"  {line}", err=True)


@click.command()
@FOLDER
@FILE
@click.option(
    "-o", "--out", type=click.Path(path_type=Path, file_okay=False), required=True,
    help="New folder for what is opened.",
)  # fmt: skip
@json_option
def order(*, folder: Path, file: Path, out: Path, as_json: bool) -> None:
    """Serve an authority's order: open its window alone.

    Exactly the window that FILE names is opened, and that is recorded first. If the order names a
    key, OUT.sealed is written instead, which only that key opens.

    The order has to be signed by an authority whose key is trusted (`order-key add`), for this
    region, and not expired; it is served once. The owner is told of it, at once or from the day on
    that it names. Exit codes as `open`. An authority signs one with `inland order`.

    \b
    Example:
      inland station order cn order.json -o case-17
    """
    import datetime as dt

    from agent.cli.station_view import report_opened
    from agent.station.authority import load_region
    from agent.station.disclose import os_user
    from agent.station.serve_order import serve

    region, data = load_region(folder), read_signed(file)
    with click.progressbar(
        length=0, label="opening", file=sys.stderr, hidden=not sys.stderr.isatty()
    ) as bar:

        def begin(count: int) -> None:
            bar.length = count

        served = serve(
            region, data, out.absolute(), who=os_user(), now=dt.datetime.now(dt.UTC), begin=begin,
            progress=bar.update,
        )  # fmt: skip
    order = served.order
    if not as_json:
        sealed = ", sealed to its key: `inland unseal` opens it" if order.recipient else ""
        click.echo(f"{served.place}: order {order.reference} of {order.authority}{sealed}")
    about = {"written": str(served.place), "id": order.id, "vehicle": order.vehicle,
             "authority": order.authority, "reference": order.reference}  # fmt: skip
    report_opened(served.opened, about=about, as_json=as_json)


@click.group(name="order-key")
def order_key() -> None:
    """Authorities that may order an opening.

    \b
    Example:
      inland station order-key add cn 'City police' 11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=
    """


@order_key.command()
@FOLDER
@click.argument("name")
@click.argument("pubkey")
@json_option
def add(*, folder: Path, name: str, pubkey: str, as_json: bool) -> None:
    """Trust the authority NAME, whose Ed25519 public key is PUBKEY (base64, 32 bytes).

    Take the key from the authority itself, and compare the kid that is shown with it.

    \b
    Example:
      inland station order-key add cn 'City police' 11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=
    """
    from agent.evidence.signed import words
    from agent.station import order_keys
    from agent.station.authority import load_region
    from agent.vault.keys import kid

    try:
        key, said = order_keys.public_key(pubkey), words(name, "NAME")
    except ValueError as error:
        raise ConfigError(str(error), where="inland station order-key add") from None
    order_keys.add(load_region(folder).path, said, key)
    if as_json:
        print_json({"name": said, "kid": kid(key).hex()})
        return
    click.echo(f"{said}: orders that are signed with {kid(key).hex()} are served")


@order_key.command()
@FOLDER
@click.argument("name")
@json_option
def remove(*, folder: Path, name: str, as_json: bool) -> None:
    """Serve no more orders of the authority NAME.

    \b
    Example:
      inland station order-key remove cn 'City police'
    """
    from agent.station import order_keys
    from agent.station.authority import load_region

    order_keys.remove(load_region(folder).path, name)
    if as_json:
        print_json({"name": name})
    else:
        click.echo(f"{name}: no order is served any more")


@order_key.command(name="ls")
@FOLDER
@json_option
def list_(*, folder: Path, as_json: bool) -> None:
    """List the authorities whose orders are served.

    \b
    Example:
      inland station order-key ls cn
    """
    from agent.station import order_keys
    from agent.station.authority import load_region
    from agent.vault.keys import kid

    known = order_keys.trusted(load_region(folder).path)
    if as_json:
        print_json({"authorities": [
            {"name": name, "kid": kid(key).hex()} for name, key in known.items()
        ]})  # fmt: skip
        return
    for name, key in known.items():
        click.echo(f"{kid(key).hex()}  {name}")
    if not known:
        click.echo("none: no order is served")
