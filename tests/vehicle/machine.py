"""What runs a guest: its kernel, and the hardware that this kernel finds.

A Guest gives a machine its disks, its place in the network and two lines; the machine says what
command of this computer that is. Two exist: `machine_uml.Uml`, quick, without hardware, and
`machine_qemu.Qemu`, slow, with a Debian kernel that drives emulated hardware.
"""

from __future__ import annotations

import os
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Box:
    """What a guest hands to its machine at each start.

    Attributes:
        folder: of the guest; the machine may put files there.
        image: as `image.image` returns it.
        disk: the guest's own copy of the image's disk.
        payload: the payload's disk, read-only; None: there is none.
        data: the guest's data disk; None: there is none.
        tap: of the guest, in its network.
        address: of the guest there.
        door: descriptor of the line to the tests' way in.
        heard: descriptor of the file that the guest's /dev/ttyS1 ends in.
    """

    folder: Path
    image: Path
    disk: Path
    payload: Path | None
    data: Path | None
    tap: str
    address: str
    door: int
    heard: int


class Machine(Protocol):
    """Runs a guest.

    Attributes:
        interface: what the guest calls its network interface.
        boot_s: how long a boot may take.
    """

    interface: str
    boot_s: float

    def command(self, box: Box) -> list[str]:
        """Return what to start, as root, in the guest's network, first in a process namespace.

        It may use a tmpfs of its own on /dev/shm, and whatever it starts ends with it.
        """
        ...

    def descriptors(self) -> list[int]:
        """Return what the command has to inherit beside the two of the box."""
        ...

    def started(self) -> None:
        """The command runs."""
        ...

    def stopped(self) -> None:
        """Nothing of it runs any more. Safe to call twice."""
        ...


def choose_cpu() -> int:
    """One of ours: each worker of a parallel run has its own."""
    cpus = sorted(os.sched_getaffinity(0))
    worker = os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw")
    return cpus[int(worker) % len(cpus)] if worker else random.choice(cpus)
