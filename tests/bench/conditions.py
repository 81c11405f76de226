"""What the conditions of 20 events cost on a full bus: 1,500 watched samples a second, ten calls.

The baseline is the straightforward evaluation of the tests: frame by frame, in plain Python.
"""

from __future__ import annotations

import statistics
import time
from random import Random

from agent.policy.events import Events
from agent.policy.model import SIGNED, UNSIGNED, Policy, SignalInfo, SignalLayout
from tests.bench.measure import Figure, at_most, faster
from tests.policy.conditioning import (
    MS,
    SECOND,
    Frame,
    condition,
    event,
    policy_of,
    samples_of,
    watched,
)
from tests.policy.straightforward import Plain

WARM_S, MEASURED_S, PLAIN_S = 12, 20, 4
CALLS = 10  # a second
# Signals by how often they come, each in a frame of its own.
FAST = [f"Fast{at}" for at in range(10)]  # 100 Hz: 1,000 samples a second
MIDDLE = [f"Middle{at}" for at in range(20)]  # 20 Hz: 400
SLOW = [f"Slow{at}" for at in range(10)]  # 10 Hz: 100
TEXTS = [
    "Fast0 > 30 and rate(Fast0, 0.5s) < -25 for 150ms",
    "Fast0 > 30 and rate(Fast0, 0.2s) < -45",
    "Fast1 < -8 or Fast1 > 8 for 100ms",
    "max(Fast2, 0.15s) - min(Fast2, 0.15s) >= 8",
    "mean(Fast3, 2s) > 60 and Slow0 == 1",
    "changed(Middle0) and Middle0 == 1",
    "Middle1 == 1 and Fast0 > 5 for 300ms",
    "Middle2 > 90 for 10s",
    "rate(Middle3, 10s) > 2 and Middle3 > 50",
    "min(Middle4, 5s) < 20",
    "Slow1 >= 3",
    "Slow2 == 1 or Slow3 == 1 or Slow4 == 1",
    "not (Fast4 > 1) for 2s and Fast0 > 20",
    "Fast5 * Fast5 + Fast6 * Fast6 > 3000",
    "Middle5 - Middle6 > 5 and Middle7 > 0",
    "mean(Middle8, 30s) > 70",
    "changed(Slow5)",
    "Fast7 > 80 and Fast8 > 80 and Fast9 < 5",
    "Middle9 == 2 for 500ms",
    "Slow6 < 11 and Slow7 == 0 and Fast0 > 0",
]


def figures() -> list[Figure]:
    """Measure a second of driving, against the straightforward evaluation."""
    policy, frames = full_bus(WARM_S + MEASURED_S)
    begin = frames[0][0]
    batches = [
        watched([one for one in part if samples_of(one, policy)], policy)
        for part in _split(frames, begin, SECOND // CALLS)
    ]
    events = Events(policy)
    for batch in batches[: WARM_S * CALLS]:
        events.update(batch)
    measured = batches[WARM_S * CALLS :]
    spent = []
    for batch in measured:
        start = time.process_time()
        events.update(batch)
        spent.append(time.process_time() - start)
    ours = statistics.median(spent)  # a call is short: a neighbour on the machine hits few of them
    theirs = _plainly(policy, frames) / CALLS
    samples = sum(map(len, measured)) / len(measured)
    note = f"{samples:.0f} samples a call, {CALLS} calls a second: {ours * CALLS:.2%} of one core"
    return [
        at_most("20 events on a full bus", ours * 1e3, unit="ms CPU a call", bar=1.5, note=note),
        faster("20 events on a full bus", ours * 1e3, "frame by frame", theirs * 1e3,
               unit="ms CPU a call", bar=5, note="the baseline keeps what it has seen"),
    ]  # fmt: skip


def full_bus(seconds: int) -> tuple[Policy, list[Frame]]:
    """A policy of 20 events, and the frames of a drive that carry its signals."""
    rng = Random(7)
    names = [*FAST, *MIDDLE, *SLOW]
    infos = [
        SignalInfo(name, "M", "", 0.1, 0.0, SIGNED if name in FAST else UNSIGNED, ())
        for name in names
    ]
    layouts = [
        SignalLayout(0x100 + at, False, 0, 16, False, info.kind) for at, info in enumerate(infos)
    ]
    events = [event(f"e{at}", condition(text, infos)) for at, text in enumerate(TEXTS)]
    unused = set(names) - {name for one in events for name, _ in one.when.terms}
    snapshot = tuple(
        one for name in sorted(unused) for _, one in condition(f"{name} > 0", infos).terms
    )
    events[0] = event("e0", events[0].when, snapshot=snapshot)
    level = [rng.randrange(1000) for _ in names]
    frames: list[Frame] = []
    for at, name in enumerate(names):
        period = (10 if name in FAST else 50 if name in MIDDLE else 100) * MS
        phase = rng.randrange(period)
        for tick in range(seconds * SECOND // period):
            level[at] = min(1000, max(0, level[at] + rng.randrange(-20, 21)))
            frames.append((10**18 + phase + tick * period, 0, {at: level[at]}))
    frames.sort(key=lambda one: one[0])
    return policy_of(infos, layouts, events), frames


def _split(frames: list[Frame], begin: int, period: int) -> list[list[Frame]]:
    parts: list[list[Frame]] = []
    for frame in frames:
        while frame[0] >= begin + len(parts) * period:
            parts.append([])
        parts[-1].append(frame)
    return parts


def _plainly(policy: Policy, frames: list[Frame]) -> float:
    """CPU seconds for one second of driving, the straightforward way."""
    plainly = [Plain(one.when, policy) for one in policy.events]
    some = [one for one in frames if one[0] < frames[0][0] + PLAIN_S * SECOND]
    samples = [(frame[0], samples_of(frame, policy)) for frame in some]
    start = time.process_time()
    for stamp, one in samples:
        for plain in plainly:
            plain.frame(stamp, one)
    return (time.process_time() - start) / PLAIN_S
