"""What is allowed in a policy but probably not meant: for the engineer who writes it.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterator

from agent.policy.clauses import FrameSelector
from agent.policy.items import items
from agent.policy.j1939 import NULL, SOURCE, spans
from agent.policy.load_checks import PERSONS
from agent.policy.model import Policy, SignalLayout

SOON_NS = 30 * 86_400 * 10**9


def advise(policy: Policy, *, now_ns: int) -> tuple[str, ...]:
    """Return what a careful colleague would ask about a policy.

    Args:
        policy: checked.
        now_ns: ns since the Unix epoch.
    """
    return (
        *_whole(policy, now_ns), *_events(policy), *_places(policy), *_nobody(policy),
        *_owners(policy),
    )  # fmt: skip


def _whole(policy: Policy, now_ns: int) -> Iterator[str]:
    if not items(policy):
        yield "nothing is kept: there is no rule, recorder, event or camera"
    if not policy.contact:
        yield "no 'contact': the notice cannot say whom the owner may ask"
    left_ns = policy.not_after_ns - now_ns
    if left_ns <= 0:
        yield "'not_after' has passed: no car will take it"
    elif left_ns < SOON_NS:
        yield f"'not_after' is {left_ns // (86_400 * 10**9)} days away: then nothing is kept"
    needed = {rule.category for rule in policy.rules if rule.basis == "consent"}
    for term in policy.consents:
        if term.category not in needed and term.category != "exterior.parked":
            yield f"consent to '{term.category}' is asked for, but no rule needs it"


def _events(policy: Policy) -> Iterator[str]:
    holding = [event for event in policy.events if event.holds]
    if holding and policy.recorder is None:
        yield f"event '{holding[0].id}' holds a part of the recorder, but there is no [recorder]"
    for event in holding:
        if policy.recorder is not None and event.before_ns > policy.recorder.window_ns:
            yield f"event '{event.id}' asks for more 'before' than the recorder's window has"
    if policy.recorder is not None and not holding:
        yield "the recorder's window is never held: no event asks for a part of it"
    for event in policy.events:
        if event.upload and not event.holds:
            yield f"event '{event.id}' has 'upload' but holds nothing; its record goes anyway"


def _places(policy: Policy) -> Iterator[str]:
    camera = policy.camera
    if camera is None or camera.position is None:
        return
    if not camera.zones:
        yield "the camera clause has no zones: cameras are closed nowhere"
    layouts = {
        policy.layouts[one.signal] for one in (camera.position.latitude, camera.position.longitude)
    }
    for rule in policy.rules:
        if rule.category.startswith("location.") or rule.recipients in PERSONS:
            continue
        if any(_carries(one, layout) for one in rule.frames for layout in layouts):
            yield f"rule '{rule.id}': its raw frames carry the position at full precision"


def _carries(frames: FrameSelector, layout: SignalLayout) -> bool:
    if frames.every_id:
        return True
    return frames.extended == layout.extended and any(
        frames.first_id <= last and first <= frames.last_id
        for first, last in spans(layout.arbitration_id, layout.free_bits)
    )


def _nobody(policy: Policy) -> Iterator[str]:
    """Find J1939 messages that the DBC file does not call so."""
    named = {
        (info.message, layout.arbitration_id)
        for info, layout in zip(policy.signals, policy.layouts, strict=True)
        if layout.extended and not layout.free_bits and layout.arbitration_id & SOURCE == NULL
    }
    for message, number in sorted(named):
        yield (
            f"{message} is looked for under 0x{number:08X} alone, and in J1939 no frame has the "
            "source address FE: if it is J1939, say VFrameFormat J1939PG in the DBC file"
        )


def _owners(policy: Policy) -> Iterator[str]:
    alone = [one.id for one in items(policy) if one.recipients in ("owner", "shared", "both")]
    if alone:
        yield f"kept only in cars whose owner is enrolled: {', '.join(alone)}"
    driver = [one.id for one in items(policy) if one.recipients == "driver"]
    if driver:
        yield f"kept only while somebody who is enrolled drives: {', '.join(driver)}"
