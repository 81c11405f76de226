"""Try a policy on recorded frames: what it would keep, find and cost. No car, no disk, no network.

The frames take the agent's own way: engine, conditions, recorder, column codec and sealing, so the
bytes are what the car would store and send. Only the clock is the log's.

- *Flash* is what is stored: sealed bodies and ledger entries. The recorder rolls, so it never has
  more than its window.
- *Link* is what is uploaded: the same without the recorder's bodies, but with those that an event
  asks for; with MQTT's and TLS's headers.
- A segment may hold rows of several rules: its bytes are shared out by what their rows weigh before
  compression.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from agent.capture.recorder import FRAME_COST, SAMPLE_COST, Recorder
from agent.digest import sha256
from agent.frames import EXTENDED, ChannelTable, FrameBatch
from agent.pb import delivery_pb2, ledger_pb2, sealed_pb2
from agent.pb.moment_pb2 import Moment
from agent.policy.camera import CameraGate
from agent.policy.conditions import Conditions
from agent.policy.engine import Engine
from agent.policy.events import Events
from agent.policy.items import EVENT_CATEGORY
from agent.policy.model import Policy, RuleSet, rule_set_of
from agent.policy.zones import Zones
from agent.vault.seal import seal_segment
from agent.vault.segment import Draft, encode_payload
from agent.vault.session import AES_256_GCM, SECRET_BYTES, Session

PIECE_NS: Final = 250_000_000  # of log time in one step
GAP_NS: Final = 10 * 10**9  # a longer pause between two frames is no driving
MQTT_BYTES: Final = 90  # topic, packet header, acknowledgement, TLS record of one message


@dataclass(slots=True)
class Use:
    """What one rule, the recorder, an event or the camera kept."""

    frames: int = 0
    samples: int = 0
    records: int = 0


@dataclass(slots=True)
class Cost:
    """Bytes."""

    flash: float = 0.0
    link: float = 0.0


@dataclass(frozen=True, slots=True)
class Found:
    """An event that was found.

    Attributes:
        rule: id of the [[event]].
        stamp_ns: of the frame that made it true.
        at_s: since the first frame of its log.
    """

    rule: str
    stamp_ns: int
    at_s: float


@dataclass(slots=True)
class Report:
    """What a policy did on the logs.

    Attributes:
        frames: that were played.
        seconds: of driving: stamps without their gaps.
        uses: by rule or event id, "recorder", "camera".
        costs: by category.
        events: that were recorded, in order.
        merged: further edges that belong to an event, by rule.
        gate_s: seconds by "open" or by the reason of being closed.
        unseen: signals that the policy names and whose frames never came, as Message.Signal.
    """

    frames: int = 0
    seconds: float = 0.0
    uses: dict[str, Use] = field(default_factory=dict)
    costs: dict[str, Cost] = field(default_factory=dict)
    events: list[Found] = field(default_factory=list)
    merged: Counter[str] = field(default_factory=Counter)
    gate_s: dict[str, float] = field(default_factory=dict)
    unseen: tuple[str, ...] = ()

    def total(self) -> Cost:
        """Return the cost of all categories together."""
        return Cost(
            sum(one.flash for one in self.costs.values()),
            sum(one.link for one in self.costs.values()),
        )
