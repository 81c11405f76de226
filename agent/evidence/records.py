"""Events and camera triggers as JSON lines: what the agent itself noted, for people. Pure.

A snapshot names each signal with its physical value, unit and label by the dictionary of the policy
that decided. An event is sealed when its trigger comes and again when it is complete; the later one
counts. Numbers that JSON has no name for (NaN, infinity) are strings.
"""

from __future__ import annotations

import datetime as dt
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from agent.evidence.text import physical
from agent.pb import moment_pb2, policy_pb2, record_pb2

KIND: Final = "event record (EDR-like), not a type-approved EDR"
_EPOCH: Final = dt.datetime(1970, 1, 1)  # noqa: DTZ001 # written with its Z
_CLOCKS: Final = {
    moment_pb2.CLOCK_FLOOR: "floor",
    moment_pb2.CLOCK_WALL: "wall",
    moment_pb2.CLOCK_REGION: "region",
}


@dataclass(frozen=True, slots=True)
class Noted:
    """A record and where it came from.

    Attributes:
        log: id of the log, 16 bytes.
        index: of the segment's entry.
        dictionary: SHA-256 of the Dictionary that its snapshot's numbers are of.
        record: as sealed.
    """

    log: bytes
    index: int
    dictionary: bytes
    record: record_pb2.Record

    @property
    def stamp_ns(self) -> int:
        """Stamp of the frame that made it, ns since the Unix epoch."""
        if self.record.HasField("event"):
            return self.record.event.stamp_ns
        return self.record.camera.stamp_ns


def events_jsonl(
    noted: Sequence[Noted], dictionaries: Mapping[bytes, policy_pb2.Dictionary]
) -> Iterator[bytes]:
    """Yield a line for each event, in the order of their first records.

    Args:
        noted: in ledger order.
        dictionaries: by their hash; a snapshot whose own is missing has numbers and raw values.
    """
    latest: dict[tuple[bytes, bytes], Noted] = {}
    for each in noted:
        if each.record.HasField("event"):
            latest[each.log, each.record.event.id] = each
    for each in latest.values():
        yield _line(_event(each, dictionaries.get(each.dictionary)))


def cameras_jsonl(
    noted: Sequence[Noted],
    dictionaries: Mapping[bytes, policy_pb2.Dictionary],
    triggers: Mapping[bytes, policy_pb2.Trigger],
) -> Iterator[bytes]:
    """Yield a line for each camera trigger, in ledger order.

    Args:
        noted: in ledger order.
        dictionaries: by their hash.
        triggers: which signals announce a trigger, by the hash of the dictionary.
    """
    for each in noted:
        if each.record.HasField("camera"):
            labels = _labels(dictionaries.get(each.dictionary), triggers.get(each.dictionary))
            yield _line(_camera(each, labels))


def _event(noted: Noted, dictionary: policy_pb2.Dictionary | None) -> dict[str, Any]:
    event = noted.record.event
    return {
        "record": KIND,
        "id": event.id.hex(),
        "rule": event.rule,
        "trigger": event.trigger,
        **_when(event.stamp_ns),
        "noted": _iso(event.at.unix_ns),
        "clock": _CLOCKS.get(event.at.quality, "unknown"),
        "number": event.number,
        "since_previous_s": event.since_previous_ms / 1000 or None,
        "triggers": event.triggers,
        "complete": event.complete,
        "before_s": event.before_ns / 10**9,
        "after_s": event.after_ns / 10**9,
        "held": [[part.first, part.last] for part in event.held],
        "snapshot": [_value(value, dictionary) for value in event.snapshot],
        "policy": event.policy,
        "policy_version": event.policy_version,
        "agent_version": event.agent_version,
        "log": noted.log.hex(),
        "entry": noted.index,
    }


def _value(value: record_pb2.Value, dictionary: policy_pb2.Dictionary | None) -> dict[str, Any]:
    known = dictionary is not None and value.signal < len(dictionary.signal)
    if dictionary is None or not known:
        signal = policy_pb2.Signal(name=f"signal {value.signal}")
    else:
        signal = dictionary.signal[value.signal]
    said: dict[str, Any] = {"signal": signal.name, "channel": value.channel}
    if value.missing:
        return {**said, "missing": True}
    said |= {"raw": value.raw, "age_s": value.age_ms / 1000}
    if known:
        said |= {"value": _number(physical(signal, value.raw)), "unit": signal.unit}
        if value.raw in signal.choices:
            said["label"] = signal.choices[value.raw]
    return said


def _number(text: str) -> int | float | str:
    try:
        return int(text)
    except ValueError:
        value = float(text)
        return value if math.isfinite(value) else text


def _camera(noted: Noted, labels: Mapping[str, str]) -> dict[str, Any]:
    camera = noted.record.camera
    said: dict[str, Any] = _when(camera.stamp_ns)
    for name in ("camera", "reason", "state", "clip"):
        raw = getattr(camera, name)
        said[name] = raw
        if (label := labels.get(f"{name} {raw}")) is not None:
            said[f"{name}_label"] = label
    said["gate"] = "open" if camera.open else "closed"
    if not camera.open:
        said["why"] = camera.why
    if camera.zone_class:
        said["zone_class"] = camera.zone_class
    return {**said, "count": max(1, camera.count), "log": noted.log.hex(), "entry": noted.index}


def _labels(
    dictionary: policy_pb2.Dictionary | None, trigger: policy_pb2.Trigger | None
) -> dict[str, str]:
    """Return the labels of a controller's raw values, by "<field> <raw>"."""
    if dictionary is None or trigger is None:
        return {}
    return {
        f"{field.name} {raw}": label
        for field, selector in trigger.ListFields()
        if selector.signal < len(dictionary.signal)
        for raw, label in dictionary.signal[selector.signal].choices.items()
    }


def _when(stamp_ns: int) -> dict[str, str]:
    sign, micros = "-" if stamp_ns < 0 else "", abs(stamp_ns // 1000)
    return {"time": _iso(stamp_ns), "unix": f"{sign}{micros // 10**6}.{micros % 10**6:06d}"}


def _iso(unix_ns: int) -> str:
    return (_EPOCH + dt.timedelta(microseconds=unix_ns // 1000)).isoformat(
        timespec="microseconds"
    ) + "Z"


def _line(said: dict[str, Any]) -> bytes:
    return json.dumps(said, ensure_ascii=False).encode() + b"\n"
