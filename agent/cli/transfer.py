"""`inland transfer`: the car gets another owner, and forgets the one before."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from agent.cli.common import config_option, json_option, print_json
from agent.errors import ConfigError, OwnerError, SpoolError, TransferPendingError

if TYPE_CHECKING:
    from agent.config import Config
    from agent.owner.custody import Epoch
    from agent.region import RegionCard
    from agent.vault.identity import Identity
    from agent.vault.parting import Survey

BY_FILE_SAYS: Final = (
    "A file counts ownerships here, not a TPM: if an older copy of the disk is put back, the car "
    "takes itself for the car of the owner before, and cannot notice."
)
WAIT_S: Final = 60.0  # for a running agent to end its sessions
_TURN_S: Final = 0.2
_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.option("--yes", is_flag=True, help="Do not ask: the owner has been asked elsewhere.")
@click.option("--even-held", is_flag=True,
              help="Also what an event or an order holds; asks twice.")  # fmt: skip
@click.option("--certificate", type=_FILE, help="Write the certificate of the erasure there too.")
@click.option("--check", "to_check", type=_FILE, help="Check a certificate; does nothing else.")
@click.option("--hold", "order", type=_FILE, help="Keep an authority's order; does nothing else.")
@config_option
@json_option
def command(
    *, yes: bool, even_held: bool, certificate: Path | None, to_check: Path | None,
    order: Path | None, config_path: Path, as_json: bool,
) -> None:  # fmt: skip
    """End this ownership of the car: forget its people and what was theirs, and begin the next.

    What the region is still to get stays sealed for the region; the ledger stays. It cannot be
    undone. A running agent is told, and ends; if nothing starts it again, start it afterwards.

    \b
    Examples:
      inland transfer --certificate /media/usb/erased.json
      inland transfer --check /media/usb/erased.json
    """
    if to_check is not None:
        _check(to_check, as_json=as_json)
        return
    from agent.config import load_config

    config = load_config(config_path)
    card, identity = _identity(config)
    if order is not None:
        _hold(config, card, order)
        return
    with _place(certificate) as copy:
        place = _transfer(config, card, identity, yes=yes, even_held=even_held)
        if copy is not None:
            _write(copy, place.read_bytes())
    _check(place, as_json=as_json)
    if certificate is not None:
        click.echo(
            f"{certificate}: the certificate, for the owner before and the next one", err=True
        )


@contextmanager
def _place(certificate: Path | None) -> Iterator[int | None]:
    """Open the copy as who we are: whom we become later may not write there."""
    if certificate is None:
        yield None
        return
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        copy = os.open(certificate, flags, 0o644)
    except OSError as error:
        raise ConfigError(f"cannot be written: {error.strerror}", where=str(certificate)) from None
    try:
        yield copy
    except BaseException:
        with suppress(OSError):  # then an empty file stays
            certificate.unlink()
        raise
    finally:
        os.close(copy)


def _write(copy: int, text: bytes) -> None:
    with os.fdopen(os.dup(copy), "wb") as file:
        file.write(text)
        file.flush()
        os.fsync(copy)


def _transfer(
    config: Config, card: RegionCard, identity: Identity, *, yes: bool, even_held: bool
) -> Path:
    from agent.owner import transfer
    from agent.service import ownership
    from agent.service.acting import act_as_owner_of

    act_as_owner_of(config.state)
    pending = transfer.pending(config.state)
    if pending is not None:
        before = pending.before
    else:
        before = ownership.present(config)
        _ask(config, card, before, yes=yes, even_held=even_held)
        transfer.begin(config.state, before)
    transfer.take_custody(config.state, ownership.tpm(config))
    if pending is not None:  # told when it is durable: who began it may have been killed
        click.echo("a transfer was begun and is completed now", err=True)
    return _complete(config, identity, before)


def _complete(config: Config, identity: Identity, before: Epoch) -> Path:
    """Complete it here, or let the agent do it that holds the folder."""
    from dataclasses import replace

    from agent.owner import transfer
    from agent.service import ownership

    place = transfer.certificate_of(config.state, before.number)
    pause, deadline = threading.Event(), time.monotonic() + WAIT_S
    while transfer.pending(config.state) is not None:
        try:
            vault = _open(config, replace(identity, epoch=before.number + 1))
        except SpoolError as error:
            if "another agent" not in error.what:
                raise
            if time.monotonic() > deadline:
                raise TransferPendingError(
                    "the transfer is begun, and the running agent has not ended",
                    where=str(config.state), todo="stop it: the next start completes it",
                ) from None  # fmt: skip
            pause.wait(_TURN_S)
            continue
        try:
            ownership.complete(config, vault, identity)
        finally:
            vault.close()
    return place


def _open(config: Config, identity: Identity) -> Any:
    from agent import __version__
    from agent.clock import boot_id
    from agent.pb.moment_pb2 import Moment
    from agent.vault.vault import Vault

    def read_clocks() -> Moment:
        boottime_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        return Moment(unix_ns=time.time_ns(), boottime_ns=boottime_ns)

    return Vault.open(
        config.state, identity=identity, now=read_clocks, rng=os.urandom, boot_id=boot_id(),
        version=__version__, quota_bytes=config.spool_bytes,
    )  # fmt: skip


def _identity(config: Config) -> tuple[RegionCard, Identity]:
    """Read keys as who we are: root's are closed to whose state folder it is."""
    from agent.region import load_region_card
    from agent.vault.identity import Identity
    from agent.vault.keys import load_ledger_key

    card = load_region_card(config.region_card)
    return card, Identity(
        region=card.region, vehicle=config.vehicle.id,
        ledger_key=load_ledger_key(config.vehicle.ledger_key.file()),
        receipt_keys=card.receipt_keys, cosign_keys=card.cosign_keys,
        region_key=card.recipient_key, owner_key=None,
    )  # fmt: skip


