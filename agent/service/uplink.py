"""The process `inland uplink`: the network, and no CAN, no spool, no key that opens data."""

from __future__ import annotations

import random
import signal

from agent.config import Config


def run_uplink(config: Config, *, wall: bool = False) -> None:
    """Run until a signal.

    Args:
        config: what to run.
        wall: as the boot service: behind a wall that is proved before anything else.

    Raises:
        WallError: an address outside the region could be reached.
        InlandError: a card, certificate or key that cannot be used.
    """
    from agent.hatch import HatchClient
    from agent.region import load_region_card
    from agent.service.crew import Crew
    from agent.service.notify import Watchdog, notify
    from agent.uplink.run import Uplink

    card = load_region_card(config.region_card)
    if wall:
        from agent.service.wall import prove_uplink

        prove_uplink(card.prefixes)
    crew = Crew()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: crew.stop.set())
    uplink = Uplink(
        card,
        config.vehicle.id,
        config.vehicle.certificate,
        config.vehicle.key.file(),
        HatchClient(config.hatch),
        rng=random.SystemRandom().random,
        spread_s=config.spread_s,
        beat=Watchdog().beat,
    )
    notify("READY=1")
    uplink.run(crew.stop)
    notify("STOPPING=1")
