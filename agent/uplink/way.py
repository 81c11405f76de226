"""What the kernel knows of the way to the region: no route, no address, no carrier.

A car that is silent by itself (its cable, its modem, its own address) can tell so at once, and need
not wait with a fleet whose region is silent. Asked is the kernel alone, and nothing is sent: a UDP
socket that is connected has a route and a source address, and an interface has flags. The service
allows no netlink, so flags are read by ioctl, and the interface of an address by ioctl (IPv4) or in
/proc/self/net/if_inet6.

- A way that is gone for two looks, a second apart, is gone: less is a cable that is plugged again.
- What cannot be found out counts as there: it is only a way to know something earlier.
- An address that still works while a better one has come is not gone; if the link falls silent
  then, the car has changed its network, and that is no doing of the region.

Source: netdevice(7), ip(7). The kernel takes up to a second until it takes IFF_RUNNING away.
"""

from __future__ import annotations

import array
import errno
import fcntl
import ipaddress
import socket
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from agent.errors import OwnNetworkError
from agent.region import Network

LOOK_S: Final = 1.0
MAX_INTERFACES: Final = 64
_ANY: Final = "0.0.0.0"  # noqa: S104 - nobody listens
# A sandbox that is narrower than ours, a shortage, an address that needs more than itself.
_TELLS_NOTHING: Final = frozenset(
    {errno.EPERM, errno.EINVAL, errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
)
_PORT: Final = 9  # any; nothing is sent there
_SIOCGIFCONF: Final = 0x8912
_SIOCGIFFLAGS: Final = 0x8913
_IFF_UP, _IFF_RUNNING = 0x1, 0x40
_IFREQ: Final = 40  # bytes: a name, and a sockaddr or less, padded
_IF_INET6: Final = Path("/proc/self/net/if_inet6")


def has_route(prefixes: Sequence[Network]) -> bool:
    """Return whether this computer has a way to one of the region's prefixes. Nothing is sent."""
    return any(leads_to(str(net[min(1, net.num_addresses - 1)])) for net in prefixes)


def leads_to(address: str) -> bool:
    """Return whether this computer has a way to an address, and a carrier. Nothing is sent."""
    source = source_to(address)
    return bool(source) and is_running(interface_of(source))


def source_to(address: str, source: str = "") -> str:
    """Return the address that packets to an address leave from; empty if there is no way.

    Where that cannot be told, the source, or one that no interface has.

    Args:
        address: of the other end.
        source: the address that they are to leave from; empty: any.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            if source:
                probe.bind((source, 0))
            probe.connect((address, _PORT))  # asks for the route
            return str(probe.getsockname()[0])
    except OSError as error:
        return (source or _ANY) if error.errno in _TELLS_NOTHING else ""


def interface_of(address: str) -> str:
    """Return the name of the interface that has an address; empty if that cannot be told."""
    try:
        return _interface6(address) if ":" in address else _interface4(address)
    except (OSError, ValueError):
        return ""


def _interface4(address: str) -> str:
    found = array.array("B", bytes(MAX_INTERFACES * _IFREQ))
    where, size = found.buffer_info()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        told = fcntl.ioctl(any_socket, _SIOCGIFCONF, struct.pack("iP", size, where))
    wanted = socket.inet_aton(address)
    for start in range(0, struct.unpack("iP", told)[0], _IFREQ):
        name, of_it = struct.unpack_from("16s4x4s", found, start)
        if of_it == wanted:
            return str(name.rstrip(b"\0").decode())
    return ""


def _interface6(address: str) -> str:
    wanted = ipaddress.ip_address(address.partition("%")[0]).packed.hex()
    for line in _IF_INET6.read_text("ascii").splitlines():
        fields = line.split()
        if fields[0] == wanted:
            return fields[-1]
    return ""


def is_running(interface: str) -> bool:
    """Return whether an interface is up and has a carrier; an empty name has."""
    if not interface:
        return True
    asked = struct.pack("16sH22x", interface.encode(), 0)
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
            told = fcntl.ioctl(any_socket, _SIOCGIFFLAGS, asked)
    except OSError as error:
        return error.errno != errno.ENODEV
    wanted = _IFF_UP | _IFF_RUNNING
    return int(struct.unpack_from("16xH", told)[0]) & wanted == wanted


class Way:
    """The way of one connection.

    Args:
        address: of the other end.
        source: our own.
        now_s: the time.
    """

    def __init__(self, address: str, source: str, now_s: float) -> None:
        self._address, self._source = address, source
        self._interface = interface_of(source)
        self._looked_s, self._was_gone = now_s, False

    @property
    def is_another(self) -> bool:
        """Whether a connection that is made now would take another way, or none."""
        source = source_to(self._address)
        return not source or interface_of(source) != self._interface

    def look(self, now_s: float) -> None:
        """Look whether it is there, if it is time.

        Raises:
            OwnNetworkError: it is gone.
        """
        if now_s < self._looked_s + LOOK_S:
            return
        self._looked_s = now_s
        why = self._gone()
        if why and self._was_gone:
            raise OwnNetworkError(f"the car's own network is gone: {why}", where=self._address)
        self._was_gone = bool(why)

    def _gone(self) -> str:
        if not source_to(self._address, self._source):
            return f"no way there from {self._source}"
        if not is_running(self._interface):
            return f"{self._interface} has no carrier"
        return ""
