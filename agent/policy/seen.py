"""Whether the frames of a policy's signals came at all, and from which J1939 sources.

Pure.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from agent.policy.items import groups
from agent.policy.j1939 import SOURCE
from agent.policy.model import Policy, SignalLayout

Seen = frozenset[tuple[str, bool, int]]  # bus, 29 bits, arbitration id


def absent(policy: Policy, seen: Seen) -> tuple[str, ...]:
    """Return the signals whose frames came on no bus, as Message.Signal."""
    layouts = {(one.extended, one.arbitration_id, one.free_bits): one for one in policy.layouts}
    came = {key for key, one in layouts.items() if any(_ids(one, seen))}
    return tuple(
        f"{info.message}.{info.name}"
        for info, one in zip(policy.signals, policy.layouts, strict=True)
        if (one.extended, one.arbitration_id, one.free_bits) not in came
    )


def remarks(policy: Policy, seen: Seen) -> tuple[str, ...]:
    """Return what to know of J1939 groups: several sources are mixed, or only others came."""
    found: dict[str, None] = {}
    for number, layout in enumerate(policy.layouts):
        for group in groups(policy, (number,)):
            found |= dict.fromkeys(f"{group}: {said}" for said in _sources(layout, seen))
    return tuple(found)


def _sources(layout: SignalLayout, seen: Seen) -> Iterator[str]:
    sources: dict[str, set[int]] = defaultdict(set)
    for bus, one in _ids(layout, seen, any_source=True):
        sources[bus].add(one & SOURCE)
    own = layout.arbitration_id & SOURCE
    for bus, some in sorted(sources.items()):
        listed = ", ".join(f"{one:02X}" for one in sorted(some))
        if layout.free_bits & SOURCE and len(some) > 1:
            yield f"came from {listed} on {bus}; their samples are one stream"
        if not layout.free_bits & SOURCE and own not in some:
            yield f"came only from {listed} on {bus}"


def _ids(
    layout: SignalLayout, seen: Seen, *, any_source: bool = False
) -> Iterable[tuple[str, int]]:
    fixed = ~(layout.free_bits | (SOURCE if any_source else 0))
    return (
        (bus, one)
        for bus, extended, one in seen
        if extended == layout.extended and not (one ^ layout.arbitration_id) & fixed
    )
