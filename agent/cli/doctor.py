"""`inland doctor`: what is right and what is wrong with this machine, before the car finds out.

Nothing is changed and not one MQTT byte is sent: the way to the region ends where the broker has
proved itself.
"""

from __future__ import annotations

import os
import random
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import click

from agent.cli.common import config_option, counted, json_option, print_json, printable
from agent.clock import BUILD_FLOOR_NS, first_trusted_ns, read_clocks
from agent.config import Bus, Config, load_config
from agent.errors import HatchError, InlandError
from agent.region import RegionCard, load_region_card

MARKS: Final = {"ok": ("ok  ", "green"), "warn": ("warn", "yellow"), "fail": ("FAIL", "red")}
WANTED_RCVBUF: Final = 8 << 20  # bytes: two seconds of a full bus
IN_MEMORY: Final = ("tmpfs", "ramfs")
IFF_UP: Final = 1  # linux/if.h
CANFD_MTU: Final = 72  # linux/can.h
MAX_CERTIFICATE_BYTES: Final = 64 * 1024
TPM_DEVICE: Final = Path("/dev/tpmrm0")
NS_PER_DAY: Final = 86_400 * 10**9


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        what: short name.
        verdict: ok | warn | fail.
        text: one line: what was seen, and what to do.
    """

    what: str
    verdict: str
    text: str


@click.command()
@config_option
@click.option("--offline", is_flag=True, help="Do not look for the region's broker.")
@json_option
def command(config_path: Path, *, offline: bool, as_json: bool) -> None:
    """Check configuration, keys, disk, policy, buses and the way to the region.

    Exit code 1 if something would stop the agent, else 0.

    \b
    Example:
      inland doctor --config /etc/inland/agent.toml
    """
    found = list(examine(config_path, offline=offline))
    failed = any(finding.verdict == "fail" for finding in found)
    if as_json:
        print_json({"ok": not failed, "findings": [asdict(finding) for finding in found]})
    else:
        for finding in found:
            mark, colour = MARKS[finding.verdict]
            click.echo(
                f"{click.style(mark, fg=colour)}  {finding.what:<9} {printable(finding.text)}"
            )
    sys.exit(1 if failed else 0)


def examine(config_path: Path, *, offline: bool) -> Iterator[Finding]:
    """Look at everything; what cannot even be read ends the round."""
    try:
        config = load_config(config_path)
    except InlandError as error:
        yield Finding("config", "fail", str(error))
        return
    yield Finding("config", "ok", f"{config_path}: {counted(len(config.buses), 'bus', 'buses')}")
    yield _running(config)
    yield from _service(config_path)
    card: RegionCard | None = None
    try:
        card = load_region_card(config.region_card)
        yield Finding("region", "ok", f"{card.region} at {card.host}:{card.port}")
    except InlandError as error:
        yield Finding("region", "fail", str(error))
    yield _guarded("keys", lambda: _keys(config))
    yield _guarded("custody", lambda: _custody(config))
    yield _guarded("disk", lambda: _disk(config))
    yield _guarded("run", lambda: _run(config))
    yield _clock()
    if card is not None:
        region = card
        yield _guarded("policy", lambda: _policy(config, region.region))
    for bus in config.buses:
        yield _bus(bus)
    if not config.buses:
        yield Finding("bus", "warn", f"no [[bus]] in {config_path}: nothing will be read")
    if card is not None and not offline:
        region = card
        yield _guarded("broker", lambda: _broker(config, region))


def _guarded(what: str, look: Callable[[], Finding]) -> Finding:
    try:
        return look()
    except InlandError as error:
        return Finding(what, "fail", str(error))
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return Finding(what, "fail", f"{where}{error.strerror or error}")


def _running(config: Config) -> Finding:
    from agent.hatch import HatchClient

    hatch = HatchClient(config.hatch)
    try:
        hatch.status()
    except HatchError:
        return Finding("agent", "ok", "not running")
    finally:
        hatch.close()
    return Finding("agent", "ok", f"running; `inland status --config {config.path}` tells more")


def _service(config_path: Path) -> Iterator[Finding]:
    """Look at the boot service, where there is one."""
    from agent.service import boot
    from agent.service.machine import HALVES, Machine
    from agent.service.premises import Wish, survey

    if not boot.is_installed():
        return
    states = {unit: Machine().state(unit) for unit in HALVES}
    for unit, state in states.items():
        if state != "active":
            yield Finding("service", "fail", f"{unit} is {state}; journalctl -u {unit}")
    if os.geteuid() == 0:  # the keys are root's, and the units follow from all of it
        site, mistakes = survey(Wish(config_path.absolute()))
        for mistake in mistakes:
            yield Finding("service", "fail", str(mistake))
        if site is not None and (stale := boot.stale_files(site)):
            text = f"{stale[0]} is older than what it follows from; `inland service install`"
            yield Finding("service", "warn", text)
    if set(states.values()) == {"active"}:
        yield Finding("service", "ok", "both halves run, behind walls that they have proved")


def _keys(config: Config) -> Finding:
    import ssl

    from cryptography import x509

    from agent.files import read_plain
    from agent.policy.zone_key import load_zones_key
    from agent.uplink.tls import load_identity
    from agent.vault.keys import load_ledger_key

    vehicle = config.vehicle
    if vehicle.ledger_key.path is not None:
        load_ledger_key(vehicle.ledger_key.file())
    if vehicle.zones_key is not None and vehicle.zones_key.path is not None:
        load_zones_key(vehicle.zones_key.file())
    if vehicle.key.path is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        load_identity(context, vehicle.certificate, vehicle.key.file())
    try:
        certificate = x509.load_pem_x509_certificate(
            read_plain(config.vehicle.certificate, MAX_CERTIFICATE_BYTES)
        )
    except ValueError as error:
        return Finding("keys", "fail", f"{config.vehicle.certificate}: no certificate: {error}")
    (name,) = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME) or (None,)
    if name is None or name.value != config.vehicle.id:
        return Finding(
            "keys", "fail", f"{config.vehicle.certificate} is not for '{config.vehicle.id}'"
        )
    left_d = (int(certificate.not_valid_after_utc.timestamp() * 1e9) - _now_ns()) // NS_PER_DAY
    if left_d < 0:
        return Finding("keys", "fail", f"the certificate expired {-left_d} days ago; enroll again")
    verdict = "ok" if left_d > 30 else "warn"
    return Finding("keys", verdict, f"{config.vehicle.id}, certificate good for {left_d} days")


def _custody(config: Config) -> Finding:
    """Say what numbers the ownerships of this car, and what that is worth."""
    from agent.owner import custody
    from agent.service.ownership import tpm

    keeper = tpm(config)
    found = custody.look(config.state, keeper) or custody.Epoch()
    if keeper is not None:
        by = "the TPM" if found.custody == custody.BY_TPM else "the TPM from the next start on"
        keeper.is_defined()  # whether it answers
        text = f"ownership {found.number}, by {by}: an older copy of the disk is refused"
        return Finding("custody", "ok", text)
    text = f"ownership {found.number}, by a file: an older copy of the disk is not noticed"
    if not TPM_DEVICE.exists():
        return Finding("custody", "ok", text)
    todo = f'write tpm = "device:{TPM_DEVICE}" in [vehicle]'
    return Finding("custody", "warn", f"{text}, and this computer has a TPM; {todo}")


def _disk(config: Config) -> Finding:
    place = config.state
    while not place.exists():
        place = place.parent
    if not os.access(place, os.W_OK | os.X_OK):
        return Finding("disk", "fail", f"{place} cannot be written by this user")
    spool = config.state / "spool" / "spool.db"
    have = shutil.disk_usage(place).free + (spool.stat().st_size if spool.exists() else 0)
    text = f"{config.state}: quota {config.spool_bytes >> 20} MiB, {have >> 20} MiB there for it"
    return Finding("disk", "ok" if have > config.spool_bytes else "warn", text)


def _run(config: Config) -> Finding:
    kind = file_system(config.run.resolve(), Path("/proc/self/mounts").read_text("utf-8"))
    if kind in IN_MEMORY:
        return Finding("run", "ok", f"{config.run}: in memory")
    return Finding(
        "run", "warn", f"{config.run} is on a disk ({kind}), which then tells how often an event "
        "was today; set `run` to a folder below /run",
    )  # fmt: skip


def file_system(place: Path, mounts: str) -> str:
    """Return the kind of file system that a place is on.

    Args:
        place: absolute, without links; it need not be there yet.
        mounts: as /proc/self/mounts, proc(5).
    """
    found, depth = "unknown", 0
    for line in mounts.splitlines():
        _, where, kind, *_ = line.split()
        at = Path(where.replace("\\040", " "))
        # Of two at one name the later one is seen.
        if place.is_relative_to(at) and len(at.parts) >= depth:
            found, depth = kind, len(at.parts)
    return found


def _now_ns() -> int:
    return first_trusted_ns(read_clocks())


def _clock() -> Finding:
    now = read_clocks()
    if now.wall_ns < BUILD_FLOOR_NS:
        return Finding(
            "clock", "warn", "before this version was made: stamps say so until it is set"
        )
    return Finding("clock", "ok", "plausible")


def _policy(config: Config, region: str) -> Finding:
    from agent.cli.policy.files import of_file
    from agent.policy.compiled import load_policy
    from agent.policy.store import ACTIVE, active

    data = active(config.policy)
    if data is None:
        return Finding(
            "policy",
            "warn",
            "none: nothing is kept; `inland policy install` puts one in force",
        )
    with of_file(config.policy / ACTIVE):
        policy = load_policy(data, region=region, now_ns=_now_ns())
    left_d = (policy.not_after_ns - _now_ns()) // NS_PER_DAY
    verdict = "ok" if left_d > 30 else "warn"
    return Finding("policy", verdict, f"{policy.name} version {policy.version}, {left_d} days left")


def _bus(bus: Bus) -> Finding:
    interface, channel = bus.settings["interface"], str(bus.settings["channel"])
    what = f"bus {bus.name}"
    if interface == "socketcan":
        return _socketcan(what, channel, fd=bool(bus.settings.get("fd")))
    if interface in ("slcan", "serial"):
        port = Path(channel.split("@", maxsplit=1)[0])
        if not port.exists():
            return Finding(what, "warn", f"{port} is not there; capture waits for it")
        if not os.access(port, os.R_OK | os.W_OK):
            return Finding(what, "fail", f"{port}: no permission; add the user to its group")
    if interface == "log" and not Path(channel).exists():
        return Finding(what, "fail", f"{channel} is not there")
    return Finding(what, "ok", f"{interface} {channel}")


def _socketcan(what: str, channel: str, *, fd: bool) -> Finding:
    if not hasattr(socket, "AF_CAN"):
        return Finding(what, "fail", "this Python knows no AF_CAN")
    try:
        socket.socket(socket.AF_CAN, socket.SOCK_RAW, socket.CAN_RAW).close()
    except OSError as error:
        return Finding(what, "fail", f"the kernel has no SocketCAN ({error}); modprobe can_raw")
    if channel not in (name for _, name in socket.if_nameindex()):
        return Finding(what, "warn", f"no interface {channel}; capture waits for it")
    if trouble := _interface(channel, fd=fd):
        return Finding(what, "warn", trouble)
    limit = int(Path("/proc/sys/net/core/rmem_max").read_text("ascii"))
    if limit < WANTED_RCVBUF and os.geteuid() != 0:
        return Finding(
            what, "warn", f"receive buffer is held at {limit >> 10} KiB; "
            f"sysctl net.core.rmem_max={WANTED_RCVBUF}",
        )  # fmt: skip
    return Finding(what, "ok", f"socketcan {channel}")


def _interface(channel: str, *, fd: bool) -> str:
    """What is wrong with an interface that is there; empty: nothing."""
    interface = Path("/sys/class/net", channel)
    if not int((interface / "flags").read_text("ascii"), 16) & IFF_UP:
        return f"interface {channel} is down: ip link set {channel} up; capture waits for it"
    if int((interface / "mtu").read_text("ascii")) == CANFD_MTU and not fd:
        # The kernel hands a classic socket no CAN FD frame, and counts none.
        return f"{channel} takes CAN FD frames; to read them, say fd = true"
    return ""


def _broker(config: Config, card: RegionCard) -> Finding:
    from agent.uplink.resolve import resolve
    from agent.uplink.timing import Timing
    from agent.uplink.tls import PinnedContext

    if config.vehicle.key.path is None:
        text = "not asked: the service manager alone has the key; `inland status` tells of the link"
        return Finding("broker", "ok", text)
    address = resolve(card, random.SystemRandom().random)[0]
    context = PinnedContext(
        card,
        config.vehicle.certificate,
        config.vehicle.key.file(),
        now_ns=_now_ns,
        timing=Timing(),
    )
    with socket.create_connection((address, card.port), timeout=10) as plain:
        context.wrap_socket(plain).close()
    return Finding("broker", "ok", f"{address}:{card.port} has proved that it is {card.region}")
