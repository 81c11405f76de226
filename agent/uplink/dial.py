"""Making a link: the region's addresses, one after the other, each through a fresh pinned context.

Another address is tried only if one cannot be reached; never after a refusal.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from agent.clock import FLOOR
from agent.errors import LinkError, RegionRefusedError
from agent.pb.hatch_pb2 import Batch
from agent.region import RegionCard
from agent.uplink import topics
from agent.uplink.link import Link
from agent.uplink.resolve import GetAddresses, resolve
from agent.uplink.timing import Timing
from agent.uplink.tls import PinnedContext
from agent.uplink.way import has_route, leads_to


class Dialler:
    """See the module's contract.

    Args:
        card: the region.
        vehicle: the pseudonym.
        own: client certificate and its private key, PEM.
        timing: intervals.
        rng: uniform in [0, 1).
        clock: seconds of CLOCK_BOOTTIME.
        getaddrinfo: the resolver.
        beat: called before each address.

    Raises:
        ConfigError: the certificate, key, region id or vehicle id cannot be used.
        RegionRefusedError: the card's CA certificates are not the pinned ones.
    """

    def __init__(
        self, card: RegionCard, vehicle: str, own: tuple[Path | None, Path | None], *,
        timing: Timing, rng: Callable[[], float], clock: Callable[[], float],
        getaddrinfo: GetAddresses, beat: Callable[[], None],
    ) -> None:  # fmt: skip
        self._card, self._vehicle, self._own = card, vehicle, own
        self._timing, self._rng, self._clock = timing, rng, clock
        self._getaddrinfo, self._beat = getaddrinfo, beat
        heard = (topics.RECEIPT, topics.POLICY)
        self._topics = [topics.down(card.region, vehicle, what) for what in heard]
        self._slept_s = 0.0
        self._addresses: tuple[str, ...] = ()
        self._context(Batch())

    def dial(self, told: Batch, *, in_crowd: bool) -> Link:
        """Return a link whose CONNECT has left.

        Args:
            told: what capture says of the time.
            in_crowd: a large fleet may be trying as well.

        Raises:
            RegionRefusedError: the peer is not the region's broker.
            LinkError: no address can be reached.
        """
        timing, (topic, chunk_topic) = self._timing, self._topics
        failed: LinkError | None = None
        self._addresses = resolve(self._card, self._rng, self._getaddrinfo)
        for address in self._addresses:
            self._beat()
            link = Link(self._context(told), self._vehicle, topic, timing, chunk_topic)
            try:
                link.open(address, timing.crowd_connect_s if in_crowd else timing.connect_s)
            except LinkError as error:
                self._slept_s = max(self._slept_s, link.slept_lately_s)
                if isinstance(error, RegionRefusedError):
                    raise
                failed = error
                continue
            return link
        assert failed is not None  # resolve returns at least one address
        raise failed

    def take_slept_s(self) -> float:
        """Return how long the computer slept in an attempt that failed since the last call."""
        slept_s, self._slept_s = self._slept_s, 0.0
        return slept_s

    def has_way(self) -> bool:
        """Return whether the car's own network leads to the region. Nothing is sent."""
        if self._addresses:
            return any(leads_to(address) for address in self._addresses)
        return has_route(self._card.prefixes)

    def _context(self, told: Batch) -> PinnedContext:
        begun_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)

        def now_ns() -> int:
            return told.trusted_unix_ns + time.clock_gettime_ns(time.CLOCK_BOOTTIME) - begun_ns

        return PinnedContext(
            self._card, *self._own, now_ns=now_ns, is_floor=told.quality == FLOOR,
            timing=self._timing, clock=self._clock,
        )  # fmt: skip
