"""Parts of a policy text to their compiled form: signals to numbers, conditions to terms.

What an expression's names mean is looked up in the DBC files as a rule's signals are; an objection
points at the name in the TOML text.
"""

from __future__ import annotations

from collections.abc import Iterable

from agent.errors import PolicyError
from agent.pb import policy_pb2, sealed_pb2
from agent.policy.clauses import Condition, FrameSelector, Recorder, SignalSelector, Why
from agent.policy.dbc import Dictionary, Found
from agent.policy.expression import check_condition
from agent.policy.model import SignalInfo
from agent.policy.nodes import ExpressionError
from agent.policy.precision import check_position
from agent.policy.text_clauses import CameraText, ConditionText, EventText, PositionText, SignalName


class Numbers:
    """The signals that a policy names, numbered in the order in which they are first named.

    Args:
        dictionary: all signals of its DBC files.
    """

    def __init__(self, dictionary: Dictionary) -> None:
        self._dictionary = dictionary
        self._numbers: dict[Found, int] = {}

    def __len__(self) -> int:
        return len(self._numbers)

    @property
    def found(self) -> tuple[Found, ...]:
        """What was named so far, by number."""
        return tuple(self._numbers)

    @property
    def infos(self) -> tuple[SignalInfo, ...]:
        """What readers need of it, by number."""
        return tuple(one.info for one in self._numbers)

    def find(self, name: SignalName) -> tuple[int, SignalInfo]:
        """Return the number of a signal, and what it is.

        Raises:
            PolicyError: unknown or ambiguous, at the place that names it.
        """
        found = self._dictionary.find(name.message, name.name, where=name.where)
        return self._numbers.setdefault(found, len(self._numbers)), found.info


def selector_of(name: SignalName, numbers: Numbers, *, grain: int = 0) -> policy_pb2.SignalSelector:
    """Return a signal on its channel."""
    return policy_pb2.SignalSelector(
        channel=name.channel, signal=numbers.find(name)[0], grain=grain
    )


def frames_of(selectors: Iterable[FrameSelector]) -> list[policy_pb2.FrameSelector]:
    """Return frame selectors."""
    return [
        policy_pb2.FrameSelector(
            channel=one.channel, first_id=one.first_id, last_id=one.last_id,
            extended=one.extended, any=one.every_id,
        )
        for one in selectors
    ]  # fmt: skip


def condition_of(condition: ConditionText, numbers: Numbers) -> policy_pb2.Condition:
    """Return an expression with what its names mean.

    Raises:
        PolicyError: a name or a label means nothing, with file:line:column.
    """
    terms = tuple((text, selector_of(name, numbers)) for text, name in condition.names)
    meant = tuple((text, SignalSelector(one.channel, one.signal)) for text, one in terms)
    try:
        check_condition(Condition(condition.text, meant), numbers.infos)
    except ExpressionError as error:
        raise PolicyError(error.what, where=condition.origin.where(error.column)) from None
    return policy_pb2.Condition(
        text=condition.text, term=[policy_pb2.Term(name=text, signal=one) for text, one in terms]
    )


def recorder_of(recorder: Recorder) -> policy_pb2.Recorder:
    """Return the recorder."""
    why = recorder.why
    return policy_pb2.Recorder(
        window_ns=recorder.window_ns, frames=frames_of(recorder.frames),
        resolution_ns=recorder.resolution_ns, flush_ns=recorder.flush_ns,
        recipients=_recipients(why), purpose=why.purpose, basis=why.basis, necessity=why.necessity,
    )  # fmt: skip


def event_of(event: EventText, numbers: Numbers) -> policy_pb2.Event:
    """Return an event rule."""
    why = event.why
    return policy_pb2.Event(
        id=event.id, when=condition_of(event.when, numbers), before_ns=event.before_ns,
        after_ns=event.after_ns, upload=event.upload, at_most=event.at_most,
        period_ns=event.period_ns, retrigger_ns=event.retrigger_ns,
        snapshot=[selector_of(name, numbers) for name in event.snapshot], keep_s=event.keep_s,
        recipients=_recipients(why), purpose=why.purpose, basis=why.basis, necessity=why.necessity,
    )  # fmt: skip


def camera_of(camera: CameraText, numbers: Numbers, zones: bytes) -> policy_pb2.Camera:
    """Return the camera gate's rules, with its sealed zones."""
    why = camera.why
    wire = policy_pb2.Camera(
        parked=policy_pb2.Camera.Parked.Name(camera.parked),
        driving=policy_pb2.Camera.Driving.Name(camera.driving),
        zones=zones, margin_m=camera.margin_m, exit_ns=camera.exit_ns, no_fix_ns=camera.no_fix_ns,
        keep_s=camera.keep_s, at_most=camera.at_most,
        recipients=_recipients(why), purpose=why.purpose, basis=why.basis, necessity=why.necessity,
    )  # fmt: skip
    if camera.trigger:
        which, reason, state, clip = (selector_of(name, numbers) for name in camera.trigger)
        trigger = policy_pb2.Trigger(camera=which, reason=reason, state=state, clip=clip)
        wire.trigger.CopyFrom(trigger)
    if camera.position is not None:
        wire.position.CopyFrom(_position(camera.position, numbers))
    return wire


def _position(position: PositionText, numbers: Numbers) -> policy_pb2.Position:
    named = (position.latitude, position.longitude, position.speed)
    try:
        check_position(*(numbers.find(name)[1] for name in named))
    except ValueError as error:
        raise PolicyError(str(error), where=position.latitude.where) from None
    latitude, longitude, speed = (selector_of(name, numbers) for name in named)
    return policy_pb2.Position(
        latitude=latitude, longitude=longitude, speed=speed, fix=condition_of(position.fix, numbers)
    )


def _recipients(why: Why) -> str:
    return sealed_pb2.Recipients.Name(why.recipients)


def signal_of(found: Found) -> policy_pb2.Signal:
    """Return a signal of the dictionary."""
    info = found.info
    return policy_pb2.Signal(
        name=info.name, message=info.message, unit=info.unit, factor=info.factor,
        offset=info.offset, kind=policy_pb2.Signal.Kind.Name(info.kind), choices=dict(info.choices),
    )  # fmt: skip


def decode_of(found: Found) -> policy_pb2.Decode:
    """Return where a signal stands in a frame."""
    layout = found.layout
    return policy_pb2.Decode(
        id=layout.arbitration_id, extended=layout.extended, start=layout.start, bits=layout.bits,
        big_endian=layout.big_endian, free_bits=layout.free_bits,
        mux=[
            policy_pb2.Mux(
                start=one.start, bits=one.bits, big_endian=one.big_endian,
                range=[policy_pb2.MuxRange(first=first, last=last) for first, last in one.ranges],
            )
            for one in layout.mux
        ],
    )  # fmt: skip
