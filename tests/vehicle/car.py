"""A car with its region: the agent runs in the guest, broker and station at the bridge's other end.

    with car(tmp_path, image, payload) as made:
        made.region.publish(EVERYTHING, 1)
        made.start("capture", "uplink")
        made.drive("cangen vcan0 -g 1 -L 8 -D i")
        wait_for(lambda: made.told()["receipts"], 30, "a receipt")
        made.region.opened()

What the guest knows of the world: the region's name and address, and the bundle that the factory
puts into a car. What the tests learn of it comes by the door, or by a serial line whose other end
is a file of this machine (`Guest.heard`), so that a power cut takes nothing of it.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.rig import EVERYTHING, INLAND, Rig, answer, wait_for
from tests.vehicle.guest import Guest
from tests.vehicle.machine import Machine
from tests.vehicle.net import HOST, SUBNET, Net, first_in_namespace, kill_namespace

BROKER = "broker.cn.example"
CONFIG = "/etc/inland/agent.toml"
STATE = "/var/lib/inland"
RUN = "/run/inland"
PYTHON = "/payload/venv/bin/python"
END_S = 30.0  # for a service to end in order


class Region(Rig):
    """A region whose broker and station live in the guests' network, and one car of it.

    Its other commands (`inland`, `opened`, `new_car`) are run here: they need no network.
    """

    def __init__(self, folder: Path, net: Net) -> None:
        self.net, self.version = net, 0  # of the policy on offer
        super().__init__(folder, host=BROKER, prefix=SUBNET)

    def start(self, name: str, *arguments: str, command: list[str] | None = None) -> Any:
        """Start a command in the network and leave it running; its words go to <name>.txt."""
        with (self.folder / f"{name}.txt").open("ab") as output:
            started = self.net.start(*(command or [*INLAND, *arguments]), output=output)
        self.processes[name] = started
        return started

    def broker_answers(self) -> bool:
        """Whether somebody listens on the broker's port."""
        try:
            self.net.run("bash", "-c", f"exec 3<>/dev/tcp/{HOST}/{self.port}")
        except RuntimeError:
            return False
        return True

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        """End a service, by default as a power cut would."""
        process = self.processes.pop(name)
        if number == signal.SIGKILL:
            kill_namespace(process)
        elif (first := first_in_namespace(process)) is not None:
            os.kill(first, number)
        process.wait(END_S)

    def close(self) -> None:
        """End everything that still runs."""
        for name in list(self.processes):
            self.kill(name)

    def publish(self, text: str, version: int) -> None:
        """Put a policy on offer; its text says `version = 1`."""
        path = self.folder / f"v{version}.toml"
        path.write_text(text.replace("version = 1", f"version = {version}"), "utf-8")
        self.inland("policy", "build", str(path))
        self.inland("station", "policy", "publish", str(path.with_suffix(".policy")),
                    "--region", str(self.region))  # fmt: skip
        self.version = version


