"""A network of its own for guests and the region's services: a bridge, taps, and nothing beyond.

It is a network namespace that a child process holds open: nothing has to be removed, it goes when
its processes go, even if the runner is killed. There is no route out of it and no name server.
"""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import IO

HOST = "10.86.0.1"  # where the region's services listen
HOST_NAME = "region.test"  # its name, which stands in the guest's /etc/hosts
SUBNET = "10.86.0.0/24"
GATEWAY_AND_MASK = f"{HOST}:255.255.255.0"
FIRST_GUEST = 11

# Whoever starts these may be killed: the kernel then kills them too.
DIE_WITH_US = ("setpriv", "--pdeathsig", "KILL")
# What runs in a process namespace takes all its children along, whatever user they became.
IN_NAMESPACE = ("unshare", "--pid", "--fork", "--kill-child")
_SETUP = f"""
    set -e
    ip link set lo up
    ip link add br0 type bridge
    ip address add {HOST}/24 dev br0
    ip link set br0 up
    echo ready
    exec sleep infinity
"""


def first_in_namespace(process: subprocess.Popen[bytes]) -> int | None:
    """The first process of a namespace: the only child of `unshare`, which is our child."""
    try:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    except FileNotFoundError:
        return None
    return int(children[0]) if children else None


def kill_namespace(process: subprocess.Popen[bytes]) -> None:
    """Kill everything in a process namespace, and wait until the last of it is gone.

    The kernel lets the first process of a namespace be waited for only when the others have gone;
    `unshare` waits for it, we for `unshare`. Killing `unshare` would not wait for any of them.
    """
    first = first_in_namespace(process)
    if process.poll() is None:
        os.kill(process.pid if first is None else first, signal.SIGKILL)
    process.wait()


class Net:
    """The network. Close it when its guests are closed.

    Attributes:
        namespace: its name, as /proc shows it.
    """

    def __init__(self) -> None:
        self._guests = 0
        self._services: list[subprocess.Popen[bytes]] = []
        self._holder = subprocess.Popen(
            [*DIE_WITH_US, "unshare", "--net", "sh", "-c", _SETUP],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != b"ready\n":
            _, said = self._holder.communicate()
            raise RuntimeError(f"no network namespace: {said.decode(errors='replace')}")
        self.namespace = str(Path(f"/proc/{self._holder.pid}/ns/net").readlink())

    def new_guest(self) -> tuple[str, str]:
        """Return (tap, address) of one more guest."""
        tap, address = f"tap{self._guests}", f"10.86.0.{FIRST_GUEST + self._guests}"
        self._guests += 1
        self.run("ip", "tuntap", "add", tap, "mode", "tap")
        self.plug(tap, True)
        self.run("ip", "link", "set", tap, "up")
        return tap, address

    def plug(self, tap: str, plugged: bool) -> None:
        """Put a tap on the bridge or take it off: frames vanish, the guest's carrier stays.

        Never set the tap down: the guest's driver would stop for good.
        """
        self.run("ip", "link", "set", tap, *(("master", "br0") if plugged else ("nomaster",)))

    def inside(self, *command: str) -> list[str]:
        """The command line that runs a command in this network."""
        return [*DIE_WITH_US, "nsenter", f"--net=/proc/{self._holder.pid}/ns/net", *command]

    def run(self, *command: str, timeout: float = 60) -> str:
        """Run a command of this machine in the network; return what it printed."""
        done = subprocess.run(
            self.inside(*command), capture_output=True, text=True, timeout=timeout, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{command}: {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def start(self, *command: str, output: IO[bytes] | int) -> subprocess.Popen[bytes]:
        """Start a service of this machine in the network; it ends with the network at the latest.

        End it earlier with `kill_namespace`.
        """
        service = subprocess.Popen(
            self.inside(*IN_NAMESPACE, *command),
            stdin=subprocess.DEVNULL, stdout=output, stderr=output,
        )  # fmt: skip
        self._services.append(service)
        return service

    def close(self) -> None:
        """End the services and the network. Safe to call twice."""
        for service in self._services:
            kill_namespace(service)
        self._holder.kill()
        self._holder.wait()
        for pipe in (self._holder.stdout, self._holder.stderr):
            assert pipe is not None
            pipe.close()
