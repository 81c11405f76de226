"""This machine's service manager and users, by the commands that an administrator would type."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from agent.errors import ConfigError, ServiceError
from agent.service.bytecode import compile_for
from agent.service.names import CAPTURE, CAPTURE_UNIT, GROUP, TARGET_UNIT, UPLINK, UPLINK_UNIT
from agent.service.unit_files import RMEM, RMEM_MAX, SYSUSERS

SYSTEMD: Final = 247  # LoadCredential=, ProtectProc=; made and tested with 252
COMMAND_S: Final = 200.0  # more than TimeoutStartSec= of a unit
HALVES: Final = (CAPTURE_UNIT, UPLINK_UNIT)
_RUNS: Final = Path("/run/systemd/system")  # sd_booted(3)
_NO_SUCH_USER: Final = 6  # userdel(8), groupdel(8)

Run = Callable[[Sequence[str]], "subprocess.CompletedProcess[str]"]


def run_command(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run a command to its end. Raises FileNotFoundError if there is none of that name."""
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=COMMAND_S,
        check=False, env={**os.environ, "LC_ALL": "C", "SYSTEMD_COLORS": "0"},
    )  # fmt: skip


class Machine:
    """What an installation does to a running machine, beyond its files.

    Args:
        run: runs a command.
    """

    def __init__(self, run: Run = run_command) -> None:
        self._run = run

    def check(self) -> None:
        """Check whether the boot service can be installed here at all.

        Raises:
            ConfigError: not root, no systemd, or one that is too old.
        """
        if os.geteuid() != 0:
            raise ConfigError("needs root", where="inland service",
                              todo="say sudo, or --root DIR for an image")  # fmt: skip
        if not _RUNS.is_dir() or shutil.which("systemctl") is None:
            raise ConfigError("systemd does not run this machine",
                              todo="say --root DIR for the image of a car")  # fmt: skip
        said = self._do("systemctl", "--version").stdout
        version = re.match(r"systemd (\d+)", said)
        if version is None or int(version[1]) < SYSTEMD:
            raise ConfigError(f"needs systemd {SYSTEMD} or newer, not {said.splitlines()[0]}")

    def make_users(self) -> None:
        """Make the users and the group, if they are not there."""
        self._do("systemd-sysusers", str(SYSUSERS))

    def remove_users(self) -> list[str]:
        """Remove users and group; return those that stay, because there is no tool for it."""
        stay = []
        for tool, name in (("userdel", UPLINK), ("userdel", CAPTURE), ("groupdel", GROUP)):
            try:
                done = self._run([tool, name])
            except FileNotFoundError:
                stay.append(name)
                continue
            if done.returncode not in (0, _NO_SUCH_USER):
                stay.append(name)
        return stay

    def raise_rmem(self) -> None:
        """Let sockets have the receive buffer that capture asks for, from now on."""
        if int(RMEM.read_text("ascii")) < RMEM_MAX:
            RMEM.write_text(str(RMEM_MAX), "ascii")

    def hand_over(self, state: Path) -> None:
        """Make the state folder capture's, with all that is in it; nothing if it is already.

        Raises:
            ServiceError: there is no such user.
            OSError: it cannot be made.
        """
        try:
            user = pwd.getpwnam(CAPTURE)
        except KeyError:
            raise ServiceError("no such user", where=CAPTURE, todo="run systemd-sysusers") from None
        give(state, user.pw_uid, user.pw_gid)

    def compile(self, python: str) -> bool:
        """Compile the agent for the service; return whether that was new. Raises ConfigError."""
        return compile_for(python)

    def start(self, *, anew: bool) -> None:
        """Start both halves.

        Args:
            anew: their files changed: those that run are started again.

        Raises:
            ServiceError: one does not start; says what it said.
        """
        if anew:
            self._do("systemctl", "daemon-reload")
            self._run(["systemctl", "restart", *HALVES])
        # Named one by one: a target that is reached already starts no half that has failed.
        self._run(["systemctl", "start", TARGET_UNIT, *HALVES])
        for unit in HALVES:
            state = self.state(unit)
            if state != "active":
                last = self._run(["journalctl", "-u", unit, "-n", "40", "--no-pager", "-o", "cat"])
                raise ServiceError(
                    f"is {state}: {_own_words(last.stdout)}", where=unit,
                    todo=f"journalctl -u {unit}",
                )  # fmt: skip

    def stop(self) -> None:
        """Stop both halves, in order, and forget that they ever failed."""
        self._run(["systemctl", "stop", TARGET_UNIT, *HALVES])
        self._run(["systemctl", "reset-failed", *HALVES])

    def reload(self) -> None:
        """Have the service manager read its units again."""
        self._do("systemctl", "daemon-reload")

    def state(self, unit: str) -> str:
        """Return active, activating, failed, inactive ..."""
        return self._run(["systemctl", "is-active", unit]).stdout.strip() or "unknown"

    def _do(self, *command: str) -> subprocess.CompletedProcess[str]:
        try:
            done = self._run(command)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ServiceError(f"cannot be run: {error}", where=command[0]) from None
        if done.returncode != 0:
            said = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
            raise ServiceError(said[:300], where=" ".join(command))
        return done


def give(folder: Path, uid: int, gid: int) -> None:
    """Make a folder a user's, with all that is in it; nothing if the folder is already.

    Raises:
        OSError: it cannot be made or given.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_uid == uid:
        return
    # Links are not followed; the folder itself comes last, so that one cut short is done again.
    for _, folders, files, here in os.fwalk(folder):
        for name in (*folders, *files):
            os.chown(name, uid, gid, dir_fd=here, follow_symlinks=False)
    os.chown(folder, uid, gid)


def _own_words(said: str) -> str:
    """Return the last line that our process said, else the service manager's."""
    lines = [line for line in said.splitlines() if line.strip()]
    own = [line for line in lines if line.startswith("error: ")]
    return (own or lines or ["it said nothing"])[-1].removeprefix("error: ")[:300]
