"""The vocabulary and its load checks: each refusal names the rule and what would be right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from agent.errors import PolicyError
from agent.pb import policy_pb2, sealed_pb2
from agent.policy import compiled as door
from agent.policy import compiled_clauses, load_checks
from agent.policy.build import build_policy
from agent.policy.compiled import load_policy, read_policy
from agent.policy.vocabulary import (
    AGENT,
    CATEGORIES,
    DECIMALS,
    DENIED,
    GENERAL,
    IMPORTANT,
    MAX_CONSENT_DAYS,
    OPERATION,
    PERSONAL,
    SENSITIVE,
    SPACES,
)
from tests.policy import making

DAY = 86_400
Wire = policy_pb2.Policy


@pytest.fixture(scope="module")
def fleet() -> bytes:
    return build_policy(making.EXAMPLES / "cn-fleet.toml")


def rule(wire: Wire, name: str) -> policy_pb2.Collect:
    """A rule of the fleet example."""
    return next(one for one in wire.collect if one.id == name)


def rewritten(data: bytes, change: Callable[[Wire], object]) -> bytes:
    """Compiled bytes with a change."""
    wire = Wire.FromString(data)
    change(wire)
    return wire.SerializeToString(deterministic=True)


def changing(name: str, **fields: object) -> Callable[[Wire], object]:
    """A change of fields of one rule."""

    def change(wire: Wire) -> None:
        for key, value in fields.items():
            setattr(rule(wire, name), key, value)

    return change


def raw_track(wire: Wire) -> None:
    """The area rule as raw frames."""
    area = rule(wire, "area")
    area.frames.add(channel="*", any=True, last_id=0x1FFF_FFFF)
    area.space_m = area.every_ns = 0
    for one in area.signals:
        one.grain = 0


def without_consents(wire: Wire) -> None:
    del wire.consent[:]


def consent(category: str, days: int, *, each_drive: bool = True) -> Callable[[Wire], object]:
    return lambda wire: wire.consent.add(category=category, max_days=days, each_drive=each_drive)


def parked(recipients: int, *, asked: bool) -> Callable[[Wire], None]:
    def change(wire: Wire) -> None:
        wire.camera.parked, wire.camera.recipients = policy_pb2.Camera.PARKED_OWNER, recipients
        if asked:
            wire.consent.add(category="exterior.parked", max_days=30)

    return change


def number(wire: Wire, name: str) -> int:
    """The number of a signal of the fleet example."""
    words = policy_pb2.Dictionary.FromString(wire.dictionary)
    return [one.name for one in words.signal].index(name)


def twice(wire: Wire) -> None:
    """The latitude under a second name, in a rule about the drive."""
    words = policy_pb2.Dictionary.FromString(wire.dictionary)
    words.signal.add(name="MotorWarmth", message="Drive", factor=1.0)
    wire.dictionary = words.SerializeToString()
    wire.decode.add().CopyFrom(wire.decode[number(wire, "Latitude")])
    rule(wire, "drive").signals.add(channel="*", signal=len(wire.decode) - 1)


def camera(**fields: object) -> Callable[[Wire], None]:
    def change(wire: Wire) -> None:
        wire.camera.zones = b"iZN1" + bytes(60)
        for key, value in fields.items():
            setattr(wire.camera, key, value)

    return change


OWNER, REGION = sealed_pb2.OWNER, sealed_pb2.REGION
# Load check: (the change, the rule that is named, what would be right)
CHECKS: dict[str, tuple[Callable[[Wire], object], str, str]] = {
    "unknown category": (
        changing("drive", category="powertrane"), "5.1.1", "nearest category is 'powertrain'",
    ),
    "unknown purpose": (
        changing("drive", purpose="insurence"), "5.1.1", "nearest purpose is 'insurance'",
    ),
    "unknown basis": (
        changing("drive", basis="why not"), "5.1.1", "bases are consent, safety, law:",
    ),
    "is never collected": (
        changing("drive", category="phone.contacts"), "hard denial", "take the rule out",
    ),
    "'cabin.biometric' is never collected": (
        changing("drive", category="cabin.biometric", basis="consent", recipients=OWNER),
        "5.5.2", "take the rule out",
    ),
    "is written by the agent": (
        changing("drive", category="event.record"), "agent category", "category of the signals",
    ),
    "is important data": (
        changing("drive", category="traffic.flow", basis="safety"),
        "art. 11", "it needs 'law:<reference>' or 'order:<reference>'",
    ),
    "needs the basis 'consent'": (
        changing("area", basis="law:GB/T 32960"), "5.2.2", 'basis = "consent" and a [[consent]]',
    ),
    "purpose 'insurance' needs": (
        changing("drive", purpose="insurance"), "5.2.2", 'basis = "consent"',
    ),
    "purpose 'product_improvement' needs": (
        changing("drive", purpose="product_improvement"), "5.2.2", 'basis = "consent"',
    ),
    "the consent to 'location.track' has no end": (
        without_consents, "5.2.2", "add [[consent]]",
    ),
    "a consent of 0 days": (consent("battery", 0), "5.2.2", "from 1 to 365: none is for ever"),
    "a consent of 366 days": (consent("battery", 366), "5.2.2", "none is for ever"),
    "no consent allows": (consent("credentials", 9), "hard denial", "take it out"),
    "nobody is asked": (consent("agent.audit", 9), "agent category", "take it out"),
    "must end with the drive": (
        consent("exterior.video", 9, each_drive=False), "5.6.1", "each_drive = true",
    ),
    "keeps 'battery' too long": (
        changing("battery", keep_s=7 * DAY + 1), "GB/T 32960", "at most 7d",
    ),
    "is never stored": (
        changing("own-track", category="cabin.audio"), "5.1.3", "take the rule out",
    ),
    "is for the owner alone": (
        changing("area", category="exterior.image", keep_s=DAY), "5.6.1", 'recipients = "owner"',
    ),
    "finer in space than others": (changing("area", space_m=10), "5.3", 'space = "100m"'),
    "finer in time than others": (
        changing("area", every_ns=9 * 10**9), "5.3", 'every = "10s" or longer',
    ),
    "raw frames of 'location.track' cannot": (raw_track, "5.3", 'or write recipients = "owner"'),
    "surveillance while parked is for": (
        parked(REGION, asked=True), "5.6.1", 'recipients = "owner" or parked = "off"',
    ),
    "surveillance while parked needs": (
        parked(OWNER, asked=False), "5.2.2", 'category = "exterior.parked"',
    ),
    "a margin of 499 m is too small": (camera(margin_m=499), "fail closed", "at least 500m"),
    "opens too soon after a zone": (camera(exit_ns=59 * 10**9), "fail closed", "at least 60s"),
    "stays open too long": (camera(no_fix_ns=11 * 10**9), "fail closed", "at most 10s"),
    "zones without a position": (
        lambda wire: (camera()(wire), wire.camera.ClearField("position")),
        "fail closed", "position = { ... }",
    ),
    "'PositionFix.Latitude' says where": (
        lambda wire: rule(wire, "drive").signals.add(channel="*", signal=number(wire, "Latitude")),
        "5.2.2", "category 'location.track'",
    ),
    "'Drive.MotorWarmth' says where": (twice, "5.2.2", "take it out"),
    "'PositionFix.Longitude' says where": (
        lambda wire: wire.event[0].snapshot.add(channel="*", signal=number(wire, "Longitude")),
        "5.2.2", "take it out",
    ),
    "does not depend on a consent": (
        lambda wire: setattr(wire.recorder, "basis", "consent"), "agent category", "'safety'",
    ),
    "events is not for 'insurance'": (
        lambda wire: setattr(wire.event[0], "purpose", "insurance"),
        "agent category", "choose another purpose",
    ),
    "keeps 'event.record' too long": (
        lambda wire: setattr(wire.event[0], "keep_s", 1096 * DAY + 1), "GB 39732", "at most 1096d",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", CHECKS)
def test_the_door_names_the_rule_and_the_remedy(fleet, what):
    change, reference, remedy = CHECKS[what]
    with pytest.raises(PolicyError) as caught:
        read_policy(rewritten(fleet, change))
    assert what in caught.value.what
    assert f"({caught.value.what.rpartition(' (')[2]}".endswith(")")
    assert reference in caught.value.what.rpartition("(")[2]
    assert remedy in caught.value.todo


def test_a_door_that_trusts_the_builder_would_be_found(fleet, monkeypatch):
    """Without the vocabulary's say, what the checks above refuse comes in."""
    monkeypatch.setattr(door, "collect_objection", lambda claim, consents: None)
    monkeypatch.setattr(compiled_clauses, "clause_objection", lambda **_: None)
    change, _, _ = CHECKS["keeps 'battery' too long"]
    assert read_policy(rewritten(fleet, change))


