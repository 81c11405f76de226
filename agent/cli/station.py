"""`inland station`: the region's end. Make a region, enrol cars, receive, list, open."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    pass

FOLDER = click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")


@click.group(
    name="station",
    epilog=(
        "\b\nExample: a region on this machine, and one car:\n"
        "  inland station init cn --region cn --host broker.cn.example --prefix 203.0.113.0/24\n"
        "  inland station enroll cn car-1\n"
        "  inland station serve cn\n"
    ),
)
def command() -> None:
    """The region's end: receive, prove receipt, search, open."""


@command.command(
    epilog=(
        "\b\nExample:\n"
        "  inland station init cn --region cn --host broker.cn.example --prefix 203.0.113.0/24\n"
    ),
)
@FOLDER
@click.option("--region", "region_id", required=True, help="Region id, e.g. cn.")
@click.option("--host", required=True, help="DNS name of the broker; its certificate's only name.")
@click.option("--port", default=8883, show_default=True, help="TCP port of the broker.")
@click.option(
    "--prefix", "prefixes", multiple=True, required=True, help="Addresses a car may dial (CIDR)."
)
@JSON
def init(
    *, folder: Path, region_id: str, host: str, port: int, prefixes: tuple[str, ...], as_json: bool
) -> None:
    """Make a region in FOLDER: authority, keys, card, broker configuration.

    An existing region is never overwritten.
    """
    import datetime as dt

    from agent.station.authority import create_region

    region = create_region(
        folder, region_id=region_id, host=host, port=port, prefixes=prefixes,
        now=dt.datetime.now(dt.UTC),
    )  # fmt: skip
    configuration = region.path / "broker" / "mosquitto.conf"
    if as_json:
        _print_json(
            {
                "region": region.card.region,
                "folder": str(region.path),
                "card": str(region.path / "region.toml"),
                "mosquitto": str(configuration),
            }
        )
        return
    click.echo(f"region {region.card.region} in {region.path}")
    click.echo(f"broker: mosquitto -c {configuration}")
    click.echo(f"next:   inland station enroll {folder} BUNDLE; inland station serve {folder}")


@command.command(
    epilog=("\b\nExample:\n  inland station enroll cn car-1\n"),
)
@FOLDER
@click.argument("bundle", type=click.Path(file_okay=False, path_type=Path))
@click.option("--vehicle", help="Pseudonym; random if left out. Never a VIN.")
@JSON
def enroll(folder: Path, bundle: Path, vehicle: str | None, as_json: bool) -> None:
    """Make a car's BUNDLE: card, certificate, keys, agent.toml."""
    import datetime as dt
    import os

    from agent.station.authority import load_region
    from agent.station.enrolment import enrol_vehicle
    from agent.station.store import Store

    region = load_region(folder)
    store = Store(region.path / "station.db")
    try:
        name = enrol_vehicle(
            region, store, bundle, vehicle=vehicle, now=dt.datetime.now(dt.UTC), rng=os.urandom
        )
    finally:
        store.close()
    if as_json:
        _print_json({"vehicle": name, "bundle": str(bundle.absolute())})
        return
    click.echo(f"vehicle {name} in {bundle}")
    click.echo(f"next: name its buses in {bundle / 'agent.toml'}, put the folder into the car")


@command.command(
    epilog=("\b\nExample:\n  inland station serve cn\n"),
)
@FOLDER
@click.option("--broker", "address", help="Address of the broker; 127.0.0.1 if left out.")
@click.option("--with-broker", is_flag=True, help="Start a broker as well (for development).")
@JSON
def serve(folder: Path, address: str | None, with_broker: bool, as_json: bool) -> None:
    """Receive from the region's broker until told to stop (SIGTERM, Ctrl-C)."""
    import contextlib
    import logging
    import random
    import signal
    import threading
    import time

    from agent.station.authority import load_region
    from agent.station.broker import start_broker
    from agent.station.receive import Receiver
    from agent.station.serve import Server, only_one
    from agent.station.store import Store

    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    region = load_region(folder)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())

    def say(status: dict[str, Any]) -> None:
        if as_json:
            _print_json(status)
            return
        click.echo(_status_line(status))

    with contextlib.ExitStack() as stack:
        stack.enter_context(only_one(region.path))
        if with_broker:
            broker = stack.enter_context(start_broker(region.path))
            click.echo(f"broker: {broker.describe()}", err=True)
        store = stack.enter_context(contextlib.closing(Store(region.path / "station.db")))
        receiver = Receiver(region, store, time.time_ns)
        Server(region, receiver, address or "127.0.0.1", random.random, say).run(stop)


def _status_line(status: dict[str, Any]) -> str:
    line = f"{status['state']}: {status['stored']} stored, {status['duplicates']} again"
    for key in ("waiting", "conflicts", "refused"):
        line += f", {status[key]} {key}" if status[key] else ""
    if "error" in status:
        line += f"; {status['error']}; next try in {status['retry_s']} s"
    return line


def _print_json(value: object) -> None:
    click.echo(json.dumps(value, ensure_ascii=False))
