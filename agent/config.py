"""agent.toml -> one frozen Config. The only place that knows the file.

An unknown key is an error that names the nearest valid one. Paths are relative to the file they
stand in. Keys of a [[bus]] are python-can's own (`interface`, `channel`, `bitrate`, `fd`, ...);
`name` is what policies and records call the bus.

Secrets are never values but places: a path, or `credential:NAME` for one that the service manager
alone has (`systemd-creds encrypt --name=NAME`). A process that was handed a credential named after
the key takes that, and not the file: so the same agent.toml serves the boot service, whose users
cannot read the file, and a desk.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from agent.errors import ConfigError
from agent.files import credentials_folder, read_text, why_unreadable
from agent.toml_lines import Lines
from agent.units import duration_ns, nearest, size_bytes

DEFAULT_PATH: Final = Path("/etc/inland/agent.toml")
TOP: Final = ("state", "run", "region_card", "vehicle", "bus", "limits", "uplink")
VEHICLE: Final = ("id", "certificate", "key", "ledger_key", "group", "zones_key", "tpm")
LIMITS: Final = ("spool", "queue_frames")
UPLINK: Final = ("spread",)
MAX_BYTES: Final = 1 << 20  # of agent.toml
MIN_SPOOL: Final = 8 << 20  # bytes: below this eviction would run all the time
CREDENTIAL: Final = "credential:"
CREDENTIAL_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class Secret:
    """Where a key is.

    Attributes:
        name: of the credential that takes precedence where the service manager hands it over.
        path: its file; None: the service manager alone has it.
    """

    name: str
    path: Path | None

    def file(self) -> Path:
        """Return the file to read it from, here and now.

        Raises:
            ConfigError: the service manager alone has it, and has not handed it to this process.
        """
        folder = credentials_folder()
        if folder is not None and (folder / self.name).exists():
            return folder / self.name
        if self.path is None:
            raise ConfigError(
                "only the service manager has this key", where=f"{CREDENTIAL}{self.name}",
                todo="start it as a service, or name a file in agent.toml",
            )  # fmt: skip
        return self.path


@dataclass(frozen=True, slots=True)
class Vehicle:
    """The identity that `inland station enroll` gave the car.

    Attributes:
        id: pseudonym, also the CN of the certificate. Not the VIN.
        certificate: PEM of the client certificate.
        key: PEM of its private key, read by uplink alone.
        ledger_key: PEM of the Ed25519 key that signs checkpoints, read by capture alone.
        group: vehicles of one group are offered the same policies.
        zones_key: opens the sealed zones of policies, read by capture alone; None: no zones.
        tpm: how tpm2-tools reach the TPM that counts ownerships; empty: a file counts them.
    """

    id: str
    certificate: Path
    key: Secret
    ledger_key: Secret
    group: str = "default"
    zones_key: Secret | None = None
    tpm: str = ""


@dataclass(frozen=True, slots=True)
class Bus:
    """One CAN bus: its name here, and python-can's settings to open it."""

    name: str
    settings: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Config:
    """What agent.toml says.

    Attributes:
        path: the file itself.
        state: folder of the spool and the policy; survives a reboot.
        run: folder of the hatch and of the live socket; does not.
        region_card: path of region.toml.
        vehicle: identity and key files.
        buses: what capture listens to.
        spool_bytes: quota of the spool file, its write-ahead log included.
        queue_frames: frames that may wait between the readers and the sealer.
        spread_s: the first connection after a start waits a random time up to this.
    """

    path: Path
    state: Path
    run: Path
    region_card: Path
    vehicle: Vehicle
    buses: tuple[Bus, ...]
    spool_bytes: int = 512 << 20
    queue_frames: int = 262_144
    spread_s: float = 0.0

    @property
    def hatch(self) -> Path:
        """The Unix socket between capture and uplink."""
        return self.run / "hatch.sock"

    @property
    def live(self) -> Path:
        """The Unix socket on which people see at once what is sealed to them."""
        return self.run / "live.sock"

    @property
    def policy(self) -> Path:
        """The folder of the policy in force."""
        return self.state / "policy"


def load_config(path: Path) -> Config:
    """Read agent.toml.

    Raises:
        ConfigError: missing or unreadable file, unknown, missing or malformed key; names file:line.
    """
    try:
        text = read_text(path, MAX_BYTES)
    except FileNotFoundError:
        raise ConfigError(
            "no configuration", where=str(path), todo="say --config FILE, or enroll the vehicle"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        why = why_unreadable(error)
        raise ConfigError(f"cannot read the configuration: {why}", where=str(path)) from None
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"not TOML: {error}", where=str(path)) from None
    except RecursionError:
        raise ConfigError("not TOML: nested too deeply", where=str(path)) from None
    return _Reader(path, text).config(values)


