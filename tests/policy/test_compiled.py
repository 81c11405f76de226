"""The door: whatever the bytes are, a policy or a refusal; nothing is obeyed in part."""

from __future__ import annotations

from random import Random

import pytest
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.errors import PolicyError
from agent.pb import policy_pb2, sealed_pb2
from agent.policy import compiled as under_test
from agent.policy import compiled_clauses
from agent.policy.build import build_policy
from agent.policy.compiled import load_policy, read_policy
from agent.policy.model import MAX_BYTES, MuxLayout, Policy, SignalLayout
from tests.policy import making

LAYOUT = SignalLayout(0x100, False, 0, 8, False, 0)
ONE = [policy_pb2.SignalSelector(channel="*", signal=0)]
FRAMES = [policy_pb2.FrameSelector(channel="*", any=True)]


@pytest.fixture(scope="module")
def example() -> bytes:
    return build_policy(making.EXAMPLES / "cn-fleet.toml")


def outcome(data: bytes) -> Policy | None:
    """The policy or None; anything else than PolicyError fails the test."""
    try:
        return load_policy(data, region=making.REGION, now_ns=0)
    except PolicyError:
        return None


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_end_in_a_policy_or_a_refusal(data):
    outcome(data)


def test_every_truncation_ends_in_a_policy_or_a_refusal(example):
    # Some cuts fall between fields and leave a smaller policy; signatures are another door.
    refused = [outcome(example[:end]) is None for end in range(len(example))]
    assert sum(refused) > 0.9 * len(refused)


def messages(message: Message) -> list[Message]:
    """A message and all in it."""
    found = [message]
    for descriptor, value in message.ListFields():
        if descriptor.message_type and not descriptor.message_type.GetOptions().map_entry:
            for one in value if descriptor.is_repeated else (value,):
                found += messages(one)
    return found


NUMBERS = (0, 1, 2, 7, 255, 2**31 - 1)
TEXTS = ("", "*", "consent", "law:x", "Speed > 1", "a\x00", "x" * 3000, "location.track", "(" * 99)


def spoil(rng: Random, data: bytes) -> bytes:
    """Compiled bytes with some fields of some messages set, cleared or doubled: what parses."""
    policy = policy_pb2.Policy.FromString(data)
    for _ in range(rng.randint(1, 3)):
        message = rng.choice(messages(policy))
        one = rng.choice(message.DESCRIPTOR.fields)
        if rng.random() < 0.2:
            message.ClearField(one.name)
        elif one.is_repeated and one.message_type and not one.message_type.GetOptions().map_entry:
            values = getattr(message, one.name)
            values.extend([rng.choice(values)] if values else [values.add()])
        elif one.is_repeated or one.message_type:
            continue
        elif one.type == one.TYPE_STRING:
            setattr(message, one.name, rng.choice(TEXTS))
        elif one.type == one.TYPE_BYTES:
            setattr(message, one.name, rng.randbytes(rng.randrange(200)))
        else:
            setattr(message, one.name, rng.choice(NUMBERS[:3] if one.enum_type else NUMBERS))
    return policy.SerializeToString(deterministic=True)


@settings(max_examples=100, deadline=None)
@given(making.RANDOMS)
def test_every_hostile_policy_ends_in_a_policy_or_a_refusal(example, rng):
    outcome(spoil(rng, example))


def test_the_fuzz_finds_a_door_that_lets_conditions_out(example, monkeypatch):
    class Lost(Exception):  # noqa: N818 - what escapes
        pass

    def escape(*_: object) -> None:
        raise Lost

    monkeypatch.setattr(compiled_clauses, "check_condition", escape)
    with pytest.raises(Lost):
        making.over_seeds(lambda rng: outcome(spoil(rng, example)))


def test_flipped_bytes_end_in_a_policy_or_a_refusal(example):
    rng = Random(5)
    for at in range(0, len(example), 13):
        broken = bytearray(example)
        broken[at] ^= rng.randrange(1, 256)
        outcome(bytes(broken))


