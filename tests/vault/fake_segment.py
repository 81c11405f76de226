"""Stands in for agent.vault.segment where that is not there: same interface, no columns."""

from dataclasses import dataclass
from typing import Any

from agent.pb.segment_pb2 import Moment, SegmentPayload


@dataclass(frozen=True, slots=True)
class Draft:
    frames: Any
    signals: Any
    channels: tuple[str, ...]
    recipients: int
    lane: int
    resolution_ns: int
    keep_order: bool
    opened: Moment
    closed: Moment
    policy: bytes
    dictionary: bytes
    keep_s: int


def encode_payload(draft, *, salt, boot_id):
    return SegmentPayload(
        salt=salt, boot_id=boot_id, opened=draft.opened, closed=draft.closed,
        frame_count=len(draft.frames), frames=draft.frames["data"].tobytes(),
    ).SerializeToString()  # fmt: skip
