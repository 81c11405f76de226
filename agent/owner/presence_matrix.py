"""The presence matrix: what became of every signal that a policy of the time names. Pure.

- *present*: samples of it were opened, raw frames that hold it, or records that name it.
- *removed*: it could have been in segments whose contents the car has dropped, and says why.
- *sealed to others*: it could be in segments that are not for the key at hand.
- *not here*: it could be in segments that are not here, and nothing says why.
- *not asked for*: it could be in segments that were left out on purpose.
- *not recorded*: none of these, and why, as far as the ledger tells. `nothing came` is what is left
  when everything was as it should be: no frame that carries it was seen.
- *no rule names it*: a signal of a DBC file that no policy of the time names.

A segment says who can open it and its lane, not which signals are in it: so what was removed is
said of every signal that would have been sealed to the same people on that lane. A signal that is
present can lack a part of the time: its reasons and removed segments stand beside it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from agent.digest import sha256
from agent.frames import SignalBatch
from agent.owner.chronicle import Chronicle, lane_name, recipients_name
from agent.owner.seen import Carriers, Ints, Seen, by_signal, seen
from agent.owner.stretches import Stretches, common, joined, total_ns, without
from agent.pb import ledger_pb2, sealed_pb2
from agent.policy.clauses import FrameSelector, SignalSelector
from agent.policy.items import EVENT_CATEGORY
from agent.policy.model import Policy, SignalInfo, SignalLayout

PRESENT: Final = "present"
REMOVED: Final = "removed"
OTHERS: Final = "sealed to others"
ABSENT: Final = "not here"
NOT_ASKED: Final = "not asked for"
NOT_RECORDED: Final = "not recorded"
NO_RULE: Final = "no rule names it"

NO_POLICY: Final = "policy not in force"
NO_CONSENT: Final = "no consent"
NO_RECIPIENT: Final = "no recipient"
ASLEEP: Final = "car asleep"
BUS_DOWN: Final = "bus down"
NO_EVENT: Final = "no event"
NOTHING_CAME: Final = "nothing came"

LOOKED_AT: Final = "only looked at"

LEAST_NS: Final = 10**9  # of a reason: a start takes some 100 ms, in which no policy decides

Key = tuple[str, str]  # DBC message, signal
Known = tuple[SignalInfo, SignalLayout]


@dataclass(frozen=True, slots=True)
class Naming:
    """A clause of a policy that names a signal.

    Attributes:
        clause: id of the rule or event, "recorder" or "camera"; "" if it only looks at the signal.
        category: of a rule; "event.record" of recorder and events.
        consent: it needs one to its category.
        recipients, lane: of the segments that it would be in.
        channel: bus, "*": any.
        on_event: nothing is kept without one.
        decided: when its policy was in force.
    """

    clause: str
    category: str
    consent: bool
    recipients: str
    lane: str
    channel: str
    on_event: bool
    decided: Stretches


@dataclass(slots=True)
class Row:
    """A signal.

    Attributes:
        info: name, message, unit.
        layout: where it stands in a frame.
        state: see the module.
        reasons: of its absence, and for how long, ns.
        seen: how often it is there.
        gone: segments in which it could have been, by the reason why they were dropped.
        namings: clauses that name it.
    """

    info: SignalInfo
    layout: SignalLayout
    state: str = NOT_RECORDED
    reasons: list[tuple[str, int]] = field(default_factory=list)
    seen: Seen | None = None
    gone: Counter[str] = field(default_factory=Counter)
    namings: list[Naming] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Rows:
    """What was opened.

    Attributes:
        samples: by the hash of their dictionary.
        noted: (number of the signal, stamp) of what records name, by the hash of the dictionary.
        carriers: raw frames.
    """

    samples: Mapping[bytes, Sequence[SignalBatch]]
    noted: Mapping[bytes, Sequence[tuple[int, int]]]
    carriers: Carriers


def presence(
    told: Chronicle,
    policies: Mapping[bytes, Policy],
    opened: Rows,
    known: Iterable[Known] = (),
) -> list[Row]:
    """Return a row for every signal: in the order of the policies, then of the DBC files.

    Args:
        told: of the time.
        policies: those that decided then, by their digest.
        opened: what there is.
        known: every signal of the DBC files that were named.
    """
    rows: dict[Key, Row] = {}
    for digest, policy in policies.items():
        decided = joined((o.begin_ns, o.end_ns) for o in told.policies if o.digest == digest)
        for number, naming in _namings(policy, decided):
            row = rows.setdefault(_key(policy, number), _row(policy, number))
            row.namings.append(naming)
    samples, noted = _stamps(policies.values(), opened)
    for key, row in rows.items():
        row.seen = seen(samples[key], noted[key], *opened.carriers.stamps(row.layout))
        _judge(row, told)
    return [*rows.values(), *_unnamed(rows, opened.carriers, known)]


def _key(policy: Policy, number: int) -> Key:
    return policy.signals[number].message, policy.signals[number].name


def _row(policy: Policy, number: int) -> Row:
    return Row(policy.signals[number], policy.layouts[number])


Stamps = defaultdict[Key, list[Ints]]


def _stamps(policies: Iterable[Policy], opened: Rows) -> tuple[Stamps, Stamps]:
    """Return the stamps of samples, and of what records name, by signal."""
    samples: Stamps = defaultdict(list)
    noted: Stamps = defaultdict(list)
    for dictionary, policy in {sha256(one.dictionary): one for one in policies}.items():
        for number, some in by_signal(opened.samples.get(dictionary, ())).items():
            samples[_key(policy, number)] += some
        for number, stamp in opened.noted.get(dictionary, ()):
            noted[_key(policy, number)].append(np.array([stamp], np.int64))
    return samples, noted


def _unnamed(rows: Mapping[Key, Row], carriers: Carriers, known: Iterable[Known]) -> Iterator[Row]:
    for info, layout in known:
        if (info.message, info.name) not in rows:
            there = seen(*carriers.stamps(layout))
            yield Row(info, layout, PRESENT if there else NO_RULE, seen=there)


def _namings(policy: Policy, decided: Stretches) -> Iterator[tuple[int, Naming]]:
    """Yield every signal that a policy names, with every clause that would keep it."""
    for rule in policy.rules:
        needs = rule.basis == "consent"
        naming = Naming(
            rule.id, rule.category, needs, recipients_name(rule.recipients), lane_name(rule.lane),
            "*", on_event=False, decided=decided,
        )  # fmt: skip
        for one in rule.signals:
            yield one.signal, replace(naming, channel=one.channel)
        yield from _framed(policy, rule.frames, naming)
    if (recorder := policy.recorder) is not None:
        who = recipients_name(recorder.why.recipients)
        naming = Naming(
            "recorder", EVENT_CATEGORY, False, who, lane_name(sealed_pb2.RECORDER), "*",
            on_event=False, decided=decided,
        )  # fmt: skip
        yield from _framed(policy, recorder.frames, naming)
    yield from _noted(policy, decided)


def _framed(
    policy: Policy, frames: Sequence[FrameSelector], naming: Naming
) -> Iterator[tuple[int, Naming]]:
    """Yield the signals of a policy that stand in raw frames that a clause keeps."""
    for number, layout in enumerate(policy.layouts):
        for one in frames:
            low = layout.arbitration_id
            inside = one.extended == layout.extended and (
                one.first_id <= low | layout.free_bits and one.last_id >= low
            )
            if one.every_id or inside:
                yield number, replace(naming, channel=one.channel)


def _noted(policy: Policy, decided: Stretches) -> Iterator[tuple[int, Naming]]:
    """Yield the signals whose values stand in records, and those that are only looked at."""
    lane = lane_name(sealed_pb2.EVENT)
    looks = Naming("", "", False, "", "", "*", on_event=False, decided=decided)
    for event in policy.events:
        who = recipients_name(event.why.recipients)
        naming = Naming(event.id, EVENT_CATEGORY, False, who, lane, "*", True, decided)
        for one in (*(term for _, term in event.when.terms), *event.snapshot):
            yield one.signal, replace(naming, channel=one.channel)
    looked: list[SignalSelector] = []
    if policy.driving is not None:
        looked += [term for _, term in policy.driving.terms]
    if (camera := policy.camera) is not None:
        who = recipients_name(camera.why.recipients)
        naming = Naming("camera", "exterior.video", False, who, lane, "*", True, decided)
        if (trigger := camera.trigger) is not None:
            for one in (trigger.camera, trigger.reason, trigger.state, trigger.clip):
                yield one.signal, replace(naming, channel=one.channel)
        if (place := camera.position) is not None:
            looked += [place.latitude, place.longitude, place.speed]
            looked += [term for _, term in place.fix.terms]
    for one in looked:
        yield one.signal, replace(looks, channel=one.channel)


def _judge(row: Row, told: Chronicle) -> None:
    """Say what became of a signal, and why."""
    keeping = [one for one in row.namings if one.clause]
    keys = {(one.recipients, one.lane) for one in keeping} & told.shelves.keys()
    shelves = [told.shelves[key] for key in sorted(keys)]
    for shelf in shelves:
        row.gone += shelf.removed
    if row.seen is not None:
        row.state = PRESENT
    elif any(shelf.removed and not shelf.closed for shelf in shelves):
        row.state = REMOVED
    elif any(shelf.closed for shelf in shelves):
        row.state = OTHERS
    elif any(shelf.absent for shelf in shelves):
        row.state = ABSENT
    elif any(shelf.left_out for shelf in shelves):
        row.state = NOT_ASKED
    row.reasons = _reasons(row, keeping, told)


def _reasons(row: Row, keeping: Sequence[Naming], told: Chronicle) -> list[tuple[str, int]]:
    """Return why it was not recorded, and for how long; each reason once."""
    asked = told.asked
    if not keeping:
        return [(LOOKED_AT, total_ns(asked))]
    decided = joined(span for one in keeping for span in one.decided)
    free = joined(span for one in keeping for span in _agreed(one, told, row))
    down = joined(span for one in keeping for span in _down(one.channel, told))
    found = [
        (NO_POLICY, without(asked, decided)),
        (NO_CONSENT, without(common(asked, decided), free)),
        (ASLEEP, without(asked, told.awake)),
        (BUS_DOWN, common(asked, down)),
    ]
    lasted = [(name, total_ns(spans)) for name, spans in found]
    reasons = [one for one in lasted if one[1] >= LEAST_NS]
    possible = without(common(common(asked, free), told.awake), down)
    if row.state != NOT_RECORDED:
        return reasons
    if not possible:
        return reasons or [max(lasted, key=lambda one: one[1])]  # of a time as short as that
    if all(one.recipients != "region" for one in keeping) and _nobody(told):
        return [*reasons, (NO_RECIPIENT, total_ns(possible))]
    waits = all(one.on_event for one in keeping)
    return [*reasons, (NO_EVENT if waits else NOTHING_CAME, total_ns(possible))]


def _agreed(naming: Naming, told: Chronicle, row: Row) -> Stretches:
    # What is there was agreed to, even if the entry that says so is from before the time.
    known = naming.category in told.consented or row.seen is None
    if not naming.consent or not known:
        return naming.decided
    return common(naming.decided, told.consented.get(naming.category, ()))


def _down(channel: str, told: Chronicle) -> Stretches:
    """Return when the bus that a signal comes from was not there; any bus: when none was."""
    if channel != "*":
        return told.down.get(channel, ())
    down = told.asked if told.down else ()
    for spans in told.down.values():
        down = common(down, spans)
    return down


def _nobody(told: Chronicle) -> bool:
    cause = ledger_pb2.Loss.NO_RECIPIENT
    return any(one.what.loss.cause == cause for one in told.of("loss"))
