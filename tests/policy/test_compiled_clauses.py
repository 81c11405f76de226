"""The door for recorder, events, camera and consents: nothing is taken on trust."""

from __future__ import annotations

import pytest

from agent.errors import PolicyError
from agent.pb import policy_pb2, sealed_pb2
from agent.policy.compiled import read_policy
from agent.policy.model import SignalLayout
from tests.policy import making

LAYOUT = SignalLayout(0x100, False, 0, 8, False, 0)
ONE = [policy_pb2.SignalSelector(channel="*", signal=0)]
FRAMES = [policy_pb2.FrameSelector(channel="*", any=True)]


def clause(**more: object) -> dict[str, object]:
    """What every clause says, but for what `more` says."""
    return {
        "purpose": "safety_event", "basis": "safety", "necessity": "a test",
        "recipients": sealed_pb2.REGION, **more,
    }  # fmt: skip


def condition(text: str = "S0 > 1", *, name: str = "S0", **more: object) -> policy_pb2.Condition:
    """A condition on the one signal."""
    selector = policy_pb2.SignalSelector(**({"channel": "*", "signal": 0} | more))
    return policy_pb2.Condition(text=text, term=[policy_pb2.Term(name=name, signal=selector)])


def recorder(**more: object) -> dict[str, object]:
    """A policy's recorder."""
    fields = {"window_ns": 10**12, "frames": FRAMES, "resolution_ns": 1, "flush_ns": 10**9}
    return {"recorder": policy_pb2.Recorder(**clause(**(fields | more)))}


def event(**more: object) -> dict[str, object]:
    """A policy's event."""
    fields = {"id": "e", "when": condition(), "keep_s": 3600}
    return {"event": [policy_pb2.Event(**clause(**(fields | more)))]}


def camera(**more: object) -> dict[str, object]:
    """A policy's camera."""
    return {"camera": policy_pb2.Camera(**clause(**({"keep_s": 3600} | more)))}


def position(unit: str = "", speed: str = "", **more: object) -> dict[str, object]:
    """A camera clause that knows the place; the signal serves for everything."""
    fields = {"latitude": ONE[0], "longitude": ONE[0], "speed": ONE[0], "fix": condition()}
    place = policy_pb2.Position(**(fields | more))
    words = policy_pb2.Dictionary(
        signal=[policy_pb2.Signal(name="S0", message="M", factor=1.0, unit=unit or speed)]
    )
    return camera(position=place, no_fix_ns=10**10) | {"dictionary": words.SerializeToString()}


BAD_CLAUSES = {
    "recorder: window_ns: 1 is out": recorder(window_ns=1),
    "recorder: window_ns: 90000000000000": recorder(window_ns=25 * 3600 * 10**9),
    "recorder: number of frame selectors: 0": recorder(frames=[]),
    "recorder: flush_ns": recorder(flush_ns=0),
    "recorder: resolution_ns": recorder(resolution_ns=0),
    "recorder: necessity": recorder(necessity=""),
    "recorder: recipients: 0": recorder(recipients=0),
    "event: id: has 0": event(id=""),
    "event 'e': when: has 0": event(when=policy_pb2.Condition()),
    "event 'e': when: has 2001": event(when=condition("S0 > 1" + " " * 1995)),
    "event 'e': when: column 4": event(when=condition("S0 ! 1")),
    "event 'e': when: has control": event(when=condition("S0 >\n1")),
    "the terms are not the names": event(when=condition("S0 > 1", name="S1")),
    "names signal 4 of 1": event(when=condition(signal=4)),
    "looks at rounded values": event(when=condition(grain=10)),
    "channel that is none": event(when=condition(channel="")),
    "before_ns: 3600000000001": event(before_ns=3600 * 10**9 + 1),
    "after_ns: 3600000000001": event(after_ns=3600 * 10**9 + 1),
    "retrigger_ns: 3600000000001": event(retrigger_ns=3600 * 10**9 + 1),
    "at_most: 10000 is out": event(at_most=10_000, period_ns=86_400 * 10**9),
    "period_ns: 0 is not": event(at_most=5),
    "event 'e': keep_s: 59": event(keep_s=59),
    "signals of the snapshot: 65": event(snapshot=ONE * 65),
    "event 'e': snapshot: names signal 1": event(
        snapshot=[policy_pb2.SignalSelector(channel="*", signal=1)]
    ),
    "number of events: 65": {"event": event()["event"] * 65},
    "there are two of this id": {"event": event()["event"] * 2},
    "camera: keep_s: 0": camera(keep_s=0),
    "camera: margin_m: 50001": camera(margin_m=50_001),
    "camera: exit_ns": camera(exit_ns=3601 * 10**9),
    "camera: at_most: 10000": camera(at_most=10_000),
    "camera: bytes of zones": camera(zones=b"iZN1" + bytes(160 * 1024)),
    "camera: zones: are not sealed; `inland station zones seal`": camera(zones=b"POLYGON"),
    "camera: trigger: camera: names a channel": camera(trigger=policy_pb2.Trigger()),
    "camera: position: latitude: names a channel": position(latitude=policy_pb2.SignalSelector()),
    "camera: position: fix: has 0": position(fix=policy_pb2.Condition()),
    "'M.S0' is in rad, not in degrees": position(unit="rad"),
    "'M.S0' is in deg, not in km/h": position(unit="deg"),
    "there are two of this category": {
        "consent": [policy_pb2.ConsentTerm(category="battery", max_days=1)] * 2
    },
    "number of consents: 99": {"consent": [policy_pb2.ConsentTerm()] * 99},
    "driving: column 1": {"driving": condition("S0")},
    "contact: has 501": {"contact": "x" * 501},
}


@pytest.mark.parametrize("message", BAD_CLAUSES)
def test_a_bad_clause_is_refused(message):
    rule = making.collect("a", signals=ONE)
    with pytest.raises(PolicyError) as caught:
        read_policy(making.compiled([rule], [LAYOUT], **BAD_CLAUSES[message]))
    assert message in str(caught.value)


def test_clauses_alone_name_signals_enough():
    """A signal that only a clause looks at is in the dictionary by right."""
    for one in (event(), position(), {"driving": condition()}):
        assert read_policy(making.compiled([], [LAYOUT], **one)).signals[0].name == "S0"
