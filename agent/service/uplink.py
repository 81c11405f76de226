"""The process `inland uplink`: the network, and no CAN, no spool, no key that opens data."""

from __future__ import annotations

import random
import signal

from agent.config import Config


def run_uplink(config: Config) -> None:
    """Run until a signal.

    Raises:
        InlandError: a card, certificate or key that cannot be used.
    """
    from agent.hatch import HatchClient
    from agent.region import load_region_card
    from agent.service.crew import Crew
    from agent.uplink.run import Uplink
    from agent.uplink.timing import Timing

    card = load_region_card(config.region_card)
    crew = Crew()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: crew.stop.set())
    uplink = Uplink(
        card,
        config.vehicle.id,
        config.vehicle.certificate,
        config.vehicle.key,
        HatchClient(config.hatch),
        rng=random.SystemRandom().random,
        timing=Timing(regroup_s=config.regroup_s),
        spread_s=config.spread_s,
    )
    uplink.run(crew.stop)
