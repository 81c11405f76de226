"""Runs in the guest: says what capture says of itself, again and again, on a serial line.

    observe.py HATCH LINE [all]     all: everything it says, and not a part of it

The line's other end is a file of the machine that runs the guest: what was said before a power cut
is known after it. Each line is a JSON object of one write, so that it never mixes with others.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from threading import Event
from typing import Any

from agent.errors import InlandError
from agent.hatch import HatchClient

EVERY_S = 0.1  # the hatch has 30 % of a core for all its clients


def said(hatch: HatchClient, *, everything: bool) -> dict[str, object]:
    """What is to be known after the cut; empty while capture does not answer."""
    try:
        status: dict[str, Any] = json.loads(hatch.status())
    except InlandError:
        return {}
    if everything:
        return status
    return {
        "log": status["spool"]["log"],
        "size": status["spool"]["size"],  # entries, each of them committed
        "policy": status["policy"]["version"],
        "installing": status["policy_update"]["installing"],
        "lost": status["frames"]["lost"],
        "received": status["frames"]["received"],
        "receipts": status["receipts"],
        "quarantined": status["spool"]["quarantined"],
        "dropped": status["spool"]["dropped"],
    }


def main() -> None:
    """Go on until the power is cut."""
    hatch, pause = HatchClient(Path(sys.argv[1])), Event()
    everything = sys.argv[3:] == ["all"]
    with Path(sys.argv[2]).open("wb", buffering=0) as line:
        late_s = 0.0
        while True:
            told = {"at": time.time(), "late": late_s, **said(hatch, everything=everything)}
            line.write(json.dumps(told).encode() + b"\n")
            slept_s = time.monotonic()
            pause.wait(EVERY_S)
            late_s = time.monotonic() - slept_s - EVERY_S


if __name__ == "__main__":
    main()
