"""QEMU: a Debian kernel on emulated hardware, many times slower than User-Mode Linux.

What it is for: a network card whose link goes away, CAN controllers with their real driver, a USB
adapter that is pulled, a TPM, a disk that forgets what was not flushed. No KVM is asked for: where
there is none, the tests are to show the same.

- The same disk boots here and there: kernel and modules come from `kernel.kernel`.
- What belongs to a guest, QEMU's helpers too, lives in its process namespace and dies with it.
- `ask` speaks QMP. Source: QEMU QMP Reference Manual.
"""

from __future__ import annotations

import json
import shlex
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.vehicle.kernel import kernel
from tests.vehicle.machine import Box
from tests.vehicle.net import GATEWAY_AND_MASK

BUSES = "can-bus,id=bus0"
CONTROLLER = "kvaser_pci,canbus=bus0"  # an SJA1000: kvaser_pci and sja1000 drive it
QMP_S = 30.0


class Qemu:
    """The machine of the tests that need hardware.

    Args:
        memory_mb: of the guest.
        controllers: CAN controllers, all on one bus: can0, can1, ...
        usb_serial: a USB serial adapter, plugged in while somebody is connected to `usb_line`.
        tpm: folder of a TPM 2.0 in software, which outlives the guest; None: it has none.
        cache: what becomes of the disk's cache when the power is cut. "host": it survives;
            "volatile": what was not flushed is gone; "liar": what was flushed too.
    """

    interface = "eth0"
    boot_s = 240.0

    def __init__(
        self, *, memory_mb: int = 768, controllers: int = 0, usb_serial: bool = False,
        tpm: Path | None = None, cache: str = "host",
    ) -> None:  # fmt: skip
        self._memory_mb, self._controllers, self._has_usb = memory_mb, controllers, usb_serial
        self._tpm, self._cache = tpm, cache
        self._monitor: socket.socket | None = None
        self._its_end: socket.socket | None = None
        self._buffer = b""
        self.usb_line = Path()

    def command(self, box: Box) -> list[str]:
        """See `Machine`."""
        self._monitor, self._its_end = socket.socketpair()
        self._buffer = b""
        self.usb_line = box.folder / "usb"
        helpers, disk = self._disk(box)
        helpers += self._tpm_helper(box)
        machine = [
            "qemu-system-x86_64", "-accel", "tcg", "-cpu", "Nehalem", "-smp", "2",
            "-m", str(self._memory_mb), "-nodefaults", "-display", "none", "-no-reboot",
            *self._kernel(box), "-serial", "stdio", "-monitor", "none",
            "-chardev", f"socket,id=qmp,fd={self._its_end.fileno()}", "-mon", "qmp,mode=control",
            "-netdev", f"tap,id=net,ifname={box.tap},script=no,downscript=no",
            "-device", "virtio-net-pci,netdev=net,id=card,romfile=", "-device", "virtio-rng-pci",
            "-device", "virtio-serial-pci",
            "-chardev", f"socket,id=door,fd={box.door}",
            "-device", "virtserialport,chardev=door,name=org.qemu.guest_agent.0",
            "-add-fd", f"fd={box.heard},set=1",
            "-chardev", "file,id=heard,path=/dev/fdset/1,append=on", "-serial", "chardev:heard",
            *disk, *self._drives(box), *self._hardware(box),
        ]  # fmt: skip
        script = [*helpers, f"exec {shlex.join(machine)}"]
        return ["sh", "-ec", "\n".join(script)]

    def descriptors(self) -> list[int]:
        """See `Machine`."""
        return [self._its_end.fileno()] if self._its_end else []

    def started(self) -> None:
        """See `Machine`."""
        if self._its_end is not None:
            self._its_end.close()
            self._its_end = None

    def stopped(self) -> None:
        """See `Machine`."""
        self.started()
        if self._monitor is not None:
            self._monitor.close()
            self._monitor = None

    def carrier(self, up: bool) -> None:
        """Take the network card's link away, or give it back: the guest notices at once."""
        self.ask("set_link", name="card", up=up)

    def ask(self, command: str, **arguments: Any) -> Any:
        """Ask QEMU; return its answer."""
        assert self._monitor is not None
        if not self._buffer:  # its greeting waits until the first command
            self._buffer = b"\n"
            self.ask("qmp_capabilities")
        request = {"execute": command, "arguments": arguments}
        self._monitor.settimeout(QMP_S)
        self._monitor.sendall(json.dumps(request).encode() + b"\n")
        while True:
            answer = self._line()
            if "error" in answer:
                raise RuntimeError(f"{command}: {answer['error']}")
            if "return" in answer:
                return answer["return"]

    def _line(self) -> dict[str, Any]:
        assert self._monitor is not None
        data = self._buffer.lstrip(b"\n")
        while b"\n" not in data:
            more = self._monitor.recv(1 << 16)
            if not more:
                raise RuntimeError("QEMU has gone")
            data += more
        line, rest = data.split(b"\n", 1)
        self._buffer = rest + b"\n"
        found: dict[str, Any] = json.loads(line)
        return found

    def _kernel(self, box: Box) -> Sequence[str]:
        place = kernel(box.image)
        words = [
            "root=/dev/vda", "rw", "quiet", "console=ttyS0", "panic=-1", "net.ifnames=0",
            "mitigations=off", f"ip={box.address}::{GATEWAY_AND_MASK}::{self.interface}:off",
        ]  # fmt: skip
        return ["-kernel", str(place / "kernel"), "-initrd", str(place / "initrd"),
                "-append", " ".join(words)]  # fmt: skip

    def _disk(self, box: Box) -> tuple[list[str], list[str]]:
        """What has to run for the guest's disk, and QEMU's words for it."""
        drive, helpers = f"file={box.disk}", []
        if self._cache != "host":
            keeps = {"volatile": "writeback", "liar": "unsafe"}[self._cache]
            line = box.folder / "nbd"
            serve = f"nbdkit -U {line} --filter=cache file {box.disk} cache={keeps}"
            helpers = [f"rm -f {line}", serve]
            drive = f"file=nbd:unix:{line}"
        return helpers, [
            "-drive", f"{drive},if=none,id=disk,format=raw,cache=writeback",
            "-device", "virtio-blk-pci,drive=disk",
        ]  # fmt: skip

    def _drives(self, box: Box) -> list[str]:
        # The payload is shared: User-Mode Linux holds a lock on it, where another guest runs.
        kinds = {"payload": (box.payload, "readonly=on,file.locking=off"),
                 "data": (box.data, "readonly=off")}  # fmt: skip
        words = []
        for name, (path, access) in kinds.items():
            if path is not None:
                file = f"file.driver=file,file.filename={path},format=raw,{access}"
                words += ["-drive", f"{file},if=none,id={name}",
                          "-device", f"virtio-blk-pci,drive={name}"]  # fmt: skip
        return words

    def _hardware(self, box: Box) -> list[str]:
        words = ["-object", BUSES] if self._controllers else []
        words += ["-device", CONTROLLER] * self._controllers
        if self._has_usb:
            words += ["-device", "qemu-xhci", "-chardev",
                      f"socket,id=usb,path={self.usb_line},server=on,wait=off",
                      "-device", "usb-serial,chardev=usb"]  # fmt: skip
        if self._tpm is not None:
            words += ["-chardev", f"socket,id=tpm,path={box.folder}/tpm",
                      "-tpmdev", "emulator,id=tpm0,chardev=tpm",
                      "-device", "tpm-tis,tpmdev=tpm0"]  # fmt: skip
        return words

    def _tpm_helper(self, box: Box) -> list[str]:
        if self._tpm is None:
            return []
        line = f"--ctrl type=unixio,path={box.folder}/tpm"
        return [f"mkdir -p {self._tpm}",
                f"swtpm socket --tpm2 --tpmstate dir={self._tpm} {line} --daemon"]  # fmt: skip
