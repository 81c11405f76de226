"""Where a guest's packets go: a packet socket on its tap, which sees what the guest itself sends.

It stands in the guests' network, outside of the guest: nothing in the guest can hide from it, and
it goes on seeing while the tap is off the bridge.
"""

from __future__ import annotations

import json
import signal
import sys
from collections import Counter
from typing import Any

from tests.vehicle.car import Region
from tests.vehicle.guest import Guest
from tests.vehicle.net import HOST

NAME = "packets"
# Runs in the network: one line for each destination that is new, and all counts when it is ended.
_WATCH = r"""
import ipaddress, json, signal, socket, struct, sys
from collections import Counter
ALL, OUTGOING, STATISTICS, FORCE = 3, 4, 6, 33
tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ALL))
tap.setsockopt(socket.SOL_SOCKET, FORCE, 1 << 26)
tap.bind((sys.argv[1], ALL))
counts = Counter()
def over(*_):
    seen, dropped = struct.unpack("II", tap.getsockopt(263, STATISTICS, 8))
    print(json.dumps({"counts": counts, "dropped": dropped}), flush=True)
    sys.exit()
def destination(data):
    kind, body = int.from_bytes(data[12:14], "big"), data[14:]
    if kind == 0x0806:
        return f"arp {ipaddress.ip_address(body[24:28])}"
    if kind == 0x0800:
        number, at = body[9], 4 * (body[0] & 15)
        address = ipaddress.ip_address(body[16:20])
    elif kind == 0x86DD:
        number, at = body[6], 40
        if number == 0:  # hop-by-hop options, as MLD has them
            number, at = body[40], 48 + 8 * body[41]
        address = ipaddress.ip_address(body[24:40])
    else:
        return f"ethertype {kind:#06x}"
    name = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmp6"}.get(number, f"protocol {number}")
    port = f" {int.from_bytes(body[at + 2:at + 4], 'big')}" if name in ("tcp", "udp") else ""
    return f"{name} {address}{port}"
signal.signal(signal.SIGTERM, over)
print(json.dumps({"ready": True}), flush=True)
while True:
    data, (_, _, kind, *_) = tap.recvfrom(1 << 16)
    if kind == OUTGOING:
        continue
    where = destination(data)
    if where not in counts:
        print(json.dumps({"new": where}), flush=True)
    counts[where] += 1
"""


class Packets:
    """What has been seen so far, and in the end how much of it."""

    def __init__(self, region: Region, guest: Guest) -> None:
        self.region = region
        self._path = region.folder / f"{NAME}.txt"
        script = region.folder / "packets.py"
        script.write_text(_WATCH, "utf-8")
        region.start(NAME, command=[sys.executable, str(script), guest.tap])
        self.counts: Counter[str] = Counter()
        self.dropped = 0

    def ready(self) -> bool:
        """Whether it watches."""
        return bool(self._lines())

    def elsewhere(self) -> set[str]:
        """Return destinations that are neither the broker nor the neighbourhood.

        The neighbourhood: ARP for an address of the bridge, and ICMPv6 to link-local addresses
        (neighbours, routers, multicast listeners), with which every Linux begins.
        """
        broker = f"tcp {self._broker()}"
        found = {line["new"] for line in self._lines() if "new" in line}
        return {where for where in found if where != broker and not _near(where)}

    def end(self) -> None:
        """Stop watching and take the counts."""
        self.region.kill(NAME, signal.SIGTERM)
        told = self._lines()[-1]
        self.counts, self.dropped = Counter(told["counts"]), told["dropped"]

    def to_broker(self) -> int:
        """Return how many packets went to the broker, after the end."""
        return self.counts[f"tcp {self._broker()}"]

    def _broker(self) -> str:
        return f"{HOST} {self.region.port}"

    def _lines(self) -> list[dict[str, Any]]:
        if not self._path.exists():
            return []
        return [json.loads(line) for line in self._path.read_text().splitlines(keepends=True)
                if line.endswith("\n")]  # fmt: skip


def _near(where: str) -> bool:
    return where.startswith(("arp 10.86.0.", "icmp6 ff02::", "icmp6 fe80::"))
