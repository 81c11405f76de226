"""The watch points that must be seen at once, apart from the engine, which takes its time.

The camera gate has to close within 200 ms; what is kept can be decided later, at a fraction of the
cost. So the few signals that the gate looks at are read in a pass of their own.

Pure but for what it counts. One thread.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from agent.frames import SIGNAL, ChannelTable, FrameBatch, SignalBatch
from agent.policy.clauses import SignalSelector
from agent.policy.model import Policy, watch_points
from agent.policy.wants import NOBODY, Sampler, Want


def watching(
    points: Sequence[SignalSelector], some: Collection[int], *, output: int = 0
) -> list[Want]:
    """Return wants for some watch points, which carry their numbers."""
    return [
        Want(output, NOBODY, points[number].signal, number, points[number].channel)
        for number in some
    ]


class Lookout:
    """Reads some watch points of a policy.

    Args:
        policy: in force.
        channels: names of the buses by number; may grow.
        points: numbers of the watch points.
    """

    def __init__(self, policy: Policy, channels: ChannelTable, points: Collection[int]) -> None:
        self._channels = channels
        self._sampler = Sampler(policy.layouts, watching(watch_points(policy), sorted(points)), 1)
        self._ready: tuple[tuple[str, ...], int] = ((), 0)

    def see(self, batch: FrameBatch) -> SignalBatch:
        """Return their samples in arrival order, and within a frame by number."""
        if not len(batch):
            return np.zeros(0, SIGNAL)
        names = self._channels.names
        ready = names, max(int(batch["channel"].max()) + 1, len(names), self._ready[1])
        if ready != self._ready:
            self._ready = ready
            self._sampler.prepare(*ready)
        (found,) = self._sampler.take(batch)
        return found
