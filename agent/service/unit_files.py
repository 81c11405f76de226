"""What the boot service's files say of one car. Pure: templates and a site in, texts out.

A line of a template with `@NAME@` stands once for each value of that name, and not at all if it has
none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.errors import ConfigError
from agent.service.names import CAPTURE_UNIT, TARGET_UNIT, UPLINK_UNIT

UNITS: Final = Path("/etc/systemd/system")
WANTED: Final = UNITS / "multi-user.target.wants" / TARGET_UNIT  # a link, to start at boot
SYSUSERS: Final = Path("/etc/sysusers.d/inland.conf")
SYSCTL: Final = Path("/etc/sysctl.d/60-inland.conf")
TMPFILES: Final = Path("/etc/tmpfiles.d/inland.conf")
TEMPLATES: Final = {
    CAPTURE_UNIT: UNITS / CAPTURE_UNIT,
    UPLINK_UNIT: UNITS / UPLINK_UNIT,
    TARGET_UNIT: UNITS / TARGET_UNIT,
    "inland.sysusers": SYSUSERS,
    "inland.sysctl": SYSCTL,
    "inland.tmpfiles": TMPFILES,
}
RMEM: Final = Path("/proc/sys/net/core/rmem_max")
RMEM_MAX: Final = 8 << 20  # bytes: agent.capture.early.BUFFER_BYTES
_STATES: Final = Path("/var/lib")  # what StateDirectory= is relative to
_RUNS: Final = Path("/run")  # what RuntimeDirectory= is relative to

# What stands in a unit unquoted, whatever systemd makes of spaces, quotes, % and \.
TPM_GROUP: Final = "tss"  # of the TPM's device, as tpm2-tools bring it
_PLAIN: Final = re.compile(r"/[A-Za-z0-9/._+:@=-]*")
_VALUE: Final = re.compile(r"@([A-Z_]+)@")
# Numbers of majors that never change: a module that is not loaded yet has no name in /proc/devices.
# Source: Documentation/admin-guide/devices.txt.
_SERIAL: Final = {"ttyACM": "char-166", "ttyUSB": "char-188"}
_TTY: Final = re.compile(r"(tty[A-Za-z]+)[0-9]+")


@dataclass(frozen=True, slots=True)
class Credential:
    """One key for one process.

    Attributes:
        name: of the credential.
        path: its file; None: one that the service manager finds by itself.
        encrypted: it is encrypted (`systemd-creds encrypt`).
    """

    name: str
    path: Path | None = None
    encrypted: bool = False

    def line(self) -> str:
        """Return the value of LoadCredential= or LoadCredentialEncrypted=."""
        return self.name if self.path is None else f"{self.name}:{self.path}"


@dataclass(frozen=True, slots=True)
class Site:
    """Where things are in one car, as the car itself sees them.

    Attributes:
        start: the interpreter with its options.
        config: agent.toml.
        state: the state folder.
        run: the run folder.
        mounts: files and folders that have to be there before a start.
        capture_keys: what capture is handed.
        uplink_keys: what uplink is handed.
        allowed: prefixes and addresses that uplink may talk to.
        lines: serial lines of SLCAN adapters, symbolic links resolved where they exist.
        serial_group: whom the serial lines belong to; empty: no such group here.
        tpm: device of the TPM that counts ownerships; empty: a file does.
        raise_rmem: the kernel's limit for receive buffers is raised.
    """

    start: tuple[str, ...]
    config: Path
    state: Path
    run: Path
    mounts: tuple[Path, ...]
    capture_keys: tuple[Credential, ...]
    uplink_keys: tuple[Credential, ...]
    allowed: tuple[str, ...]
    lines: tuple[str, ...] = ()
    serial_group: str = ""
    tpm: str = ""
    raise_rmem: bool = True

    def __post_init__(self) -> None:
        """Raise ConfigError for a path that a unit cannot name."""
        keys = (key.path for key in self.capture_keys + self.uplink_keys if key.path)
        named = [self.config, self.state, self.run, *self.mounts, *keys, self.start[0], *self.lines]
        named += [self.tpm] if self.tpm else []
        for path in map(str, named):
            if not _PLAIN.fullmatch(path):
                raise ConfigError(
                    "a unit cannot name this path", where=path,
                    todo="use letters, digits and . _ + : @ = - alone",
                )  # fmt: skip


def unit_files(templates: Mapping[str, str], site: Site) -> dict[Path, str]:
    """Return the text of each file by its path in the car; empty: it must not be there.

    Args:
        templates: by the names of `TEMPLATES`.
        site: the car.
    """
    common = _common(site)
    own = {
        CAPTURE_UNIT: common | _keys(site.capture_keys) | _devices(site),
        UPLINK_UNIT: common | _keys(site.uplink_keys),
    }
    files = {
        path: _fill(templates[name], own.get(name, common)) for name, path in TEMPLATES.items()
    }
    if not site.raise_rmem:
        files[SYSCTL] = ""
    if not common["STATE_ELSEWHERE"]:
        files[TMPFILES] = ""
    return files


def state_and_run(unit: str) -> tuple[Path | None, Path | None]:
    """Return the state and the run folder that the unit of capture names; None: it does not."""
    found = dict(re.findall(r"^# (state|run): (/.+)$", unit, re.MULTILINE))
    state, run = found.get("state"), found.get("run")
    return Path(state) if state else None, Path(run) if run else None


def allowed(unit: str) -> tuple[str, ...]:
    """Return what the unit of uplink lets it talk to."""
    return tuple(" ".join(re.findall(r"^IPAddressAllow=(.*)$", unit, re.MULTILINE)).split())


def serial_device(line: str) -> tuple[str, ...]:
    """Return the values of DeviceAllow= for a serial line.

    A USB adapter that is not there yet has no node, so its driver is named, by its number.
    """
    match = _TTY.fullmatch(line.rpartition("/")[2])
    if match is None:  # a link that leads nowhere now, e.g. in /dev/serial/by-id
        return tuple(_SERIAL.values())
    return (_SERIAL.get(match[1], line),)


def _common(site: Site) -> dict[str, Sequence[str]]:
    below = site.state.is_relative_to(_STATES)
    state = str(site.state)
    return {
        "START": (" ".join(site.start),),
        "CONFIG": (str(site.config),),
        "STATE": (state,),
        "STATE_DIRECTORY": (str(site.state.relative_to(_STATES)),) if below else (),
        "STATE_ELSEWHERE": () if below else (state,),
        "WRITES": () if below else (state,),
        "RUN": (str(site.run),),
        "RUN_DIRECTORY": (str(site.run.relative_to(_RUNS)),),
        "MOUNT": [str(path) for path in site.mounts],
        "ALLOWED": site.allowed,
        "RMEM_MAX": (str(RMEM_MAX),),
        "MEMBER_OF": (TPM_GROUP,) if site.tpm else (),
    }


def _keys(keys: Iterable[Credential]) -> dict[str, Sequence[str]]:
    return {
        "CREDENTIAL": [key.line() for key in keys if not key.encrypted],
        "ENCRYPTED": [key.line() for key in keys if key.encrypted],
    }


def _devices(site: Site) -> dict[str, Sequence[str]]:
    devices = sorted({device for line in site.lines for device in serial_device(line)})
    groups = [site.serial_group] if devices and site.serial_group else []
    if site.tpm:
        devices, groups = [*devices, site.tpm], [*groups, TPM_GROUP]
    return {
        "DEVICE": devices, "PRIVATE_DEVICES": ("no" if devices else "yes",), "GROUP": groups,
    }  # fmt: skip


def _fill(template: str, values: Mapping[str, Sequence[str]]) -> str:
    lines: list[str] = []
    for line in template.splitlines():
        names = set(_VALUE.findall(line))
        many = [name for name in names if len(values[name]) != 1]
        one = {name: values[name][0] for name in names if name not in many}
        filled = _VALUE.sub(lambda found: one.get(found[1], found[0]), line)  # noqa: B023 - used here
        if not many:
            lines.append(filled)
        for name in many:
            lines += [filled.replace(f"@{name}@", value) for value in values[name]]
    return "\n".join(lines) + "\n"
