"""Is this car ready for the boot service? Looks at everything before anything is written.

- What the service will need has to be where its users, behind their walls, see it: nothing below a
  home or a temporary folder, nothing that only root can reach, but for the keys.
- Keys stay root's: the service manager reads them and hands them over.
- Every mistake is one line of its own, and all of them are told at once.
- With a root folder that is not `/`, the car is an image: paths of the configuration are the car's,
  and nothing of it is started.
"""

from __future__ import annotations

import grp
import ipaddress
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import agent
from agent.config import CREDENTIAL, Bus, Config, Secret, load_config
from agent.errors import ConfigError, InlandError
from agent.files import read_plain
from agent.region import RegionCard, load_region_card
from agent.service.acting import is_open
from agent.service.bytecode import START
from agent.service.names import CAPTURE, UPLINK
from agent.service.unit_files import RMEM, RMEM_MAX, Credential, Site

LIVE: Final = Path("/")
HIDDEN: Final = ("/home", "/root", "/run/user", "/tmp", "/var/tmp", "/dev")  # noqa: S108 - refused
NO_STATE: Final = (*HIDDEN, "/etc", "/usr", "/run", "/boot", "/proc", "/sys", "/lib", "/bin")
NEEDS_IP: Final = ("udp_multicast", "socketcand", "virtual")
SERIAL: Final = ("slcan", "serial")
STORES: Final = ("/etc", "/run", "/usr/lib")  # of credentials: systemd.exec(5)
MAX_RESOLVERS: Final = 3  # that glibc asks: resolv.conf(5)
MAX_SYSTEM_FILE: Final = 1 << 20  # bytes; /etc/group of a large directory service
CHECK_S: Final = 30.0  # an interpreter on a slow disk


@dataclass(frozen=True, slots=True)
class Wish:
    """What was asked for on the command line.

    Attributes:
        config: agent.toml, as the car sees it.
        root: the car's root folder; `/` for this machine.
        python: the car's interpreter; None: the one that runs here.
        resolvers: addresses of DNS servers; empty: those of resolv.conf.
    """

    config: Path
    root: Path = LIVE
    python: Path | None = None
    resolvers: tuple[str, ...] = ()

    def outside(self, path: Path) -> Path:
        """Return where a path of the car is from here."""
        return self.root / path.relative_to("/")

    def inside(self, path: Path) -> Path:
        """Return what the car calls a path that `load_config` made."""
        return Path("/") / path.relative_to(self.root) if path.is_relative_to(self.root) else path


def survey(wish: Wish) -> tuple[Site | None, list[InlandError]]:
    """Return what the units need to know, and all that is wrong; without a site something is.

    Raises:
        ConfigError: agent.toml cannot be read: nothing else can be told then.
    """
    return _Survey(wish).result()


