"""The walls around the two processes, proved at their start.

`IPAddressDeny=` and `RestrictAddressFamilies=` in a unit are wishes. Where the kernel cannot fulfil
them (no BPF for control groups, no seccomp), systemd says so in a line of the log and starts the
process all the same. So a process that is started with `--wall` tries what has to be impossible,
and does not start where it is possible, or where it cannot be told:

- both: a socket of a family that the unit does not allow. Proof is EAFNOSUPPORT.
- uplink: a datagram to itself, over a loopback address that the unit does not allow. Nobody else
  can answer it, and it needs no network. Proof is EPERM when it is sent.

A family that the kernel does not have is refused as well: what is not there cannot be misused.
`bind()` is not needed: the first send gives the socket a port.

Source: systemd.resource-control(5), systemd.exec(5), bpf_cgroup_skb.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import select
import socket
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from typing import Final

from agent.errors import WallError
from agent.region import Network

# Loopback addresses of any Linux, allowed to no region but one on a bench.
CANARIES: Final = ("127.77.0.1", "::1")
CAPTURE_LACKS: Final = ("AF_INET", "AF_INET6", "AF_NETLINK", "AF_PACKET")
UPLINK_LACKS: Final = ("AF_CAN", "AF_NETLINK", "AF_PACKET")
ARRIVAL_MS: Final = 500  # a datagram over loopback is there before sendto returns
_DISCARD: Final = 9
_TODO: Final = "it needs a kernel with CONFIG_CGROUP_BPF, CONFIG_SECCOMP_FILTER and cgroup v2"


class Seen(Enum):
    """What became of something that has to be impossible."""

    REFUSED = "was refused"
    PASSED = "went through"
    LOST = "was neither refused nor heard of"
    ABSENT = "is not there"  # no such address on this machine: proves nothing, and leaks nothing


# --- what follows from it: values in, values out ---------------------------------------------


def canaries(prefixes: Iterable[Network]) -> tuple[str, ...]:
    """Return the loopback addresses that a region's prefixes do not contain."""
    inside = tuple(prefixes)
    return tuple(
        one for one in CANARIES if not any(ipaddress.ip_address(one) in prefix for prefix in inside)
    )


def gap(seen: Mapping[str, Seen]) -> str:
    """Return what is wrong with a wall, by what was seen at it; empty if it stands.

    Args:
        seen: what became of each try, by what was tried.
    """
    for tried, what in seen.items():
        if what in (Seen.PASSED, Seen.LOST):
            return f"{tried} {what.value}"
    if Seen.REFUSED not in seen.values():
        return f"nothing could be tried: {', '.join(seen) or 'every loopback address is allowed'}"
    return ""


# --- the tries -------------------------------------------------------------------------------


def try_family(name: str) -> Seen:
    """Open a socket of a family."""
    family = getattr(socket, name, None)
    if family is None:
        return Seen.REFUSED
    kind = socket.SOCK_STREAM if name.startswith("AF_INET") else socket.SOCK_RAW
    try:
        socket.socket(family, kind).close()
    except OSError as error:
        # Only seccomp, or a kernel without the family, answers so; a lack of rights does not.
        return Seen.REFUSED if error.errno == errno.EAFNOSUPPORT else Seen.PASSED
    return Seen.PASSED


def try_address(address: str) -> Seen:
    """Send a datagram to ourselves over an address of this machine."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as own:
            own.setblocking(False)
            # Refused or not: from here on the socket has a port.
            with contextlib.suppress(PermissionError):
                own.sendto(b"", (address, _DISCARD))
            return _to_itself(own, address)
    except OSError:  # no IPv6 here
        return Seen.ABSENT


def _to_itself(own: socket.socket, address: str) -> Seen:
    poll = select.poll()
    poll.register(own, select.POLLIN)
    try:
        own.sendto(b"inland", (address, own.getsockname()[1]))
    except PermissionError:
        return Seen.REFUSED
    return Seen.PASSED if poll.poll(ARRIVAL_MS) else Seen.LOST


def _prove(process: str, setting: str, seen: Mapping[str, Seen]) -> None:
    if wrong := gap(seen):
        raise WallError(f"{setting} does not hold: {wrong}", where=process, todo=_TODO)


def prove_capture(families: Sequence[str] = CAPTURE_LACKS) -> None:
    """Prove that this process cannot open an internet socket.

    Raises:
        WallError: it can.
    """
    _prove("inland capture", "RestrictAddressFamilies=", {one: try_family(one) for one in families})


def prove_uplink(prefixes: Iterable[Network], families: Sequence[str] = UPLINK_LACKS) -> None:
    """Prove that this process reaches no address outside the region, and no CAN bus.

    Args:
        prefixes: of the region card.
        families: what it has to lack.

    Raises:
        WallError: it does, or it cannot be told.
    """
    tried = {one: try_address(one) for one in canaries(prefixes)}
    _prove("inland uplink", "IPAddressDeny=", tried)
    _prove("inland uplink", "RestrictAddressFamilies=", {one: try_family(one) for one in families})
