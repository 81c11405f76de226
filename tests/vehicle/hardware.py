"""A car on emulated hardware: CAN controllers, a USB adapter, a TPM; and who watches it.

    with hardware_car(tmp_path, image, payload) as made:
        with Adapter(made.machine.usb_line) as adapter:
            adapter.wait_open(30)
            adapter.send([Frame(0, 0x123, b"A")])

The agent is installed where Python is quick, in User-Mode Linux, and the same disk then boots in
QEMU, where the boot service finds the hardware. can0 is the agent's; what speaks on the bus is
can1, which is a controller of its own on the same wire.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from firmware_sim.frames import Frame
from firmware_sim.slcan import Device, Opened, State
from tests.rig import EVERYTHING, wait_for
from tests.vehicle.car import PYTHON, RUN, Car, car
from tests.vehicle.guest import Guest, GuestError
from tests.vehicle.machine_qemu import Qemu
from tests.vehicle.outcome import SHORT_FLUSH
from tests.vehicle.power import LINE

INSIDE = Path(__file__).parent / "inside"
TTY = "/dev/ttyUSB0"
BURST = 50
TPM = 'tpm = "device:/dev/tpmrm0"'
USB_BUS = f"""
[[bus]]
name = "usb0"
interface = "slcan"
channel = "{TTY}"
bitrate = 500000
"""
# As a car's network configuration sets its controllers up: the agent's may only listen.
NETWORKS = {
    "/etc/systemd/network/20-can0.network":
        b"[Match]\nName=can0\n[CAN]\nBitRate=500K\nListenOnly=yes\nRestartSec=100ms\n",
    "/etc/systemd/network/20-can1.network": b"[Match]\nName=can1\n[CAN]\nBitRate=500K\n",
}  # fmt: skip


class Watch:
    """What the agent says of itself, again and again, without a command being started each time.

    Attributes:
        not_yet: when it last said something that `until` did not wait for, by the guest's clock.
    """

    def __init__(self, guest: Guest) -> None:
        self._guest = guest
        self._heard = len(guest.heard())
        self.not_yet = 0.0
        guest.write("/run/observe.py", (INSIDE / "observe.py").read_bytes())
        guest.sh(f"stty -F {LINE} raw -echo")
        guest.begin("watch", f"exec {PYTHON} /run/observe.py {RUN}/hatch.sock {LINE} all")
        self.until(lambda _: True, 60, "the agent's first word")

    def now(self) -> dict[str, Any]:
        """Return what it said last; `at` is when, by the guest's clock."""
        lines = self._guest.heard(self._heard).splitlines(keepends=True)
        whole = [line for line in lines if line.endswith(b"\n")]
        self._heard += sum(map(len, whole[:-1]))
        told: dict[str, Any] = json.loads(whole[-1]) if whole else {}
        return told if "frames" in told else {}

    def until(
        self, there: Callable[[dict[str, Any]], object], seconds: float, what: str
    ) -> dict[str, Any]:
        """Wait until it says something; return all that it said then."""
        found: dict[str, Any] = {}

        def answered() -> bool:
            nonlocal found
            found = self.now()
            if found and there(found):
                return True
            self.not_yet = found.get("at", self.not_yet)
            return False

        try:
            wait_for(answered, seconds, what)
        except pytest.fail.Exception:
            print("said last:", found)
            raise
        return found


def bus(status: dict[str, Any], name: str) -> dict[str, Any]:
    """What a status says of one bus."""
    return next(dict(one) for one in status["buses"] if one["name"] == name)


class Heard:
    """What the driver of can0 has handed on since a moment, by its own counters.

    A controller holds a few frames only. Where an emulated processor is too slow for them, some are
    lost before anybody could read them, and the driver says so by an error frame.
    """

    def __init__(self, made: Car) -> None:
        self._made, self._before = made, (0, 0)
        self._before = self.counts()

    def more(self, count: int) -> None:
        """Wait until it has handed on so many more."""
        before = self.counts()[0]
        wait_for(lambda: self.counts()[0] >= before + count, 60, f"{count} more frames heard")

    def counts(self) -> tuple[int, int]:
        """Return (frames, overruns)."""
        folder = "/sys/class/net/can0/statistics"
        said = self._made.guest.sh(f"cat {folder}/rx_packets {folder}/rx_over_errors").split()
        return int(said[0]) - self._before[0], int(said[1]) - self._before[1]


