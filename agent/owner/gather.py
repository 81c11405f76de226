"""From what was opened and what the ledger says to the story that the page tells. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agent.digest import sha256
from agent.errors import PolicyError
from agent.evidence.opening import Opened
from agent.frames import FrameBatch, SignalBatch, concatenate
from agent.owner.chronicle import Bodies, Chronicle, chronicle
from agent.owner.copies import frames_once, samples_once
from agent.owner.page.story import Cosigned, Story, Verdict
from agent.owner.page.tracks import Signals
from agent.owner.presence_matrix import Known, Rows, presence
from agent.owner.seen import Carriers
from agent.pb import ledger_pb2
from agent.policy.compiled import read_policy
from agent.policy.model import Policy


@dataclass(frozen=True, slots=True)
class Held:
    """What is at hand.

    Attributes:
        entries: (log, entry), log after log, each in its own order.
        bodies: where those of the segments are.
        policies: compiled ones that decided, in any order.
        verdict: of the verifier.
        cosigned: checkpoints that the region has co-signed.
        epochs: ownerships that the rows are of.
        openings: who got what at the region, by its word; None: it did not say.
    """

    entries: Iterable[tuple[bytes, ledger_pb2.Entry]]
    bodies: Bodies
    policies: Iterable[bytes]
    verdict: Verdict
    cosigned: Sequence[Cosigned]
    epochs: Sequence[int]
    openings: Sequence[Mapping[str, Any]] | None = None


def gather(
    held: Held,
    opened: Opened,
    *,
    begin_ns: int,
    end_ns: int,
    made_ns: int,
    known: Sequence[Known] = (),
    plot: Sequence[str] = (),
) -> Story:
    """Return the story of a time.

    Args:
        held: what is at hand.
        opened: of it.
        begin_ns: of the time that was asked for.
        end_ns: end of it, exclusive.
        made_ns: now.
        known: every signal of the DBC files that were named.
        plot: names of the signals to draw; empty: the well-known ones.
    """
    told = chronicle(held.entries, held.bodies, begin_ns=begin_ns, end_ns=end_ns)
    policies = decided(told, held.policies)
    rows = rows_of(opened)
    frames, samples = frames_once(opened), samples_once(opened)
    return Story(
        told=told, verdict=held.verdict,
        events=[json.loads(line) for line in opened.events()],
        cameras=[json.loads(line) for line in opened.cameras()],
        presence=presence(told, policies, rows, known),
        signals=Signals(policies, rows, known),
        frames=frames, samples=samples,
        copies=opened.frame_count + opened.sample_count - frames - samples,
        problems=opened.problems, cosigned=held.cosigned, epochs=held.epochs,
        made_ns=made_ns, plot=plot, openings=held.openings,
    )  # fmt: skip


def decided(told: Chronicle, bodies: Iterable[bytes]) -> dict[bytes, Policy]:
    """Return the policies that decided in a time, by their digest, in order."""
    found = {sha256(body): body for body in bodies}
    policies: dict[bytes, Policy] = {}
    for one in told.policies:
        if one.digest in found and one.digest not in policies:
            try:
                policies[one.digest] = read_policy(found[one.digest])
            except PolicyError:
                continue  # of a later version: what it names is not known here
    return policies


def rows_of(opened: Opened) -> Rows:
    """Return what was opened, to be asked for its signals."""
    samples: dict[bytes, list[SignalBatch]] = {}
    for _, dictionary, batch in opened.samples:
        samples.setdefault(dictionary, []).append(batch)
    lanes: dict[int, list[FrameBatch]] = {}
    for span, batch in opened.frames:
        lanes.setdefault(span.lane, []).append(batch)
    return Rows(samples, _noted(opened), Carriers(*map(concatenate, lanes.values())))


def _noted(opened: Opened) -> Mapping[bytes, Sequence[tuple[int, int]]]:
    """Return which signals the records name, and when."""
    found: dict[bytes, list[tuple[int, int]]] = {}
    for one in opened.noted:
        mine = found.setdefault(one.dictionary, [])
        if one.record.HasField("event"):
            mine += [(value.signal, one.stamp_ns) for value in one.record.event.snapshot
                     if not value.missing]  # fmt: skip
        trigger = opened.triggers.get(one.dictionary)
        if one.record.HasField("camera") and trigger is not None:
            mine += [(selector.signal, one.stamp_ns) for _, selector in trigger.ListFields()]
    return found