class _Survey:
    def __init__(self, wish: Wish) -> None:
        self._wish, self._live = wish, wish.root == LIVE
        self._mistakes: list[InlandError] = []
        self._config: Config = load_config(wish.outside(wish.config))
        self._python = wish.python or Path(sys.executable)

    def result(self) -> tuple[Site | None, list[InlandError]]:
        config, vehicle = self._config, self._config.vehicle
        card: RegionCard | None = None
        with self._noting():
            card = load_region_card(self._wish.outside(self._wish.inside(config.region_card)))
        self._folders()
        for path in (config.path, config.region_card, vehicle.certificate):
            self._seen_by_service(self._wish.inside(path))
        self._interpreter()
        for bus in config.buses:
            with self._noting():
                self._bus(bus)
        uplink_keys = self._credentials(vehicle.key)
        capture_keys = self._credentials(vehicle.ledger_key, vehicle.zones_key)
        if card is not None:
            self._keys(card)
        site: Site | None = None
        if card is not None and not self._mistakes:
            with self._noting():
                site = self._site(card, capture_keys, uplink_keys)
        # One closed folder is in the way of many files.
        return site, list({str(mistake): mistake for mistake in self._mistakes}.values())

    @contextmanager
    def _noting(self) -> Iterator[None]:
        try:
            yield
        except InlandError as error:
            self._mistakes.append(error)

    def _note(self, what: str, where: object, todo: str) -> None:
        self._mistakes.append(ConfigError(what, where=str(where), todo=todo))

    def _folders(self) -> None:
        config, inside = self._config, self._wish.inside
        state, run = inside(config.state), inside(config.run)
        if state == Path("/var/lib") or any(state.is_relative_to(one) for one in NO_STATE):
            self._note(f"'state' is {state}: not a place for it", config.path,
                       'write state = "/var/lib/inland"')  # fmt: skip
        if run == Path("/run") or not run.is_relative_to("/run") or run.is_relative_to("/run/user"):
            self._note(f"'run' is {run}, which is not a folder below /run", config.path,
                       'write run = "/run/inland"')  # fmt: skip

    def _seen_by_service(self, path: Path) -> None:
        """Note if the users of the service could not read a file or folder of the car."""
        hidden = [one for one in HIDDEN if path.is_relative_to(one)]
        if hidden:
            self._note(f"below {hidden[0]}, which a service does not see", path,
                       "move it, e.g. to /etc/inland or /opt/inland")  # fmt: skip
            return
        with self._noting():
            for step in (*reversed(path.parents), path):
                from_here = self._wish.outside(step)
                if self._live or not from_here.is_symlink():  # an image's links lead elsewhere here
                    _check_open(step, from_here)

    def _interpreter(self) -> None:
        python = self._python
        self._seen_by_service(python)
        if not self._live or self._mistakes:
            return
        for path in {python.resolve(), Path(os.__file__).resolve(), Path(agent.__file__).resolve()}:
            self._seen_by_service(path)
        with self._noting():
            _check_interpreter(python)

    def _bus(self, bus: Bus) -> None:
        interface, channel = str(bus.settings["interface"]), str(bus.settings["channel"])
        where = f"{self._config.path}: [[bus]] '{bus.name}'"
        if interface in NEEDS_IP:
            raise ConfigError(f"interface '{interface}' does not work behind capture's wall",
                              where=where, todo="use it with `inland run`")  # fmt: skip
        if interface in SERIAL and not channel.startswith("/dev/"):
            raise ConfigError(f"'{channel}' is not a serial line", where=where,
                              todo='write channel = "/dev/ttyACM0", or its by-id name')  # fmt: skip
        if interface == "log" and not channel.startswith("/"):
            raise ConfigError(f"'{channel}' is no whole path, and a service starts in /",
                              where=where, todo='write channel = "/opt/drive.log"')  # fmt: skip
        if interface == "log":
            self._seen_by_service(Path(channel))

    def _credentials(self, *secrets: Secret | None) -> tuple[Credential, ...]:
        found: list[Credential] = []
        for secret in secrets:
            if secret is None:
                continue
            if secret.path is not None:
                found.append(Credential(secret.name, self._wish.inside(secret.path)))
                continue
            with self._noting():
                found.append(self._stored(secret.name))
        return tuple(found)

    def _stored(self, name: str) -> Credential:
        """Return the credential of a name that is in one of the service manager's stores."""
        for kind in (".encrypted", ""):
            for place in STORES:
                if self._wish.outside(Path(place, f"credstore{kind}", name)).exists():
                    return Credential(name, encrypted=bool(kind))
        raise ConfigError(
            "the service manager has no such credential", where=f"{CREDENTIAL}{name}",
            todo=f"systemd-creds encrypt --name={name} FILE /etc/credstore.encrypted/{name}",
        )  # fmt: skip

    def _keys(self, card: RegionCard) -> None:
        """Read the keys that are files: whether they are keys, and ours."""
        from agent.policy.zone_key import load_zones_key
        from agent.uplink.timing import Timing
        from agent.uplink.tls import PinnedContext
        from agent.vault.keys import load_ledger_key

        vehicle = self._config.vehicle
        certificate = self._wish.outside(self._wish.inside(vehicle.certificate))
        tls, ledger, zones = map(
            self._key_file, (vehicle.key, vehicle.ledger_key, vehicle.zones_key)
        )
        with self._noting():
            PinnedContext(
                card, certificate if tls else None, tls, now_ns=lambda: 0, timing=Timing()
            )
        with self._noting():
            if ledger:
                load_ledger_key(ledger)
        with self._noting():
            if zones:
                load_zones_key(zones)

    def _key_file(self, secret: Secret | None) -> Path | None:
        if secret is None or secret.path is None:
            return None
        return self._wish.outside(self._wish.inside(secret.path))

    def _site(
        self, card: RegionCard, capture_keys: tuple[Credential, ...],
        uplink_keys: tuple[Credential, ...],
    ) -> Site:  # fmt: skip
        config, inside = self._config, self._wish.inside
        state = inside(config.state)
        code = [Path(agent.__file__).parent] if self._live else []
        folders = [inside(config.path).parent, inside(config.region_card).parent, state]
        lines = tuple(self._line(bus) for bus in config.buses if _is_serial(bus))
        resolvers = self._wish.resolvers or _resolvers(self._wish.outside(Path("/etc/resolv.conf")))
        return Site(
            start=(str(self._python), *(START if self._live else ("-I", "-B", "-m", "agent.cli"))),
            config=inside(config.path),
            state=state,
            run=inside(config.run),
            mounts=tuple(dict.fromkeys([self._python.parent, *code, *folders])),
            capture_keys=capture_keys,
            uplink_keys=uplink_keys,
            allowed=tuple(dict.fromkeys([*map(str, card.prefixes), *map(_single, resolvers)])),
            lines=lines,
            serial_group=self._serial_group(lines),
            tpm=_tpm(config.vehicle.tpm),
            raise_rmem=not self._live or is_modest(RMEM.read_text("ascii")),
        )

    def _line(self, bus: Bus) -> str:
        line = Path(str(bus.settings["channel"]).split("@", maxsplit=1)[0])
        return str(line.resolve() if self._live else line)

    def _serial_group(self, lines: Sequence[str]) -> str:
        for line in lines if self._live else ():
            if Path(line).exists():
                group = Path(line).stat().st_gid
                return grp.getgrgid(group).gr_name if group else ""
        try:
            groups = _lines(self._wish.outside(Path("/etc/group")))
        except OSError:
            return ""
        return "dialout" if any(one.startswith("dialout:") for one in groups) else ""


