"""The door's checks of single values: ranges, texts, selectors. Every refusal says where and why.

Pure.
"""

from __future__ import annotations

from collections.abc import Sequence

from agent.errors import PolicyError
from agent.pb import policy_pb2
from agent.policy.clauses import FrameSelector, SignalSelector
from agent.policy.load_checks import Objection
from agent.policy.model import MAX_EXTENDED, MAX_STANDARD, MAX_TEXT
from agent.policy.quantities import is_channel


def refusal(where: str, what: str, todo: str = "") -> PolicyError:
    """Return the error for a part of a compiled policy."""
    return PolicyError(what, where=f"compiled policy: {where}".rstrip(": "), todo=todo)


def refuse(wrong: Objection | None, where: str) -> None:
    """Object to what the vocabulary objects to.

    Raises:
        PolicyError: unless there is nothing.
    """
    if wrong:
        raise refusal(f"{where}: {wrong.key}", wrong.text, wrong.todo)


def in_range(value: int, least: int, most: int, where: str) -> int:
    """Return a number within limits.

    Raises:
        PolicyError: it is not.
    """
    if not least <= value <= most:
        raise refusal(where, f"{value} is out of range", f"from {least} to {most}")
    return value


def text(value: str, where: str, *, most: int = MAX_TEXT, least: int = 1) -> str:
    """Return a text without control characters, of a length within limits.

    Raises:
        PolicyError: it is another.
    """
    if not least <= len(value) <= most:
        raise refusal(where, f"has {len(value)} characters", f"from {least} to {most}")
    if any(ord(char) < 32 or ord(char) == 127 for char in value):
        raise refusal(where, "has control characters")
    return value


def one_of(value: int, valid: Sequence[int], where: str) -> int:
    """Return a value that this version knows.

    Raises:
        PolicyError: it does not.
    """
    if value not in valid:
        raise refusal(where, f"{value} is not supported by this version")
    return value


def frame_selector(wire: policy_pb2.FrameSelector, where: str) -> FrameSelector:
    """Return a frame selector.

    Raises:
        PolicyError: it names no frames.
    """
    top = MAX_EXTENDED if wire.extended or wire.any else MAX_STANDARD
    in_range(wire.last_id, 0, top, f"{where}: last_id")
    in_range(wire.first_id, 0, wire.last_id, f"{where}: first_id")
    return FrameSelector(
        _channel(wire.channel, where), wire.first_id, wire.last_id,
        extended=wire.extended, every_id=wire.any,
    )  # fmt: skip


def signal_selector(wire: policy_pb2.SignalSelector, signals: int, where: str) -> SignalSelector:
    """Return a selector of one of so many signals, rounded to the grain that it names.

    Raises:
        PolicyError: there is no such signal or channel.
    """
    if wire.signal >= signals:
        raise refusal(where, f"names signal {wire.signal} of {signals}")
    return SignalSelector(_channel(wire.channel, where), wire.signal, wire.grain)


def watched(wire: policy_pb2.SignalSelector, signals: int, where: str) -> SignalSelector:
    """Return a selector of a clause: clauses look at values as they come.

    Raises:
        PolicyError: there is no such signal or channel, or it would be rounded.
    """
    found = signal_selector(wire, signals, where)
    if found.grain:
        raise refusal(where, "looks at rounded values", "build it again")
    return found


def _channel(name: str, where: str) -> str:
    if not is_channel(name):
        raise refusal(where, "names a channel that is none")
    return name