def test_the_fuzz_finds_a_door_that_lets_other_errors_out(example, monkeypatch):
    monkeypatch.setattr(under_test, "DecodeError", ZeroDivisionError)
    with pytest.raises(Exception, match="parsing") as caught:
        outcome(example[:100])
    assert not isinstance(caught.value, PolicyError)


def test_another_region_is_refused_by_name(example):
    with pytest.raises(PolicyError, match="is for region urn:inland:region:cn, not for urn"):
        load_policy(example, region="urn:inland:region:eu", now_ns=0)


def test_the_end_is_exact(example):
    end_ns = read_policy(example).not_after_ns
    assert load_policy(example, region=making.REGION, now_ns=end_ns - 1).version == 1
    with pytest.raises(PolicyError, match="has expired"):
        load_policy(example, region=making.REGION, now_ns=end_ns)


def test_too_many_bytes_are_refused_before_they_are_read():
    with pytest.raises(PolicyError, match=f"more than {MAX_BYTES}"):
        read_policy(bytes(MAX_BYTES + 1))


def unknown_at(data: bytes, where: str) -> bytes:
    """Compiled bytes with a field that this version does not know, in a message of a kind."""
    extra = b"\xfa\x07\x01x"  # field 127, one byte
    policy = policy_pb2.Policy.FromString(data)
    if where == "policy":
        return data + extra
    if where == "dictionary":
        policy.dictionary += extra
    else:
        target = {
            "rule": policy.collect[0],
            "selector": policy.collect[0].signals[0],
            "mux": policy.decode[0].mux[0],
            "range": policy.decode[0].mux[0].range[0],
            "recorder": policy.recorder,
            "event": policy.event.add(),
            "camera": policy.camera,
            "position": policy.camera.position,
            "consent": policy.consent.add(),
            "driving": policy.driving,
            "term": policy.driving.term.add(),
        }[where]
        target.MergeFromString(extra)
    return policy.SerializeToString()


@pytest.mark.parametrize(
    "where",
    [
        "policy", "dictionary", "rule", "selector", "mux", "range", "recorder", "event", "camera",
        "position", "consent", "driving", "term",
    ],
)  # fmt: skip
def test_what_this_version_does_not_know_is_refused(where):
    mux = MuxLayout(0, 4, False, ((1, 2),))
    layout = SignalLayout(0x100, False, 8, 8, False, 0, (mux,))
    good = making.compiled([making.collect("a", signals=ONE)], [layout])
    assert read_policy(good).layouts == (layout,)
    with pytest.raises(PolicyError, match="not supported by this version"):
        read_policy(unknown_at(good, where))


BAD_RULES = {
    "unknown category": {"category": "weather"},
    "never collected": {"category": "phone.contacts"},
    "written by the agent": {"category": "agent.audit"},
    "needs the basis 'consent'": {"category": "location.track"},
    "the consent to 'battery' has no end": {"basis": "consent"},
    "space_m: 5 is not supported": {"space_m": 5},
    "grain: 3 is not the 0 of space_m": {
        "signals": [policy_pb2.SignalSelector(channel="*", signal=0, grain=3)]
    },
    "no signal is in degrees": {"space_m": 1000},
    "only signals can be thinned out": {"space_m": 1000, "frames": FRAMES},
    "important data": {"category": "traffic.flow", "basis": "safety"},
    "unknown purpose": {"purpose": "fun"},
    "unknown basis": {"basis": "law:"},
    "keeps 'battery' too long": {"keep_s": 7 * 86_400 + 1},
    "keep_s: 59 is out of range": {"keep_s": 59},
    "necessity: has 0": {"necessity": ""},
    "control characters": {"necessity": "a\x1b[2J"},
    "rule: id: has 0": {"id": ""},
    "recipients: 0": {"recipients": 0},
    "recipients: 9": {"recipients": 9},
    "lane: 0": {"lane": sealed_pb2.INCIDENT},
    "lane: 3": {"lane": sealed_pb2.RECORDER},
    "both every and on_change": {"every_ns": 10**9, "on_change": True},
    "every_ns: 10 is out": {"every_ns": 10},
    "thins out raw frames": {"every_ns": 10**9, "frames": FRAMES},
    "names no frames": {"signals": []},
    "names signal 1 of 1": {"signals": [policy_pb2.SignalSelector(channel="*", signal=1)]},
    "channel that is none": {"signals": [policy_pb2.SignalSelector(channel="a b", signal=0)]},
    "last_id: 2048": {"frames": [policy_pb2.FrameSelector(channel="*", last_id=0x800)]},
    "first_id: 2": {"frames": [policy_pb2.FrameSelector(channel="*", first_id=2, last_id=1)]},
    "resolution_ns: 0": {"resolution_ns": 0},
    "resolution_ns: 2000000000": {"resolution_ns": 2 * 10**9},
    "flush_ns: 5000000000": {"flush_ns": 5 * 10**9},
}


