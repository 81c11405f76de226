"""agent.toml -> one frozen Config. The only place that knows the file.

An unknown key is an error that names the nearest valid one. Paths are relative to the file they
stand in. Secrets are paths, never values. Keys of a [[bus]] are python-can's own (`interface`,
`channel`, `bitrate`, `fd`, ...); `name` is what policies and records call the bus.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from agent.errors import ConfigError
from agent.toml_lines import Lines
from agent.units import duration_ns, nearest, size_bytes

DEFAULT_PATH: Final = Path("/etc/inland/agent.toml")
TOP: Final = ("state", "run", "region_card", "vehicle", "bus", "limits", "uplink")
VEHICLE: Final = ("id", "certificate", "key", "ledger_key", "group", "zones_key")
LIMITS: Final = ("spool", "queue_frames")
UPLINK: Final = ("spread", "regroup")
MIN_SPOOL: Final = 8 << 20  # bytes: below this eviction would run all the time


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
    """

    id: str
    certificate: Path
    key: Path
    ledger_key: Path
    group: str = "default"
    zones_key: Path | None = None


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
        run: folder of the hatch; does not.
        region_card: path of region.toml.
        vehicle: identity and key files.
        buses: what capture listens to.
        spool_bytes: quota of the spool file, its write-ahead log included.
        queue_frames: frames that may wait between the readers and the sealer.
        spread_s: the first connection after a start waits a random time up to this.
        regroup_s: after the region has ended a link or refused one, the next attempt waits a
            random time up to this: every car of the region does so at that moment.
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
    regroup_s: float = 300.0

    @property
    def hatch(self) -> Path:
        """The Unix socket between capture and uplink."""
        return self.run / "hatch.sock"

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
        text = path.read_text("utf-8")
    except FileNotFoundError:
        raise ConfigError(
            "no configuration", where=str(path), todo="say --config FILE, or enroll the vehicle"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the configuration: {error}", where=str(path)) from None
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"not TOML: {error}", where=str(path)) from None
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
        for key in UPLINK:
            if key in uplink:
                ns = self._value("uplink", key, uplink[key], duration_ns)
                optional[f"{key}_s"] = ns / 1e9
        return Config(
            path=self._path,
            state=self._place(values, "state"),
            run=self._place(values, "run"),
            region_card=self._place(values, "region_card"),
            vehicle=Vehicle(
                id=self._text_of(vehicle, "id", "vehicle"),
                certificate=self._place(vehicle, "certificate", "vehicle"),
                key=self._place(vehicle, "key", "vehicle"),
                ledger_key=self._place(vehicle, "ledger_key", "vehicle"),
                group=self._text_of(vehicle, "group", "vehicle")
                if "group" in vehicle
                else "default",
                zones_key=self._place(vehicle, "zones_key", "vehicle")
                if "zones_key" in vehicle
                else None,
            ),
            buses=self._buses(values.get("bus", [])),
            **optional,
        )

    def _vehicle_options(self, vehicle: dict[str, Any]) -> dict[str, Any]:
        options: dict[str, Any] = {}
        if "group" in vehicle:
            options["group"] = self._text_of(vehicle, "group", "vehicle")
        if "zones_key" in vehicle:
            options["zones_key"] = self._place(vehicle, "zones_key", "vehicle")
        return options

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
