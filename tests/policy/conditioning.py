"""Policies with conditions, random expressions and samples, for tests of both."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from itertools import pairwise
from random import Random

import numpy as np

from agent.frames import SIGNAL, SignalBatch
from agent.pb import sealed_pb2
from agent.policy.clauses import Condition, EventRule, SignalSelector, Why
from agent.policy.conditions import Conditions
from agent.policy.expression import check_condition, names, parse
from agent.policy.model import (
    FLOAT32,
    FLOAT64,
    SIGNED,
    UNSIGNED,
    Policy,
    SignalInfo,
    SignalLayout,
    watch_points,
)
from agent.policy.quantities import signal_name

SECOND = 10**9
MS = 10**6
WHY = Why("product_safety", "safety", "a test", sealed_pb2.REGION)
# name, arbitration id, bits, kind, factor, offset, labels
CAR = (
    ("Speed", 0x100, 16, UNSIGNED, 0.5, 0.0, ()),
    ("Torque", 0x100, 12, SIGNED, 0.25, -10.0, ()),
    ("Gear", 0x200, 3, UNSIGNED, 1.0, 0.0, ((0, "P"), (1, "R"), (2, "N"), (3, "D"), (4, "D"))),
    ("Level", 0x200, 32, FLOAT32, 1.0, 0.0, ()),
    ("Odd", 0x300, 64, FLOAT64, 1.0, 0.0, ()),
    ("Count", 0x300, 64, UNSIGNED, 1.0, 0.0, ()),
)
BUSES = ("can0", "can1")
Frame = tuple[int, int, dict[int, int]]  # stamp, bus, raw values by signal number


def car() -> tuple[tuple[SignalInfo, ...], tuple[SignalLayout, ...]]:
    """The signals of a small car."""
    infos = tuple(
        SignalInfo(name, f"M{number:X}", "", factor, offset, kind, labels)
        for name, number, _, kind, factor, offset, labels in CAR
    )
    layouts = tuple(
        SignalLayout(number, False, 0, bits, False, kind)
        for _, number, bits, kind, _, _, _ in CAR
    )  # fmt: skip
    return infos, layouts


def condition(text: str, infos: Sequence[SignalInfo]) -> Condition:
    """A text with what its names mean."""
    terms = []
    for name in names(parse(text)):
        channel, message, signal = signal_name(name)
        (number,) = (
            at
            for at, info in enumerate(infos)
            if info.name == signal and message in ("", info.message)
        )
        terms.append((name, SignalSelector(channel, number)))
    found = Condition(text, tuple(terms))
    check_condition(found, tuple(infos))
    return found


def event(name: str, when: Condition, **more: object) -> EventRule:
    """An event rule that is fine but for what `more` says."""
    fields: dict[str, object] = {
        "id": name, "when": when, "before_ns": 0, "after_ns": 0, "upload": False, "at_most": 0,
        "period_ns": 86_400 * SECOND, "retrigger_ns": 0, "snapshot": (), "keep_s": 86_400,
        "why": WHY,
    }  # fmt: skip
    return EventRule(**(fields | more))


def policy_of(
    infos: Sequence[SignalInfo], layouts: Sequence[SignalLayout], events: Iterable[EventRule]
) -> Policy:
    """A policy with events alone."""
    return Policy(
        name="test", version=1, region="urn:inland:region:cn", not_after_ns=2 * 10**18,
        dictionary=b"", signals=tuple(infos), layouts=tuple(layouts), rules=(), digest=bytes(32),
        events=tuple(events),
    )  # fmt: skip


def policy_for(*texts: str) -> Policy:
    """A policy whose events have these conditions over the small car."""
    infos, layouts = car()
    return policy_of(
        infos, layouts, [event(f"e{at}", condition(one, infos)) for at, one in enumerate(texts)]
    )


def samples_of(frame: Frame, policy: Policy) -> dict[SignalSelector, int]:
    """What watch points see of a frame."""
    _, bus, raws = frame
    return {
        point: raws[point.signal]
        for point in watch_points(policy)
        if point.signal in raws and point.channel in ("*", BUSES[bus])
    }


def watched(frames: Iterable[Frame], policy: Policy) -> SignalBatch:
    """Frames as the engine hands out their samples."""
    numbers = {point: number for number, point in enumerate(watch_points(policy))}
    rows = [
        (frame[0], numbers[point], frame[1], (0,) * 5, raw)
        for frame in frames
        for point, raw in sorted(samples_of(frame, policy).items(), key=lambda one: numbers[one[0]])
    ]
    return np.array(rows, SIGNAL)


def in_batches(
    conditions: Conditions, frames: Sequence[Frame], policy: Policy, cuts: Iterable[int]
) -> list[list[tuple[int, bool]]]:
    """(stamp, truth) of each instant of each condition, the stream cut at some frames."""
    borders = [0, *sorted(cuts), len(frames)]
    found: list[list[tuple[int, bool]]] = [[] for _ in policy.events]
    for begin, end in pairwise(borders):
        batch = watched(frames[begin:end], policy)
        for one, truth in zip(found, conditions.update(batch), strict=True):
            assert (batch["timestamp_ns"][truth.row] == truth.at_ns).all()
            one.extend(zip(truth.at_ns.tolist(), truth.true.tolist(), strict=True))
    return found


# --- random ones ------------------------------------------------------------------------------

NAMES = ("Speed", "Torque", "Gear", "Level", "Odd", "Count", "M100.Speed", "can1:Speed", "can0:Odd")
SPANS = ("50ms", "100ms", "0.5s", "1s", "2s", "60s", "1min", "1ns")


def random_number(rng: Random, depth: int) -> str:
    """An expression for a number."""
    pick = rng.randrange(10 if depth else 5)
    if pick < 2:
        return rng.choice(("0", "1", "2.5", "12", "40", "1000000"))
    if pick < 5 or pick == 9:
        name = rng.choice(NAMES)
        if rng.random() < 0.5:
            return name
        return f"{rng.choice(('rate', 'min', 'max', 'mean'))}({name}, {rng.choice(SPANS)})"
    if pick == 5:
        return f"-{random_number(rng, 0)}"
    signs = rng.choice(("+-", "*/"))
    parts = [f"({random_number(rng, depth - 1)})" for _ in range(rng.randint(2, 3))]
    return "".join(part + rng.choice(signs) for part in parts)[:-1]


def random_truth(rng: Random, depth: int) -> str:
    """An expression for true or false."""
    pick = rng.randrange(10 if depth else 4)
    if pick < 3:
        sign = rng.choice(("==", "!=", "<", "<=", ">", ">="))
        return f"{random_number(rng, depth)} {sign} {random_number(rng, depth)}"
    if pick == 3:
        return rng.choice((
            f"changed({rng.choice(NAMES)})", f'Gear {rng.choice(("==", "!="))} "D"', '"R" == Gear',
            "Speed > 6", "not Torque < 0",
        ))  # fmt: skip
    if pick < 6:
        return f"({random_truth(rng, depth - 1)}) for {rng.choice(SPANS)}"
    if pick == 6:
        return f"not ({random_truth(rng, depth - 1)})"
    word = rng.choice((" and ", " or "))
    return word.join(f"({random_truth(rng, depth - 1)})" for _ in range(rng.randint(2, 3)))


def random_text(rng: Random) -> str:
    """A good expression that names a signal."""
    text = random_truth(rng, rng.randrange(4))
    return text if any(one in text for one in NAMES) else f"{text} or Speed > 3"


def random_raw(rng: Random, signal: int) -> int:
    """A raw value as it comes in a SignalBatch. Floats are such that their sums are exact."""
    kind = CAR[signal][3]
    if kind == FLOAT32:
        number = rng.choice((0.0, 0.5, 1.25, -3.0, 12.0, 40.5))
        return int(struct.unpack("<I", struct.pack("<f", number))[0])
    if kind == FLOAT64:
        number = rng.choice((0.0, 0.5, 2.5, -3.0, 40.0, 1e300, float("nan"), float("inf")))
        return int(struct.unpack("<q", struct.pack("<d", number))[0])
    if CAR[signal][0] == "Count":
        return rng.choice((0, 1, 1, 2, 12, -1, -(2**63)))
    return rng.choice((0, 1, 2, 3, 4)) if signal == 2 else rng.choice((0, 1, 5, 12, 24, 80, 81))


def random_frames(rng: Random, count: int) -> list[Frame]:
    """Frames whose stamps hit the edges of windows, repeat, step back and leave gaps."""
    ids = sorted({one[1] for one in CAR})
    stamp, frames = 1_700_000_000 * SECOND, []
    for _ in range(count):
        stamp += rng.choices(
            (
                0, 1, 50 * MS, 100 * MS, 250 * MS, SECOND, 59 * SECOND, 120 * SECOND,
                120 * SECOND + 1, -100 * MS, -SECOND, -SECOND - 1, -90 * SECOND, 3600 * SECOND,
                3600 * SECOND + 1,
            ),
            (4, 4, 20, 20, 10, 10, 3, 2, 2, 3, 2, 2, 1, 1, 1),
        )[0]  # fmt: skip
        carrier = rng.choice(ids)
        raws = {
            at: random_raw(rng, at)
            for at, one in enumerate(CAR)
            if one[1] == carrier
        }  # fmt: skip
        frames.append((stamp, rng.randrange(2), raws))
    return frames
