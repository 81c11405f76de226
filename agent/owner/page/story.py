"""What a page tells, as values. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agent.evidence.selection import Problem
from agent.owner.chronicle import Chronicle
from agent.owner.page.tracks import Signals
from agent.owner.presence_matrix import Row


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the verifier found.

    Attributes:
        state: "intact", "altered", "undecided" or "unchecked".
        lines: what it says, in its own words.
    """

    state: str
    lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Cosigned:
    """A checkpoint that the region has co-signed."""

    log: str
    size: int
    at_ns: int


@dataclass(frozen=True, slots=True)
class Story:
    """What a page tells.

    Attributes:
        told: what the ledger says of the time.
        verdict: of the verifier.
        events: of the time, as `records.events_jsonl` has them.
        cameras: triggers, as `records.cameras_jsonl` has them.
        presence: the matrix.
        signals: that can be drawn.
        frames, samples: how many were opened, each counted once.
        copies: frames and samples that were opened a second time, on another lane.
        problems: what could not be opened.
        cosigned: by the region, newest last.
        epochs: ownerships that the rows are of.
        made_ns: when the page was made.
        plot: names of the signals to draw; empty: the well-known ones.
        openings: who got what at the region, by its word; None: the bundle does not say.
    """

    told: Chronicle
    verdict: Verdict
    events: Sequence[Mapping[str, Any]]
    cameras: Sequence[Mapping[str, Any]]
    presence: Sequence[Row]
    signals: Signals
    frames: int
    samples: int
    copies: int
    problems: Sequence[Problem]
    cosigned: Sequence[Cosigned]
    epochs: Sequence[int]
    made_ns: int
    plot: Sequence[str] = ()
    openings: Sequence[Mapping[str, Any]] | None = None
