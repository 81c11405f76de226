"""candump in the guest as the independent witness of what is on its buses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.vehicle.guest import Guest

LAST = "1FFFFFF0"  # the id of the frame that tells the witness that all is over


@dataclass(slots=True)
class Seen:
    """What candump saw, once the watching is over."""

    lines: list[str] = field(default_factory=list)

    def frames(self, interface: str = "") -> list[str]:
        """The frames as `id#data`, of one interface or of all."""
        rows = (line.split() for line in self.lines)
        return [text for _, name, text in rows if interface in ("", name)]

    def stamps(self) -> list[float]:
        """When the kernel saw each frame, Unix seconds."""
        return [float(line[1:].partition(")")[0]) for line in self.lines]


@contextmanager
def watching(guest: Guest, *interfaces: str) -> Iterator[Seen]:
    """Run candump until everything that was sent meanwhile has been seen.

    Args:
        guest: where.
        interfaces: names, each with filters as candump takes them, e.g. "vcan0,0:0,#FFFFFFFF".
    """
    seen, names = Seen(), [name.partition(",")[0] for name in interfaces]
    # Each line is written as it comes: what waits in a buffer cannot be waited for.
    begin_candump(guest, f"exec stdbuf -oL candump -L -D -r 33554432 {' '.join(interfaces)}", names)
    try:
        yield seen
        for name in names:
            guest.sh(f"cansend {name} {LAST}#")
            guest.until(f"tail -n 9 /run/candump.txt | grep -q '{name} {LAST}#'")
    finally:
        said = guest.end("candump").out
    lines = [line for line in said.splitlines() if line.startswith("(")]  # not "interface down"
    seen.lines += [line for line in lines if line.split()[2] != f"{LAST}#"]


def begin_candump(guest: Guest, command: str, names: Sequence[str]) -> None:
    """Begin it, and wait until the kernel hands it the frames of some interfaces.

    The kernel lists an interface that nobody reads as well; others may read it already.
    """
    count = "grep -c '{} .*raw' /proc/net/can/rcvlist_all"
    before = [int(guest.run(count.format(name)).out) for name in names]
    guest.begin("candump", command)
    for name, readers in zip(names, before, strict=True):
        guest.until(f"[ $({count.format(name)}) -gt {readers} ]")


def plain(frame: str) -> str:
    """A frame as `id#data` without what the kernel adds to it: the flag FDF of CAN FD frames."""
    identifier, fd, rest = frame.partition("##")
    return f"{identifier}##{int(rest[0], 16) & 3:X}{rest[1:]}" if fd else frame