class Car:
    """The agent in a guest.

    Args:
        region: whose car it is.
        guest: booted; whoever cuts its power starts it again.
        state: the agent's state folder in the guest.
        limits: more of agent.toml, e.g. a table [limits].
        channel: of its bus can0.
        bus: more settings of this bus, and more buses.
        environment: NAME=value for capture, e.g. a PYTHONPATH that plants a mistake; the boot
            service takes none.
        installed: run by the boot service's own units, as their users, behind their walls.
    """

    def __init__(
        self, region: Region, guest: Guest, *, state: str = STATE, limits: str = "",
        channel: str = "vcan0", bus: str = "fd = true",
        environment: str = "", installed: bool = False,
    ) -> None:  # fmt: skip
        self.region, self.guest, self.state = region, guest, state
        self._environment, self._is_installed = environment, installed
        text = region.enrolled.replace('state = "state"', f'state = "{state}"')
        text = text.replace('run = "run"', f'run = "{RUN}"')
        text += f'\n{limits}\n[[bus]]\nname = "can0"\ninterface = "socketcan"\n'
        region.config.write_text(f'{text}channel = "{channel}"\n{bus}\n', "utf-8")
        bundle = os.path.dirname(CONFIG)  # noqa: PTH120 - a path of the guest
        guest.sh(f"rm -rf {bundle} {state} {RUN}; grep -q {BROKER} /etc/hosts || "
                 f"echo '{HOST} {BROKER}' >> /etc/hosts")  # fmt: skip
        guest.push(region.car, bundle)
        if installed:
            self._install()
        else:  # of a car before
            guest.sh("rm -f /etc/systemd/system/inland*; systemctl daemon-reload")
        guest.sh("sync")  # as the factory leaves it

    def _install(self) -> None:
        """Install the boot service, and leave it to the test when to start it."""
        both = f"{unit('uplink')} {unit('capture')}"
        self.guest.link(False)  # nobody is to hear of what starts now and is taken away again
        self.install_service()
        self.guest.sh(f"systemctl disable inland.target && systemctl stop inland.target {both} && "
                      f"rm -rf {self.state}/*", timeout=120)  # fmt: skip
        self.guest.link(True)

    def configure(self, change: Callable[[str], str]) -> None:
        """Change agent.toml, in the car alone."""
        text = self.guest.read(CONFIG).decode()
        assert change(text) != text
        self.guest.write(CONFIG, change(text).encode())

    def install_service(self) -> str:
        """Install the boot service and start it, as a workshop does; return what it said."""
        bundle = os.path.dirname(CONFIG)  # noqa: PTH120 - a path of the guest
        self.guest.sh(f"chmod 755 {bundle}")
        return self.guest.sh(f"inland service install --config {CONFIG}", timeout=180)

    def another(self, **settings: Any) -> Car:
        """Another car on the same computer: enrolled anew, its state folder empty.

        Args:
            settings: of `Car`.
        """
        self.guest.run(f"systemctl stop {unit('capture')} {unit('uplink')}", timeout=90)
        self.region.new_car(f"car{len(list(self.region.folder.glob('car*')))}")
        return Car(self.region, self.guest, **settings)

    def start(self, *names: str, wait: bool = True) -> None:
        """Start capture or uplink as services; capture is up when its bus is open."""
        if self._is_installed:
            how = "" if wait else "--no-block"
            self.guest.sh(f"systemctl start {how} {' '.join(map(unit, names))}", timeout=120)
            return
        for name in names:
            how = properties(name) + ("" if wait else " --no-block")
            if name == "capture" and self._environment:
                how += f" -p Environment={self._environment}"
            self.guest.sh(f"systemctl reset-failed {unit(name)} 2>/dev/null; "
                          f"systemd-run -q --unit={unit(name)} {how} "
                          f"/usr/local/bin/inland {name} --config {CONFIG} --verbose")  # fmt: skip

    def stop(self, *names: str) -> None:
        """End services in order."""
        self.guest.sh(f"systemctl stop {' '.join(map(unit, names))}", timeout=90)

    def kill(self, name: str) -> None:
        """SIGKILL a service; systemd starts it again."""
        self.guest.sh(f"systemctl kill -s KILL {unit(name)}")

    def said(self, name: str) -> str:
        """What a service has said since the boot."""
        return self.guest.sh(f"journalctl -b -o cat --no-pager -u {unit(name)} | tail -n 200")

    def status(self) -> dict[str, Any] | None:
        """What the running agent says of itself; None while it does not answer."""
        done = self.guest.run(f"inland status --config {CONFIG} --json")
        assert "Traceback" not in done.err, done.err
        return json.loads(done.out) if done.code == 0 else None

    def told(self) -> dict[str, Any]:
        """The same of an agent that runs: a busy machine may keep it from answering in time."""
        return answer(self.status)

    def policy_version(self) -> int:
        """Version of the policy in force; 0: none, or the agent does not answer."""
        return ((self.status() or {}).get("policy") or {}).get("version") or 0

    def inland(self, arguments: str, *, code: int = 0, timeout: float = 60) -> str:
        """Run a command of the agent in the guest; return what it printed."""
        done = self.guest.run(f"inland {arguments} --config {CONFIG}", timeout=timeout)
        assert "Traceback" not in done.err, done.err
        assert done.code == code, f"{arguments}: {done.code}\n{done.out}{done.err}"
        return done.out + done.err

    def drive(self, command: str) -> None:
        """Begin to fill the bus; `park` ends it."""
        self.guest.begin("drive", f"exec {command}")

    def park(self) -> str:
        """End the drive; return what its program said."""
        return self.guest.end("drive", number="INT").out


def unit(name: str) -> str:
    """The systemd unit of capture or uplink."""
    return f"inland-{name}"


def properties(name: str) -> str:
    """Stand-ins for the unit files: what makes a process of ours a service."""
    chosen = {
        "capture": ("Type=notify", "WatchdogSec=30"),
        "uplink": ("Type=exec",),
    }[name]
    usual = ("Restart=on-failure", "RestartSec=1", "StartLimitIntervalSec=0")
    return " ".join(f"-p {one}" for one in (*usual, *chosen))


@contextmanager
def serving(made: Region) -> Iterator[Region]:
    """A region with its broker and station running."""
    try:
        made.start_broker()
        made.start_station()
        yield made
    finally:
        made.close()


@contextmanager
def car(
    folder: Path,
    image: Path,
    payload: Path,
    *,
    data_mb: int | None = None,
    machine: Machine | None = None,
    files: Mapping[str, bytes] | None = None,
    **settings: Any,
) -> Iterator[Car]:
    """A booted car with its agent installed, nothing of it started; its region runs.

    Args:
        folder: for the region.
        image: of the guest.
        payload: of the guest.
        data_mb: of the guest, as machine and files.
        machine: see `Guest`.
        files: see `Guest`.
        settings: of `Car`.
    """
    net = Net()
    try:
        with ThreadPoolExecutor(1) as beside:
            founding = beside.submit(Region, folder, net)  # takes as long as the boot
            with (
                Guest(image, payload, net=net, machine=machine, data_mb=data_mb,
                      files=files) as guest,
                serving(founding.result()) as home,
            ):  # fmt: skip
                assert guest.ready() == "running"
                yield Car(home, guest, **settings)
    finally:
        net.close()


@contextmanager
def serviced_car(folder: Path, image: Path, payload: Path) -> Iterator[Car]:
    """A car whose boot service runs, with the policy `EVERYTHING` in force. See `car`."""
    with car(folder, image, payload) as made:
        made.region.publish(EVERYTHING, 1)
        made.install_service()
        wait_for(lambda: made.policy_version() == 1, 90, "the policy over the air")
        yield made
