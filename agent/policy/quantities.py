"""Durations and selectors as a policy writes them: text to numbers, and numbers to text.

- A duration is a whole number and a unit: ns us ms s min h d ("250ms", "30min", "7d").
- A frame selector is `<channel>:<ids>`; channel is a bus name or `*`; ids are `*`, `0x132` or
  `0x100-0x1FF`. An id is 29 bits long if it is above 0x7FF or written with eight hex digits, as
  candump writes it: 0x123 and 0x00000123 are different frames.
- A signal selector is `Signal` or `Message.Signal`, with `<channel>:` before it for one bus only.
- A limit is a whole number, a slash and a period: "20/day", "60/min".
- A distance is a whole number and m or km: "500m".

Pure. Everything raises ValueError with the text of the objection; the caller knows the line.
"""

from __future__ import annotations

import re
from typing import Final

from agent import units
from agent.policy.clauses import FrameSelector
from agent.policy.model import MAX_EXTENDED, MAX_STANDARD
from agent.units import DURATIONS

_DURATION: Final = re.compile(r"([0-9]{1,12}) ?(ns|us|µs|ms|s|min|h|d)")  # no fractions: exact
_AT_MOST: Final = re.compile(r"([1-9][0-9]{0,3})/([a-z]+)")
_PERIODS: Final = {"min": "1min", "hour": "1h", "day": "1d"}
_METRES: Final = re.compile(r"([0-9]{1,6}) ?(m|km)")
_CHANNEL: Final = re.compile(r"\*|[A-Za-z0-9][A-Za-z0-9_.-]{0,31}")
_IDS: Final = re.compile(r"0[xX]([0-9A-Fa-f]{1,8})(?:-0[xX]([0-9A-Fa-f]{1,8}))?")


def duration_ns(text: object, *, least: str, most: str) -> int:
    """Return a duration in ns.

    Args:
        text: what the policy says.
        least: shortest allowed, as a duration.
        most: longest allowed, as a duration.

    Raises:
        ValueError: not a duration, or out of range.
    """
    found = _DURATION.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise ValueError(f"'{text}' is not a duration; write one like '10s' or '250ms'")
    value = int(found[1]) * DURATIONS[found[2]]
    if not units.duration_ns(least) <= value <= units.duration_ns(most):
        raise ValueError(f"'{text}' is out of range; from {least} to {most}")
    return value


def duration_text(value_ns: int) -> str:
    """Return a duration in its largest whole unit, e.g. 604800000000000 -> "7d"."""
    for unit in ("d", "h", "min", "s", "ms", "us"):
        if value_ns and value_ns % DURATIONS[unit] == 0:
            return f"{value_ns // DURATIONS[unit]}{unit}"
    return f"{value_ns}ns"


def at_most(text: object, *periods: str) -> tuple[int, int]:
    """Return (count, period in ns) of a limit like "20/day".

    Args:
        text: what the policy says.
        periods: which are allowed: "min", "hour", "day".

    Raises:
        ValueError: not a limit, or of another period.
    """
    found = _AT_MOST.fullmatch(text) if isinstance(text, str) else None
    if found is None or found[2] not in periods:
        examples = " or ".join(f"'20/{period}'" for period in periods)
        raise ValueError(f"'{text}' is no limit; write {examples}, up to 9999")
    return int(found[1]), units.duration_ns(_PERIODS[found[2]])


def metres(text: object, *, least: int, most: int) -> int:
    """Return a distance in m.

    Args:
        text: what the policy says.
        least: shortest allowed, m.
        most: longest allowed, m.

    Raises:
        ValueError: not a distance, or out of range.
    """
    found = _METRES.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise ValueError(f"'{text}' is not a distance; write one like '500m' or '2km'")
    value = int(found[1]) * (1000 if found[2] == "km" else 1)
    if not least <= value <= most:
        raise ValueError(f"'{text}' is out of range; from {least}m to {most}m")
    return value


def is_channel(text: str) -> bool:
    """Return whether a text is a bus name or `*`."""
    return _CHANNEL.fullmatch(text) is not None


def frame_selector(text: str) -> FrameSelector:
    """Return what a frame selector names.

    Raises:
        ValueError: not a selector.
    """
    channel, colon, ids = text.partition(":")
    if not colon or not is_channel(channel):
        raise ValueError(f"'{text}' names no frames; write '<bus>:*', '*:0x132' or "
                         "'can0:0x100-0x1FF'")  # fmt: skip
    if ids == "*":
        return FrameSelector(channel, 0, MAX_EXTENDED, extended=False, every_id=True)
    found = _IDS.fullmatch(ids)
    if found is None:
        raise ValueError(f"'{ids}' in '{text}' is no id; write hex with 0x, like 0x132, "
                         "a range like 0x100-0x1FF, or *")  # fmt: skip
    first, last = found[1], found[2] or found[1]
    extended = _is_extended(first)
    if extended != _is_extended(last):
        raise ValueError(f"'{text}' mixes 11-bit and 29-bit ids; write two selectors, 29-bit ids "
                         "with eight digits")  # fmt: skip
    low, high = int(first, 16), int(last, 16)
    if high > MAX_EXTENDED:
        raise ValueError(f"'{text}' has an id above 0x1FFFFFFF")
    if low > high:
        raise ValueError(f"'{text}' is an empty range; write the lower id first")
    return FrameSelector(channel, low, high, extended=extended, every_id=False)


def _is_extended(digits: str) -> bool:
    return len(digits) == 8 or int(digits, 16) > MAX_STANDARD


def frame_selector_text(selector: FrameSelector) -> str:
    """Return a selector as `frame_selector` reads it."""
    if selector.every_id:
        return f"{selector.channel}:*"
    width = 8 if selector.extended else 3
    first, last = f"0x{selector.first_id:0{width}X}", f"0x{selector.last_id:0{width}X}"
    return f"{selector.channel}:{first}" + (f"-{last}" if last != first else "")


def signal_name(text: str) -> tuple[str, str, str]:
    """Return (channel, DBC message or "", signal) of a signal selector.

    Raises:
        ValueError: not a selector.
    """
    channel, colon, name = text.rpartition(":")
    if not colon:
        channel = "*"
    message, _, signal = name.rpartition(".")
    if not signal or not is_channel(channel) or "." in message:
        raise ValueError(f"'{text}' names no signal; write 'Signal', 'Message.Signal' or "
                         "'can0:Signal'")  # fmt: skip
    return channel, message, signal
