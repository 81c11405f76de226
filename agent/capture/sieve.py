"""What a bus has that filters its frames itself, and counts what came in that was no frame."""

from __future__ import annotations

from agent.capture.filters import Filters, SoftwareFilter
from agent.pb.ledger_pb2 import Loss


class Sieve:
    """The part of a BatchBus that lets pass what is wanted: in software, for want of a kernel's.

    Args:
        name: of the bus.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._filter = SoftwareFilter(None)
        self._broken = 0  # lines, records or bytes that were no frames, since `losses`

    def losses(self) -> list[tuple[str, int, int]]:
        """Return what came in since the last call and was no frame."""
        broken, self._broken = self._broken, 0
        return [(self.name, broken, int(Loss.BROKEN))] if broken else []

    def set_filters(self, wanted: Filters | None) -> None:
        """Let only these frames pass."""
        self._filter = SoftwareFilter(wanted)
