"""The boot service of a car: put in, kept up to date, taken out.

- Installing again changes what has to change, and nothing if nothing has to.
- Taking out leaves what is the car's: the state folder, agent.toml and the keys.
- With a root folder other than `/` the files are written below it and nothing is started.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
from importlib import resources
from pathlib import Path
from typing import Final

from agent.errors import ServiceError
from agent.files import read_text, write_whole
from agent.service.bytecode import BYTECODE
from agent.service.machine import Machine
from agent.service.names import CAPTURE_UNIT, TARGET_UNIT
from agent.service.unit_files import (
    SYSUSERS,
    TEMPLATES,
    UNITS,
    WANTED,
    Site,
    state_and_run,
    unit_files,
)

MAX_UNIT_BYTES: Final = 64 * 1024
NOTHING: Final = "nothing had to change"
NOT_THERE: Final = "nothing is installed"
_LINK: Final = f"../{TARGET_UNIT}"


def templates() -> dict[str, str]:
    """Return the templates of this package by name."""
    folder = resources.files("agent.service") / "units"
    return {name: (folder / name).read_text("utf-8") for name in TEMPLATES}


def write_files(site: Site, root: Path) -> list[Path]:
    """Bring the files up to date; return those that changed, as the car sees them.

    Args:
        site: the car.
        root: its root folder.

    Raises:
        OSError: one cannot be written.
    """
    changed = []
    for path, text in unit_files(templates(), site).items():
        there = root / path.relative_to("/")
        if text and _text(there) != text:
            there.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            write_whole(there, [text.encode()], mode=0o644)
            changed.append(path)
        elif not text and there.exists():
            there.unlink()
            changed.append(path)
    link = root / WANTED.relative_to("/")
    if not link.is_symlink():
        link.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        link.symlink_to(_LINK)
        changed.append(WANTED)
    return changed


def is_installed() -> bool:
    """Return whether this machine has the boot service."""
    return TEMPLATES[CAPTURE_UNIT].exists()


def stale_files(site: Site) -> list[Path]:
    """Return the files of this machine that `write_files` would change."""
    return [path for path, text in unit_files(templates(), site).items() if _text(path) != text]


def install(site: Site, machine: Machine, root: Path = Path("/")) -> list[str]:
    """Install on a machine that runs, and start; return what was done, one line each.

    Args:
        site: the car.
        machine: what runs it.
        root: its root folder.

    Raises:
        InlandError: a step failed. What was done before stays, and is no harm.
        OSError: a file cannot be written.
    """
    done = [f"wrote {path}" for path in write_files(site, root)]
    machine.make_users()
    if site.raise_rmem:
        machine.raise_rmem()
    machine.hand_over(site.state)
    if machine.compile(site.start[0]):
        done.append(f"compiled the agent into {BYTECODE}")
    machine.start(anew=bool(done))
    return done or [NOTHING]


def install_image(site: Site, root: Path) -> list[str]:
    """Write the files into the image of a car; return what was done, one line each.

    Raises:
        ServiceError: the users cannot be made.
        OSError: a file cannot be written.
    """
    done = [f"wrote {path}" for path in write_files(site, root)]
    tool = shutil.which("systemd-sysusers")
    command = f"systemd-sysusers --root={root} {SYSUSERS.name}"
    if os.geteuid() != 0 or tool is None:
        return [*done, f"its users are not made yet: {command}"]
    made = subprocess.run(
        [tool, f"--root={root}", SYSUSERS.name], capture_output=True, text=True, check=False
    )
    if made.returncode != 0:
        raise ServiceError(" ".join(made.stderr.split())[:300], where=command)
    return done or [NOTHING]


def uninstall(root: Path, machine: Machine | None) -> list[str]:
    """Take the boot service out; return what was done and what stays, one line each.

    Args:
        root: the car's root folder.
        machine: what runs it; None for an image.

    Raises:
        InlandError: a step failed.
        OSError: a file cannot be removed.
    """
    unit = root / TEMPLATES[CAPTURE_UNIT].relative_to("/")
    state, run = state_and_run(_text(unit))
    there = [path for path in (WANTED, *TEMPLATES.values()) if _is_there(root, path)]
    if not there:
        return [NOT_THERE]
    if machine is not None:
        machine.stop()
    for path in there:
        (root / path.relative_to("/")).unlink()
    shutil.rmtree(root / BYTECODE.relative_to("/"), ignore_errors=True)
    with contextlib.suppress(OSError):  # others' files are in it, or it was never there
        (root / BYTECODE.parent.relative_to("/")).rmdir()
    done = [f"removed {path}" for path in there]
    if machine is not None:
        done += _leave(machine, state, run)
    drop_ins = [one for one in (root / UNITS.relative_to("/")).glob("inland*.d") if one.is_dir()]
    done += [f"kept {UNITS / one.name}: somebody's drop-ins" for one in drop_ins]
    return [*done, f"kept {state or 'the state folder'}, agent.toml and the keys"]


def _leave(machine: Machine, state: Path | None, run: Path | None) -> list[str]:
    machine.reload()
    if run is not None and run.is_relative_to("/run") and run != Path("/run"):
        shutil.rmtree(run, ignore_errors=True)
    if state is not None and state.is_dir():
        os.chown(state, 0, 0)  # the uid of a user that is gone may be another's tomorrow
    return [f"kept the user or group {name}: remove it by hand" for name in machine.remove_users()]


def _text(path: Path) -> str:
    """Return a file of ours; empty if what has its name is missing, or cannot be one."""
    try:
        return read_text(path, MAX_UNIT_BYTES)
    except (FileNotFoundError, UnicodeDecodeError):
        return ""
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.EFBIG):  # a pipe, or far too large
            return ""
        raise


def _is_there(root: Path, path: Path) -> bool:
    return os.path.lexists(root / path.relative_to("/"))