def is_modest(limit: str) -> bool:
    """Return whether a limit for receive buffers may be ours; who has raised it more keeps that."""
    return int(limit) <= RMEM_MAX


def _tpm(reached: str) -> str:
    """Return the device that "device:/dev/tpmrm0" names; what is no device needs none."""
    kind, _, path = reached.partition(":")
    return path if kind == "device" else ""


def _is_serial(bus: Bus) -> bool:
    return bus.settings["interface"] in SERIAL


def _check_open(path: Path, from_here: Path) -> None:
    """Raise ConfigError unless everybody may read a file or go through a folder."""
    try:
        if not is_open(from_here):
            todo = f"chmod o+{'x' if from_here.is_dir() else 'r'} {path}"
            raise ConfigError(f"closed to {CAPTURE} and {UPLINK}", where=str(path), todo=todo)
    except OSError as error:
        raise ConfigError(f"cannot be looked at: {error.strerror}", where=str(path)) from None


def _check_interpreter(python: Path) -> None:
    """Raise ConfigError unless an isolated interpreter finds this very package."""
    command = [str(python), "-I", "-c", "import agent; print(agent.__file__)"]
    try:
        done = subprocess.run(
            command, cwd="/", env={}, capture_output=True, text=True, timeout=CHECK_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigError(f"does not start: {error}", where=str(python)) from None
    if done.stdout.strip() != str(Path(agent.__file__)):
        raise ConfigError(
            "does not find this inland by itself", where=str(python),
            todo=f"install it there: {python} -m pip install …",
        )  # fmt: skip


def _resolvers(path: Path) -> tuple[str, ...]:
    """Return the DNS servers that resolv.conf names."""
    if path.is_symlink() and "systemd/resolve/stub" in str(path.readlink()):
        return ("127.0.0.53",)  # of systemd-resolved: in an image the link leads nowhere
    try:
        words = [line.split() for line in _lines(path)]
    except OSError:
        return ()
    found = [line[1] for line in words if len(line) > 1 and line[0] == "nameserver"]
    return tuple(one.partition("%")[0] for one in found[:MAX_RESOLVERS])


def _lines(path: Path) -> list[str]:
    """Return the lines of a file of the system, as far as it is read. Raises OSError."""
    return read_plain(path, MAX_SYSTEM_FILE).decode("utf-8", "replace").splitlines()


def _single(address: str) -> str:
    try:
        return str(ipaddress.ip_network(address))
    except ValueError:
        raise ConfigError(f"'{address}' is no address of a resolver",
                          where="--resolver or /etc/resolv.conf") from None  # fmt: skip