@pytest.mark.parametrize("message", BAD_RULES)
def test_a_bad_rule_is_refused(message):
    rule = making.collect("a", **({"signals": ONE} | BAD_RULES[message]))
    with pytest.raises(PolicyError) as caught:
        read_policy(making.compiled([rule], [LAYOUT]))
    assert message in str(caught.value)


def layout(**more: object) -> SignalLayout:
    fields = {name: getattr(LAYOUT, name) for name in SignalLayout.__slots__}
    return SignalLayout(**(fields | more))


BAD_LAYOUTS = {
    "bits: 0": layout(bits=0),
    "bits: 65": layout(bits=65),
    "start: 512": layout(start=512, bits=1),
    "last bit: 513": layout(start=511, bits=2),
    "last bit: 518": layout(start=505, bits=8, big_endian=True),
    "id: 2048": layout(arbitration_id=0x800),
    "id: 536870912": layout(arbitration_id=0x2000_0000, extended=True),
    "kind: 9": layout(kind=9),
    "a float of 8 bits": layout(kind=2),
    "number of ranges": layout(mux=(MuxLayout(0, 8, False, ()),)),
    "last: 16": layout(mux=(MuxLayout(0, 4, False, ((0, 16),)),)),
    "first: 3": layout(mux=(MuxLayout(0, 4, False, ((3, 2),)),)),
    "number of multiplexers": layout(mux=(MuxLayout(0, 4, False, ((0, 2),)),) * 9),
}


@pytest.mark.parametrize("message", BAD_LAYOUTS)
def test_a_bad_layout_is_refused(message):
    data = making.compiled([making.collect("a", signals=ONE)], [BAD_LAYOUTS[message]])
    with pytest.raises(PolicyError) as caught:
        read_policy(data)
    assert message in str(caught.value)


BAD_POLICIES = {
    "version: 0": {"version": 0},
    "name: has 0": {"name": ""},
    "region: is not": {"region": "cn"},
    "not_after: 0": {"not_after_unix": 0},
    "dictionary: is damaged": {"dictionary": b"\xff"},
    "differ in length": {"decode": []},
    "has signals that no rule and no clause names": {"collect": []},
    "two of this id": {"collect": [making.collect("a", signals=ONE)] * 2},
    "more than 64 combinations": {
        "collect": [making.collect(f"r{at}", signals=ONE, flush_ns=10**9 + at) for at in range(65)]
    },
    "number of rules: 1025": {"collect": [making.collect("a", signals=ONE)] * 1025},
}


@pytest.mark.parametrize("message", BAD_POLICIES)
def test_a_bad_policy_is_refused(message):
    rule = making.collect("a", signals=ONE)
    with pytest.raises(PolicyError) as caught:
        read_policy(making.compiled([rule], [LAYOUT], **BAD_POLICIES[message]))
    assert message in str(caught.value)


def test_factors_that_are_no_numbers_are_refused():
    words = policy_pb2.Dictionary(
        signal=[policy_pb2.Signal(name="S", message="M", factor=float("nan"))]
    )
    rule = making.collect("a", signals=ONE)
    data = making.compiled([rule], [LAYOUT], dictionary=words.SerializeToString())
    with pytest.raises(PolicyError, match="not a number"):
        read_policy(data)


def test_a_policy_without_rules_is_a_policy():
    assert read_policy(making.compiled([])).rules == ()
