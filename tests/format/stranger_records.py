"""The third part of the second decoder: records, incidents, and receipts for late bodies.

Written from proto/FORMAT.md alone, like stranger.py; imports nothing of the agent.
"""

from __future__ import annotations

from typing import Any

from tests.format.stranger import Message, last, parse, repeated, signed

EVENT, CAMERA = 1, 2  # fields of Record
INCIDENT, KEPT = 21, 25  # fields of Entry
PADDED = 1024


def text(message: Message, number: int) -> str:
    found: bytes = last(message, number, b"")
    return found.decode()


def ranges(message: Message, number: int) -> list[tuple[int, int]]:
    """Return repeated Range as (first, last)."""
    parts = map(parse, message.get(number, []))
    return [(last(part, 1, 0), last(part, 2, 0)) for part in parts]


def value(message: Message) -> tuple[int, str, int, int, bool]:
    """Return (signal, channel, raw, age in ms, missing) of a Value."""
    return (
        last(message, 1, 0), text(message, 2), signed(last(message, 3, 0)), last(message, 4, 0),
        bool(last(message, 5, 0)),
    )  # fmt: skip


def record(data: bytes) -> dict[str, Any]:
    """Return what a Record says: of an event, or of a camera's trigger."""
    outer = parse(data)
    if EVENT in outer:
        event = parse(outer[EVENT][-1])
        return {
            "id": last(event, 1, b"").hex(), "rule": text(event, 2), "trigger": text(event, 3),
            "stamp": signed(last(event, 4, 0)), "at": last(parse(last(event, 5, b"")), 1, 0),
            "number": last(event, 6, 0), "since_previous_ms": last(event, 7, 0),
            "triggers": last(event, 8, 0), "complete": bool(last(event, 9, 0)),
            "before_ns": last(event, 10, 0), "after_ns": last(event, 11, 0),
            "held": ranges(event, 12), "snapshot": [value(parse(v)) for v in event.get(13, [])],
            "policy": text(event, 14), "version": last(event, 15, 0), "agent": text(event, 16),
        }  # fmt: skip
    camera = parse(outer[CAMERA][-1])
    return {
        "stamp": signed(last(camera, 1, 0)), "camera": last(camera, 2, 0),
        "reason": last(camera, 3, 0), "state": last(camera, 4, 0), "clip": last(camera, 5, 0),
        "open": bool(last(camera, 6, 0)), "why": text(camera, 7), "zone": text(camera, 8),
        "count": last(camera, 9, 0),
    }  # fmt: skip


def records(payload: Message) -> list[dict[str, Any]]:
    """Return the records of a SegmentPayload, in order."""
    return [record(data) for data in payload.get(10, [])]


def is_padded(opened: bytes) -> bool:
    """Return whether the size of a payload says nothing of the records in it."""
    return len(opened) % PADDED == 0 and not any(last(parse(opened), 11, b""))


def kept(entry: bytes) -> tuple[str, int, list[tuple[Any, ...]]]:
    """Return (month, number, amounts) of a Kept entry."""
    what = parse(last(parse(entry), KEPT, b""))
    amounts = [
        (text(one, 1), text(one, 2), *(last(one, number, 0) for number in range(3, 9)))
        for one in map(parse, what.get(5, []))
    ]
    return text(what, 4), last(what, 6, 0), amounts


def incident(entry: bytes) -> tuple[int, list[tuple[int, int]], bool, int]:
    """Return (index of the record, held ranges, upload, state) of an Incident entry."""
    what = parse(last(parse(entry), INCIDENT, b""))
    return last(what, 1, 0), ranges(what, 2), bool(last(what, 3, 0)), last(what, 4, 0)


def hollow(signed_receipt: bytes) -> list[int]:
    """Return the entries that a receipt says are at the region without their bodies."""
    return repeated(parse(parse(signed_receipt)[1][0]), 8)
