"""The clauses of a policy beside its rules: recorder, events, camera, consent. Plain values.

A *condition* is an expression over signals. What its names mean is in its terms, so the text that
people wrote is the text that the car evaluates. A *watch point* is a signal on a channel that some
clause looks at; the engine hands out its samples whether or not a rule keeps them.

Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from agent.pb import policy_pb2

MAX_EVENTS: Final = 64
MAX_CONDITION: Final = 2000  # characters
MAX_SNAPSHOT: Final = 64  # signals of one event
MAX_WINDOW_NS: Final = 24 * 3600 * 10**9  # of the recorder
MAX_HOLD_NS: Final = 3600 * 10**9  # before and after an event, each
MAX_ZONES_BYTES: Final = 160 * 1024  # sealed; they are part of the compiled policy
ZONES_MAGIC: Final = b"iZN1"  # with which sealed zones begin
MIN_WINDOW_NS: Final = 10**9
MAX_RETRIGGER_NS: Final = 3600 * 10**9
MAX_AT_MOST: Final = 9999
MAX_MARGIN_M: Final = 50_000
MAX_EXIT_NS: Final = 3600 * 10**9
MIN_NO_FIX_NS: Final = 10**9

PARKED_OFF: Final = int(policy_pb2.Camera.PARKED_OFF)
PARKED_OWNER: Final = int(policy_pb2.Camera.PARKED_OWNER)
DRIVING_OFF: Final = int(policy_pb2.Camera.DRIVING_OFF)
DRIVING_METADATA: Final = int(policy_pb2.Camera.DRIVING_METADATA)


@dataclass(frozen=True, slots=True)
class SignalSelector:
    """A signal (its number in the dictionary) on a channel ("*": on all).

    Attributes:
        channel: bus name or "*".
        signal: number in the dictionary.
        grain: raw values are rounded down to a multiple of this before they are kept; 0: they are
            kept as they come. Clauses look at values as they come.
    """

    channel: str
    signal: int
    grain: int = 0


@dataclass(frozen=True, slots=True)
class FrameSelector:
    """Frames of a channel ("*": of all) by id.

    Attributes:
        channel: bus name or "*".
        first_id: lowest id.
        last_id: highest id, inclusive.
        extended: the ids have 29 bits.
        every_id: every frame of the channel, 11 and 29 bits and error frames; the ids say nothing.
    """

    channel: str
    first_id: int
    last_id: int
    extended: bool
    every_id: bool


@dataclass(frozen=True, slots=True)
class Condition:
    """An expression and what its names mean, in the order in which they first stand in the text."""

    text: str
    terms: tuple[tuple[str, SignalSelector], ...]


@dataclass(frozen=True, slots=True)
class Why:
    """Why something is kept, and for whom: what every clause that keeps data must say.

    Attributes:
        purpose: one of the vocabulary's.
        basis: one of the vocabulary's.
        necessity: for people.
        recipients: sealed_pb2.Recipients.
    """

    purpose: str
    basis: str
    necessity: str
    recipients: int


@dataclass(frozen=True, slots=True)
class Recorder:
    """The rolling window of raw frames on the car's disk. Fields as in policy.proto."""

    window_ns: int
    frames: tuple[FrameSelector, ...]
    resolution_ns: int
    flush_ns: int
    why: Why


@dataclass(frozen=True, slots=True)
class EventRule:
    """One [[event]]. Fields as in policy.proto."""

    id: str
    when: Condition
    before_ns: int
    after_ns: int
    upload: bool
    at_most: int
    period_ns: int
    retrigger_ns: int
    snapshot: tuple[SignalSelector, ...]
    keep_s: int
    why: Why

    @property
    def holds(self) -> bool:
        """Whether a part of the recorder's window is kept."""
        return self.before_ns > 0 or self.after_ns > 0


@dataclass(frozen=True, slots=True)
class Trigger:
    """The signals by which a camera controller announces a trigger."""

    camera: SignalSelector
    reason: SignalSelector
    state: SignalSelector
    clip: SignalSelector


@dataclass(frozen=True, slots=True)
class Position:
    """The signals that say where the car is; `fix` is true while they can be trusted."""

    latitude: SignalSelector
    longitude: SignalSelector
    speed: SignalSelector
    fix: Condition


@dataclass(frozen=True, slots=True)
class Camera:
    """[camera]. Fields as in policy.proto; `trigger` and `position` may be absent."""

    parked: int
    driving: int
    trigger: Trigger | None
    position: Position | None
    zones: bytes
    margin_m: int
    exit_ns: int
    no_fix_ns: int
    keep_s: int
    at_most: int
    why: Why


@dataclass(frozen=True, slots=True)
class ConsentTerm:
    """What a consent to a category may be at most."""

    category: str
    max_days: int
    each_drive: bool
