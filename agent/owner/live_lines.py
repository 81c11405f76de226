"""Live samples, events and camera triggers as lines, for people and for programs. Pure.

- For programs: JSON, field by field what `owner open` writes to signals.jsonl, events.jsonl and
  cameras.jsonl. An event is not of a ledger yet: `log` and `entry` are left out.
- For people: one line a change. A sample with the value that its signal had before is none.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from agent.evidence.records import Noted, cameras_jsonl, events_jsonl
from agent.evidence.text import physical
from agent.frames import SignalBatch
from agent.owner.signal_files import json_lines

if TYPE_CHECKING:
    from agent.owner.live import Rule
    from agent.vault.segment import Payload

NAME_CHARS: Final = 28  # before the value: what most names have at most
_OF_LEDGER: Final = ("log", "entry")


def chosen(samples: SignalBatch, rule: Rule, names: frozenset[str]) -> SignalBatch:
    """Return the samples of some signals; all of them if no names are given."""
    if not names:
        return samples
    numbers = [at for at, one in enumerate(rule.dictionary.signal) if one.name in names]
    return samples[np.isin(samples["signal"], numbers)]


def as_json(
    payload: Payload, rule: Rule, zone: dt.tzinfo, names: frozenset[str]
) -> Iterator[bytes]:
    """Yield a payload's samples and records as JSON lines.

    Args:
        payload: as the car has sent it.
        rule: the policy that it was kept under.
        zone: of the local time.
        names: of the signals that are wanted, and no records; empty: everything.
    """
    samples = chosen(payload.signals, rule, names)
    yield from json_lines(samples, rule.dictionary, payload.channels, zone)
    for said in () if names else _records(payload, rule):
        left = {key: value for key, value in said.items() if key not in _OF_LEDGER}
        yield json.dumps(left, ensure_ascii=False).encode() + b"\n"


def _records(payload: Payload, rule: Rule) -> Iterator[dict[str, Any]]:
    noted = [Noted(b"", 0, payload.dictionary, record) for record in payload.records]
    by_hash = {payload.dictionary: rule.dictionary}
    yield from map(json.loads, events_jsonl(noted, by_hash))
    yield from map(json.loads, cameras_jsonl(noted, by_hash, {payload.dictionary: rule.trigger}))


class Changes:
    """Lines for people; remembers what each signal was last.

    Args:
        zone: of the time of day.
        names: of the signals that are wanted, and no records; empty: everything.
    """

    def __init__(self, zone: dt.tzinfo, names: frozenset[str]) -> None:
        self._zone, self._names = zone, names
        self._last: dict[tuple[str, str], str] = {}
        self._buses: set[str] = set()

    def lines(self, payload: Payload, rule: Rule) -> list[str]:
        """Return the lines of a payload, in the order in which it was kept."""
        samples = chosen(payload.signals, rule, self._names)
        self._buses.update(payload.channels[number] for number in np.unique(samples["channel"]))
        found = [line for row in samples if (line := self._sample(row, payload, rule))]
        if not self._names:
            found += [line for said in _records(payload, rule) if (line := self._record(said))]
        return found

    def _sample(self, row: Any, payload: Payload, rule: Rule) -> str:
        signal, bus = rule.dictionary.signal[int(row["signal"])], payload.channels[row["channel"]]
        raw = int(row["raw"])
        value, label = physical(signal, raw), signal.choices.get(raw, "")
        key = f"{signal.message}.{signal.name}", bus
        if self._last.get(key) == value:
            return ""
        self._last[key] = value
        unit = f" {signal.unit}" if signal.unit else ""
        more = f" ({label})" if label else ""
        where = f"  {bus}" if len(self._buses) > 1 else ""
        at = time_of_day(int(row["timestamp_ns"]), self._zone)
        return f"{at}  {signal.name:<{NAME_CHARS}}  {value}{unit}{more}{where}"

    def _record(self, said: dict[str, Any]) -> str:
        seconds, _, micros = said["unix"].partition(".")
        stamp_ns = (int(seconds) * 10**6 + (-1 if seconds[0] == "-" else 1) * int(micros)) * 1000
        at = time_of_day(stamp_ns, self._zone)
        if "camera" in said:
            why = f", {said['why']}" if "why" in said else ""
            what = f"{_named(said, 'camera')}: {_named(said, 'reason')}"
            return f"{at}  camera {what}; gate {said['gate']}{why}"
        is_over = f"over, {said['before_s']:g} s before it and {said['after_s']:g} s after held"
        return f"{at}  event {said['rule']}: {is_over if said['complete'] else said['trigger']}"


def _named(said: dict[str, Any], name: str) -> str:
    return str(said.get(f"{name}_label", said[name]))


def time_of_day(stamp_ns: int, zone: dt.tzinfo) -> str:
    """Return a moment as HH:MM:SS.mmm."""
    seconds, nanos = divmod(stamp_ns, 10**9)
    at = dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(seconds=seconds)
    return f"{at.astimezone(zone):%H:%M:%S}.{nanos // 10**6:03d}"


class Ages:
    """How old rows were when they came: a histogram in steps of 1 ms, up to 60 s."""

    def __init__(self) -> None:
        self._counts = np.zeros(60_001, np.int64)

    def add(self, arrived_ns: int, stamps_ns: Any) -> None:
        """Note rows that came at a moment."""
        found = np.clip((arrived_ns - stamps_ns) // 10**6, 0, 60_000)
        self._counts += np.bincount(found.astype(np.int64), minlength=60_001)

    def within_ms(self, shares: Sequence[float]) -> list[int]:
        """Return how old the youngest such shares of the rows were at most, ms; none: nothing."""
        sums = np.cumsum(self._counts)
        if not sums[-1]:
            return []
        return [int(np.searchsorted(sums, share * sums[-1])) for share in shares]