class _Reader:
    """Turns the values of one file into a Config, and knows where each stands."""

    def __init__(self, path: Path, text: str) -> None:
        self._path, self._lines = path, Lines(text)

    def config(self, values: dict[str, Any]) -> Config:
        self._known(values, TOP, "")
        vehicle = self._table(values, "vehicle", VEHICLE)
        limits = self._table(values, "limits", LIMITS)
        uplink = self._table(values, "uplink", UPLINK)
        optional: dict[str, Any] = {}
        if "spool" in limits:
            optional["spool_bytes"] = self._limit(limits["spool"])
        if "queue_frames" in limits:
            optional["queue_frames"] = self._value(
                "limits", "queue_frames", limits["queue_frames"], _positive
            )
        if "spread" in uplink:
            spread_ns = self._value("uplink", "spread", uplink["spread"], duration_ns)
            optional["spread_s"] = spread_ns / 1e9
        return Config(
            path=self._path,
            state=self._place(values, "state"),
            run=self._place(values, "run"),
            region_card=self._place(values, "region_card"),
            vehicle=self._vehicle(vehicle),
            buses=self._buses(values.get("bus", [])),
            **optional,
        )

    def _vehicle(self, table: dict[str, Any]) -> Vehicle:
        optional: dict[str, Any] = {}
        if "group" in table:
            optional["group"] = self._text_of(table, "group", "vehicle")
        if "zones_key" in table:
            optional["zones_key"] = self._secret(table, "zones_key", "zones.key")
        if "tpm" in table:
            optional["tpm"] = self._text_of(table, "tpm", "vehicle")
        return Vehicle(
            id=self._text_of(table, "id", "vehicle"),
            certificate=self._place(table, "certificate", "vehicle"),
            key=self._secret(table, "key", "vehicle.key"),
            ledger_key=self._secret(table, "ledger_key", "ledger.key"),
            **optional,
        )

    def _buses(self, tables: object) -> tuple[Bus, ...]:
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            raise self._error("bus", "", "write one [[bus]] table for each bus")
        buses: list[Bus] = []
        for number, table in enumerate(tables):
            name = self._text_of(table, "name", "bus", number)
            for key in ("interface", "channel"):
                if key not in table:
                    raise self._error("bus", "", f"[[bus]] '{name}' has no '{key}'", number)
            if name in [bus.name for bus in buses]:
                raise self._error("bus", "name", f"two buses are called '{name}'", number)
            buses.append(Bus(name, {key: table[key] for key in table if key != "name"}))
        return tuple(buses)

    def _table(self, values: dict[str, Any], name: str, keys: tuple[str, ...]) -> dict[str, Any]:
        table = values.get(name, {})
        if not isinstance(table, dict):
            raise self._error("", name, f"write [{name}] as a table")
        self._known(table, keys, name)
        return table

    def _known(self, table: dict[str, Any], keys: tuple[str, ...], name: str) -> None:
        for key in table:
            if key not in keys:
                raise self._error(name, key, f"unknown key '{key}'", todo=nearest(key, keys))

    def _text_of(self, table: dict[str, Any], key: str, name: str = "", number: int = 0) -> str:
        if key not in table:
            raise self._error(name, "", f"key '{key}' is missing", number)
        if not isinstance(table[key], str) or not table[key]:
            raise self._error(name, key, f"'{key}' must be a text", number)
        return str(table[key])

    def _place(self, table: dict[str, Any], key: str, name: str = "") -> Path:
        return (self._path.parent / self._text_of(table, key, name)).absolute()

    def _secret(self, table: dict[str, Any], key: str, name: str) -> Secret:
        text = self._text_of(table, key, "vehicle")
        if not text.startswith(CREDENTIAL):
            return Secret(name, self._place(table, key, "vehicle"))
        name = text.removeprefix(CREDENTIAL)
        if not CREDENTIAL_NAME.fullmatch(name):
            raise self._error("vehicle", key, f"'{name}' is no name of a credential",
                              todo="up to 64 letters, digits and . _ -")  # fmt: skip
        return Secret(name, None)

    def _limit(self, text: object) -> int:
        size = self._value("limits", "spool", text, size_bytes)
        if size < MIN_SPOOL:
            raise self._error("limits", "spool", f"'spool' must be at least {MIN_SPOOL >> 20}MiB")
        return size

    def _value(self, table: str, key: str, value: object, parse: Callable[[Any], int]) -> int:
        try:
            return parse(value)
        except (ValueError, TypeError, AttributeError) as error:
            raise self._error(table, key, f"'{key}': {error}") from None

    def _error(
        self, table: str, key: str, what: str, number: int = 0, *, todo: str = ""
    ) -> ConfigError:
        line = self._lines.line(table, number, key)
        return ConfigError(what, where=f"{self._path}:{line}", todo=todo)


def _positive(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{value} is not a positive whole number")
    return value
