"""CPU time of reading a frame from a real SocketCAN interface: the agent's reader, python-can's.

The frames wait in the socket, so that either reads at its best; cangen sends them from a process of
its own. Prints one JSON object: microseconds of CPU a frame.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable

import can

from agent.capture.bus import open_bus
from agent.frames import ChannelTable

CHANNEL, ROUND = "vcan0", 4000  # a second of a full 500 kbit/s bus


def fill() -> None:
    options = ["-g", "0", "-n", str(ROUND), "-I", "i", "-L", "8", "-D", "i"]
    subprocess.run(["cangen", CHANNEL, *options], check=True)


TICK_S = 0.01  # less than one is counted as one


def spent(read: Callable[[], int], rounds: int) -> float:
    """CPU microseconds a frame; the guest counts CPU time in steps of 10 ms."""
    used, frames = 0.0, 0
    for _ in range(rounds):
        fill()
        start, got = time.process_time(), 0
        while got < ROUND:
            got += read()
        used += time.process_time() - start
        frames += got
    assert frames == ROUND * rounds
    return max(used, TICK_S) / frames * 1e6


def ours() -> float:
    bus = open_bus({"interface": "socketcan", "channel": CHANNEL}, ChannelTable())
    figure = spent(lambda: len(bus.recv_batch(5)), 25)
    assert bus.losses() == []
    bus.close()
    return figure


def theirs() -> float:
    with can.Bus(interface="socketcan", channel=CHANNEL) as bus:
        bus.socket.setsockopt(1, 33, 8 << 20)  # SO_RCVBUFFORCE, as the agent: by default 280 frames
        return spent(lambda: int(bus.recv(5) is not None), 5)


json.dump({"ours": ours(), "theirs": theirs()}, sys.stdout)