def _ask(config: Config, card: RegionCard, before: Epoch, *, yes: bool, even_held: bool) -> None:
    from agent.owner.custody import BY_FILE

    found = _survey(config)
    order = _order(config, card)
    held = found.held if found else 0
    if (held or order) and not even_held:
        why = f"{order} holds it" if order else f"{held:,} contents of incidents are held"
        raise OwnerError(f"not transferred: {why}", where=str(config.state),
                         todo="export it first; --even-held erases it all the same")  # fmt: skip
    for line in _told(found, before):
        click.echo(line, err=True)
    if before.custody == BY_FILE:
        click.echo(BY_FILE_SAYS, err=True)
    if yes:
        return
    if not _is_terminal():
        raise ConfigError("nobody can be asked here", where="inland transfer",
                          todo="say --yes if the owner has agreed")  # fmt: skip
    sure = click.confirm("Erase it and end this ownership?", default=False, err=True)
    if sure and (held or order):
        sure = click.confirm("It is HELD. Erase what is held as well?", default=False, err=True)
    if not sure:
        raise OwnerError("not transferred: nothing has changed")


def _order(config: Config, card: RegionCard) -> str:
    """Return which order holds the car; empty: none. One that cannot be read holds as well."""
    from agent.owner import hold

    try:
        found = hold.standing(config.state, vehicle=config.vehicle.id,
                              receipt_keys=card.receipt_keys, now_s=_now_s(config))  # fmt: skip
    except OwnerError as error:
        return f"an order that cannot be checked ({error.what})"
    return f"the order '{found.reference}'" if found else ""


def _is_terminal() -> bool:
    return sys.stdin.isatty()


def _told(found: Survey | None, before: Epoch) -> list[str]:
    lines = [f"This ends ownership {before.number} of the car."]
    for one in found.erased if found else ():
        from agent.enum_names import name_of
        from agent.pb import sealed_pb2

        who = name_of(sealed_pb2.Recipients, one.recipients)
        lane = name_of(sealed_pb2.Lane, one.lane)
        lines.append(f"  erased: {one.bodies:>8,} contents for {who:<8} on lane {lane:<9} "
                     f"{one.bytes:>14,} bytes")  # fmt: skip
    return [*lines, "  forgotten: people, consents, counts of events, quarantined files",
            "The owner's data can be taken along before: `inland owner export`."]  # fmt: skip


def _survey(config: Config) -> Survey | None:
    from agent.errors import UndecidedError
    from agent.vault import parting
    from agent.vault.yearly import LedgerReader

    try:
        with LedgerReader(config.state) as reader:
            return parting.survey(reader.rows)
    except UndecidedError:  # the agent never ran
        return None


def _now_s(config: Config) -> int:
    from agent.clock import read_clocks
    from agent.vault.floor import trusted_now_ns

    return trusted_now_ns(config.state, read_clocks()) // 10**9


def _hold(config: Config, card: RegionCard, order: Path) -> None:
    from agent.owner import hold
    from agent.service.acting import act_as_owner_of, other_owner, readable_for

    with readable_for(other_owner(config.state), order) as copy:
        now_s = _now_s(config)
        act_as_owner_of(config.state)
        found = hold.register(config.state, copy, vehicle=config.vehicle.id,
                              receipt_keys=card.receipt_keys, now_s=now_s)  # fmt: skip
    click.echo(f"held by order {found.reference}: a transfer is refused from now on")


def _check(path: Path, *, as_json: bool) -> None:
    from agent.files import read_small
    from agent.owner import certificate
    from agent.service.ledger import moment

    try:
        found = certificate.check(read_small(path, certificate.MAX_BYTES))
    except OwnerError as error:
        raise OwnerError(error.what, where=str(path), todo=error.todo) from None
    if as_json:
        print_json(found)
        return
    bodies = sum(one["bodies"] for one in found["erased"])
    size = sum(one["bytes"] for one in found["erased"])
    forgotten = ", ".join(f"{name} {count}" for name, count in found["forgotten"].items())
    click.echo(f"{found['vehicle']} in {found['region']}: ownership {found['from_epoch']} ended at "
               f"{moment(found['unix_s'] * 10**9)} ({found['clock']} time)")  # fmt: skip
    click.echo(f"erased: {bodies:,} contents, {size:,} bytes; forgotten: {forgotten}")
    click.echo(f"custody: {found['custody']}; entry {found['index']} of ledger {found['log'][:16]}")
    click.echo(f"signed by the car's ledger key {found['ledger_key']}")
