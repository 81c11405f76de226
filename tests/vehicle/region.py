"""The region beside the car: broker and station run on this machine, in the guest's own network.

`Region` is the rig of the other end-to-end tests, moved: the car's folder is enrolled here and then
carried into the guest, as a workshop would.
"""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.rig import INLAND, Rig
from tests.vehicle.guest import Guest
from tests.vehicle.net import HOST_NAME, SUBNET, Net, first_in_namespace, kill_namespace

CAR = "/etc/inland"  # the car's folder in the guest


class Region(Rig):
    """A region whose services listen in a Net.

    Args:
        folder: for everything that it writes.
        net: where they listen.
    """

    host, prefix = HOST_NAME, SUBNET

    def __init__(self, folder: Path, net: Net) -> None:
        self.net = net
        super().__init__(folder)

    def start(
        self, name: str, *arguments: str, command: list[str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a command in the network; its words go to <name>.txt."""
        with (self.folder / f"{name}.txt").open("ab") as output:
            process = self.net.start(*(command or [*INLAND, *arguments]), output=output)
        self.processes[name] = process
        return process

    def broker_answers(self) -> bool:
        """Whether somebody listens on the broker's port."""
        return f":{self.port} " in self.net.run("ss", "-Htln")

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        """End a service, by default as a power cut would."""
        process = self.processes.pop(name)
        if number == signal.SIGKILL:
            kill_namespace(process)
            return
        first = first_in_namespace(process)
        if first is not None:
            process.send_signal(0)
            subprocess.run(["kill", f"-{int(number)}", str(first)], check=True)
        process.wait(30)

    def close(self) -> None:
        """End everything that still runs."""
        for name in list(self.processes):
            self.kill(name)

    def install_car(self, guest: Guest) -> None:
        """Carry the car's folder into the guest; what it had kept there is replaced."""
        guest.push(self.car, CAR)


@contextmanager
def region(folder: Path, net: Net) -> Iterator[Region]:
    """A region with its broker and station running."""
    made = Region(folder, net)
    try:
        made.start_broker()
        made.start_station()
        yield made
    finally:
        made.close()
