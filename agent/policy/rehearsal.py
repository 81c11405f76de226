"""The dry run of a policy before it is in force: every part that it would drive, on made-up frames.

A policy is data, and what interprets it is ours; a policy under which our code fails must be
refused at the door and not found out by an agent that dies in a driving car. The engine gets frames
of every id that the policy names: too short, all zeros, all ones, alternating bits, with values
that rise, on the channels that it names and on one that it does not. What it hands on goes through
each of `STEPS`.

Time is bounded by the policy's own limits: some ten frames an id. What the policy will keep of a
real bus is not estimated: that depends on how often the frames come, which nobody knows here.

Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

import numpy as np

from agent.errors import InlandError, PolicyError
from agent.frames import ERROR, EXTENDED, FRAME_FD, REMOTE, ChannelTable, FrameBatch, SignalBatch
from agent.policy.camera import CameraGate
from agent.policy.conditions import Conditions
from agent.policy.engine import Engine
from agent.policy.events import Events
from agent.policy.model import Policy, watch_points

STEP_NS: Final = 50 * 10**6  # between two rounds of all frames
AT_ONCE: Final = 4096  # frames of one batch
BEGIN_NS: Final = 1_800_000_000 * 10**9
OTHER: Final = "rehearsal"  # a channel that no policy names
MAX_CHANNELS: Final = 8

# (length, byte) of the frames of one id, in order; `None`: a byte that rises from 0.
_SHAPES: Final = (
    (0, 0), (1, 255), (8, 0), (8, 255), (8, 0xAA), (64, 0), (64, 255), (64, 0x55), (64, None),
    (8, None),
)  # fmt: skip

# What a fault in our own code raises; an InlandError would be one that escaped its place.
_FAULTS: Final = (
    ArithmeticError, AssertionError, AttributeError, BufferError, LookupError, MemoryError,
    NotImplementedError, RuntimeError, TypeError, ValueError, InlandError,
)  # fmt: skip

Step = Callable[[Policy, Sequence[SignalBatch]], None]


def rehearse(policy: Policy) -> None:
    """Let a policy run on made-up frames.

    Args:
        policy: that passed the door.

    Raises:
        PolicyError: it does not run; says which part failed and how.
    """
    part = "engine"
    try:
        watched = decided(policy)
        for step in STEPS:
            part = step.__name__
            step(policy, watched)
    except _FAULTS as error:
        said = " ".join(str(error).split())[:200]
        raise PolicyError(
            f"the dry run failed: {part}: {type(error).__name__}: {said}",
            where=f"policy {policy.name} version {policy.version}",
            todo="the policy in force stays; report this with the policy",
        ) from None


def decided(policy: Policy) -> list[SignalBatch]:
    """Decide on every made-up frame, with all consents and with none; return what is watched."""
    channels = channels_of(policy)
    batches = list(frames(policy, len(channels)))
    watched: list[SignalBatch] = []
    every = frozenset(term.category for term in policy.consents)
    for silent in (every, frozenset[str]()):
        judge = Engine(policy, ChannelTable(channels), silent)
        for channel in channels:
            judge.kernel_filters(channel)
        watched.clear()
        for batch in batches:
            found = judge.decide(batch)
            judge.without_place(found.kept)
            watched.append(found.watched)
        judge.counts()
    return watched


def driving(policy: Policy, watched: Sequence[SignalBatch]) -> None:
    """Ask in every batch whether the car is driven."""
    if policy.driving is not None:
        conditions = Conditions([policy.driving], policy)
        for batch in watched:
            conditions.update(batch)


def events(policy: Policy, watched: Sequence[SignalBatch]) -> None:
    """Look for events in every batch."""
    found = Events(policy)
    for batch in watched:
        found.update(batch)


def camera(policy: Policy, watched: Sequence[SignalBatch]) -> None:
    """Let every batch come to the camera gate, parked and driven, its zones unopened."""
    for driven in (False, True):
        gate = CameraGate(policy, None)
        for number, batch in enumerate(watched):
            consented = frozenset(term.category for term in policy.consents)
            gate.update(batch, number * STEP_NS, driving=driven, consented=consented)
        gate.finish()


STEPS: tuple[Step, ...] = (driving, events, camera)


def channels_of(policy: Policy) -> tuple[str, ...]:
    """Return the first channels that a policy names, and one that it does not."""
    named: dict[str, None] = {}
    for rule in policy.rules:
        named |= dict.fromkeys(one.channel for one in rule.frames)
        named |= dict.fromkeys(one.channel for one in rule.signals)
    named |= dict.fromkeys(one.channel for one in watch_points(policy))
    if policy.recorder is not None:
        named |= dict.fromkeys(one.channel for one in policy.recorder.frames)
    named.pop("*", None)
    return (*list(named)[: MAX_CHANNELS - 1], OTHER)


def ids_of(policy: Policy) -> list[tuple[int, bool]]:
    """Return (arbitration id, extended) of all frames that a policy names; ends of ranges."""
    found = {
        (arbitration_id, one.extended): None
        for one in policy.layouts
        for arbitration_id in (one.arbitration_id, one.arbitration_id | one.free_bits)
    }
    selectors = [one for rule in policy.rules for one in rule.frames]
    selectors += policy.recorder.frames if policy.recorder is not None else ()
    for one in selectors:
        for arbitration_id in (one.first_id, one.last_id):
            found[arbitration_id, one.extended or one.every_id] = None
    return list(found)


def frames(policy: Policy, channels: int) -> Iterator[FrameBatch]:
    """Yield batches of made-up frames: each shape of every id, on every channel in turn."""
    ids = ids_of(policy)
    for number, (length, fill) in enumerate(_SHAPES):
        for begin in range(0, len(ids), AT_ONCE):
            some = ids[begin : begin + AT_ONCE]
            batch = np.zeros(len(some), FRAME_FD)
            batch["timestamp_ns"] = BEGIN_NS + number * STEP_NS
            batch["arbitration_id"] = [arbitration_id for arbitration_id, _ in some]
            batch["flags"] = [EXTENDED if extended else 0 for _, extended in some]
            batch["channel"] = (np.arange(len(some)) + number) % channels
            batch["length"] = length
            batch["data"] = np.arange(64) if fill is None else fill
            batch["data"][:, length:] = 0
            yield batch
    odd = np.zeros(2, FRAME_FD)
    odd["timestamp_ns"] = BEGIN_NS + len(_SHAPES) * STEP_NS
    odd["flags"] = (ERROR, REMOTE)
    odd["length"] = 8
    yield odd
