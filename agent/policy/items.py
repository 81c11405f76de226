"""What a policy keeps, item by item, in one shape: rules, recorder, events, camera.

Notices, comparisons and reports are made from this list, so none of them can forget a clause.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from agent.pb import sealed_pb2
from agent.policy.clauses import (
    DRIVING_METADATA,
    PARKED_OWNER,
    Camera,
    EventRule,
    FrameSelector,
    Recorder,
    SignalSelector,
)
from agent.policy.j1939 import words
from agent.policy.model import Policy, Rule
from agent.policy.quantities import frame_selector_text

Kind = Literal["rule", "recorder", "event", "camera"]

EVENT_CATEGORY: Final = "event.record"  # of recorder and events
CAMERA_CATEGORY: Final = (
    "exterior.video"  # what the cameras take; the agent keeps only that they did
)
PARKED_CATEGORY: Final = "exterior.parked"


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that a policy keeps.

    Attributes:
        kind: which clause.
        id: of the rule or event; "recorder" or "camera".
        category, purpose, basis, necessity: why, as the policy says.
        recipients: region, owner, shared, both or driver.
        keep_ns: longest time in the car.
        signals: as `Message.Signal [unit]`, with the bus before it if it is one bus only.
        groups: J1939 groups that signals are found by, as `EEC1 = PGN F004 from any source`.
        frames: raw frames, as selectors.
        every_ns: a sample in each period; 0: every sample.
        on_change: a sample when the value changes.
        space_m: positions are no finer than this; 0: as they come.
        condition: the expression of an event.
        before_ns, after_ns: what an event holds of the recorder's window; `before_ns` is the window
            of the recorder itself.
        upload: what an event holds goes to the region.
    """

    kind: Kind
    id: str
    category: str
    purpose: str
    basis: str
    necessity: str
    recipients: str
    keep_ns: int
    signals: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    frames: tuple[str, ...] = ()
    every_ns: int = 0
    on_change: bool = False
    space_m: int = 0
    condition: str = ""
    before_ns: int = 0
    after_ns: int = 0
    upload: bool = False


def items(policy: Policy) -> tuple[Item, ...]:
    """Return all that a policy keeps, in the order of its text: rules, recorder, events, camera."""
    found = [_rule(policy, rule) for rule in policy.rules]
    if policy.recorder is not None:
        found.append(_recorder(policy.recorder))
    found += [_event(policy, event) for event in policy.events]
    if policy.camera is not None and _opens(policy.camera):
        found.append(_camera(policy, policy.camera))
    return tuple(found)


def signal_words(policy: Policy, selector: SignalSelector) -> str:
    """Return a signal as people read it: `Message.Signal [unit]`."""
    info = policy.signals[selector.signal]
    bus = "" if selector.channel == "*" else f"{selector.channel}:"
    return f"{bus}{info.message}.{info.name}" + (f" [{info.unit}]" if info.unit else "")


def groups(policy: Policy, signals: Iterable[int] | None = None) -> tuple[str, ...]:
    """Return the J1939 groups that signals are found by, each once.

    Args:
        policy: whose signals.
        signals: their numbers; None: all.
    """
    numbers = range(len(policy.signals)) if signals is None else signals
    return tuple(
        dict.fromkeys(
            f"{policy.signals[one].message} = {words(policy.layouts[one])}"
            for one in numbers
            if policy.layouts[one].free_bits
        )
    )


def _recipients(number: int) -> str:
    return sealed_pb2.Recipients.Name(sealed_pb2.Recipients.ValueType(number)).lower()


def _signals(policy: Policy, selectors: Iterable[SignalSelector]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(signal_words(policy, one) for one in selectors))


def _numbers(selectors: Iterable[SignalSelector]) -> Iterable[int]:
    return (one.signal for one in selectors)


def _frames(selectors: Iterable[FrameSelector]) -> tuple[str, ...]:
    return tuple(frame_selector_text(one) for one in selectors)


def _rule(policy: Policy, rule: Rule) -> Item:
    return Item(
        kind="rule", id=rule.id, category=rule.category, purpose=rule.purpose, basis=rule.basis,
        necessity=rule.necessity, recipients=_recipients(rule.recipients),
        keep_ns=rule.keep_s * 10**9, signals=_signals(policy, rule.signals),
        frames=_frames(rule.frames), every_ns=rule.every_ns, on_change=rule.on_change,
        space_m=rule.space_m, groups=groups(policy, _numbers(rule.signals)),
    )  # fmt: skip


def _recorder(recorder: Recorder) -> Item:
    return Item(
        kind="recorder", id="recorder", category=EVENT_CATEGORY, purpose=recorder.why.purpose,
        basis=recorder.why.basis, necessity=recorder.why.necessity,
        recipients=_recipients(recorder.why.recipients), keep_ns=recorder.window_ns,
        frames=_frames(recorder.frames), before_ns=recorder.window_ns,
    )  # fmt: skip


def _event(policy: Policy, event: EventRule) -> Item:
    seen = [selector for _, selector in event.when.terms]
    return Item(
        kind="event", id=event.id, category=EVENT_CATEGORY, purpose=event.why.purpose,
        basis=event.why.basis, necessity=event.why.necessity,
        recipients=_recipients(event.why.recipients), keep_ns=event.keep_s * 10**9,
        signals=_signals(policy, (*seen, *event.snapshot)), condition=event.when.text,
        before_ns=event.before_ns, after_ns=event.after_ns, upload=event.upload,
        groups=groups(policy, _numbers((*seen, *event.snapshot))),
    )  # fmt: skip


def _camera(policy: Policy, camera: Camera) -> Item:
    trigger = camera.trigger
    named = (trigger.camera, trigger.reason, trigger.state, trigger.clip) if trigger else ()
    parked_only = camera.driving != DRIVING_METADATA
    return Item(
        kind="camera", id="camera",
        category=PARKED_CATEGORY if parked_only else CAMERA_CATEGORY,
        purpose=camera.why.purpose, basis=camera.why.basis, necessity=camera.why.necessity,
        recipients=_recipients(camera.why.recipients), keep_ns=camera.keep_s * 10**9,
        signals=_signals(policy, named), groups=groups(policy, _numbers(named)),
    )  # fmt: skip


def _opens(camera: Camera) -> bool:
    return camera.driving == DRIVING_METADATA or camera.parked == PARKED_OWNER
