"""User-Mode Linux: Debian's own kernel as a process of this computer, one CPU, no hardware.

It is pinned to one CPU: system calls cost five times as much across two.
"""

from __future__ import annotations

from tests.vehicle.machine import Box, choose_cpu
from tests.vehicle.net import GATEWAY_AND_MASK


class Uml:
    """The machine of most tests.

    Args:
        memory_mb: of the guest.
    """

    interface = "vec0"
    boot_s = 120.0

    def __init__(self, *, memory_mb: int = 512) -> None:
        self._memory_mb = memory_mb

    def command(self, box: Box) -> list[str]:
        """See `Machine`."""
        disks = [f"ubda={box.disk}"]
        disks += [f"ubdbr={box.payload}"] if box.payload else []
        disks += [f"ubdc={box.data}"] if box.data else []
        return [
            "taskset", "-c", str(choose_cpu()), str(box.image / "kernel"),
            f"mem={self._memory_mb}M", *disks, "root=/dev/ubda", "rw",
            "quiet", "panic=1", "inland.door=serial", f"uml_dir={box.folder}/", "umid=uml",
            f"hostfs={box.folder}/nothing",  # the guest's root reads no file of this computer
            "pty.legacy_count=0",  # 256 legacy terminals cost udev a second
            "con=null", "con0=null,fd:1", "ssl=null", f"ssl0=fd:{box.door}",
            f"ssl1=null,fd:{box.heard}",
            f"{self.interface}:transport=tap,ifname={box.tap},depth=128,gro=1",
            f"ip={box.address}::{GATEWAY_AND_MASK}::{self.interface}:off",
        ]  # fmt: skip

    def descriptors(self) -> list[int]:
        """See `Machine`."""
        return []

    def started(self) -> None:
        """See `Machine`."""

    def stopped(self) -> None:
        """See `Machine`."""
