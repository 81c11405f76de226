"""Runs in the guest: sends CAN FD frames of 64 random bytes, which nothing makes smaller.

flood.py INTERFACE FRAMES_A_SECOND
"""

from __future__ import annotations

import os
import socket
import struct
import sys
import time
from threading import Event

BURST_S = 0.02


def main() -> None:
    """Go on until ended."""
    interface, rate, pause, number = sys.argv[1], int(sys.argv[2]), Event(), 0
    with socket.socket(socket.AF_CAN, socket.SOCK_RAW, socket.CAN_RAW) as bus:
        bus.setsockopt(socket.SOL_CAN_RAW, socket.CAN_RAW_FD_FRAMES, 1)
        bus.bind((interface,))
        due_s = time.monotonic()
        while True:
            for _ in range(int(rate * BURST_S)):
                identifier = socket.CAN_EFF_FLAG | 0x10000 | number % 8
                bus.send(struct.pack("=IBBBB64s", identifier, 64, 0, 0, 0, os.urandom(64)))
                number += 1
            due_s += BURST_S
            pause.wait(max(0.0, due_s - time.monotonic()))


if __name__ == "__main__":
    main()
