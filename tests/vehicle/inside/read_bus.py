"""Read a SocketCAN interface as the agent does, and beside it by a plain socket of its own.

One JSON object as argument: channel, fd, filters, rcvbuf (bytes), plain (whether to read beside).
Prints one JSON object a line: {"ready"}, a list for each frame, {"losses", ...}. Ends on SIGTERM,
when everything that waits has been read.
"""

from __future__ import annotations

import json
import signal
import socket
import struct
import sys

from agent.capture import early
from agent.capture.bus import open_bus
from agent.errors import BusError
from agent.frames import ChannelTable

QUIET_S = 0.2
MEMORY = 256 << 20


def plain_socket(channel: str, fd: bool) -> socket.socket:
    """A raw socket with stamps in ns, set up by nothing of the agent's."""
    sock = socket.socket(socket.AF_CAN, socket.SOCK_RAW, socket.CAN_RAW)
    sock.setsockopt(socket.SOL_SOCKET, 33, MEMORY)  # SO_RCVBUFFORCE
    sock.setsockopt(socket.SOL_SOCKET, 35, 1)  # SO_TIMESTAMPNS
    sock.setsockopt(socket.SOL_CAN_RAW, 2, 0x1FFFFFFF)  # CAN_RAW_ERR_FILTER
    if fd:
        sock.setsockopt(socket.SOL_CAN_RAW, socket.CAN_RAW_FD_FRAMES, 1)
    sock.bind((channel,))
    return sock


def read_plain(sock: socket.socket) -> list[tuple[int, str]]:
    """Everything that waits: (stamp in ns, the record in hex)."""
    found = []
    sock.setblocking(False)
    while True:
        try:
            record, control, _, _ = sock.recvmsg(72, 64)
        except BlockingIOError:
            return found
        seconds, nanos = struct.unpack("=qq", control[0][2])
        found.append((seconds * 10**9 + nanos, record.hex()))


def main() -> None:
    wanted = json.loads(sys.argv[1])
    channel, fd = wanted["channel"], wanted.get("fd", False)
    stop = []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
    beside = plain_socket(channel, fd) if wanted.get("plain") else None
    sock = early.open_socket(channel, fd, ignore_rx_error_frames=wanted.get("no_errors", False))
    if "rcvbuf" in wanted:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, wanted["rcvbuf"])
    settings = {"interface": "socketcan", "channel": channel, "fd": fd}
    bus = open_bus(settings, ChannelTable(), early=sock)
    if "filters" in wanted:
        bus.set_filters(wanted["filters"])
    print(json.dumps({"ready": early.granted_bytes(sock)}), flush=True)
    losses: dict[str, int] = {}
    while True:
        try:
            batch = bus.recv_batch(QUIET_S)
        except BusError as error:
            print(json.dumps({"error": str(error), "kind": type(error).__name__}), flush=True)
            if type(error) is BusError:
                break
            continue
        for row in batch:
            data = row["data"][: row["length"]].tobytes().hex()
            print(json.dumps([int(row["timestamp_ns"]), int(row["arbitration_id"]),
                              int(row["flags"]), int(row["length"]), data]))  # fmt: skip
        sys.stdout.flush()
        for _, count, cause in bus.losses():
            losses[str(cause)] = losses.get(str(cause), 0) + count
        if stop and not len(batch):
            break
    bus.close()
    print(json.dumps({"losses": losses, "plain": read_plain(beside) if beside else None}))


main()
