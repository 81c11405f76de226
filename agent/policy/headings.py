"""What amounts of kept data are added up under: category, purpose and recipients.

Reports are made by heading, which several rules may share. What a single rule kept in an hour can
be a diary; what a heading adds up to in a month is none.

Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from agent.policy.clauses import Why
from agent.policy.model import Policy
from agent.policy.vocabulary import EVENT_RECORD

RECORDER_ID: Final = "recorder"
CAMERA_ID: Final = "camera"
CAMERA: Final = "camera"  # that cameras recorded, never what


@dataclass(frozen=True, slots=True)
class Heading:
    """One line of a report.

    Attributes:
        category: of the vocabulary; "camera" for the triggers of cameras.
        purpose: as the policy says.
        recipients: sealed_pb2.Recipients.
    """

    category: str
    purpose: str
    recipients: int


def headings(policy: Policy) -> dict[str, tuple[Heading, int]]:
    """Return by id, of rules, events, "recorder" and "camera": heading, and keep in s (0: none)."""
    found: dict[str, tuple[Heading, int]] = {}
    if policy.camera is not None:
        found[CAMERA_ID] = _heading(CAMERA, policy.camera.why), policy.camera.keep_s
    if policy.recorder is not None:
        found[RECORDER_ID] = _heading(EVENT_RECORD.name, policy.recorder.why), 0
    for event in policy.events:
        found[event.id] = _heading(EVENT_RECORD.name, event.why), event.keep_s
    for rule in policy.rules:
        heading = Heading(rule.category, rule.purpose, rule.recipients)
        found[rule.id] = heading, rule.keep_s
    return found


def _heading(category: str, why: Why) -> Heading:
    return Heading(category, why.purpose, why.recipients)
