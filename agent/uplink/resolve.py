"""From the region's name to addresses that may be dialled.

DNS is a hint and nothing more: an answer outside the region's prefixes is dropped before any packet
goes there. What remains is dialled as a literal address, so nobody resolves a second time.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from typing import Any, Final

from agent.errors import LinkError, RegionRefusedError
from agent.region import RegionCard
from agent.uplink.pin import is_home

MAX_ADDRESSES: Final = 4  # tried in one attempt

# (host, port, family, type) -> (family, type, proto, name, address) each, as socket.getaddrinfo
GetAddresses = Callable[..., Sequence[tuple[Any, Any, Any, Any, Any]]]


def resolve(
    card: RegionCard, rng: Callable[[], float], getaddrinfo: GetAddresses = socket.getaddrinfo
) -> tuple[str, ...]:
    """Return addresses of the broker inside the prefixes, at most 4, beginning anywhere.

    Args:
        card: the region.
        rng: uniform in [0, 1); spreads a fleet over the addresses.
        getaddrinfo: the resolver.

    Raises:
        RegionRefusedError: "no-address-in-region": every answer is foreign.
        LinkError: the name does not resolve now.
    """
    try:
        answers = getaddrinfo(card.host, card.port, socket.AF_UNSPEC, socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise LinkError(f"cannot resolve the broker's name: {error}", where=card.host) from None
    found = list(dict.fromkeys(str(answer[4][0]) for answer in answers))
    home = [address for address in found if is_home(address, card.prefixes)]
    if not home:
        raise RegionRefusedError("no-address-in-region", f"{card.host}: {', '.join(found)}"[:200])
    first = int(rng() * len(home))
    return tuple(home[first:] + home[:first])[:MAX_ADDRESSES]