class Adapter:
    """The firmware of a USB adapter, at the other end of the guest's USB line.

    Connected, it is plugged in; closed, it is pulled out.

    Args:
        line: of the machine.

    Attributes:
        listen_only: how the guest opened it last.
        flooded: how many frames `flood` has put on the bus.
    """

    def __init__(self, line: Path) -> None:
        self._device, self._lock = Device(bus_bitrate=500_000), threading.Lock()
        self._opened = threading.Event()
        self.listen_only, self.flooded = False, 0
        self._flood: threading.Thread | None = None
        self._line = socket.socket(socket.AF_UNIX)
        self._line.connect(str(line))
        self._thread = threading.Thread(target=self._serve, name="adapter", daemon=True)
        self._thread.start()

    def wait_open(self, seconds: float) -> None:
        """Wait until the guest has opened the channel."""
        assert self._opened.wait(seconds), f"nobody opened the adapter within {seconds} s"

    def send(self, frames: Sequence[Frame]) -> None:
        """Put frames on the bus: the guest hears them, if its channel is open."""
        with self._lock:
            assert self._device.state is not State.CLOSED
            self._line.sendall(b"".join(map(self._device.frame, frames)))

    def flood(self, identifier: int) -> None:
        """Put numbered frames on the bus until it is pulled out; `flooded` counts them."""

        def go_on() -> None:
            try:
                while True:
                    self.send(numbered(identifier, self.flooded, BURST))
                    self.flooded += BURST
            except OSError:  # pulled out
                return

        self._flood = threading.Thread(target=go_on, name="flood", daemon=True)
        self._flood.start()

    def close(self) -> None:
        """Pull it out. Safe to call twice."""
        try:
            self._line.shutdown(socket.SHUT_RDWR)
        except OSError:
            return
        finally:
            for thread in (self._thread, self._flood):
                if thread is not None:
                    thread.join()
            self._line.close()

    def _serve(self) -> None:
        while data := self._receive():
            with self._lock:
                outcome = self._device.receive(data)
                if outcome.replies:
                    self._line.sendall(outcome.replies)
            for event in outcome.events:
                if isinstance(event, Opened):
                    self.listen_only = event.listen_only
                    self._opened.set()

    def _receive(self) -> bytes:
        try:
            return self._line.recv(4096)
        except OSError:
            return b""

    def __enter__(self) -> Adapter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def numbered(identifier: int, first: int, count: int) -> list[Frame]:
    """Frames whose data is their number."""
    return [Frame(0, identifier, number.to_bytes(8, "little"))
            for number in range(first, first + count)]  # fmt: skip


def numbers(made: Car, channel: str, identifier: str) -> list[int]:
    """The numbers of such frames that the region opens, in its order."""
    mark = f" {channel} {identifier}#"
    found = (line.partition(mark)[2] for line in made.region.opened())
    return [int.from_bytes(bytes.fromhex(data), "little") for data in found if data]


@contextmanager
def hardware_car(folder: Path, image: Path, payload: Path) -> Iterator[tuple[Car, Qemu]]:
    """A car in QEMU whose boot service came up with the machine; see above."""
    machine = Qemu(controllers=2, usb_serial=True, tpm=folder / "tpm")
    with car(
        folder / "region", image, payload, files=NETWORKS, channel="can0", bus=USB_BUS
    ) as made:
        _install(made)
        made.guest.shutdown()
        made.guest.machine = machine
        print(f"QEMU: {made.guest.start():.1f} s to the door")
        assert made.guest.ready() == "running"
        yield made, machine


def _install(made: Car) -> None:
    """As on a workshop's bench: the service is installed, and a policy from a folder."""
    made.configure(lambda text: text.replace("[vehicle]\n", f"[vehicle]\n{TPM}\n"))
    # There is no TPM on this bench: the files are written, and capture says that it does not start.
    with pytest.raises(GuestError, match="/dev/tpmrm0"):
        made.install_service()
    made.guest.sh("systemctl stop inland.target inland-capture inland-uplink", timeout=120)
    region = made.region
    region.publish(EVERYTHING + SHORT_FLUSH, 1)
    drop = region.folder / "drop"
    region.inland("station", "policy", "export", str(drop), "--region", str(region.region))
    made.guest.push(drop, "/root/drop")
    made.inland("policy install /root/drop")