def test_another_region_is_refused(fleet):
    with pytest.raises(PolicyError, match="is for region urn:inland:region:cn, not for urn"):
        load_policy(fleet, region="urn:inland:region:eu", now_ns=0)


def test_what_is_just_allowed_is_allowed(fleet):
    for change in (
        changing("battery", keep_s=7 * DAY),
        changing("own-track", keep_s=7 * DAY),
        consent("battery", MAX_CONSENT_DAYS, each_drive=False),
        consent("exterior.video", 1),
        parked(OWNER, asked=True),
        camera(margin_m=500, exit_ns=60 * 10**9, no_fix_ns=10**10),
        changing("drive", category="traffic.flow", basis="order:city council 7"),
        changing("drive", category="security.event", basis="safety", keep_s=183 * DAY),
    ):
        assert read_policy(rewritten(fleet, change))


@pytest.mark.parametrize("category", sorted(CATEGORIES))
def test_every_category_is_held_to_its_class(category):
    """For each one: the widest claim that its class allows passes, and one step more does not."""
    known = CATEGORIES[category]
    claim = load_checks.Claim(
        category, "authority_order",
        {SENSITIVE: "consent", IMPORTANT: "order:7"}.get(known.kind, "safety"),
        known.keep_cap_s, OWNER, raw=True, space_m=0, every_ns=0,
    )  # fmt: skip
    objection = load_checks.collect_objection(claim, [category])
    if known.kind in (DENIED, AGENT) or known.keep_cap_s == 0:
        assert objection is not None
        assert objection.rule in (known.rule, "agent category")
        return
    assert objection is None
    longer = replace(claim, keep_s=known.keep_cap_s + 1)
    assert "too long" in (load_checks.collect_objection(longer, [category]) or objection).what
    others = load_checks.collect_objection(replace(claim, recipients=REGION), [category])
    assert (others is None) == (known.finest is None and not known.owner_alone)
    unasked = load_checks.collect_objection(claim, [])
    assert (unasked is None) == (known.kind != SENSITIVE)


def test_the_classes_are_those_of_the_rules():
    classes = {name: one.kind for name, one in CATEGORIES.items()}
    assert classes["vehicle.identity"] == PERSONAL  # VIN and plate are general personal data
    assert {n for n, k in classes.items() if k == DENIED} == {
        "cabin.biometric", "phone.contacts", "phone.calendar", "phone.messages", "credentials",
    }  # fmt: skip
    for name, one in CATEGORIES.items():
        place = name.startswith(("location.", "exterior.", "cabin."))
        assert (one.kind in (SENSITIVE, DENIED)) == (place or one.kind == DENIED)
        assert (one.finest is not None) == name.startswith("location.")
        assert one.default == ("on" if one.kind == AGENT else "off")
        assert one.rule
        assert one.about
    assert classes["security.event"] == GENERAL
    assert classes["battery"] == OPERATION
    assert set(DECIMALS) == set(SPACES.values()) - {0}
