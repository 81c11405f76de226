"""`inland station`: the region's end. Make a region, enroll cars, receive, list, open."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from agent.cli import (
    station_hold,
    station_policy,
    station_request,
    station_search,
    station_zones,
)
from agent.cli.common import (
    LANES,
    counted,
    json_option,
    lane_numbers,
    print_json,
    span_of,
    span_options,
)
from agent.errors import ConfigError

FOLDER = click.argument("folder", type=click.Path(file_okay=False, path_type=Path))


@click.group(name="station")
def command() -> None:
    """The region's end: receive, prove receipt, search, open.

    \b
    Example: a region on this machine, and one car:
      inland station init cn --region cn --host broker.cn.example --prefix 203.0.113.0/24
      inland station enroll cn car-1
      inland station serve cn
    """


command.add_command(station_policy.policy)
command.add_command(station_zones.zones)
command.add_command(station_search.search)
for each in (
    station_request.request,
    station_request.order,
    station_request.order_key,
    station_hold.hold,
):
    command.add_command(each)


@command.command()
@FOLDER
@click.option("--region", "region_id", required=True, help="Region id, e.g. cn.")
@click.option("--host", required=True, help="DNS name of the broker; its certificate's only name.")
@click.option("--port", default=8883, show_default=True, help="TCP port of the broker.")
@click.option(
    "--prefix", "prefixes", multiple=True, required=True, help="Addresses a car may dial (CIDR)."
)
@json_option
def init(
    *, folder: Path, region_id: str, host: str, port: int, prefixes: tuple[str, ...], as_json: bool
) -> None:
    """Make a region: authority, keys, card, broker configuration.

    An existing region is never overwritten.

    \b
    Example:
      inland station init cn --region cn --host broker.cn.example --prefix 203.0.113.0/24
    """
    import datetime as dt

    from agent.station.authority import create_region

    region = create_region(
        folder, region_id=region_id, host=host, port=port, prefixes=prefixes,
        now=dt.datetime.now(dt.UTC),
    )  # fmt: skip
    configuration = region.path / "broker" / "mosquitto.conf"
    if as_json:
        print_json(
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


@command.command()
@FOLDER
@click.argument("bundle", type=click.Path(file_okay=False, path_type=Path))
@click.option("--vehicle", help="Pseudonym; random if left out. Never a VIN.")
@click.option("--group", default="default", show_default=True, help="Its policies' group.")
@json_option
def enroll(folder: Path, bundle: Path, vehicle: str | None, group: str, as_json: bool) -> None:
    """Make a car's BUNDLE: card, certificate, keys, agent.toml.

    \b
    Example:
      inland station enroll cn car-1
    """
    import datetime as dt
    import os

    from agent.station.authority import load_region
    from agent.station.enrollment import enroll_vehicle
    from agent.station.store import Store

    region = load_region(folder)
    store = Store(region.path / "station.db")
    try:
        name = enroll_vehicle(
            region, store, bundle, vehicle=vehicle, group=group, now=dt.datetime.now(dt.UTC),
            rng=os.urandom,
        )  # fmt: skip
    finally:
        store.close()
    if as_json:
        print_json({"vehicle": name, "bundle": str(bundle.absolute())})
        return
    click.echo(f"vehicle {name} in {bundle}")
    click.echo(f"next: name its buses in {bundle / 'agent.toml'}, put the folder into the car")


@command.command()
@FOLDER
@json_option
def renew(folder: Path, as_json: bool) -> None:
    """Issue new certificates for the broker and the station.

    The broker's lives 13 months: run it once a year. Cars notice nothing.

    \b
    Example:
      inland station renew cn
    """
    import datetime as dt

    from agent.station.authority import load_region, renew_certificates

    broker, station = renew_certificates(load_region(folder), dt.datetime.now(dt.UTC))
    if as_json:
        print_json({"broker_until": broker.isoformat(), "station_until": station.isoformat()})
        return
    click.echo(f"broker until {broker.date()}, station until {station.date()}")
    click.echo("next: restart the broker and `inland station serve`")


@command.command()
@FOLDER
@click.option("--broker", "address", help="Address of the broker; 127.0.0.1 if left out.")
@click.option("--with-broker", is_flag=True, help="Start a broker as well (for development).")
@json_option
def serve(folder: Path, address: str | None, with_broker: bool, as_json: bool) -> None:
    """Receive from the region's broker until told to stop.

    SIGTERM or Ctrl-C ends it; what was receipted is stored.

    \b
    Example:
      inland station serve cn
    """
    import contextlib
    import datetime as dt
    import functools
    import logging
    import random
    import signal
    import threading
    import time

    from agent.cli.station_view import status_line
    from agent.station.authority import load_region
    from agent.station.broker import start_broker
    from agent.station.chores import Chores
    from agent.station.offer import bundle
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
            print_json(status)
            return
        click.echo(status_line(status))

    with contextlib.ExitStack() as stack:
        stack.enter_context(only_one(region.path))
        if with_broker:
            broker = stack.enter_context(start_broker(region.path))
            click.echo(f"broker: {broker.describe()}", err=True)
        store = stack.enter_context(contextlib.closing(Store(region.path / "station.db")))
        offer = functools.partial(bundle, region.path)
        chores = Chores(region, lambda: dt.datetime.now(dt.UTC))
        receiver = Receiver(region, store, time.time_ns, bundle=offer)
        Server(region, receiver, address or "127.0.0.1", random.random, say, chores=chores).run(
            stop
        )


@command.command(name="ls")
@FOLDER
@click.option("--openings", is_flag=True, help="List who opened what, and check that list.")
@json_option
def list_(folder: Path, openings: bool, as_json: bool) -> None:
    """List cars, logs, what is missing or lost, refusals, alarms.

    Nothing is opened.

    \b
    Examples:
      inland station ls cn
      inland station ls cn --openings --json
    """
    import contextlib

    from agent.cli.station_view import catalogue_lines, opening_line
    from agent.station.authority import load_region
    from agent.station.catalogue import catalogue
    from agent.station.journal import Journal
    from agent.station.store import Store

    region = load_region(folder)
    with contextlib.closing(Store(region.path / "station.db")) as store:
        if openings:
            entries, head = Journal(store, region.region_id, region.signing_key("openings")).check()
            lines = [opening_line(entry) for entry in entries]
            lines.append(
                f"{counted(len(entries), 'opening')}, unaltered" if entries else "no openings"
            )
            result: dict[str, Any] = {"openings": entries, "checkpoint": head}
        else:
            result = {"region": region.card.region, **catalogue(store)}
            lines = catalogue_lines(result)
    if as_json:
        print_json(result)
    else:
        click.echo("\n".join(lines))


@command.command(name="open")
@FOLDER
@click.option("--vehicle", required=True, help="Pseudonym, as `ls` shows it.")
@click.option("--log", "log_id", default="", help="Beginning of a log id; all logs if left out.")
@span_options
@click.option(
    "--lane", "lanes", multiple=True, type=click.Choice(LANES),
    help="Only what is on it; an event's frames are on the recorder's. Repeat for more.",
)  # fmt: skip
@click.option("--frames", help="Write frames as a candump log; - for standard output.")
@click.option("--signals", help="Write signals as CSV; - for standard output.")
@click.option("--reason", default="", help="Why; it goes into the ledger of openings.")
@json_option
def open_(**options: Any) -> None:
    """Open what a car sent, with the region's key. Each opening is recorded first.

    Exit code 1: something was altered. 3: something has not come. Both are named, and what could
    be opened is written all the same.

    \b
    Examples:
      inland station open cn --vehicle v-1f0c --frames drive.log --reason 'case 17'
      inland station open cn --vehicle v-1f0c --signals - --from 2026-11-22T08:00:00
    """
    import datetime as dt

    from agent.cli.station_view import report_opened
    from agent.evidence.selection import Request
    from agent.station.authority import load_region
    from agent.station.disclose import Order, disclose, os_user

    if options["frames"] == options["signals"] == "-":
        raise ConfigError("frames and signals cannot both go to standard output", where="--signals")
    request = Request(
        options["vehicle"], options["log_id"],
        *span_of(options["start"], options["end"]),
        lane_numbers(options["lanes"]),
    )  # fmt: skip
    order = Order(
        request, options["frames"], options["signals"], who=os_user(),
        reason=options["reason"], at=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
    )  # fmt: skip
    with click.progressbar(
        length=0, label="opening", file=sys.stderr, hidden=not sys.stderr.isatty()
    ) as bar:

        def begin(count: int) -> None:
            bar.length = count

        opened = disclose(load_region(options["folder"]), order, begin=begin, progress=bar.update)
    report_opened(
        opened, to_stderr="-" in (order.frames, order.signals), as_json=options["as_json"]
    )
