"""One car's computer: boot it, run commands in it, cut its power, cut its network, boot it again.

    with Guest(image(), payload(image())) as guest:
        guest.ready()
        print(guest.sh("inland --help"))

What runs it is a `Machine`: User-Mode Linux, if nothing else is said.

- It lives in a process namespace: its death takes every one of its processes, and it dies with
  whoever started it.
- `kill` is the power cut: what the guest had not handed to its disk is lost, as in a car.
- Its disk lives as long as the Guest; `start` after `kill` or `shutdown` boots the same disk.
- The network is one of its own (`net.Net`), shared if one is given.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from tests.vehicle.door import Door, Result
from tests.vehicle.image import make_disk, run
from tests.vehicle.machine import Box, Machine
from tests.vehicle.machine_uml import Uml
from tests.vehicle.net import IN_NAMESPACE, Net, first_in_namespace, kill_namespace

PREFIX = "inland-guest-"


class GuestError(RuntimeError):
    """The guest does not do what a test needs."""


class Guest:
    """One virtual car's computer.

    Args:
        image: as `image.image` returns it.
        payload: as `payload.payload` returns it; /payload in the guest.
        net: shared with others; None: a network of its own.
        machine: what runs it; another may be set between two boots.
        data_mb: size of a data disk of its own, /data in the guest; None: it has none.
        files: put on the disk before the first boot: path, content. Owned by root; readable by
            root alone where the path ends in .key.

    Attributes:
        disk: a file, which a test may copy or put back while the machine is off.
    """

    def __init__(
        self,
        image: Path,
        payload: Path | None = None,
        *,
        net: Net | None = None,
        machine: Machine | None = None,
        data_mb: int | None = None,
        files: Mapping[str, bytes] | None = None,
    ) -> None:
        sweep()
        self.folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))
        self.net, self._own_net = net or Net(), net is None
        self.tap, self.address = self.net.new_guest()
        self.machine: Machine = machine or Uml()
        self._image, self._payload = image, payload
        self.disk = self.folder / "disk"
        run("cp", "--sparse=always", "--reflink=auto", str(image / "disk"), str(self.disk))
        self._data = None if data_mb is None else self.folder / "data"
        if self._data is not None and data_mb is not None:
            make_disk(self._data, "data", data_mb)
        self._put(files or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._door: Door | None = None

    # -- power -------------------------------------------------------------------------------

    def start(self) -> float:
        """Boot; return the seconds until a command can be run. `ready` waits for all services."""
        began = time.monotonic()
        try:
            self._launch()
            assert self._door is not None
            while not self._door.knock():
                self._check_alive()
                if time.monotonic() - began > self.machine.boot_s:
                    raise GuestError(f"no answer after {self.machine.boot_s} s:\n{self.console()}")
        except BaseException:
            self.kill()
            raise
        return time.monotonic() - began

    def ready(self) -> str:
        """Wait for the end of the boot; return systemd's word for it: running or degraded."""
        return self.run("systemctl is-system-running --wait").out.strip()

    def kill(self) -> None:
        """Cut the power. Nothing is flushed."""
        if self._process is not None:
            kill_namespace(self._process)
            self._process = None
        self.machine.stopped()
        if self._door is not None:
            self._door.close()
            self._door = None

    def shutdown(self, timeout: float = 90) -> None:
        """Power off in order."""
        assert self._process is not None
        self.door.tell("guest-shutdown")
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired as error:
            raise GuestError(f"did not power off in {timeout} s:\n{self.console()}") from error
        finally:
            self.kill()

    def suspend(self) -> None:
        """Stop the machine where it is; its clocks jump ahead when it is resumed."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    # -- inside ------------------------------------------------------------------------------

    @property
    def door(self) -> Door:
        """The way in, while the guest runs."""
        if self._door is None:
            raise GuestError("the guest is not running")
        return self._door

    def run(self, command: str, *, timeout: float = 60) -> Result:
        """Run a shell command to its end."""
        return self.door.run(command, timeout=timeout)

    def sh(self, command: str, *, timeout: float = 60) -> str:
        """Run a shell command that must end well; return what it printed."""
        result = self.run(command, timeout=timeout)
        if result.code:
            raise GuestError(f"{command!r} exited {result.code}:\n{result.out}{result.err}")
        return result.out

    def until(self, condition: str, *, timeout: float = 30) -> None:
        """Wait in the guest until a shell command ends well."""
        late = f"(( SECONDS < {timeout:.0f} )) || exit 124"
        done = self.run(f"until {condition}; do {late}; sleep 0.05; done", timeout=timeout + 10)
        if done.code:
            raise GuestError(f"not within {timeout} s: {condition}\n{done.out}{done.err}")

    def begin(self, unit: str, command: str, *properties: str) -> None:
        """Start a shell command in the background, as a unit of systemd.

        Its words go to /run/<unit>.txt; `end` ends it, `finished` waits for its own end.
        """
        usual = ("Type=exec", "RemainAfterExit=yes", f"StandardOutput=truncate:/run/{unit}.txt",
                 "StandardError=inherit")  # fmt: skip
        options = " ".join(f"-p {name}" for name in (*usual, *properties))
        # The exit code is written down: systemd forgets it with the unit. The shell around gets the
        # signals too, and outlives them.
        script = f"trap : TERM INT HUP\nrm -f /run/{unit}.code\nbash /run/{unit}.sh\n"
        self.write(f"/run/{unit}.sh", command.encode())
        self.write(f"/run/{unit}.around.sh", f"{script}echo $? >/run/{unit}.code\n".encode())
        self.sh(f"systemd-run -q --unit={unit} {options} bash /run/{unit}.around.sh")

    def finished(self, unit: str, *, timeout: float = 60) -> Result:
        """Wait until a command that was begun ends by itself; return how, with its words."""
        ended = f"[[ $(systemctl show -P SubState {unit}) == @(exited|failed|dead) ]]"
        self.until(ended, timeout=timeout)
        code = self.run(f"cat /run/{unit}.code || echo {128 + signal.SIGKILL}").out
        self.run(f"systemctl stop {unit}; systemctl reset-failed {unit}")
        return Result(int(code), self.read(f"/run/{unit}.txt").decode(errors="replace"), "")

    def end(self, unit: str, *, number: str = "TERM") -> Result:
        """End a command that was begun; return its exit code and words."""
        self.sh(f"systemctl kill -s {number} {unit}")
        return self.finished(unit)

    def read(self, path: str) -> bytes:
        """Return a file of the guest."""
        return self.door.read(path)

    def write(self, path: str, data: bytes) -> None:
        """Write a file in the guest; its folder is made."""
        folder = os.path.dirname(path)  # noqa: PTH120 - a path of the guest
        if folder not in ("/run", "/tmp"):
            self.sh(f"mkdir -p '{folder}'")
        self.door.write(path, data)

    def push(self, source: Path, path: str) -> None:
        """Copy a file or a folder of this machine into the guest."""
        packed = subprocess.run(
            ["tar", "-C", str(source.parent), "-cz", source.name], capture_output=True, check=True
        )
        self.write("/run/push.tgz", packed.stdout)
        self.sh(f"rm -rf /run/push && mkdir -p /run/push $(dirname '{path}') && tar -C /run/push "
                f"--no-same-owner -xzf /run/push.tgz && cp -rT /run/push/'{source.name}' '{path}'"
                " && rm -rf /run/push /run/push.tgz")  # fmt: skip

    def pull(self, path: str, target: Path) -> None:
        """Copy a file of the guest to this machine."""
        target.write_bytes(self.read(path))

    # -- around ------------------------------------------------------------------------------

    def link(self, up: bool) -> None:
        """Plug or pull the network: a black hole; the guest's carrier stays."""
        self.net.plug(self.tap, up)

    def impair(self, netem: str | None) -> None:
        """Make what the guest sends late or lost, e.g. "delay 200ms loss 30%"; None: no more."""
        name = self.machine.interface
        self.run(f"tc qdisc del dev {name} root 2>/dev/null")
        if netem:
            self.sh(f"tc qdisc add dev {name} root netem {netem}")

    def heard(self, start: int = 0) -> bytes:
        """What the guest wrote to /dev/ttyS1: out of its reach at once, whatever comes."""
        with (self.folder / "heard").open("rb") as file:
            file.seek(start)
            return file.read()

    def console(self) -> str:
        """The end of what the kernel and systemd said."""
        return (self.folder / "console").read_text(errors="replace")[-4000:]

    def close(self) -> None:
        """End it and throw its disk away. Safe to call twice."""
        self.kill()
        if self._own_net:
            self.net.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Guest:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # -- how ---------------------------------------------------------------------------------

    def _launch(self) -> None:
        if self._process is not None:
            raise GuestError("the guest is running already")
        ours, its = socket.socketpair()
        self._door = Door(ours)
        # Memory may be a file in /dev/shm, which is 64 MB in many containers: it gets its own.
        memory = ("--mount", "sh", "-c", 'mount -t tmpfs tmpfs /dev/shm && exec "$@"', "sh")
        with its, self._append("console") as console, self._append("heard") as heard:
            box = Box(self.folder, self._image, self.disk, self._payload, self._data, self.tap,
                      self.address, its.fileno(), heard.fileno())  # fmt: skip
            command = self.machine.command(box)
            self._process = subprocess.Popen(
                self.net.inside(*IN_NAMESPACE, *memory, *command),
                stdin=subprocess.DEVNULL, stdout=console, stderr=console,
                pass_fds=[box.door, box.heard, *self.machine.descriptors()],
            )  # fmt: skip
            self.machine.started()

    def _append(self, name: str) -> BinaryIO:
        return (self.folder / name).open("ab")

    def _check_alive(self) -> None:
        if self._process is None or self._process.poll() is not None:
            raise GuestError(f"the machine ended by itself:\n{self.console()}")

    def _signal(self, number: signal.Signals) -> None:
        if self._process is None:
            raise GuestError("the guest is not running")
        os.kill(first_in_namespace(self._process) or 0, number)

    def _put(self, files: Mapping[str, bytes]) -> None:
        """Write files onto the disk, which nobody has booted yet, without mounting it."""
        commands = []
        for number, (path, content) in enumerate(files.items()):
            parents = [str(p) for p in reversed(Path(path).parents)][1:]
            commands += [f"mkdir {parent}" for parent in parents]  # there already: it says so
            source = self.folder / f"put{number}"
            source.write_bytes(content)
            source.chmod(0o600 if path.endswith(".key") else 0o644)
            commands.append(f"write {source} {path}")
        if not commands:
            return
        script = self.folder / "put"
        script.write_text("\n".join(commands) + "\n", "utf-8")
        run("debugfs", "-w", "-f", str(script), str(self.disk))
        for left in self.folder.glob("put*"):
            left.unlink()


def sweep() -> None:
    """Remove the disks of guests whose runner was killed; their processes died with it."""
    for left in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        if not Path("/proc", left.name.removeprefix(PREFIX).split("-")[0]).exists():
            shutil.rmtree(left, ignore_errors=True)
