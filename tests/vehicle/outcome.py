"""What became of numbered frames: sent on the bus, seen and kept by the agent, opened once.

    drive = Drive(made, "321")
    drive.begin()
    ...
    drive.end()
    drive.wait_until_delivered(60)
    drive.check()

The data of a frame is its number, 8 bytes, least first; the kernel's counter of the interface says
how many there were. A table of what was measured is printed when a module is over (pytest -s).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tests.rig import wait_for
from tests.vehicle.car import Car

SHORT_FLUSH = 'flush = "100ms"\n'  # in a rule: ten entries a second


class Drive:
    """Frames of one id of their own, and what the region has of them.

    Args:
        car: that drives; capture is up.
        identifier: of the frames, three hex digits, used by no other drive of this car.
        gap_ms: between two frames.
        interface: by which they are sent.
    """

    def __init__(
        self, car: Car, identifier: str, *, gap_ms: int = 2, interface: str = "vcan0"
    ) -> None:
        self.car, self.identifier, self.gap_ms = car, identifier, gap_ms
        self._interface = interface
        self._count = f"/sys/class/net/{interface}/statistics/tx_packets"
        self.sent = 0
        self._before = 0

    def begin(self) -> None:
        """Begin to send. One drive at a time: they share the bus's counter."""
        self._before = self._counter()
        self.car.drive(f"cangen {self._interface} -g {self.gap_ms} -I {self.identifier} -L 8 -D i")

    def so_far(self) -> int:
        """How many were sent up to now."""
        return self._counter() - self._before

    def more(self, count: int, *, timeout: float = 60) -> None:
        """Wait in the guest until so many more were sent."""
        self.car.guest.until(
            f"[ $(cat {self._count}) -ge {self._counter() + count} ]", timeout=timeout
        )

    def end(self) -> int:
        """End; return how many were sent."""
        self.car.park()
        self.sent = self.so_far()
        return self.sent

    def numbers(self) -> list[int]:
        """The numbers that the region opens, in its order."""
        mark = f" {self.identifier}#"
        found = (line.partition(mark)[2] for line in self.car.region.opened())
        return [int.from_bytes(bytes.fromhex(data), "little") for data in found if data]

    def check(self) -> None:
        """Assert that every frame is there, once, in the order in which it was sent."""
        judge(self.numbers(), self.sent)

    def _counter(self) -> int:
        return int(self.car.guest.sh(f"cat {self._count}"))


def tidy(car: Car) -> None:
    """End the drive that a failed test has left behind."""
    car.guest.run("systemctl stop drive; systemctl reset-failed drive")


def judge(found: list[int], sent: int) -> None:
    """Assert that numbers are those of so many frames, each once, in order."""
    lost = set(range(sent)) - set(found)
    assert not lost, f"{len(lost)} of {sent} lost, first {min(lost)}"
    assert found == list(range(sent)), "more than once, or out of order"


def waiting(status: dict[str, Any]) -> int:
    """How many entries wait for their receipts."""
    return sum(status["spool"]["pending"].values())


def gained(status: dict[str, Any], before: dict[str, Any]) -> dict[str, int]:
    """Return the agent's own counts of frames since a status of the same run."""
    return {name: status["frames"][name] - before["frames"][name]
            for name in ("received", "kept", "lost")}  # fmt: skip


def wait_status(
    car: Car, there: Callable[[dict[str, Any]], object], seconds: float, what: str
) -> dict[str, Any]:
    """Wait until the agent says something of itself; return all that it says then."""
    last: dict[str, Any] = {}

    def answered() -> bool:
        nonlocal last
        status = car.status()
        last = status or last
        return bool(status) and bool(there(status))

    wait_for(answered, seconds, what)
    return last


def wait_delivered(car: Car, seconds: float) -> dict[str, Any]:
    """Wait until everything that was read is kept, sealed and receipted."""

    def there(status: dict[str, Any]) -> bool:
        frames = status["frames"]
        kept = frames["kept"] + frames["lost"] == frames["received"] and not frames["waiting"]
        return kept and not waiting(status) and status["spool"]["size"] > 0

    return wait_status(car, there, seconds, "everything delivered")


def catalogue(car: Car) -> dict[str, Any]:
    """What the station holds of the car's only log, as `inland station ls` says it."""
    listing = json.loads(car.region.inland("station", "ls", str(car.region.region), "--json"))
    assert listing["refusals"] == []
    assert listing["alarms"] == []
    (vehicle,) = listing["vehicles"]
    (log,) = vehicle["logs"]
    return dict(log)


class Table:
    """Measured numbers, printed when a module is over."""

    def __init__(self) -> None:
        self._rows: list[tuple[str, str]] = []

    def row(self, what: str, **numbers: object) -> None:
        """Note one line."""
        told = ", ".join(
            f"{name.replace('_', ' ')} {value:,.2f}" if isinstance(value, float)
            else f"{name.replace('_', ' ')} {value}" for name, value in numbers.items()
        )  # fmt: skip
        self._rows.append((what, told))

    def show(self) -> None:
        """Print it."""
        print()
        for what, told in self._rows:
            print(f"{what:<34} {told}")
