"""A road between two networks of this machine: it can swallow packets, or be gone.

The car's processes run in a network namespace of their own; the only way out is a TUN device whose
packets a thread here carries to a TUN device of the region, or not. So TCP on both sides is the
kernel's. Needs root; no queueing discipline, no firewall.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import select
import shutil
import struct
import subprocess
import threading
from contextlib import suppress
from pathlib import Path

import pytest

TUN = Path("/dev/net/tun")
TUNSETIFF = 0x400454CA
CLONE_NEWNET = 0x40000000
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000

needs_road = pytest.mark.skipif(
    os.geteuid() != 0 or not TUN.exists() or shutil.which("ip") is None,
    reason="needs root, /dev/net/tun and ip (iproute2): a network namespace for the car",
)


def ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr}"


class Road:
    """Leads from a namespace to this one, until the end of the block.

    Attributes:
        open: False: every packet is swallowed; nobody is told.
        region: address of the region, as the car reaches it.
    """

    def __init__(self) -> None:
        self.open = True
        number = os.getpid() % 16384
        net = f"198.18.{number >> 6}.{number % 64 * 4}".rsplit(".", 1)
        self.region, self.car = (f"{net[0]}.{int(net[1]) + host}" for host in (1, 2))
        self.prefix = "198.18.0.0/15"  # of benchmarks: never routed
        self.namespace = f"inland-{os.getpid()}"
        self._names = (f"ird{os.getpid() % 100_000}", f"icd{os.getpid() % 100_000}")
        self._stop = threading.Event()
        self._fds: list[int] = []
        self._thread = threading.Thread(target=self._carry, name="road")

    def __enter__(self) -> Road:
        ip("netns", "add", self.namespace)
        try:
            self._build()
        except BaseException:
            self._remove()
            raise
        self._thread.start()
        return self

    def _build(self) -> None:
        region, car = self._names
        for name in self._names:
            fd = os.open(TUN, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            self._fds.append(fd)
            fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH14x", name.encode(), IFF_TUN | IFF_NO_PI))
        ip("link", "set", car, "netns", self.namespace)
        ip("addr", "add", self.region, "peer", self.car, "dev", region)
        ip("link", "set", region, "up")
        inside = ("-n", self.namespace)
        ip(*inside, "addr", "add", self.car, "peer", self.region, "dev", car)
        ip(*inside, "link", "set", "lo", "up")
        self.up()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(10)
        self._remove()

    def _remove(self) -> None:
        for fd in self._fds:
            os.close(fd)  # which removes the device
        ip("netns", "del", self.namespace)

    def up(self) -> None:
        """The car's network is there."""
        ip("-n", self.namespace, "link", "set", self._names[1], "up")

    def down(self) -> None:
        """The car's network is gone, and the car knows it: no route."""
        ip("-n", self.namespace, "link", "set", self._names[1], "down")

    def inside(self, command: list[str], folder: Path) -> list[str]:
        """Return a command line that runs in the car's network, where localhost is the region."""
        hosts = folder / "hosts"
        hosts.write_text(f"{self.region} localhost\n", "ascii")
        script = 'mount --bind "$0" /etc/hosts && exec "$@"'  # in a mount namespace of its own
        return ["ip", "netns", "exec", self.namespace, "sh", "-c", script, str(hosts), *command]

    def enter(self) -> None:
        """Let the present thread live in the car's network from now on."""
        libc = ctypes.CDLL(None, use_errno=True)
        with Path(f"/run/netns/{self.namespace}").open("rb") as own:
            assert libc.setns(own.fileno(), CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())

    def _carry(self) -> None:
        while not self._stop.is_set():
            ready, _, _ = select.select(self._fds, [], [], 0.05)
            for fd in ready:
                other = self._fds[fd == self._fds[0]]
                for packet in self._read(fd):
                    if self.open:
                        with suppress(OSError):  # the device is down: lost, as it should be
                            os.write(other, packet)

    def _read(self, fd: int) -> list[bytes]:
        found = []
        while len(found) < 64:
            try:
                found.append(os.read(fd, 65536))
            except OSError as error:
                if error.errno not in (errno.EAGAIN, errno.EIO, errno.EBADFD):
                    raise
                break
        return found
